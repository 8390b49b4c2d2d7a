//! Sealed datagrams in a byte stream. Pure: bytes in, bytes out.
//!
//! ```text
//! │ length, 2, big-endian │ datagram │ length │ datagram …        1 to 16,384 bytes each
//! ```
//! What is in a frame is sealed already, so nothing but its length is looked at.

/// No datagram of the data path is longer; one TLS record holds it.
pub const LONGEST: usize = 16_384;
const LENGTH: usize = 2;

/// A stream that cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("a frame of no bytes")]
    Empty,
    #[error("a frame of {0} bytes: more than 16,384 is no datagram; does hawser speak there?")]
    TooLong(usize),
}

/// Puts one behind what waits. One that is empty or too long is left out, as a link would drop it.
pub fn append(datagram: &[u8], out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(datagram.len())
        && (1..=LONGEST).contains(&datagram.len())
    {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(datagram);
    }
}

/// What has come of a stream, in a buffer that never grows.
#[derive(Debug)]
pub struct Frames {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { buffer: vec![0; 2 * (LENGTH + LONGEST)].into(), start: 0, end: 0 }
    }
}

impl Frames {
    /// Where the next bytes go: never empty, once all whole frames were taken out.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put there.
    pub fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
    }

    /// The next datagram, if all of it has come.
    pub fn take(&mut self) -> Result<Option<&[u8]>, BadFrame> {
        let Some((length, rest)) = self.buffer[self.start..self.end].split_first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        match length {
            0 => return Err(BadFrame::Empty),
            length if length > LONGEST => return Err(BadFrame::TooLong(length)),
            length if length > rest.len() => return Ok(None),
            _ => {}
        }
        let datagram = self.start + LENGTH..self.start + LENGTH + length;
        self.start = datagram.end;
        Ok(Some(&self.buffer[datagram]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out of a stream that arrives in such pieces.
    fn read(stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, BadFrame> {
        let (mut frames, mut found, mut left) = (Frames::default(), Vec::new(), stream);
        for piece in pieces.iter().copied().cycle() {
            if left.is_empty() {
                break;
            }
            let room = frames.room();
            assert!(!room.is_empty());
            let piece = piece.clamp(1, room.len()).min(left.len());
            room[..piece].copy_from_slice(&left[..piece]);
            frames.filled(piece);
            left = &left[piece..];
            while let Some(datagram) = frames.take()? {
                found.push(datagram.to_vec());
            }
        }
        Ok(found)
    }

    #[test]
    fn a_length_that_no_datagram_has_ends_the_stream() {
        assert_eq!(read(&[0, 0, 1], &[9]), Err(BadFrame::Empty));
        assert_eq!(read(&[0x40, 0x01, 1], &[1]), Err(BadFrame::TooLong(16_385)));
        assert_eq!(read(b"GET / HTTP/1.1\r\n", &[16]), Err(BadFrame::TooLong(0x4745)));
        assert_eq!(read(&[0], &[1]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_datagram_is_not_written() {
        let mut out = Vec::new();
        append(&[], &mut out);
        append(&vec![1; LONGEST + 1], &mut out);
        append(&vec![1; 70_000], &mut out);
        assert!(out.is_empty());
        append(&vec![1; LONGEST], &mut out);
        assert_eq!(out.len(), LENGTH + LONGEST);
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut(
            lengths in prop::collection::vec(1..=LONGEST, 1..20),
            pieces in prop::collection::vec(1..40_000_usize, 1..8),
        ) {
            let datagrams: Vec<Vec<u8>> =
                (0..=255).zip(lengths).map(|(byte, length)| vec![byte; length]).collect();
            let mut stream = Vec::new();
            for datagram in &datagrams {
                append(datagram, &mut stream);
            }

            prop_assert_eq!(read(&stream, &pieces), Ok(datagrams));
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(
            stream in prop::collection::vec(any::<u8>(), 0..50_000),
            pieces in prop::collection::vec(1..5_000_usize, 1..8),
        ) {
            let found = read(&stream, &pieces).unwrap_or_default();
            prop_assert!(found.iter().map(|one| one.len() + LENGTH).sum::<usize>() <= stream.len());
        }
    }
}
