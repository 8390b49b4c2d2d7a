//! An allocator that counts, for as long as it is asked to, what its own thread does.

#![allow(unsafe_code, reason = "an allocator is unsafe by nature; this one adds two numbers")]
#![allow(unreachable_pub, reason = "a test has no face")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// What was allocated: how often, and how many bytes more than were freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub times: u64,
    pub bytes: i64,
}

thread_local! {
    static COUNT: Cell<Option<Counted>> = const { Cell::new(None) };
}

/// What `call` gives, and what it allocated.
pub fn counted<R>(call: impl FnOnce() -> R) -> (R, Counted) {
    COUNT.set(Some(Counted::default()));
    let result = call();
    (result, COUNT.take().unwrap_or_default())
}

fn count(times: u64, bytes: i64) {
    // A thread that ends frees things after its thread-locals are gone.
    let _ = COUNT.try_with(|count| {
        if let Some(before) = count.get() {
            let after = Counted { times: before.times + times, bytes: before.bytes + bytes };
            count.set(Some(after));
        }
    });
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

pub struct Counting;

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, size(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, -size(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}
