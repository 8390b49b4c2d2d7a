//! Parts of the inside, opened for `benches/`, `fuzz/` and `sim/`: no program sees this module.
//!
//! What is here has no secrets worth keeping and no promises to anybody.

pub mod flood;
pub mod fuzz;
pub mod handshakes;
mod made;

pub use made::Made;

/// The replay window.
#[derive(Debug, Clone, Default)]
pub struct Window(crate::window::Window);

impl Window {
    /// True if `counter` is new; from then on it is not.
    pub fn mark(&mut self, counter: u64) -> bool {
        self.0.mark(counter)
    }
}
