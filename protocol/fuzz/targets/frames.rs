//! Tagged frames, split anywhere.
#![no_main]

use bytes::BytesMut;
use protocol::postgres::frame;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = frame::take(&mut buffer, 1 << 16) {
        assert!(frame.body.len() < data.len());
    }
});
