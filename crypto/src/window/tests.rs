use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The window as one would say it: a set of numbers.
#[derive(Default)]
struct Naive {
    seen: BTreeSet<u64>,
    next: u64,
}

impl Naive {
    fn mark(&mut self, counter: u64) -> bool {
        if counter == u64::MAX || self.next.saturating_sub(counter) > WINDOW {
            return false;
        }
        self.next = self.next.max(counter + 1);
        self.seen.insert(counter)
    }
}

/// Near the front, near the edge of the window, and far away.
fn steps() -> impl Strategy<Value = Vec<(u8, u64)>> {
    let step = prop_oneof![
        6 => (Just(0), 0..200u64),
        3 => (Just(1), 0..200u64),
        2 => (Just(2), 0..WINDOW + 200),
        1 => (Just(3), 0..3 * WINDOW),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn it_answers_as_a_set_of_numbers_does(start in prop_oneof![Just(0), 0..u64::MAX], steps in steps()) {
        let (mut window, mut naive) = (Window::default(), Naive::default());
        prop_assert_eq!(window.mark(start), naive.mark(start));
        for (kind, by) in steps {
            let counter = match kind {
                0 => naive.next.saturating_sub(by),
                1 => naive.next.saturating_sub(WINDOW + 100).saturating_add(by),
                2 => naive.next.saturating_sub(by),
                _ => naive.next.saturating_add(by),
            };
            prop_assert_eq!(window.mark(counter), naive.mark(counter), "{}", counter);
        }
    }

    #[test]
    fn what_a_restart_does_not_know_counts_as_seen(next in 0..40_000u64, asked in 0..60_000u64) {
        let mut window = Window::all_below(next);

        prop_assert_eq!(window.mark(asked), asked >= next);
        prop_assert!(!window.mark(asked));
        prop_assert!(window.mark(next.max(asked) + 1));
    }
}

#[test]
fn each_of_8192_counters_passes_once_in_any_order() {
    let mut window = Window::default();

    assert!(window.mark(WINDOW));
    assert!(!window.mark(0), "one too old");
    assert!((1..WINDOW).rev().all(|counter| window.mark(counter)));
    assert!((0..=WINDOW).all(|counter| !window.mark(counter)));
}

#[test]
fn the_last_counter_there_is_is_never_accepted() {
    let mut window = Window::default();

    assert!(window.mark(u64::MAX - 1));
    assert!(!window.mark(u64::MAX - 1));
    assert!(!window.mark(u64::MAX));
    assert!(!window.mark(u64::MAX));
}

#[test]
fn it_comes_back_from_its_words() {
    let mut window = Window::default();
    for counter in [1, 5, 70, 9000, 8999] {
        window.mark(counter);
    }

    let mut restored = Window::restore(window.next(), window.words()).unwrap();

    assert_eq!(restored, window);
    assert!(!restored.mark(8999) && restored.mark(8998));
    assert_eq!(Window::restore(3, &[0; 7]), None);
}
