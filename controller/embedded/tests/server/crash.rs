use crate::harness::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const DIR: &str = "HAWSER_TEST_CRASH_DIR";
const ROUNDS: usize = 3;

/// Not a test of its own: the program that is killed. It writes without end and says what has been
/// acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn the_writing_child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let running = start(Path::new(&dir)).await;
    let mut writers = Vec::new();
    for writer in 0..8 {
        let client = running.client.clone();
        writers.push(tokio::spawn(async move {
            let mut connection = client.connect().await.unwrap();
            let name = format!("w{writer}");
            let body = node(&name).to_string();
            connection.request("POST", NODES, "application/json", body).await.unwrap();
            let path = format!("{NODES}/{name}");
            for count in 0_u64.. {
                let patch = json!({"metadata": {"annotations": {"count": count.to_string()}}});
                let answer = connection.request("PATCH", &path, MERGE, patch.to_string());
                if answer.await.unwrap().status.as_u16() == 200 {
                    println!("acknowledged {name} {count}");
                }
            }
        }));
    }
    futures::future::join_all(writers).await;
}

fn start_child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_writing_child", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the child after this many acknowledgements; the last count of each writer.
fn kill_after(mut child: Child, enough: usize) -> BTreeMap<String, u64> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = BTreeMap::new();
    let mut seen = 0;
    for line in lines.map_while(Result::ok) {
        let Some((_, said)) = line.split_once("acknowledged ") else {
            continue;
        };
        // Lines of different threads can run together; a whole one has two words.
        let Some((name, count)) = said.split_once(' ') else {
            continue;
        };
        let Ok(count) = count.parse() else { continue };
        acknowledged.insert(name.to_owned(), count);
        seen += 1;
        if seen == enough {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_in_the_middle_of_writes() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let acknowledged = kill_after(start_child(dir.path()), 150 + 70 * round);
        assert!(!acknowledged.is_empty());

        let running = start(dir.path()).await;
        for (name, count) in acknowledged {
            let (_, object) = get(&running.client, &format!("{NODES}/{name}")).await;
            let stored = object["metadata"]["annotations"]["count"].as_str().unwrap();
            assert!(stored.parse::<u64>().unwrap() >= count, "{name}: {stored} < {count}");
        }
        let (_, list) = get(&running.client, NODES).await;
        let objects = list["items"].as_array().unwrap();
        assert!(objects.iter().all(|object| version(object) <= version(&list)));
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            ask(&running.client, "DELETE", &format!("{NODES}/{name}"), json!(null)).await;
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start_child(dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("acknowledged")));

    let refused = open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("in use by another process"), "{refused}");

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(open(dir.path()).is_ok());
}
