//! What either side of MySQL's login says.
#![no_main]

use bytes::{Bytes, BytesMut};
use protocol::mysql::auth::Step;
use protocol::mysql::frame;
use protocol::mysql::handshake::{Capabilities, ChangeUser, FirstPacket, Greeting};
use protocol::mysql::login::{Channel, Client, Credential, Encryption, Identity, Login};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(payload)) = frame::take(&mut buffer, 128 << 10) {
        login(payload.body);
    }
    login(Bytes::copy_from_slice(data));
    client(data);
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

/// A client that logs in hears the same, and tells its password to nobody on a network.
fn client(data: &[u8]) {
    let identity = Identity {
        user: b"shop".to_vec(),
        credential: Credential::Clear(b"secret".to_vec().into()),
        capabilities: Capabilities::default(),
        charset: 45,
        attributes: Bytes::new(),
        max_packet: 1 << 24,
        plain: false,
    };
    let (also, database, seal) = (Capabilities::SESSION_TRACK, None, |_: &[u8], _: &[u8]| Some(vec![0]));
    let (channel, encryption) = (Channel::Network, Encryption::WhereOffered);
    let mut login = Login::new(Client { identity: &identity, also, database, channel, encryption, seal });
    let mut outgoing = BytesMut::new();
    let _ = login.feed(&mut BytesMut::from(data), &mut outgoing);
    assert!(!outgoing.windows(6).any(|part| part == b"secret"));
}
