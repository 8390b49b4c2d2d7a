use std::{collections::BTreeSet, sync::atomic::Ordering, thread};

use zeroize::Zeroizing;

use super::*;

fn span(initiator: bool) -> Span {
    Span::new(Moment(1), initiator)
}

fn sender(next: u64) -> SendKey {
    SendKey::new(Zeroizing::new([7; 32]), 0x1234, next, span(true))
}

fn receiver() -> ReceiveKey {
    let peer = Arc::new(PeerPath::new((0, 0), None));
    ReceiveKey::new(Zeroizing::new([7; 32]), 0x1234, peer, Window::default(), span(false))
}

fn after(seconds: u64) -> Moment {
    Moment(1).after(Duration::from_secs(seconds))
}

#[test]
fn a_counter_stops_at_its_limit_and_never_wraps() {
    let key = sender(REJECT_AFTER_MESSAGES - 3);

    assert!(key.reserve(4, Moment(1)).is_none());
    assert_eq!(key.reserve(2, Moment(1)).unwrap().first, REJECT_AFTER_MESSAGES - 3);
    assert!(key.reserve(2, Moment(1)).is_none());
    assert_eq!(key.reserve(1, Moment(1)).unwrap().first, REJECT_AFTER_MESSAGES - 1);
    for messages in [0, 1, 64, u32::MAX].repeat(1000) {
        assert!(messages == 0 || key.reserve(messages, Moment(1)).is_none());
    }
    assert!(sender(u64::MAX).reserve(1, Moment(1)).is_none());
}

#[test]
fn a_session_asks_for_the_next_by_messages_bytes_and_time_before_it_ends() {
    let rekey = |key: &SendKey, at| key.reserve(1, at).map(|reserved| reserved.rekey);

    assert_eq!(rekey(&sender(REKEY_AFTER_MESSAGES - 1), Moment(1)), Some(false));
    assert_eq!(rekey(&sender(REKEY_AFTER_MESSAGES), Moment(1)), Some(true));

    let key = sender(0);
    key.count_bytes(REKEY_AFTER_BYTES - 1);
    assert_eq!(rekey(&key, Moment(1)), Some(false));
    key.count_bytes(1);
    assert_eq!(rekey(&key, Moment(1)), Some(true));
    key.count_bytes(REJECT_AFTER_BYTES);
    assert_eq!(rekey(&key, Moment(1)), None);

    assert_eq!(rekey(&sender(0), after(119)), Some(false));
    assert_eq!(rekey(&sender(0), after(120)), Some(true));
    assert_eq!(rekey(&sender(0), after(179)), Some(true));
    assert_eq!(rekey(&sender(0), after(180)), None);
    let answered = SendKey::new(Zeroizing::new([7; 32]), 1, 0, span(false));
    assert_eq!(rekey(&answered, after(169)), Some(false), "the initiator does so by time");
    assert_eq!(rekey(&answered, after(170)), Some(true), "the initiator did not");
}

#[test]
fn what_one_seals_the_other_opens_at_every_counter_and_nothing_else() {
    for counter in [0, 1, u32::MAX.into(), 1 << 60, REJECT_AFTER_MESSAGES - 1, u64::MAX] {
        let mut record = [9; HEADER + 32 + TAG];
        sender(0).seal(counter, &mut record);
        assert_eq!(record[..8], [4, 0, 0, 0, 0x34, 0x12, 0, 0]);
        assert_eq!(record[8..16], counter.to_le_bytes());

        for bit in 0..(32 + TAG) * 8 {
            let mut forged = record;
            forged[HEADER + bit / 8] ^= 1 << (bit % 8);
            let opened = receiver().open(counter, &mut forged[HEADER..]);
            assert_eq!(opened, Err(Discard::NotAuthentic));
        }
        let mut copy = record;
        let opened = receiver().open(counter ^ 1, &mut copy[HEADER..]);
        assert_eq!(opened, Err(Discard::NotAuthentic));
        assert_eq!(receiver().open(counter, &mut record[HEADER..]), Ok(32));
        assert_eq!(record[HEADER..][..32], [9; 32]);
    }
}

#[test]
fn sealed_bytes_too_short_for_a_tag_are_refused() {
    for length in 0..TAG {
        assert_eq!(receiver().open(0, &mut vec![0; length]), Err(Discard::NotWireGuard));
    }
}

#[test]
fn threads_that_reserve_together_never_get_the_same_counter() {
    let key = sender(0);
    let reserve = || (1..=500_u32).map(|n| (key.reserve(n % 64, Moment(1)).unwrap().first, n % 64));

    let mut used = BTreeSet::new();
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| reserve().collect::<Vec<_>>())).collect();
        for (first, count) in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            for counter in first..first + u64::from(count) {
                assert!(used.insert(counter), "{counter} twice");
            }
        }
    });

    assert_eq!(used.len() as u64, used.last().unwrap() + 1, "and loses none");
}

#[test]
fn what_an_export_gives_away_is_not_used_by_threads_that_go_on() {
    for block in [0, 1, 5_000, 50_000] {
        let key = sender(0);
        let reserve = |_: u32| {
            let mut last = 0;
            for _ in 0..3_000 {
                last = key.reserve(64, Moment(1)).map_or(last, |reserved| reserved.first + 64);
            }
            last
        };

        let (given, used) = thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|n| scope.spawn(move || reserve(n))).collect();
            thread::yield_now();
            let given = key.export(block);
            (given, threads.into_iter().map(|thread| thread.join().unwrap()).max())
        });

        assert!(used.unwrap() <= given, "{used:?} of {given}");
        assert!(key.reserve(64, Moment(1)).is_none_or(|reserved| reserved.first + 64 <= given));
    }
}

#[test]
fn an_export_asks_for_the_next_one_when_half_is_used() {
    let key = sender(0);
    assert!(!key.reserve(64, Moment(1)).unwrap().export);

    let given = key.export(10_000);

    let asked: Vec<bool> =
        std::iter::from_fn(|| key.reserve(64, Moment(1))).map(|reserved| reserved.export).collect();
    assert_eq!(given, 64 + 10_000);
    let first = asked.iter().position(|asked| *asked).unwrap();
    assert!((75..82).contains(&first), "{first} of {}", asked.len());
    assert_eq!(asked.len(), 10_000 / 64);
}

#[test]
fn a_window_that_was_given_away_accepts_nothing_twice() {
    let key = receiver();
    let mark = |key: &ReceiveKey, counter: u64| key.mark([counter].into_iter());
    let fresh = Marked { fresh: 1, beyond: 0 };
    assert_eq!(mark(&key, 5), fresh);

    let mut given = key.export(100);
    assert_eq!(mark(&key, 105), fresh);
    assert_eq!(mark(&key, 106), Marked { fresh: 0, beyond: 1 });
    assert!(!given.mark(105) && given.mark(106), "one of both takes each");

    let mut given = key.export(0);
    assert_eq!(mark(&key, 90), Marked { fresh: 0, beyond: 1 });
    assert!(given.mark(90) && !given.mark(105));
}

#[test]
fn sixty_four_are_judged_at_once() {
    let key = receiver();

    assert_eq!(key.mark(0..64).fresh, u64::MAX);
    assert_eq!(key.mark((0..64).map(|n| n * 2)).fresh, u64::MAX << 32);
    assert!(!key.unconfirmed.load(Ordering::Relaxed));
}
