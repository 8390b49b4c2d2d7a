//! An old private key is nowhere any more soon after the last confirmation: not on disk, and not in
//! the memory of the process that used it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use api::{KeyRotation, KeyRotationSpec, RotationPhase as Phase};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::lab::eventually;
use e2e::mesh::{Member, Mesh};
use kube::{Api, api::PostParams};

use super::{LIMIT, epochs};

/// From the last confirmation to the last byte of the old key.
const BOUND: Duration = Duration::from_secs(10);

/// Where `secret` stands in the memory of a process: the lines of its map.
fn places(pid: u32, secret: &[u8]) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut places = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // A place that went away meanwhile holds nothing any more.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            let found = bytes.windows(secret.len()).enumerate();
            let found = found.filter(|(_, window)| *window == secret);
            places.extend(found.map(|(at, _)| format!("{line} at {at:#x}")));
        }
    }
    places
}

fn key(member: &Member, epoch: u32) -> Vec<u8> {
    let text = std::fs::read(member.node.state().join(format!("key-{epoch}"))).unwrap();
    STANDARD.decode(text.trim_ascii()).unwrap()
}

fn phase(mesh: &Mesh) -> Option<Phase> {
    let status = mesh
        .controller
        .api(async |client| Ok(Api::<KeyRotation>::all(client).get("wipe").await?.status));
    status.ok().flatten().and_then(|status| status.phase)
}

#[test]
fn an_old_private_key_is_out_of_memory_and_off_the_disk_within_ten_seconds() {
    let mut mesh = Mesh::start("wipe", 2).unwrap();
    mesh.add_pods(1).unwrap();
    assert_eq!(mesh.reach(b"before", LIMIT).failures(), Vec::<String>::new());
    let old: Vec<Vec<u8>> = mesh.members.iter().map(|member| key(member, 1)).collect();
    let pids: Vec<u32> = mesh.members.iter().map(|m| m.agent().unwrap().pid()).collect();
    let left = || -> Vec<String> {
        pids.iter().zip(&old).flat_map(|(pid, key)| places(*pid, key)).collect()
    };
    // Raw bytes as the process holds them: the control.
    let before = left().len();
    assert!(before >= 2, "the search finds the keys that are in use: {before}");

    let created = mesh.controller.api(async |client| {
        let rotation = KeyRotation::new("wipe", KeyRotationSpec::default());
        Ok(Api::all(client).create(&PostParams::default(), &rotation).await?)
    });
    created.unwrap();
    // Forgetting begins with the last confirmation.
    let confirmed =
        |phase: Option<Phase>| matches!(phase, Some(Phase::Forgetting | Phase::Completed));
    eventually("all confirm", LIMIT, || confirmed(phase(&mesh))).unwrap();
    let begun = Instant::now();
    while !left().is_empty() {
        assert!(begun.elapsed() < BOUND, "old keys are left in {:#?}", left());
        std::thread::sleep(Duration::from_millis(50));
    }

    println!("{before} copies before; wiped {:?} after the last confirmation", begun.elapsed());
    eventually("off the disk", LIMIT, || phase(&mesh) == Some(Phase::Completed)).unwrap();
    assert!(mesh.members.iter().all(|m| !m.node.state().join("key-1").exists()));
    assert_eq!(epochs(&mesh), [(2, vec![2]), (2, vec![2])]);
    let new: Vec<Vec<u8>> = mesh.members.iter().map(|member| key(member, 2)).collect();
    let held = pids.iter().zip(&new).map(|(pid, key)| places(*pid, key).len());
    assert!(held.sum::<usize>() >= 2, "and the new ones are there");
}
