use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    sync::Barrier,
};

use rustix::fs::FileType;

use super::{
    file::{Facts, judge_directory, judge_file},
    *,
};

fn state() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let state = outer.path().join("hawser");
    (outer, state)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn names(state: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_first_start_makes_a_key_and_later_ones_keep_it() {
    let (_outer, state) = state();

    let first = Identity::load_or_create(&state).unwrap();
    let second = Identity::load_or_create(&state).unwrap();

    assert_eq!(first.public_keys(), second.public_keys());
    assert_eq!(first.current_epoch(), KeyEpoch::FIRST);
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("key-1")), 0o600);
    assert_eq!(names(&state), ["key-1"]);
    let private = first.private_key(KeyEpoch::FIRST).unwrap();
    assert_eq!(first.public_keys(), [(KeyEpoch::FIRST, private.public())]);
    assert!(first.private_key(KeyEpoch(2)).is_none());
}

#[test]
fn loading_alone_makes_nothing() {
    let (_outer, state) = state();

    assert!(matches!(Identity::load(&state), Err(IdentityError::Io { .. })));
    assert!(!state.exists());

    fs::create_dir(&state).unwrap();
    set_mode(&state, 0o700);
    assert!(matches!(Identity::load(&state), Err(IdentityError::NoKey { .. })));
    assert!(names(&state).is_empty());
}

#[test]
fn every_epoch_is_loaded_and_the_newest_is_current() {
    let (_outer, state) = state();
    Identity::load_or_create(&state).unwrap();
    let directory = StateDir::open(&state).unwrap();
    for epoch in [2, 10] {
        create(&directory, KeyEpoch(epoch)).unwrap();
    }
    for foreign in ["key-03", "key-0", "key-3.bak", "key-", "key-99999999999"] {
        fs::write(state.join(foreign), "not ours").unwrap();
    }

    let identity = Identity::load_or_create(&state).unwrap();

    let epochs: Vec<u32> = identity.public_keys().iter().map(|(epoch, _)| epoch.0).collect();
    assert_eq!(epochs, [1, 2, 10]);
    assert_eq!(identity.current_epoch(), KeyEpoch(10));
}

#[test]
fn a_key_is_never_overwritten() {
    let (_outer, state) = state();
    let before = Identity::load_or_create(&state).unwrap().public_keys();

    create(&StateDir::open(&state).unwrap(), KeyEpoch::FIRST).unwrap();

    assert_eq!(Identity::load(&state).unwrap().public_keys(), before);
    assert_eq!(names(&state), ["key-1"]);
}

#[test]
fn of_racing_processes_all_get_the_same_key() {
    for _ in 0..50 {
        let (_outer, state) = state();
        let barrier = Barrier::new(8);

        let keys: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                Identity::load_or_create(&state).unwrap().public_keys()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        Identity::load_or_create(&state).unwrap();
        assert_eq!(names(&state), ["key-1"]);
    }
}

#[test]
fn what_a_crash_left_is_cleared_away() {
    let (_outer, state) = state();
    Identity::load_or_create(&state).unwrap();
    fs::write(state.join(".key-1.0123456789abcdef"), "half a k").unwrap();

    Identity::load_or_create(&state).unwrap();

    assert_eq!(names(&state), ["key-1"]);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    for loose in [0o644, 0o640, 0o604, 0o660, 0o601] {
        let (_outer, state) = state();
        Identity::load_or_create(&state).unwrap();
        set_mode(&state.join("key-1"), loose);

        let error = Identity::load_or_create(&state).unwrap_err();

        assert!(matches!(error, IdentityError::OpenFile { mode, .. } if mode == loose), "{error}");
        assert!(error.to_string().contains("chmod 0600"), "{error}");
    }
}

#[test]
fn a_directory_that_others_may_use_is_refused() {
    let (_outer, state) = state();
    Identity::load_or_create(&state).unwrap();
    set_mode(&state, 0o755);

    let error = Identity::load_or_create(&state).unwrap_err();

    assert!(matches!(error, IdentityError::OpenDirectory { mode: 0o755, .. }), "{error}");
    assert!(error.to_string().contains("chmod 0700"), "{error}");
}

#[test]
fn links_are_not_followed() {
    let (_outer, real) = state();
    Identity::load_or_create(&real).unwrap();

    let (outer, other) = state();
    fs::create_dir(&other).unwrap();
    set_mode(&other, 0o700);
    symlink(real.join("key-1"), other.join("key-1")).unwrap();
    let error = Identity::load_or_create(&other).unwrap_err();
    assert!(matches!(error, IdentityError::SymbolicLink { .. }), "{error}");

    let link = outer.path().join("link");
    symlink(&real, &link).unwrap();
    let error = Identity::load_or_create(&link).unwrap_err();
    assert!(matches!(error, IdentityError::SymbolicLink { .. }), "{error}");
}

#[test]
fn what_is_no_file_or_no_directory_is_refused() {
    let (_outer, state) = state();
    fs::write(&state, "").unwrap();
    let error = Identity::load_or_create(&state).unwrap_err();
    assert!(matches!(error, IdentityError::Kind { expected: "directory", .. }), "{error}");

    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    set_mode(&state, 0o700);
    fs::create_dir(state.join("key-1")).unwrap();
    let error = Identity::load_or_create(&state).unwrap_err();
    assert!(matches!(error, IdentityError::Kind { expected: "regular file", .. }), "{error}");
}

#[test]
fn another_owner_is_refused() {
    let file = Facts { kind: FileType::RegularFile, owner: 1000, mode: 0o600 };
    let directory = Facts { kind: FileType::Directory, owner: 1000, mode: 0o700 };

    assert!(judge_file("key-1", file, 1000).is_ok());
    assert!(judge_directory("state", directory, 1000).is_ok());
    for error in [
        judge_file("key-1", file, 0).unwrap_err(),
        judge_directory("state", directory, 0).unwrap_err(),
    ] {
        assert!(matches!(error, IdentityError::Owner { owner: 1000, expected: 0, .. }));
        assert!(error.to_string().contains("chown"), "{error}");
    }
}

#[test]
fn a_damaged_key_is_told_and_not_shown() {
    let (_outer, state) = state();
    let good = {
        Identity::load_or_create(&state).unwrap();
        fs::read_to_string(state.join("key-1")).unwrap()
    };
    let path = state.join("key-1");

    for bad in [&good[..20], &good[..43], &good.repeat(2), "", &good.replace(&good[3..4], "!")] {
        fs::write(&path, bad).unwrap();

        let error = Identity::load_or_create(&state).unwrap_err();

        let shown = format!("{error} {error:?}");
        assert!(matches!(error, IdentityError::Malformed { .. }), "{shown}");
        assert!(bad.is_empty() || !shown.contains(&bad[..bad.len().min(8)]), "{shown}");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad, "kept as it is");
    }
    fs::write(&path, [0xff; 44]).unwrap();
    assert!(matches!(Identity::load(&state), Err(IdentityError::Malformed { .. })));
}

#[test]
fn debug_shows_no_key() {
    let (_outer, state) = state();
    let identity = Identity::load_or_create(&state).unwrap();

    let shown = format!("{identity:?}");

    let text = fs::read_to_string(state.join("key-1")).unwrap();
    let bytes = identity.private_key(KeyEpoch::FIRST).unwrap().as_bytes();
    assert!(!shown.contains(text.trim()));
    assert!(!shown.contains(&format!("{}, {}, {}", bytes[0], bytes[1], bytes[2])), "{shown}");
}

#[test]
fn the_timestamp_floor_only_rises() {
    let (_outer, state) = state();
    assert_eq!(Identity::load_or_create(&state).unwrap().timestamp_floor(), None);
    let at = |seconds| Duration::new(seconds, 7);

    assert_eq!(raise_timestamp_floor(&state, at(100)).unwrap(), at(100));
    assert_eq!(raise_timestamp_floor(&state, at(50)).unwrap(), at(100));
    assert_eq!(raise_timestamp_floor(&state, at(101)).unwrap(), at(101));

    assert_eq!(Identity::load(&state).unwrap().timestamp_floor(), Some(at(101)));
    assert_eq!(names(&state), ["key-1", "timestamp"]);
    assert_eq!(mode(&state.join("timestamp")), 0o600);
}

#[test]
fn a_damaged_timestamp_floor_is_as_none() {
    let (_outer, state) = state();
    Identity::load_or_create(&state).unwrap();
    for damaged in ["", "12", "12.5\n", "x.000000000\n", "12.0000000"] {
        fs::write(state.join("timestamp"), damaged).unwrap();
        set_mode(&state.join("timestamp"), 0o600);

        assert_eq!(Identity::load(&state).unwrap().timestamp_floor(), None, "{damaged:?}");
    }
    let floor = Duration::from_secs(9);
    assert_eq!(raise_timestamp_floor(&state, floor).unwrap(), floor);
}

#[test]
fn a_rotation_makes_a_second_key_and_wipes_the_first_for_good() {
    let (_outer, state) = state();
    let mut identity = Identity::load_or_create(&state).unwrap();
    let old = fs::read_to_string(state.join("key-1")).unwrap();

    identity.make(&state, KeyEpoch(2)).unwrap();
    assert_eq!(names(&state), ["key-1", "key-2"]);
    assert_eq!(mode(&state.join("key-2")), 0o600);
    assert_eq!(identity.private_keys().len(), 2);
    assert_eq!(Identity::load(&state).unwrap().public_keys(), identity.public_keys());

    // Another name of the same file sees what becomes of its bytes.
    fs::hard_link(state.join("key-1"), state.join("witness")).unwrap();
    identity.wipe(&state, KeyEpoch(1)).unwrap();
    let left = fs::read(state.join("witness")).unwrap();
    assert!(left.len() == old.len() && left.iter().all(|byte| *byte == 0));
    fs::remove_file(state.join("witness")).unwrap();
    assert_eq!(names(&state), ["key-2", "newest-epoch"]);
    assert!(identity.private_key(KeyEpoch(1)).is_none());

    identity.wipe(&state, KeyEpoch(2)).unwrap();
    assert_eq!(names(&state), ["key-2", "newest-epoch"], "the last key stays");
}

#[test]
fn a_wiped_newest_epoch_is_remembered() {
    let (_outer, state) = state();
    let mut identity = Identity::load_or_create(&state).unwrap();
    identity.make(&state, KeyEpoch(7)).unwrap();
    identity.wipe(&state, KeyEpoch(7)).unwrap();

    let again = Identity::load(&state).unwrap();
    assert_eq!((again.current_epoch(), again.newest()), (KeyEpoch(1), KeyEpoch(7)));
}
