//! How many connections a listener holds: in all, from one place, and of those who have not shown
//! yet that they are members. Pure.

use std::{collections::BTreeMap, net::IpAddr};

/// Each takes some 100 KiB here and 400 KiB of the kernel's, at most.
const ALL: usize = 1024;
/// From one IPv4 address or one /64: an office behind a NAT.
const PLACE: usize = 64;
/// Of which nothing authentic has come yet.
const STRANGERS: usize = 128;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Place,
    Strangers,
}

/// Whoever is connected, by place.
#[derive(Debug, Default)]
pub(super) struct Guests {
    places: BTreeMap<IpAddr, usize>,
    all: usize,
    strangers: usize,
}

impl Guests {
    /// A stranger comes in.
    pub(super) fn admit(&mut self, from: IpAddr) -> Result<(), Full> {
        let here = self.places.get(&place(from)).copied().unwrap_or(0);
        if self.all >= ALL {
            return Err(Full::All);
        } else if here >= PLACE {
            return Err(Full::Place);
        } else if self.strangers >= STRANGERS {
            return Err(Full::Strangers);
        }
        self.places.insert(place(from), here + 1);
        self.all += 1;
        self.strangers += 1;
        Ok(())
    }

    /// Something authentic came from one: it is a stranger no more.
    pub(super) fn knows(&mut self) {
        self.strangers = self.strangers.saturating_sub(1);
    }

    /// One has gone.
    pub(super) fn leave(&mut self, from: IpAddr, stranger: bool) {
        let place = place(from);
        if let Some(here) = self.places.get_mut(&place) {
            *here -= 1;
            self.all -= 1;
            self.strangers -= usize::from(stranger && self.strangers > 0);
            if *here == 0 {
                self.places.remove(&place);
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.all
    }
}

fn place(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_place_does_not_take_what_is_there_for_all() {
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
        ] {
            let mut guests = Guests::default();
            for _ in 0..PLACE {
                guests.admit(at(one)).unwrap();
                guests.knows();
            }
            assert_eq!(guests.admit(at(same)), Err(Full::Place), "{same}");
            assert_eq!(guests.admit(at(other)), Ok(()));
            guests.leave(at(same), false);
            assert_eq!(guests.admit(at(one)), Ok(()));
        }
    }

    #[test]
    fn strangers_leave_room_for_members_and_all_together_are_bounded() {
        let mut guests = Guests::default();
        let from = |number: usize| at(&format!("192.0.{}.{}", number / 50, number % 50));
        for number in 0..STRANGERS {
            guests.admit(from(number)).unwrap();
        }
        assert_eq!(guests.admit(at("198.51.100.1")), Err(Full::Strangers));
        (0..STRANGERS).for_each(|_| guests.knows());
        for number in STRANGERS..ALL {
            guests.admit(from(number)).unwrap();
            guests.knows();
        }
        assert_eq!(guests.admit(at("198.51.100.1")), Err(Full::All));
        for number in 0..ALL {
            guests.leave(from(number), false);
        }
        assert_eq!((guests.count(), guests.places.len()), (0, 0));
    }
}
