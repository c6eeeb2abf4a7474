//! Packets: what is put is taken again, and no more than is allowed.

use bytes::BytesMut;
use protocol::mysql::frame::{SPLIT_BYTES, put, take};

#[test]
fn a_payload_of_any_size_reads_back_as_it_was_put() {
    for length in [0, 1, 250, SPLIT_BYTES - 1, SPLIT_BYTES, SPLIT_BYTES + 7] {
        let body = vec![7; length];
        let mut out = BytesMut::new();
        let mut sequence = 255;
        put(&mut out, &mut sequence, &body);
        let payload = take(&mut out, 1 << 25).ok().flatten();
        let payload = payload.unwrap_or_else(|| panic!("{length} bytes"));
        assert_eq!(payload.body.len(), length);
        assert_eq!(payload.sequence, sequence.wrapping_sub(1));
        assert!(out.is_empty());
    }
}

#[test]
fn half_a_payload_is_none_and_a_payload_too_long_is_refused_by_its_header() {
    let mut out = BytesMut::new();
    put(&mut out, &mut 0, b"hello");
    let mut half = BytesMut::from(&out[..6]);
    assert_eq!(take(&mut half, 5), Ok(None));
    assert!(take(&mut half, 4).is_err());
    assert_eq!(take(&mut BytesMut::new(), 4), Ok(None));
}
