//! A probe on the wire: a question, or its echo. Both are of one size, and only a question is
//! answered, so nobody gets more than he sent and no two echo each other for ever.
//!
//! ```text
//! "hawser" │ version 1 │ 1 question, 2 answer │ number, 8 bytes, big endian
//! ```

pub(super) const LENGTH: usize = 16;
const NAME: [u8; 7] = *b"hawser\x01";
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Question(u64),
    Answer(u64),
}

impl Message {
    pub(super) fn write(self) -> [u8; LENGTH] {
        let (kind, number) = match self {
            Self::Question(number) => (QUESTION, number),
            Self::Answer(number) => (ANSWER, number),
        };
        let mut bytes = [0; LENGTH];
        bytes[..7].copy_from_slice(&NAME);
        bytes[7] = kind;
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    /// None if it is something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (head, number) = bytes.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        match (head[..7] == NAME, head[7]) {
            (true, QUESTION) => Some(Self::Question(number)),
            (true, ANSWER) => Some(Self::Answer(number)),
            (_, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for message in [Message::Question(7), Message::Answer(u64::MAX)] {
            let bytes = message.write();

            assert_eq!(Message::read(&bytes), Some(message));
            assert_eq!(Message::read(&bytes[1..]), None);
            assert_eq!(Message::read(&[bytes.as_slice(), &[0]].concat()), None);
            for place in 0..8 {
                let mut other = bytes;
                other[place] ^= 0x40;
                assert_eq!(Message::read(&other), None, "byte {place}");
            }
        }
    }
}
