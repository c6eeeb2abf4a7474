//! What either side of MySQL's login says.
#![no_main]

use bytes::{Bytes, BytesMut};
use protocol::mysql::auth::Step;
use protocol::mysql::frame;
use protocol::mysql::handshake::{Capabilities, ChangeUser, FirstPacket, Greeting};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(payload)) = frame::take(&mut buffer, 128 << 10) {
        login(payload.body);
    }
    login(Bytes::copy_from_slice(data));
});

fn login(body: Bytes) {
    if let Ok(FirstPacket::Response(response)) = FirstPacket::parse(&body) {
        let mut out = BytesMut::new();
        response.encode(&mut out);
        let again = FirstPacket::parse(&out);
        // A proof that is too long for its one byte is cut, and texts end at a zero.
        assert!(again.is_ok(), "{response:?}");
        let _ = response.attribute(b"program_name");
    }
    if let Ok(greeting) = Greeting::parse(&body) {
        let mut out = BytesMut::new();
        greeting.encode(&mut out);
        assert_eq!(Greeting::parse(&out), Ok(greeting));
    }
    for bits in [0, u32::MAX] {
        let _ = ChangeUser::parse(&body, Capabilities(bits));
    }
    let _ = Step::parse(body);
}
