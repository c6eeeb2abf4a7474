//! Messages of logical replication.
#![no_main]

use bytes::Bytes;
use protocol::postgres::change::Decoder;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::default();
    for message in data.split(|&byte| byte == 0xFE) {
        let _ = decoder.decode(Bytes::copy_from_slice(message));
    }
});
