use proptest::prelude::*;
use x25519_dalek::StaticSecret;

use crate::{KeyError, PresharedKey, PrivateKey, PublicKey, public::LOW_ORDER};

/// RFC 7748, section 6.1: Alice's keys.
#[test]
fn a_public_key_follows_from_the_private_one() {
    let private = PrivateKey::from_bytes([
        0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66,
        0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9,
        0x2c, 0x2a,
    ]);

    assert_eq!(private.public().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
}

#[test]
fn a_private_key_and_a_preshared_key_are_never_printed() {
    let private = PrivateKey::generate().unwrap();
    let preshared = PresharedKey::from_bytes([7; 32]);

    assert_eq!(format!("{private:?}"), "PrivateKey(hidden)");
    assert_eq!(format!("{preshared:?}"), "PresharedKey(hidden)");
}

/// What the curve itself says.
fn gives_nothing(key: &[u8; 32]) -> bool {
    let any = StaticSecret::from([0x42; 32]);
    !any.diffie_hellman(&x25519_dalek::PublicKey::from(*key)).was_contributory()
}

#[test]
fn the_table_of_low_order_points_says_what_the_curve_says() {
    for mut key in LOW_ORDER {
        for top in [0, 0x80] {
            key[31] ^= top;
            assert!(gives_nothing(&key) && PublicKey::from_bytes(key).is_low_order(), "{key:?}");
        }
        for bit in 0..255 {
            let mut near = key;
            near[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(PublicKey::from_bytes(near).is_low_order(), gives_nothing(&near));
        }
    }
    for (first, others) in (0..=255).flat_map(|first| [(first, 0), (first, 0xff)]) {
        let mut key = [others; 32];
        key[0] = first;
        assert_eq!(PublicKey::from_bytes(key).is_low_order(), gives_nothing(&key), "{key:?}");
    }
}

#[test]
fn low_order_points_are_refused_and_real_keys_are_not() {
    // The all-zero point and the point 1, of order 4 and 1 on the curve or its twist.
    let mut one = [0u8; 32];
    one[0] = 1;
    for bytes in [[0u8; 32], one] {
        let text = PublicKey::from_bytes(bytes).to_string();
        assert_eq!(PublicKey::from_published(&text), Err(KeyError::LowOrder));
    }
    let real = PrivateKey::generate().unwrap().public();
    assert_eq!(PublicKey::from_published(&real.to_string()), Ok(real));
}

#[test]
fn an_error_never_repeats_the_text_it_is_about() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0";

    let error = PrivateKey::from_base64(secret).unwrap_err().to_string();

    assert!(!error.contains(secret), "{error}");
}

#[test]
fn a_fingerprint_is_short_and_grouped() {
    let fingerprint = PublicKey::from_bytes([9; 32]).fingerprint().to_string();

    assert_eq!(fingerprint.split(':').map(str::len).collect::<Vec<_>>(), [4, 4, 4, 4]);
}

proptest! {
    #[test]
    fn text_and_bytes_are_the_same_key(bytes: [u8; 32]) {
        let key = PublicKey::from_bytes(bytes);
        prop_assert_eq!(key.to_string().len(), 44);
        prop_assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
        let json = serde_json::to_string(&key).unwrap();
        prop_assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,60}") {
        let _ = text.parse::<PublicKey>();
    }
}
