//! `hawser mesh set`, and what the API refuses of a Mesh.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::World;

fn spec(world: &World) -> Value {
    let mesh = world.ask(async |client| kube::Api::<api::Mesh>::all(client).get(api::MESH).await);
    serde_json::to_value(mesh.spec).unwrap()
}

#[test]
fn a_mesh_goes_into_clear_only_where_the_risk_is_accepted_and_comes_back_without() {
    let world = World::with_mesh();
    let set = |args: &[&str]| world.run(&[&["mesh", "set"][..], args].concat());
    let loosen = ["--encryption", "preferred", "--backend", "vxlan"];

    let refused = set(&loosen);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.err.contains("--accept-risk=plaintext"), "{refused:?}");
    assert!(refused.err.contains("to read and to forge"), "{refused:?}");
    assert_eq!(spec(&world)["encryption"], "Required");
    let consent = [&loosen[..], &["--accept-risk=plaintext"]].concat();
    let dry = set(&[&consent[..], &["--dry-run"]].concat());
    assert_eq!((dry.code, spec(&world)["encryption"].as_str()), (0, Some("Required")), "{dry:?}");
    let done = set(&consent);
    assert_eq!((done.code, &*done.out), (0, "mesh/default configured\n"), "{done:?}");
    assert_eq!(
        (&spec(&world)["encryption"], &spec(&world)["backend"]),
        (&"Preferred".into(), &"vxlan".into())
    );
    assert_eq!(set(&["--allow-downgrade", "true"]).code, 5);
    assert_eq!(set(&loosen).out, "mesh/default unchanged\n");

    let back = set(&["--encryption", "Required", "--backend", "wireguard"]);
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(spec(&world)["encryption"], "Required");
}

#[test]
fn a_change_that_cannot_be_is_a_usage_error_that_says_the_way_out() {
    let world = World::with_mesh();

    let nothing = world.run(&["mesh", "set"]);
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(nothing.err.contains("--encryption"), "{nothing:?}");
    let plain = world.run(&["mesh", "set", "--backend", "vxlan"]);
    assert_eq!(plain.code, 2, "{plain:?}");
    assert!(plain.err.contains("Preferred or None"), "{plain:?}");
    let unknown = world.run(&["mesh", "set", "--backend", "ipip"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.err.contains("wireguard, udp, vxlan, direct"), "{unknown:?}");
}

#[test]
fn clear_text_inside_a_site_is_a_risk_to_accept_and_is_taken_back_by_name() {
    let world = World::with_mesh();
    let set = |args: &[&str]| world.run(&[&["mesh", "set"][..], args].concat());
    let inside = ["--backend", "direct", "--site-encryption", "aws=none"];

    let refused = set(&inside);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.err.contains("None within aws"), "{refused:?}");
    let done = set(&[&inside[..], &["--accept-risk=plaintext"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    let expected = json!([{"sites": ["aws"], "encryption": "None"}]);
    assert_eq!(spec(&world)["siteEncryption"], expected);
    let back = set(&["--backend", "wireguard", "--site-encryption", "aws=mesh"]);
    assert_eq!((back.code, &spec(&world)["siteEncryption"]), (0, &Value::Null), "{back:?}");
    for wrong in ["aws", "aws=", "a,b,c=None", "Rack_7=None", "=None"] {
        assert_eq!(set(&["--site-encryption", wrong]).code, 2, "{wrong}");
    }

    let shape = set(&["--vxlan-shaped-port", "8472"]);
    assert_eq!((shape.code, &spec(&world)["vxlanShapedPort"]), (0, &json!(8472)), "{shape:?}");
    let none = set(&["--vxlan-shaped-port", "none"]);
    assert_eq!((none.code, &spec(&world)["vxlanShapedPort"]), (0, &Value::Null), "{none:?}");
}

#[test]
fn a_mesh_that_asks_for_the_impossible_is_refused_at_admission_by_field() {
    let world = World::with_mesh();
    let refusal = |change: Value| {
        let patch = Patch::Merge(json!({ "spec": change }));
        world.ask(async |client| {
            let meshes = kube::Api::<api::Mesh>::all(client);
            let patched = meshes.patch(api::MESH, &PatchParams::default(), &patch).await;
            Ok(patched.err().map(|error| error.to_string()).unwrap_or_default())
        })
    };

    for (change, words) in [
        (json!({"backend": "ipip"}), ["spec.backend", "wireguard"]),
        (json!({"backend": "vxlan"}), ["in clear", "choose wireguard"]),
        (json!({"fallback": ["udp"]}), ["in clear", "leave it out"]),
        (json!({"fallback": ["wireguard"]}), ["repeats", "each once"]),
        (json!({"encryption": "None", "fallback": ["udp", "udp"]}), ["repeats", "each once"]),
        (json!({"fallback": ["ipip"]}), ["spec.fallback", "wireguard"]),
        (json!({"vxlanShapedPort": 5000}), ["spec.vxlanShapedPort", "4789 and 8472"]),
        (
            json!({"encryption": "None", "backend": "vxlan", "vxlanShapedPort": 4789}),
            ["listens on 4789 itself", "8472"],
        ),
        (json!({"returnAfter": "soon"}), ["spec.returnAfter", "[smh]"]),
        (json!({"encryption": "Sometimes"}), ["spec.encryption", "Preferred"]),
        (json!({"mtu": 1279}), ["spec.mtu", "1280"]),
        (
            json!({"backend": "vxlan",
                   "siteEncryption": [{"sites": ["a", "b"], "encryption": "Required"}]}),
            ["in clear", "siteEncryption"],
        ),
        (
            json!({"siteEncryption": [{"sites": ["a", "b"], "encryption": "None"},
                                      {"sites": ["b", "a"], "encryption": "Required"}]}),
            ["repeats a pair of sites", "order"],
        ),
        (
            json!({"siteEncryption": [{"sites": ["a"], "encryption": "None"},
                                      {"sites": ["a", "a"], "encryption": "None"}]}),
            ["repeats a pair of sites", "order"],
        ),
        (
            json!({"siteEncryption": [{"sites": [], "encryption": "None"}]}),
            ["spec.siteEncryption[0].sites", "at least 1"],
        ),
        (
            json!({"siteEncryption": [{"sites": ["a", "b", "c"], "encryption": "None"}]}),
            ["spec.siteEncryption[0].sites", "at most 2"],
        ),
        (
            json!({"siteEncryption": [{"sites": ["Rack_7"], "encryption": "None"}]}),
            ["spec.siteEncryption[0].sites[0]", "a-z0-9"],
        ),
        (
            json!({"siteEncryption": [{"sites": ["a"]}]}),
            ["spec.siteEncryption[0].encryption", "Required"],
        ),
        (json!({"allowDowngrade": "perhaps"}), ["spec.allowDowngrade", "boolean"]),
    ] {
        let refused = refusal(change.clone());

        assert!(words.iter().all(|word| refused.contains(word)), "{change}: {refused}");
    }
    let inside = json!([{"sites": ["a"], "encryption": "None"},
                        {"sites": ["a", "b"], "encryption": "Preferred"}]);
    assert_eq!(refusal(json!({"backend": "direct", "siteEncryption": inside})), "");
    assert_eq!(refusal(json!({"backend": "wireguard", "siteEncryption": null})), "");
    assert_eq!(refusal(json!({"mtu": 1280, "encryption": "None", "backend": "vxlan"})), "");
    let list = json!({"fallback": ["udp", "wireguard"], "returnAfter": "5s"});
    assert_eq!(refusal(list), "");
}
