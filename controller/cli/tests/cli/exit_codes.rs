//! Each documented exit code, from the situation that the documentation names.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use crate::world::{World, state};

#[test]
fn zero_if_it_worked() {
    let world = World::with_mesh();

    assert_eq!(world.run(&["nodes"]).code, 0);
    assert_eq!(world.run(&["crds"]).code, 0);
    assert_eq!(world.run(&["version"]).code, 0);
    assert_eq!(world.run(&["--help"]).code, 0);
}

#[test]
fn one_if_a_check_failed() {
    let world = World::with_mesh();

    let status = world.run(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.out.contains("HW1100"), "{status:?}");
    assert_eq!(world.run(&["status", "--fail-on=never"]).code, 0);

    let path = world.run(&["path", "10.42.1.1", "10.42.2.1"]);
    assert_eq!(path.code, 1, "{path:?}");
    assert!(path.out.contains("none: nobody in the mesh owns 10.42.1.1"), "{path:?}");
}

#[test]
fn two_for_a_command_line_that_makes_no_sense() {
    let world = World::offline();

    assert_eq!(world.run(&["frobnicate"]).code, 2);
    assert_eq!(world.run(&["status", "--wait=soon"]).code, 2);
    assert_eq!(world.run(&["status", "-o", "csv"]).code, 2);
    assert_eq!(world.run(&[]).code, 2);
}

#[test]
fn two_for_a_settings_file_with_a_typo() {
    let world = World::offline();
    fs::create_dir_all(world.file(".config/hawser")).unwrap();
    fs::write(world.file(".config/hawser/config.yaml"), "outptu: json\n").unwrap();

    let ended = world.run(&["nodes"]);

    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("outptu"), "{ended:?}");
}

#[test]
fn three_if_the_api_does_not_answer() {
    let world = World::offline();
    let kubeconfig = "{apiVersion: v1, kind: Config, current-context: a, \
        contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {}}], \
        clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]}";
    fs::create_dir_all(world.file("store")).unwrap();
    fs::write(world.kubeconfig(), kubeconfig).unwrap();

    let ended = world.run(&["nodes"]);

    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.out.is_empty());
    assert!(ended.err.contains("cannot reach the API at http://127.0.0.1:9"), "{ended:?}");
    assert!(ended.err.contains("\ncheck: "), "{ended:?}");
}

#[test]
fn three_without_a_kubeconfig_or_an_agent() {
    let world = World::offline();

    let ended = world.run(&["nodes"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("--kubeconfig FILE"), "{ended:?}");

    let ended = world.run(&["peers", "--agent", "/nowhere/agent.sock"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("no agent on this machine"), "{ended:?}");
}

#[test]
fn four_after_waiting_in_vain_and_the_state_is_printed() {
    let world = World::with_mesh();
    let started = Instant::now();

    let ended = world.run(&["status", "--wait=1s"]);

    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.out.contains("HW1100"), "{ended:?}");
    assert!(ended.err.contains("not ready within 1s"), "{ended:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn five_if_nobody_is_there_to_say_yes() {
    let world = World::with_mesh();
    fs::write(world.file("out"), "precious").unwrap();

    let ended = world.run(&["nodes", "add", "node-1", "--out", "out"]);

    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.err.contains("add --yes"), "{ended:?}");
    assert_eq!(fs::read_to_string(world.file("out")).unwrap(), "precious");
    assert_eq!(world.run(&["nodes", "-o", "name"]).out, "", "nothing was created either");
}

#[test]
fn six_without_the_right_and_it_names_the_verb() {
    let world = World::with_mesh();
    world.run(&["nodes", "add", "node-1", "--out", "node-1.kubeconfig"]);

    let ended =
        world.run(&["--kubeconfig", "node-1.kubeconfig", "nodes", "add", "node-2", "--out", "x"]);

    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.err.contains("create meshnodes"), "{ended:?}");
    assert!(!world.file("x").exists());
}

#[test]
fn six_without_the_capability_and_it_names_it() {
    let world = World::offline();
    let socket = world.agent(&state());
    let arguments = ["verify", "wire", "--tun", "lo", "--agent", socket.to_str().unwrap()];
    // Root has every capability; somebody else, who must be able to reach the program, has none.
    let program = world.file("hawser");
    // Copied by another process: a file that this one writes while other tests fork stays busy.
    let mut copy = Command::new("cp");
    let copied = copy.arg(env!("CARGO_BIN_EXE_hawser")).arg(&program).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = world.command_of(&program, &arguments);
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }

    let ended: crate::world::Ended = command.output().unwrap().into();

    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.err.contains("CAP_NET_RAW"), "{ended:?}");
}

#[test]
fn a_hundred_and_thirty_after_ctrl_c() {
    let world = World::with_mesh();
    let mut command = world.command(&["status", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("mesh "), "{first}");

    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();

    let ended: crate::world::Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(ended.err.contains("interrupted"), "{ended:?}");
}

#[test]
fn the_help_lists_them_all() {
    let help = World::offline().run(&["--help"]).out;

    for code in
        ["  0  ok", "  1  ", "  2  usage", "  3  ", "  4  ", "  5  ", "  6  ", "130  interrupted"]
    {
        assert!(help.contains(code), "{code} is missing in\n{help}");
    }
    assert!(Path::new(env!("CARGO_BIN_EXE_hawser")).exists());
}

#[test]
fn a_preflight_asks_no_api_and_fails_where_another_network_comes_first() {
    let world = World::offline();
    let configurations = world.file("net.d");
    fs::create_dir(&configurations).unwrap();
    fs::write(configurations.join("00-other.conflist"), "{}").unwrap();
    let check = ["check", "--pre", "--conf-dir", "net.d", "--pool", "127.0.0.0/8", "-o", "json"];

    let ended = world.run(&check);

    assert_eq!(ended.code, 1, "{ended:?}");
    let found = ended.json();
    let codes = |code: &str| {
        let all = found["findings"].as_array().unwrap().iter();
        all.filter(|one| one["code"] == code && one["verdict"] == "failed").count()
    };
    assert_eq!((codes("HW3005"), codes("HW3008")), (1, 1), "{found}");
    assert_eq!(world.run(&["check"]).code, 3, "the running mesh has an API");
}
