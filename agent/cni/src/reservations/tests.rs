use std::{
    collections::BTreeMap,
    sync::{Barrier, Mutex},
};

use super::{
    faulty::{Fault, FaultyDisk},
    *,
};

/// Histories of the crash test; a debug build is ten times slower.
const HISTORIES: u64 = if cfg!(debug_assertions) { 10_000 } else { 100_000 };

fn pod(number: u64) -> Attachment {
    Attachment::new(format!("c{number}"), "eth0")
}

fn subnets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|subnet| subnet.parse().unwrap()).collect()
}

fn dual() -> Vec<IpNet> {
    subnets(&["10.42.1.0/29", "fd42:0:0:1::/64"])
}

fn shown(reservation: &Reservation<()>) -> Vec<String> {
    reservation.record.as_ref().unwrap().addresses.iter().map(IpAddr::to_string).collect()
}

fn memory() -> Reservations<FaultyDisk> {
    Reservations { disk: FaultyDisk::default() }
}

impl Reservations<FaultyDisk> {
    fn take(&self, number: u64) -> Result<Reservation<()>, ReserveError> {
        self.reserve(&pod(number), "net", &dual(), &HashSet::new())
    }

    fn free(&self, number: u64) {
        let held = self.hold(&pod(number)).unwrap().unwrap();
        self.release(held).unwrap();
    }

    fn names_but_last(&self) -> Vec<String> {
        let mut names = self.disk.names().unwrap();
        names.retain(|name| name != LAST);
        names
    }
}

#[test]
fn a_pod_gets_an_address_of_each_family() {
    let all = memory();

    let first = all.take(1).unwrap();
    let second = all.take(2).unwrap();

    assert_eq!(shown(&first), ["10.42.1.2", "fd42:0:0:1::2"]);
    assert_eq!(shown(&second), ["10.42.1.3", "fd42:0:0:1::3"]);
    assert_eq!(all.records().unwrap().len(), 2);
}

#[test]
fn a_node_of_one_family_gives_one_address() {
    for (subnet, address) in [("10.42.1.0/24", "10.42.1.2"), ("fd42::/64", "fd42::2")] {
        let one = memory().reserve(&pod(1), "net", &subnets(&[subnet]), &HashSet::new()).unwrap();
        assert_eq!(shown(&one), [address]);
    }
    let none = memory().reserve(&pod(1), "net", &[], &HashSet::new());
    assert!(matches!(none, Err(ReserveError::NoSubnet)));
}

#[test]
fn an_attachment_is_reserved_once() {
    let all = memory();
    all.take(1).unwrap();

    assert!(matches!(all.take(1), Err(ReserveError::Attached { .. })));
    assert_eq!(all.names_but_last().len(), 3);
}

#[test]
fn an_address_rests_while_others_are_free() {
    let all = memory();
    let first = all.take(1).unwrap();
    all.free(1);

    let later: Vec<String> = (2..6).map(|n| shown(&all.take(n).unwrap())[0].clone()).collect();

    assert!(!later.contains(&shown(&first)[0]), "{later:?}");
    assert_eq!(shown(&all.take(6).unwrap())[0], "10.42.1.2", "the last one left");
}

#[test]
fn a_full_subnet_says_so_and_heals() {
    let all = memory();
    for number in 0..5 {
        assert!(all.has_room(&dual()).unwrap());
        all.take(number).unwrap();
    }
    let before = all.names_but_last();

    let error = all.take(9).unwrap_err();

    assert!(matches!(&error, ReserveError::Exhausted { subnets } if subnets == "10.42.1.0/29"));
    assert!(!all.has_room(&dual()).unwrap());
    assert_eq!(all.names_but_last(), before, "not one half of a reservation");
    let grown = subnets(&["10.42.1.0/29", "10.42.2.0/29", "fd42:0:0:1::/64"]);
    assert!(all.has_room(&grown).unwrap());
    let ninth = all.reserve(&pod(9), "net", &grown, &HashSet::new()).unwrap();
    assert_eq!(shown(&ninth)[0], "10.42.2.2");
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let all = memory();
    all.take(1).unwrap();
    let before = all.names_but_last();
    all.disk.fault.set(Fault::Full);

    assert!(matches!(all.take(2), Err(ReserveError::Io(_))));
    assert_eq!(all.names_but_last(), before);
    all.free(1);
    assert!(all.names_but_last().is_empty(), "freeing needs no space");
}

#[test]
fn a_copied_state_directory_still_frees_what_it_holds() {
    let all = memory();
    all.take(1).unwrap();
    all.take(2).unwrap();
    all.disk.break_links();

    all.free(1);

    let names = all.names_but_last();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"10.42.1.3".to_owned()));
}

#[test]
fn a_damaged_record_keeps_its_addresses_until_it_is_deleted() {
    for garbage in [&b""[..], b"{", b"\xff\xfe", b"{\"version\":9,\"else\":1}"] {
        let all = memory();
        all.take(1).unwrap();
        all.disk.damage(&pod(1).host_device(), garbage);
        let in_use = InUse { addresses: HashSet::new(), has_device: &|_| Ok(true) };

        all.reclaim(&in_use).unwrap();
        assert_eq!(all.names_but_last().len(), 3);
        let second = all.take(2).unwrap();
        assert_eq!(shown(&second)[0], "10.42.1.3");

        all.free(1);
        assert_eq!(all.names_but_last().len(), 3, "the second pod's alone");
    }
}

#[test]
fn reclaim_frees_what_has_no_device_and_nothing_else() {
    let all = memory();
    let living = pod(1).host_device();
    all.take(1).unwrap();
    all.take(2).unwrap();

    let has_device = |name: &str| Ok(name == living);
    let in_use = InUse { addresses: HashSet::new(), has_device: &has_device };
    assert_eq!(all.reclaim(&in_use).unwrap(), 1);

    assert_eq!(all.records().unwrap().len(), 1);
    assert_eq!(all.names_but_last().len(), 3);
    assert_eq!(all.reclaim(&in_use).unwrap(), 0);
}

/// What the kernel would know: which attachments have a device, with which addresses.
type Living = BTreeMap<u64, Vec<IpAddr>>;

/// Plays one history of ADD, DEL and GC, any of them killed at any step, with damaged files.
struct History {
    all: Reservations<FaultyDisk>,
    living: Living,
    random: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        Self { all: memory(), living: Living::new(), random: seed }
    }

    /// splitmix64
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn step(&mut self) {
        let number = self.below(6);
        let fault =
            if self.below(2) == 0 { Fault::None } else { Fault::Crash(self.below(40) as u32) };
        match self.below(8) {
            0..=3 => self.add(number, fault),
            4..=5 => self.del(number, fault),
            6 => self.collect(fault),
            _ => self.damage(),
        }
        self.all.disk.fault.set(Fault::None);
    }

    /// As the plugin does it: a record without a device is freed first.
    fn add(&mut self, number: u64, fault: Fault) {
        self.all.disk.fault.set(fault);
        let mut outcome = self.all.take(number);
        if matches!(outcome, Err(ReserveError::Attached { .. }))
            && !self.living.contains_key(&number)
        {
            let Ok(Some(held)) = self.all.hold(&pod(number)) else {
                return;
            };
            if self.all.release(held).is_err() {
                return;
            }
            outcome = self.all.take(number);
        }
        let Ok(reservation) = outcome else { return };
        assert!(!self.living.contains_key(&number), "given twice");
        let addresses = reservation.record.unwrap().addresses;
        for (other, theirs) in &self.living {
            assert!(addresses.iter().all(|a| !theirs.contains(a)), "{other} has it: {addresses:?}");
        }
        // Or the plugin is killed before it makes the device.
        if self.below(8) != 0 {
            self.living.insert(number, addresses);
        }
    }

    fn del(&mut self, number: u64, fault: Fault) {
        self.living.remove(&number);
        self.all.disk.fault.set(fault);
        if let Ok(Some(held)) = self.all.hold(&pod(number)) {
            let _ = self.all.release(held);
        }
    }

    fn collect(&mut self, fault: Fault) {
        self.all.disk.fault.set(fault);
        let devices: HashSet<String> = self.living.keys().map(|n| pod(*n).host_device()).collect();
        let has_device = |name: &str| Ok(devices.contains(name));
        let addresses = self.living.values().flatten().copied().collect();
        let _ = self.all.reclaim(&InUse { addresses, has_device: &has_device });
    }

    fn damage(&mut self) {
        let names = self.all.disk.names().unwrap();
        if self.below(4) == 0 && !names.is_empty() {
            let victim = names[self.below(names.len() as u64) as usize].clone();
            self.all.disk.damage(&victim, b"{\"version\":1,\"net");
        }
    }

    /// After all faults: what is reserved is what lives, and nothing is left in the end.
    fn settle(&mut self) {
        self.collect(Fault::None);
        let living: HashSet<String> =
            self.living.values().flatten().map(IpAddr::to_string).collect();
        let reserved: HashSet<String> = self.all.addresses().unwrap().into_iter().collect();
        assert_eq!(reserved, living);
        for number in 0..6 {
            self.del(number, Fault::None);
        }
        self.collect(Fault::None);
        assert_eq!(self.all.names_but_last(), Vec::<String>::new());
    }
}

#[test]
fn no_history_gives_an_address_twice_or_loses_one() {
    for seed in 0..HISTORIES {
        let outcome = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            for _ in 0..16 {
                history.step();
            }
            history.settle();
        });
        assert!(outcome.is_ok(), "history {seed}");
    }
}

#[test]
fn many_at_once_on_a_real_disk_never_share() {
    let state = tempfile::tempdir().unwrap();
    let subnet = subnets(&["10.42.1.0/27", "fd42::/64"]);
    let held = Mutex::new(HashSet::new());
    let barrier = Barrier::new(8);

    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (state, subnet, held, barrier) = (state.path(), &subnet, &held, &barrier);
            scope.spawn(move || {
                let all = Reservations::open(state).unwrap();
                barrier.wait();
                for round in 0..20 {
                    let who = pod(thread * 1000 + round);
                    let one = all.reserve(&who, "net", subnet, &HashSet::new()).unwrap();
                    let addresses = one.record.as_ref().unwrap().addresses.clone();
                    for address in &addresses {
                        assert!(held.lock().unwrap().insert(*address), "{address} given twice");
                    }
                    for address in &addresses {
                        held.lock().unwrap().remove(address);
                    }
                    all.release(one).unwrap();
                }
            });
        }
    });

    assert!(Reservations::list(state.path()).unwrap().is_empty());
    let left: Vec<String> = Directory::at(&state.path().join("pods")).names().unwrap();
    assert!(left.iter().all(|name| [LAST, "lock"].contains(&name.as_str())), "{left:?}");
}

#[test]
fn a_record_whose_holder_lives_is_left_alone() {
    let state = tempfile::tempdir().unwrap();
    let all = Reservations::open(state.path()).unwrap();
    let none = InUse { addresses: HashSet::new(), has_device: &|_| Ok(false) };

    let adding = all.reserve(&pod(1), "net", &dual(), &HashSet::new()).unwrap();

    assert_eq!(all.reclaim(&none).unwrap(), 0);
    let again = all.reserve(&pod(1), "net", &dual(), &HashSet::new());
    assert!(matches!(again, Err(ReserveError::Busy)));
    assert!(all.try_hold(&pod(1)).unwrap().is_none());
    drop(adding);
    assert_eq!(all.reclaim(&none).unwrap(), 1, "its holder died");
}

#[test]
fn listing_needs_no_directory_and_makes_none() {
    let state = tempfile::tempdir().unwrap();

    assert!(Reservations::list(state.path()).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}
