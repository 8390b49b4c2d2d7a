//! What goes where: results to stdout, the rest to stderr, in the format that was asked for.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use serde_json::Value;

use crate::world::{World, state};

#[test]
fn an_empty_list_is_silent_on_stdout() {
    let world = World::with_mesh();

    let table = world.run(&["nodes"]);
    assert_eq!(table.out, "");
    assert!(table.err.contains("no nodes"), "{table:?}");
    assert_eq!(world.run(&["nodes", "-q"]).err, "");
    let document = world.run(&["nodes", "-o", "json"]).json();
    assert_eq!(document["apiVersion"], "cli.hawser.dev/v1alpha1");
    assert_eq!(document["items"], Value::Array(Vec::new()));
}

#[test]
fn every_format_of_every_list_can_be_read_back() {
    let world = World::with_mesh();
    world.run(&["nodes", "add", "node-1", "--out", "f"]);
    let socket = world.agent(&state());
    let agent = ["--agent", socket.to_str().unwrap()];

    for command in [&["nodes"][..], &["keys", "status"], &["peers"], &["status", "--fail-on=never"]]
    {
        let run = |format: &str| world.run(&[command, &agent, &["-o", format]].concat());
        assert_eq!(run("json").json()["apiVersion"], "cli.hawser.dev/v1alpha1", "{command:?}");
        assert!(run("yaml").out.contains("apiVersion: cli.hawser.dev/v1alpha1"), "{command:?}");
        let lines = run("jsonl").out;
        for line in lines.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            assert!(object["kind"].is_string(), "{command:?}");
        }
        assert_eq!(lines.lines().count(), 1, "{command:?}");
        assert!(run("name").out.contains('/'), "{command:?}");
        assert!(!run("wide").out.is_empty(), "{command:?}");
    }
}

#[test]
fn status_shows_the_api_and_the_agent_together() {
    let world = World::with_mesh();
    let socket = world.agent(&state());

    let ended = world.run(&["status", "--fail-on=never", "--agent", socket.to_str().unwrap()]);

    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("Control  embedded"), "{ended:?}");
    assert!(ended.out.contains("Tunnels  1/1 up"), "{ended:?}");
    assert!(ended.out.contains("17 packets blocked"), "{ended:?}");
}

#[test]
fn pipes_and_no_color_get_no_colour_and_always_does() {
    let world = World::with_mesh();

    assert!(!world.run(&["status"]).out.contains('\u{1b}'));
    let mut forced = world.command(&["status", "--color=always"]);
    assert!(String::from_utf8(forced.output().unwrap().stdout).unwrap().contains('\u{1b}'));
    let json = world.run(&["status", "--color=always", "-o", "json"]);
    assert!(!json.out.contains('\u{1b}'), "JSON is never coloured");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::offline();
    let mut child = world.command(&["crds"]).stdout(Stdio::piped()).spawn().unwrap();

    drop(child.stdout.take());

    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_disk_is_an_error() {
    let world = World::offline();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();

    let output = world.command(&["crds"]).stdout(full).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("writing the result"));
}

#[test]
fn crds_prints_what_the_api_crate_defines() {
    assert_eq!(World::offline().run(&["crds"]).out, api::crds_yaml());
}

#[test]
fn the_same_program_is_a_plugin_of_kubectl() {
    let world = World::offline();
    let plugin = world.file("kubectl-hawser");
    symlink(env!("CARGO_BIN_EXE_hawser"), &plugin).unwrap();

    let output = world.command_of(&plugin, &["nodes", "--help"]).output().unwrap();

    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("Usage: kubectl hawser nodes"), "{help}");
}

#[test]
fn completion_and_manual_pages_are_made() {
    let world = World::offline();

    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(&["completion", shell]).out.contains("hawser"));
    }
    assert_eq!(world.run(&["man", "pages"]).code, 0);
    assert!(world.file("pages/hawser.1").exists());
    assert!(world.file("pages/hawser-verify-wire.1").exists());
}

#[test]
fn version_works_with_nobody_there() {
    let ended = World::offline().run(&["version", "-o", "json"]);

    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["client"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ended.json()["server"], Value::Null);
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
    let world = World::offline();
    fs::create_dir_all(world.file(".config/hawser")).unwrap();
    fs::write(world.file(".config/hawser/config.yaml"), "output: json\n").unwrap();
    let out = |command: &mut std::process::Command| {
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };

    assert!(out(&mut world.command(&["version"])).starts_with('{'));
    assert!(out(world.command(&["version"]).env("HAWSER_OUTPUT", "name")).starts_with("version/"));
    assert!(
        out(world.command(&["version", "-o", "yaml"]).env("HAWSER_OUTPUT", "name"))
            .contains("apiVersion: cli.hawser.dev/v1alpha1")
    );
}

#[test]
fn peers_are_shown_from_the_agents_socket() {
    let world = World::offline();
    let socket = world.agent(&state());

    let ended = world.run(&["peers", "show", "node-2", "--agent", socket.to_str().unwrap()]);

    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("Round trip  0.4ms"), "{ended:?}");
}

#[test]
fn a_node_in_file_mode_answers_by_its_agent_alone() {
    let world = World::offline();
    let socket = world.agent(&state());

    let ended = world.run(&["path", "node-2", "10.42.2.9", "--agent", socket.to_str().unwrap()]);

    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("the agent alone answers"), "{ended:?}");
}
