//! What must never be printed, and what is wiped.

use std::fmt::Debug;

use zeroize::ZeroizeOnDrop;

use super::*;

/// Does not compile if the type has `Debug`: the name would then be ambiguous.
macro_rules! cannot_be_printed {
    ($($kind:ty),+) => {$({
        trait Ambiguous<A> {
            fn name() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Printable;
        impl<T: ?Sized + Debug> Ambiguous<Printable> for T {}
        let _ = <$kind as Ambiguous<_>>::name;
    })+};
}

#[test]
fn nothing_that_holds_a_secret_can_be_printed() {
    cannot_be_printed!(
        Identity,
        Remote,
        Ends<'_>,
        Ours,
        Keys,
        Initiation,
        Claim<'_>,
        Verified,
        Symmetric,
        Cookie,
        crate::cookie::StoredCookie,
        crate::cookie::Secrets,
        crate::doorman::Doorman,
        blake2s::Keyed
    );
}

#[test]
fn a_preshared_key_is_hidden_where_it_can_be_printed_at_all() {
    let key = PresharedKey::from_bytes([0x5a; 32]);

    assert_eq!(format!("{key:?}"), "PresharedKey(hidden)");
}

/// The parts of which [`Identity`], [`Remote`], [`Initiation`], [`Verified`] and [`Keys`] are made.
#[test]
fn secrets_are_wiped_when_they_are_dropped() {
    fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<StaticSecret>();
    wiped::<Secret>();
    wiped::<Cookie>();
    wiped::<PresharedKey>();
    wiped::<PrivateKey>();
}
