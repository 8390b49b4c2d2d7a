//! The replay window against a set of everything seen.

use std::collections::HashSet;

use super::input::Input;
use crate::window::{WINDOW, Window};

pub(super) fn window(data: &[u8]) {
    let mut input = Input::new(data);
    let mut window = Window::default();
    let mut seen = HashSet::new();
    let mut next = 0u64;
    while !input.is_empty() {
        let counter = match input.byte() % 4 {
            0 => next.saturating_sub(input.short().into()),
            1 => next.saturating_add(input.short().into()),
            2 => next.saturating_add(input.long() >> 8),
            _ => input.long(),
        };
        let fits = counter != u64::MAX && (counter >= next || next - counter <= WINDOW);
        assert_eq!(window.mark(counter), fits && seen.insert(counter), "{counter} at {next}");
        if fits {
            next = next.max(counter + 1);
        }
        assert_eq!(window.next(), next);
        let copy = Window::restore(next, window.words()).expect("the same length");
        assert_eq!(copy, window);
    }
}
