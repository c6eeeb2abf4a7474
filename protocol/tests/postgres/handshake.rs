//! First packets: kinds, limits, negotiation.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::postgres::handshake::{self, FirstPacket, Startup, negotiate, take_first};

fn packet(code: u32, rest: &[u8]) -> BytesMut {
    let length = (8 + rest.len()) as u32;
    let mut packet = BytesMut::from(&length.to_be_bytes()[..]);
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

fn startup(version: u32, rest: &[u8]) -> Startup {
    match take_first(&mut packet(version, rest)) {
        Ok(Some(FirstPacket::Startup(startup))) => startup,
        other => panic!("{other:?}"),
    }
}

const V3: u32 = 3 << 16;

#[test]
fn impossible_lengths_are_refused_before_the_packet_arrives() {
    for length in [0_u32, 3, 7, 10_005, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x1603_0102] {
        assert!(take_first(&mut BytesMut::from(&length.to_be_bytes()[..])).is_err(), "{length}");
    }
    assert_eq!(take_first(&mut BytesMut::from(&10_004_u32.to_be_bytes()[..])), Ok(None));
    assert!(take_first(&mut packet(V3, &[b'a'; 9_997])).is_err(), "10001 bytes");
}

#[test]
fn wishes_for_encryption_are_told_apart_and_leave_what_follows() {
    let mut both = packet(80_877_103, b"");
    both.extend_from_slice(&packet(80_877_104, b""));
    assert_eq!(take_first(&mut both), Ok(Some(FirstPacket::Ssl)));
    assert_eq!(take_first(&mut both), Ok(Some(FirstPacket::GssEnc)));
    assert!(both.is_empty());
}

#[test]
fn cancel_secrets_of_4_to_256_bytes_are_read_and_written() {
    for length in [3, 4, 32, 256, 257] {
        let secret = vec![7; length];
        let mut out = BytesMut::new();
        handshake::encode_cancel(-5, &secret, &mut out);
        let read = take_first(&mut out);
        if (4..=256).contains(&length) {
            let secret = Bytes::from(secret);
            assert_eq!(read, Ok(Some(FirstPacket::Cancel { pid: -5, secret })));
        } else {
            assert!(read.is_err(), "{length}");
        }
    }
}

#[test]
fn broken_layouts_are_refused() {
    for rest in [&b""[..], b"user\0a\0", b"user\0\0", b"user\0a\0\0x", b"user", b"user\0a\0odd\0"] {
        assert!(take_first(&mut packet(V3, rest)).is_err(), "{rest:?}");
    }
}

#[test]
fn the_last_of_two_equal_settings_counts_and_the_database_defaults_to_the_user() {
    let both = startup(V3, b"user\0a\0user\0b\0options\0-c x=1\0\0");
    assert_eq!(both.user().unwrap(), "b");
    assert_eq!(both.database().unwrap(), "b");
    assert_eq!(startup(V3, b"user\0\0\0").user(), None);
}

#[test]
fn replication_is_read_as_the_server_reads_booleans() {
    for (value, expected) in [
        ("true", true),
        ("on", true),
        ("yes", true),
        ("1", true),
        ("database", true),
        ("TR", true),
        ("false", false),
        ("F", false),
        ("off", false),
        ("of", false),
        ("no", false),
        ("0", false),
    ] {
        let rest = format!("user\0a\0replication\0{value}\0\0");
        assert_eq!(startup(V3, rest.as_bytes()).replication(), expected, "{value}");
    }
    assert!(!startup(V3, b"user\0a\0\0").replication());
}

#[test]
fn versions_and_options_are_negotiated_as_the_server_does() {
    let check = |minor: u32, options: &[u8], granted: u16, differs: bool| {
        let asked = startup(V3 | minor, &[options, b"user\0a\0\0"].concat());
        let negotiation = negotiate(&asked).unwrap();
        assert_eq!((negotiation.minor, negotiation.differs), (granted, differs), "3.{minor}");
        negotiation
    };
    check(0, b"", 0, false);
    check(1, b"", 0, true);
    check(2, b"", 2, false);
    check(3, b"", 2, true);
    check(0, b"_pq_.x\0y\0", 0, true);
    let grease = check(9999, b"_pq_.test_protocol_negotiation\0\0", 2, true);
    let mut out = BytesMut::new();
    grease.encode(&mut out);
    let mut expected = b"v\0\0\0\x2b\0\x03\0\x02\0\0\0\x01".to_vec();
    expected.extend_from_slice(b"_pq_.test_protocol_negotiation\0");
    assert_eq!(out, expected);
}

#[test]
fn another_major_version_is_refused_in_the_servers_words() {
    let error = negotiate(&startup(2 << 16, b"anything")).unwrap_err();
    assert_eq!(error.to_string(), "unsupported frontend protocol 2.0: server supports 3.0 to 3.2");
}

#[test]
fn a_server_is_asked_for_the_same_settings_but_another_database() {
    let client = startup(V3 + 9999, b"database\0shop\0_pq_.x\x001\0user\0a\0app.x\0\xff\0\0");
    let mut out = BytesMut::new();
    client.encode_for_server(b"blue", &mut out);
    let Ok(Some(FirstPacket::Startup(server))) = take_first(&mut out) else { panic!() };
    assert_eq!((server.major, server.minor), (3, 2));
    assert_eq!(server.database().unwrap(), "blue");
    assert_eq!(server.get(b"app.x").unwrap(), Bytes::from_static(b"\xff"));
    assert!(server.protocol_options.is_empty());
}

proptest! {
    #[test]
    fn settings_survive_encoding_in_their_order(
        settings in prop::collection::vec(("[a-z]{1,9}", prop::collection::vec(1_u8.., 0..20)), 0..9),
    ) {
        let parameters: Vec<_> = settings.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let asked = Startup { major: 3, minor: 0, parameters, protocol_options: Vec::new() };
        let mut out = BytesMut::new();
        asked.encode(&mut out);
        prop_assert_eq!(take_first(&mut out), Ok(Some(FirstPacket::Startup(asked))));
        prop_assert!(out.is_empty());
    }

    #[test]
    fn a_truncated_packet_is_incomplete_and_takes_nothing(cut in 0_usize..30) {
        let mut whole = packet(V3, b"user\0a\0database\0shop\0\0");
        whole.truncate(cut.min(whole.len() - 1));
        let before = whole.clone();
        prop_assert_eq!(take_first(&mut whole), Ok(None));
        prop_assert_eq!(whole, before);
    }

    #[test]
    fn random_settings_never_panic(rest in prop::collection::vec(any::<u8>(), 0..64), version: u32) {
        let _ = take_first(&mut packet(version, &rest)).map(|p| if let Some(FirstPacket::Startup(s)) = p {
            let _ = (s.user(), s.database(), s.replication(), negotiate(&s));
        });
    }
}
