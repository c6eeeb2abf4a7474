//! Messages of a SCRAM client.
#![no_main]

use protocol::postgres::auth::{ScramServer, Verifier};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (first, last) = data.split_at(data.len() / 2);
    let mut server = ScramServer::new(Verifier::doomed(b"secret", b"user"), "nonce");
    let _ = server.first(first, false);
    assert!(server.finish(last).is_err());
});
