//! Each oracle can say no: the negative control of the oracles themselves.

use super::*;

#[test]
fn a_panic_and_an_error_are_seen_and_an_announced_error_is_not() {
    let text = "2026 INFO started\n2026 ERROR datapath: stopped\nthread 'x' panicked at y\n";

    assert_eq!(logs::bad_lines(text, &[]).len(), 2);
    assert_eq!(logs::bad_lines(text, &["datapath: stopped".into()]).len(), 1);
    assert_eq!(logs::bad_lines(r#"{"level":"ERROR"}"#, &[]).len(), 1);
    assert_eq!(logs::bad_lines("2026 \u{1b}[31mERROR\u{1b}[0m stopped", &[]).len(), 1);
    assert!(logs::bad_lines("2026 INFO applied errors=0 NO_ERRORS", &[]).is_empty());
}

#[test]
fn an_overlap_of_two_owners_is_seen_and_a_second_address_of_one_is_not() {
    let held = |owner: &str, net: &str| (owner.to_owned(), net.parse().unwrap());

    let good = [held("a", "10.42.1.0/24"), held("a", "10.42.1.1/32"), held("b", "10.42.2.0/24")];
    let bad = [held("a", "fd42:0:0:1::/64"), held("b", "fd42:0:0:1::5/128")];

    assert!(double_owners(&good).is_empty());
    assert_eq!(double_owners(&bad).len(), 1);
}

#[test]
fn a_secret_is_found_raw_in_hex_and_in_base64() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key.1"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
        .unwrap();
    std::fs::write(
        dir.path().join("n1.kubeconfig"),
        "users:\n- user:\n    token: 0123456789abcdefXYZ\n",
    )
    .unwrap();
    let secrets = Secrets::below(dir.path());
    let raw: Vec<u8> = (0..32).collect();

    assert_eq!(secrets.found_in(&[b"x", raw.as_slice(), b"y"].concat()), ["key.1"]);
    assert_eq!(
        secrets.found_in(b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
        ["key.1"]
    );
    assert_eq!(
        secrets.found_in(b"key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= here"),
        ["key.1"]
    );
    assert_eq!(secrets.found_in(b"Bearer 0123456789abcdefXYZ"), ["n1.kubeconfig"]);
    assert!(secrets.found_in(b"nothing of the kind").is_empty());
}

#[test]
fn a_secret_in_a_log_or_in_a_store_is_reported_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), [7_u8; 32]).unwrap();
    let text = [[1_u8; 8].as_slice(), &[7; 32]].concat();
    for name in ["agent.log", "hawser.redb", "view.json"] {
        std::fs::write(dir.path().join(name), &text).unwrap();
    }

    let found = Secrets::below(dir.path()).found_in_files(dir.path());

    assert_eq!(found.len(), 3);
    assert!(found[0].contains("agent.log"));
}
