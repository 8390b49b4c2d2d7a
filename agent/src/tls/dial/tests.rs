use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn listener(number: u8) -> Listener {
    Listener { endpoints: vec![([192, 0, 2, number], 443).into()], fingerprint: [number; 32] }
}

fn listeners(names: &[&str]) -> BTreeMap<String, Listener> {
    names.iter().zip(1..).map(|(name, number)| ((*name).to_owned(), listener(number))).collect()
}

/// Who is called, and who is hung up on.
fn sorted(orders: Vec<Order>) -> (Vec<String>, Vec<String>) {
    let (mut called, mut left) = (Vec::new(), Vec::new());
    for order in orders {
        match order {
            Order::Call(name, _) => called.push(name),
            Order::HangUp(name) => left.push(name),
        }
    }
    (called, left)
}

/// All of them were asked in vain since then.
fn mute(of: &BTreeMap<String, Listener>, since: Instant) -> Mute {
    of.keys().map(|name| (name.clone(), since)).collect()
}

fn tick(
    dialler: &mut Dialler,
    listeners: &BTreeMap<String, Listener>,
    (mute, used): (&Mute, &[&str]),
    now: Instant,
) -> (Vec<String>, Vec<String>) {
    let used = &used.iter().map(|name| (*name).to_owned()).collect();
    sorted(dialler.tick(&Sight { listeners, mute, used }, now))
}

/// A dialler that has had its two lines for a second, and the time.
fn open(of: &BTreeMap<String, Listener>) -> (Dialler, Instant, Vec<String>) {
    let (start, mut dialler) = (Instant::now(), Dialler::default());
    let mute = mute(of, start);
    let early = tick(&mut dialler, of, (&mute, &[]), start + MUTE - SECOND);
    assert_eq!(early, Default::default());
    let now = start + MUTE;
    let (called, _) = tick(&mut dialler, of, (&mute, &[]), now);
    for name in &called {
        dialler.opened(name, now);
    }
    (dialler, now + SECOND, called)
}

#[test]
fn two_are_called_after_three_seconds_and_all_nodes_call_the_same() {
    let of = listeners(&["a", "b", "c"]);
    let (dialler, _, called) = open(&of);

    assert_eq!(called.len(), KEPT);
    assert_eq!(open(&of).2, called);
    assert_eq!(dialler.open().count(), KEPT);
}

#[test]
fn nobody_is_called_while_one_answers_or_was_not_asked() {
    let (of, start) = (listeners(&["a", "b", "c"]), Instant::now());
    let mut all_but_one = mute(&of, start);
    all_but_one.remove("b");
    for mute in [Mute::new(), all_but_one] {
        let mut dialler = Dialler::default();
        for second in 0..100 {
            let none = tick(&mut dialler, &of, (&mute, &[]), start + SECOND * second);
            assert_eq!(none, Default::default());
        }
    }
    let mut nobody = Dialler::default();
    let none = tick(&mut nobody, &BTreeMap::new(), (&Mute::new(), &[]), start);
    assert_eq!(none, Default::default());
}

#[test]
fn what_an_earlier_run_used_is_called_at_once() {
    let (of, mut dialler) = (listeners(&["a"]), Dialler::default());
    let (called, _) = tick(&mut dialler, &of, (&Mute::new(), &["a"]), Instant::now());
    assert_eq!(called, ["a"]);
}

#[test]
fn one_that_ends_is_replaced_at_once_and_called_again_later_and_later() {
    let of = listeners(&["a", "b", "c"]);
    let (mut dialler, mut now, called) = open(&of);
    let mute = mute(&of, now - MUTE);
    let sight: (&Mute, &[&str]) = (&mute, &["a"]);

    dialler.ended(&called[0], now);
    let (third, _) = tick(&mut dialler, &of, sight, now);
    assert_eq!(third.len(), 1);
    assert!(!called.contains(&third[0]));

    dialler.ended(&third[0], now);
    dialler.ended(&called[1], now);
    let mut waits = Vec::new();
    for _ in 0..20 {
        let begun = now;
        while tick(&mut dialler, &of, sight, now).0.is_empty() {
            now += SECOND;
        }
        waits.push((now - begun).as_secs());
        let calling: Vec<String> = dialler.busy().map(|(name, _)| name.clone()).collect();
        for name in &calling {
            dialler.ended(name, now);
        }
    }
    waits.retain(|wait| *wait > 0);
    assert!(waits.is_sorted() && waits.contains(&4), "{waits:?}");
    assert!(waits.last() <= Some(&60), "{waits:?}");
}

#[test]
fn lines_stay_while_they_are_used_and_end_half_a_minute_after() {
    let of = listeners(&["a", "b"]);
    let (mut dialler, mut now, _) = open(&of);
    for _ in 0..100 {
        now += SECOND;
        let none = tick(&mut dialler, &of, (&Mute::new(), &["a"]), now);
        assert_eq!(none, Default::default(), "datagrams are answered, and TLS is still used");
    }
    let unused = now + SECOND;
    let left = loop {
        now += SECOND;
        // A dead one is still what there is to somebody, and was called long ago.
        let (called, left) = tick(&mut dialler, &of, (&Mute::new(), &["dead"]), now);
        assert!(called.is_empty());
        if !left.is_empty() {
            break left;
        }
    };
    assert_eq!((left.len(), now - unused), (2, LINGER));
    assert_eq!(dialler.open().count(), 0);
}

#[test]
fn datagrams_that_stop_again_begin_the_half_minute_anew() {
    let of = listeners(&["a"]);
    let (mut dialler, start, _) = open(&of);
    let shut = mute(&of, start - MUTE);
    for second in 0..300 {
        // They come for twenty seconds of each half minute.
        let mute = if second % 30 < 20 { &Mute::new() } else { &shut };
        let none = tick(&mut dialler, &of, (mute, &[]), start + SECOND * second);
        assert_eq!(none, Default::default());
    }
}

#[test]
fn a_listener_that_is_gone_or_has_another_certificate_is_left() {
    let of = listeners(&["a", "b"]);
    let (mut dialler, now, _) = open(&of);
    let mut other = of.clone();
    other.insert("a".to_owned(), listener(9));
    other.remove("b");

    let sight = Sight {
        listeners: &other,
        mute: &mute(&other, now - MUTE),
        used: &["a".to_owned()].into(),
    };
    let mut orders = dialler.tick(&sight, now);

    orders.sort_by_key(|order| matches!(order, Order::Call(..)));
    let [a, b] = ["a", "b"].map(|name| Order::HangUp(name.to_owned()));
    assert_eq!(orders, [a, b, Order::Call("a".to_owned(), listener(9))]);
}
