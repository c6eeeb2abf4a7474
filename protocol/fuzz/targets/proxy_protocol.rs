//! PROXY headers, read as a listener does: so many bytes as each step asks for.
#![no_main]

use bytes::BytesMut;
use protocol::proxy_protocol::{HEADER_BYTES_MAX, Parsed, parse};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut taken = 0;
    while let Some(bytes) = data.get(..taken) {
        match parse(bytes) {
            Ok(Parsed::Needs(more)) => {
                assert!(more > 0);
                taken += more;
                assert!(taken <= HEADER_BYTES_MAX);
            }
            Ok(Parsed::Complete(header)) => {
                let mut out = BytesMut::new();
                header.encode(&mut out);
                assert_eq!(parse(&out), Ok(Parsed::Complete(header)));
                break;
            }
            Err(_) => break,
        }
    }
});
