//! First packets of a client.
#![no_main]

use bytes::BytesMut;
use protocol::postgres::handshake;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(packet)) = handshake::take_first(&mut buffer) {
        if let handshake::FirstPacket::Startup(startup) = packet {
            let _ = (startup.user(), startup.database(), startup.replication());
            let _ = handshake::negotiate(&startup);
        }
    }
});
