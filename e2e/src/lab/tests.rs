//! What holds without root: names and addresses. The lab itself is tested in `tests/netns/lab.rs`.

use super::address::Pair;
use super::sweep;

#[test]
fn a_namespace_names_the_process_that_owns_it() {
    assert_eq!(sweep::owner("hw-4711-1demo-n1"), Some(4711));
    assert_eq!(sweep::owner("hw-lab-1"), None);
    assert_eq!(sweep::owner("cni-1234"), None);
}

#[test]
fn two_machines_of_a_lab_never_share_an_address() {
    let all: Vec<_> = (1..4)
        .flat_map(|switch| (1..254).map(move |host| Pair::on_switch(switch, host)))
        .flat_map(Pair::both)
        .collect();

    let unique: std::collections::BTreeSet<_> = all.iter().collect();

    assert_eq!(unique.len(), all.len());
}
