//! An API whose etcd was restored from an older backup: what was given out since is given to nobody
//! else.

use std::time::Duration;

use api::{Mesh, MeshNode};
use e2e::cluster::ApiServer;
use e2e::cluster::scripts;
use e2e::lab::{Lab, until};
use e2e::mesh::create_mesh;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::controllers::Controllers;

const LIMIT: Duration = Duration::from_secs(30);

/// What the agent of a machine that ran all the while would say.
fn play_the_agent(controllers: &Controllers, name: &'static str, subnets: &[String]) {
    let key = keys::PublicKey::from_bytes([9; 32]).to_string();
    let status = json!({"subnets": subnets, "publicKeys": [{"epoch": 1, "publicKey": key}]});
    let told = until(LIMIT, || {
        let patch = Patch::Merge(json!({"status": status.clone()}));
        let write = controllers.server.api(async move |client| {
            let nodes = Api::<MeshNode>::all(client);
            Ok(nodes.patch_status(name, &PatchParams::default(), &patch).await?)
        });
        write.ok()
    });
    told.expect("its MeshNode comes back with its Node");
}

fn reason(controllers: &Controllers, name: &'static str) -> Option<String> {
    let node = controllers
        .server
        .api(async move |client| Ok(Api::<MeshNode>::all(client).get(name).await?));
    let status = node.ok()?.status?;
    Some(api::conditions::get(&status.conditions, "SubnetAllocated")?.reason.clone())
}

fn mesh(server: &ApiServer) -> Option<Mesh> {
    server.api(async |client| Ok(Api::<Mesh>::all(client).get(api::MESH).await?)).ok()
}

fn settle(server: &ApiServer) {
    let since = mesh(server).unwrap().status.unwrap().restored.unwrap();
    let patch = json!({"metadata": {"annotations": {"hawser.dev/restore-settled": since}}});
    let annotate = server.api(async move |client| {
        let meshes = Api::<Mesh>::all(client);
        Ok(meshes.patch(api::MESH, &PatchParams::default(), &Patch::Merge(&patch)).await?)
    });
    annotate.unwrap();
}

#[test]
fn after_etcd_was_restored_from_a_backup_nothing_is_given_twice() {
    let Some(scripts) = scripts().unwrap() else { return };
    let lab = Lab::new("restore").unwrap();
    let server = ApiServer::start(&lab, scripts).unwrap();
    server.api(create_mesh).unwrap();
    let controllers = Controllers::start(lab, server);
    let server = &controllers.server;
    controllers.add("old");
    controllers.served("old");

    let backup = server.back_up().unwrap();
    controllers.add("since");
    let given = controllers.served("since");
    // Backups are older than the lease's last renewal.
    std::thread::sleep(Duration::from_secs(2));
    server.restore(&backup).unwrap();
    controllers.add("new");

    let paused = until(LIMIT, || (reason(&controllers, "new")? == "Restored").then_some(()));
    let now = reason(&controllers, "new");
    assert!(paused.is_some(), "{now:?}: {:?}", controllers.subnets());
    let degraded = mesh(server).unwrap().status.unwrap().conditions;
    let degraded = api::conditions::get(&degraded, "Degraded").unwrap().message.clone();
    assert!(degraded.contains("hawser.dev/restore-settled="), "{degraded}");

    // Its kubelet registers again, and its agent has run all the while.
    controllers.add("since");
    play_the_agent(&controllers, "since", &given);
    assert_eq!(controllers.served("since"), given);
    assert!(controllers.subnets()["new"].is_empty());

    settle(server);
    let new = controllers.served("new");
    assert!(new.iter().all(|subnet| !given.contains(subnet)), "{new:?}");
    let nothing = until(LIMIT, || {
        let status = mesh(server)?.status?;
        status.restored.is_none().then_some(())
    });
    assert!(nothing.is_some(), "{:?}", mesh(server).map(|mesh| mesh.name_any()));
}
