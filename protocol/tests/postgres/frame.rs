//! Frames: headers, limits, splits.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::postgres::frame::{self, Frame};

const MAX: usize = 1 << 16;

fn header(tag: u8, length: u32) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes()].concat()
}

#[test]
fn impossible_lengths_are_refused_before_the_body_arrives() {
    for length in [0, 1, 3, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF] {
        assert!(frame::peek(&header(b'Q', length), MAX).is_err(), "{length:#x}");
    }
    assert!(frame::peek(&header(b'Q', 4), MAX).unwrap().is_some());
}

#[test]
fn the_limit_counts_the_whole_frame() {
    let largest = MAX - 1;
    assert_eq!(frame::peek(&header(b'd', largest as u32), MAX).unwrap().unwrap().total(), MAX);
    assert!(frame::peek(&header(b'd', largest as u32 + 1), MAX).is_err());
}

#[test]
fn an_incomplete_frame_takes_nothing() {
    let mut buffer = BytesMut::from(&header(b'Q', 9)[..]);
    buffer.extend_from_slice(b"abcd");
    assert_eq!(frame::take(&mut buffer, MAX), Ok(None));
    assert_eq!(buffer.len(), 9);
}

fn frames() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8)
}

proptest! {
    #[test]
    fn a_stream_split_anywhere_parses_the_same(frames in frames(), cut in any::<prop::sample::Index>()) {
        let mut stream = BytesMut::new();
        for (tag, body) in &frames {
            frame::put(&mut stream, *tag, |out| out.extend_from_slice(body));
        }
        let cut = cut.index(stream.len() + 1);
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for piece in [&stream[..cut], &stream[cut..]] {
            buffer.extend_from_slice(piece);
            while let Some(Frame { tag, body }) = frame::take(&mut buffer, MAX).unwrap() {
                seen.push((tag, body.to_vec()));
            }
        }
        prop_assert_eq!(seen, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn random_bytes_never_panic_and_never_yield_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut taken = 0;
        while let Ok(Some(frame)) = frame::take(&mut buffer, 100) {
            taken += frame.body.len() + frame::HEADER_BYTES;
        }
        prop_assert_eq!(taken + buffer.len(), bytes.len());
    }
}

#[test]
fn a_body_shares_memory_with_what_was_read() {
    let mut buffer = BytesMut::from(&b"Z\0\0\0\x05I"[..]);
    let address = buffer.as_ptr() as usize;
    let frame = frame::take(&mut buffer, MAX).unwrap().unwrap();
    assert_eq!(frame.body, Bytes::from_static(b"I"));
    assert_eq!(frame.body.as_ptr() as usize, address + 5);
}
