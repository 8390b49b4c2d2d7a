//! One key on two machines, a disk that is lost, and a machine that only boots again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::lab::eventually;
use e2e::mesh::{Member, Mesh};

use super::{LIMIT, epochs};

/// What a booted kernel says of itself, as `--proc-sys` takes it.
fn boot(dir: &Path, id: &str) -> String {
    let place = dir.join(format!("boot-{id}"));
    std::fs::create_dir_all(place.join("kernel/random")).unwrap();
    std::fs::write(place.join("kernel/random/boot_id"), id).unwrap();
    std::os::unix::fs::symlink("/proc/sys/net", place.join("net")).unwrap();
    place.display().to_string()
}

fn machine(dir: &Path, id: &str) -> String {
    let place = dir.join(format!("machine-{id}"));
    std::fs::write(&place, id).unwrap();
    place.display().to_string()
}

fn copy(from: &Path, to: PathBuf) {
    std::fs::DirBuilder::new().create(&to).unwrap();
    let mode = std::fs::metadata(from).unwrap().permissions();
    std::fs::set_permissions(&to, mode).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Starts the agent and waits until it ends by itself: its last words, and how long that took.
fn ends(member: &mut Member, flags: &[&str]) -> (String, Duration) {
    let begun = Instant::now();
    member.start_agent_with(flags).unwrap();
    let agent = member.agent_mut().unwrap();
    let status = agent.wait(LIMIT).unwrap();
    assert!(!status.success());
    (agent.last_words(), begun.elapsed())
}

fn public_keys(mesh: &Mesh) -> Vec<String> {
    let nodes = mesh.controller.nodes().unwrap();
    let keys = nodes.into_iter().flat_map(|node| node.status.unwrap_or_default().public_keys);
    keys.map(|key| key.public_key).collect()
}

#[test]
fn a_clone_stays_out_while_the_first_runs_and_a_reboot_is_none() {
    let mut mesh = Mesh::start("clone", 2).unwrap();
    mesh.add_pods(1).unwrap();
    assert_eq!(mesh.reach(b"before", LIMIT).failures(), Vec::<String>::new());
    let keys = public_keys(&mesh);
    let dir = mesh.lab.dir().to_owned();
    let node = mesh.lab.node("copy").unwrap();
    copy(&mesh.members[0].node.state(), node.state());
    let mut clone = Member::named("node-1", node, mesh.members[0].source().to_owned());

    // One that shares what the system calls the machine's identity, and one that does not.
    for (number, flags) in
        [vec![], vec!["--machine-id".to_owned(), machine(&dir, "other")]].into_iter().enumerate()
    {
        let kernel = boot(&dir, &format!("clone-{number}"));
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.extend(["--proc-sys", &kernel]);
        let (words, took) = ends(&mut clone, &flags);
        println!("the clone ends after {took:?}");
        let at = mesh.members[0].node.address().v4.to_string();
        for part in ["is a clone", "hawser nodes add NEWNAME", &at] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert_eq!(words.matches("handshake").count(), 0, "it never spoke: {words}");
    }
    assert_eq!(mesh.reach(b"between", Duration::from_secs(1)).failures(), Vec::<String>::new());
    let status = mesh.controller.hawser().args(["status"]).output().unwrap();
    let screen = String::from_utf8(status.stdout).unwrap();
    assert!(screen.contains("HW1103"), "{screen}");

    mesh.members[0].kill_agent();
    let kernel = boot(&dir, "again");
    mesh.members[0].start_agent_with(["--proc-sys", &kernel]).unwrap();
    let took = mesh.members[0].wait_until_ready(LIMIT).unwrap();
    println!("ready {took:?} after a reboot");
    assert_eq!(mesh.reach(b"after", LIMIT).failures(), Vec::<String>::new());
    assert_eq!(public_keys(&mesh), keys, "a reboot makes no key");
}

#[test]
fn a_lost_disk_gets_a_new_identity_only_when_somebody_says_so() {
    let mut mesh = Mesh::start("lost", 2).unwrap();
    mesh.add_pods(1).unwrap();
    assert_eq!(mesh.reach(b"before", LIMIT).failures(), Vec::<String>::new());
    let keys = public_keys(&mesh);
    mesh.members[0].kill_agent();
    let state = mesh.members[0].node.state();
    for entry in std::fs::read_dir(&state).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        // The pods stay as they are: theirs is another story.
        if ["key-", "view.json", "newest", "timestamp"].iter().any(|lost| name.starts_with(lost)) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }

    let (words, _) = ends(&mut mesh.members[0], &[]);
    assert!(words.contains("hawser keys rotate --node node-1 --lost"), "{words}");
    assert_eq!(public_keys(&mesh), keys, "no key in silence");
    let lost = mesh.controller.hawser().args(["keys", "rotate", "--node", "node-1", "--lost"]);
    lost.args(["--yes", "--no-wait"]).stdout().unwrap();
    eventually("the new epoch", LIMIT, || epochs(&mesh)[0].0 == 2).unwrap();
    mesh.members[0].start_agent().unwrap();
    mesh.members[0].wait_until_ready(LIMIT).unwrap();

    assert_eq!(mesh.reach(b"after", LIMIT).failures(), Vec::<String>::new());
    assert_eq!(epochs(&mesh), [(2, vec![2]), (1, vec![1])]);
    assert_eq!(public_keys(&mesh)[1], keys[1]);
    let history = || mesh.controller.hawser().args(["keys", "history"]).stdout().unwrap();
    eventually("its record", LIMIT, || history().contains("Completed")).unwrap();
}
