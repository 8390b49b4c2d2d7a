//! Handshake messages that are almost genuine: only the genuine one may be taken.

use std::sync::LazyLock;

use super::input::Input;
use crate::workbench::handshakes::{InFlight, Pair};

struct Stage {
    pair: Pair,
    flight: InFlight,
    first: [u8; 148],
    second: [u8; 92],
    reply: [u8; 64],
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let mut pair = Pair::new(true);
    let (flight, first) = pair.initiate();
    let second = pair.answer(&first).expect("a genuine initiation");
    let reply = pair.demand(&first).expect("a genuine initiation");
    Stage { pair, flight, first, second, reply }
});

/// What both steps of the responder make of an initiation.
pub(super) fn initiation(data: &[u8]) {
    let touched = Input::new(data).touched(&STAGE.first);
    let genuine = touched.len() == 148 && touched[8..116] == STAGE.first[8..116];
    let typed = touched.starts_with(&[1, 0, 0, 0]);
    assert_eq!(STAGE.pair.verifies(&touched), genuine && typed);
}

/// What the initiator makes of a response. The responder's index is under no seal but mac1.
pub(super) fn response(data: &[u8]) {
    let touched = Input::new(data).touched(&STAGE.second);
    let genuine = touched.len() == 92 && touched[8..60] == STAGE.second[8..60];
    let typed = touched.starts_with(&[2, 0, 0, 0]);
    assert_eq!(STAGE.pair.finish(&STAGE.flight, &touched), genuine && typed);
}

/// What the initiator makes of a cookie reply. The index in it is under no seal.
pub(super) fn cookie_reply(data: &[u8]) {
    let touched = Input::new(data).touched(&STAGE.reply);
    let genuine = touched.len() == 64 && touched[8..] == STAGE.reply[8..];
    let typed = touched.starts_with(&[3, 0, 0, 0]);
    assert_eq!(STAGE.pair.takes_cookie(&STAGE.flight, &touched), genuine && typed);
}
