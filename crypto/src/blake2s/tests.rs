use blake2::{
    Blake2sMac,
    digest::{KeyInit, Mac, consts::U16},
};
use proptest::prelude::*;

use super::*;

pub(crate) fn unhex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

/// RFC 7693, appendix B.
#[test]
fn the_hash_is_that_of_the_rfc() {
    let expected = unhex("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");

    assert_eq!(hash(&[b"abc"]), expected);
    assert_eq!(hash(&[b"a", b"", b"bc"]), expected);
}

/// The vectors of wireguard-go, device/kdf_test.go. HMAC fills a short key up with zeros.
#[test]
fn keys_are_derived_as_wireguard_go_does() {
    let padded = |text: &[u8]| {
        let mut key = [0; HASH];
        key[..text.len()].copy_from_slice(text);
        key
    };
    let cases = [
        (
            padded(b"test-key"),
            b"test-input".as_slice(),
            [
                "6f0e5ad38daba1bea8a0d213688736f19763239305e0f58aba697f9ffc41c633",
                "df1194df20802a4fe594cde27e92991c8cae66c366e8106aaa937a55fa371e8a",
                "fac6e2745a325f5dc5d11a5b165aad08b0ada28e7b4e666b7c077934a4d76c24",
            ],
        ),
        (
            padded(b"wireguard"),
            b"wireguard".as_slice(),
            [
                "491d43bbfdaa8750aaf535e334ecbfe5129967cd64635101c566d4caefda96e8",
                "1e71a379baefd8a79aa4662212fcafe19a23e2b609a3db7d6bcba8f560e3d25f",
                "31e1ae48bddfbe5de38f295e5452b1909a1b4e38e183926af3780b0c1e1f0160",
            ],
        ),
        (
            padded(b""),
            b"".as_slice(),
            [
                "8387b46bf43eccfcf349552a095d8315c4055beb90208fb1be23b894bc2ed5d0",
                "58a0e5f6faefccf4807bff1f05fa8a9217945762040bcec2f4b4a62bdfe0e86e",
                "0ce6ea98ec548f8e281e93e32db65621c45eb18dc6f0a7ad94178610a2f7338e",
            ],
        ),
    ];
    for (key, input, expected) in cases {
        let expected = expected.map(|text| Secret::new(unhex(text)));
        let [first] = kdf(&key, input);
        let two: [_; 2] = kdf(&key, input);
        let three: [_; 3] = kdf(&key, input);

        assert_eq!(first, expected[0]);
        assert_eq!(two[..], expected[..2]);
        assert_eq!(three, expected);
    }
}

proptest! {
    #[test]
    fn a_primed_mac_is_the_mac(
        key in proptest::collection::vec(any::<u8>(), 1..=32),
        message in proptest::collection::vec(any::<u8>(), 1..300),
    ) {
        let mut whole = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).unwrap();
        Mac::update(&mut whole, &message);
        let whole: [u8; MAC] = whole.finalize().into_bytes().into();

        let primed = Keyed::new(&key);

        prop_assert_eq!(primed.mac(&message), whole);
        prop_assert_eq!(primed.clone().mac(&message), whole);
    }
}
