use crate::harness::*;
use embedded::Client;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

async fn node_client(admin: &Client, name: &str) -> Client {
    ask(admin, "POST", NODES, node(name)).await;
    let (code, answer) = ask(admin, "POST", &format!("{NODES}/{name}/token"), Value::Null).await;
    assert_eq!(code, 201);
    admin.with_token(answer["status"]["token"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_writes_its_own_status_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let a = node_client(&running.client, "a").await;
    node_client(&running.client, "b").await;
    let status = json!({"status": {"version": "1"}});

    assert_eq!(get(&a, NODES).await.0, 200);
    assert_eq!(ask(&a, "PATCH", &format!("{NODES}/a/status"), status.clone()).await.0, 200);
    for (method, path, body) in [
        ("PATCH", format!("{NODES}/b/status"), status),
        ("PATCH", format!("{NODES}/a"), json!({"spec": {"site": "x"}})),
        ("DELETE", format!("{NODES}/a"), Value::Null),
        ("POST", NODES.to_owned(), node("c")),
        ("POST", format!("{NODES}/a/token"), Value::Null),
        ("GET", CLAIMS.to_owned(), Value::Null),
        ("GET", "/apis/hawser.dev/v1alpha1/jointokens".to_owned(), Value::Null),
        ("GET", "/hawser/backup".to_owned(), Value::Null),
    ] {
        let (code, refusal) = ask(&a, method, &path, body).await;
        assert_eq!((code, &refusal["reason"]), (403, &json!("Forbidden")), "{method} {path}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_writes_its_own_events_and_no_others() {
    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let a = node_client(&running.client, "a").await;
    let b = node_client(&running.client, "b").await;
    let event = |name: &str, about: &str, by: &str| {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name},
            "regarding": {"apiVersion": "hawser.dev/v1alpha1", "kind": "MeshNode", "name": about},
            "reportingController": "hawser.dev/agent", "reportingInstance": by,
            "type": "Warning", "reason": "PeerUnreachable", "action": "Probe", "note": "x",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        })
    };
    let again = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:05.000000Z"}});

    assert_eq!(ask(&a, "POST", EVENTS, event("e", "a", "a")).await.0, 201);
    assert_eq!(ask(&a, "PATCH", &format!("{EVENTS}/e"), again.clone()).await.0, 200);
    for (client, method, path, body) in [
        (&a, "POST", EVENTS.to_owned(), event("f", "b", "a")),
        (&a, "POST", EVENTS.to_owned(), event("f", "a", "b")),
        (&a, "PATCH", format!("{EVENTS}/e"), json!({"regarding": {"name": "b"}})),
        (&b, "PATCH", format!("{EVENTS}/e"), again),
        (&b, "PATCH", format!("{EVENTS}/e"), event("e", "b", "b")),
    ] {
        let (code, refusal) = ask(client, method, &path, body).await;
        assert_eq!(code, 403, "{refusal}");
        let told = refusal["message"].as_str().unwrap();
        let begin = "is forbidden: ValidatingAdmissionPolicy 'hawser-agent-events' with binding";
        assert!(told.starts_with("events.events.k8s.io") && told.contains(begin), "{told}");
    }

    let mut code = 201;
    for number in 0..25 {
        code = ask(&a, "POST", EVENTS, event(&format!("flood-{number}"), "a", "a")).await.0;
    }
    assert_eq!(code, 429);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_node_and_so_do_its_watches() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (admin, path) = (&running.client, format!("{NODES}/a"));
    let a = node_client(admin, "a").await;
    let watching = {
        let a = a.clone();
        let path = format!("{NODES}?watch=1&timeoutSeconds=30");
        tokio::spawn(async move { watch(&a, &path).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;

    ask(admin, "DELETE", &path, Value::Null).await;
    ask(admin, "POST", NODES, node("a")).await;

    assert_eq!(get(&a, NODES).await.0, 401, "the new node of that name is another one");
    let events = tokio::time::timeout(Duration::from_secs(5), watching).await.unwrap().unwrap();
    assert_eq!(events.last().unwrap()["object"]["code"], 401);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_is_shut_out() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let a = node_client(&running.client, "a").await;
    assert_eq!(get(&a, NODES).await.0, 200);

    let revoked = json!({"spec": {"revoked": true}});
    ask(&running.client, "PATCH", &format!("{NODES}/a"), revoked).await;

    assert_eq!(get(&a, NODES).await.0, 403);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    for token in ["", "nonsense"] {
        let stranger = running.client.with_token(token);
        for path in [NODES, "/apis", "/no/such/path", "/hawser/backup", "/version"] {
            assert_eq!(get(&stranger, path).await.0, 401, "{path}");
        }
        assert_eq!(get(&stranger, "/readyz").await.0, 200);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_readable_by_others_or_stored_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("controller");
    let running = start(&inner).await;
    let (_, answer) = {
        ask(&running.client, "POST", NODES, node("a")).await;
        ask(&running.client, "POST", &format!("{NODES}/a/token"), Value::Null).await
    };
    running.stop().await;

    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&inner) & 0o777, 0o700);
    for file in ["hawser.redb", "admin.kubeconfig", "lock"] {
        assert_eq!(mode(&inner.join(file)) & 0o777, 0o600, "{file}");
    }
    let token = answer["status"]["token"].as_str().unwrap().as_bytes();
    let stored = std::fs::read(inner.join("hawser.redb")).unwrap();
    assert!(!stored.windows(token.len()).any(|window| window == token));
    let name = b"meshnodes.hawser.dev";
    assert!(stored.windows(name.len()).any(|window| window == name), "the search can find things");
}
