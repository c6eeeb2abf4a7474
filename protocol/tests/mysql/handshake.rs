//! The first packets of a connection.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::mysql::handshake::{Capabilities, ChangeUser, FirstPacket, Greeting, Response, attribute};
use protocol::mysql::lenenc::put_string;

fn text() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(1_u8.., 0..40).prop_map(Bytes::from)
}

fn response() -> impl Strategy<Value = Response> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u8>());
    let texts = (text(), text(), text(), text(), text());
    (numbers, texts, any::<u8>()).prop_map(|(numbers, texts, level)| {
        let (bits, extended, max_packet, charset) = numbers;
        let (user, proof, database, plugin, attributes) = texts;
        let capabilities = Capabilities(bits) | Capabilities::PROTOCOL_41;
        let reported = |capability, text: Bytes| {
            if capabilities.has(capability) { text } else { Bytes::new() }
        };
        Response {
            capabilities,
            extended: if capabilities.has(Capabilities::LONG_PASSWORD) { 0 } else { extended },
            max_packet,
            charset,
            user,
            proof,
            database: Some(reported(Capabilities::CONNECT_WITH_DB, database)).filter(|text| !text.is_empty()),
            plugin: reported(Capabilities::PLUGIN_AUTH, plugin),
            attributes: reported(Capabilities::CONNECT_ATTRS, attributes),
            zstd_level: capabilities.has(Capabilities::ZSTD).then_some(level),
        }
    })
}

proptest! {
    #[test]
    fn a_response_reads_back_as_it_was_written(response in response()) {
        let mut out = BytesMut::new();
        response.encode(&mut out);
        prop_assert_eq!(FirstPacket::parse(&out), Ok(FirstPacket::Response(Box::new(response))));
    }

    #[test]
    fn a_greeting_reads_back_as_it_was_written(
        version in text(), plugin in text(), nonce: [u8; 20], bits: u32, extended: u32, thread: u32, charset: u8, status: u16,
    ) {
        let capabilities = Capabilities(bits) | Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION;
        let greeting = Greeting {
            version,
            thread,
            nonce,
            capabilities,
            extended: if capabilities.has(Capabilities::LONG_PASSWORD) { 0 } else { extended },
            charset,
            status,
            plugin: if capabilities.has(Capabilities::PLUGIN_AUTH) { plugin } else { Bytes::new() },
        };
        let mut out = BytesMut::new();
        greeting.encode(&mut out);
        prop_assert_eq!(Greeting::parse(&out), Ok(greeting));
    }

    #[test]
    fn no_bytes_at_all_break_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), bits: u32) {
                    let _ = Greeting::parse(&bytes);
        let _ = ChangeUser::parse(&bytes, Capabilities(bits));
        let _ = attribute(&bytes, b"program_name");
        let _ = FirstPacket::parse(&bytes);
    }
}

#[test]
fn a_request_for_tls_is_told_from_a_response() {
    let response = Response {
        capabilities: Capabilities::SSL | Capabilities::PROTOCOL_41,
        extended: 0,
        max_packet: 1 << 24,
        charset: 45,
        user: Bytes::from_static(b"app"),
        proof: Bytes::new(),
        database: None,
        plugin: Bytes::new(),
        attributes: Bytes::new(),
        zstd_level: None,
    };
    let mut out = BytesMut::new();
    response.encode_ssl_request(&mut out);
    assert_eq!(FirstPacket::parse(&out), Ok(FirstPacket::Ssl(response.capabilities)));
}

#[test]
fn an_attribute_is_found_by_its_name() {
    let mut out = BytesMut::new();
    for text in ["_pid", "12", "program_name", "mysql"] {
        put_string(&mut out, text.as_bytes());
    }
    let attributes = out.freeze();
    assert_eq!(attribute(&attributes, b"program_name"), Some(Bytes::from_static(b"mysql")));
    assert_eq!(attribute(&attributes, b"12"), None);
}

#[test]
fn the_user_of_a_change_is_read_with_and_without_what_may_be_left_out() {
    let capabilities = Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH;
    let short = ChangeUser::parse(b"app\0\0", capabilities).expect("short");
    assert_eq!((&short.user[..], short.database, short.charset), (&b"app"[..], None, None));
    let whole = Bytes::from_static(b"app\0\x01pshop\0\x2d\x00mysql_native_password\0");
    let whole = ChangeUser::parse(&whole, capabilities).expect("whole");
    assert_eq!(whole.database.as_deref(), Some(&b"shop"[..]));
    assert_eq!((whole.charset, &whole.proof[..]), (Some(45), &b"p"[..]));
    assert_eq!(&whole.plugin[..], b"mysql_native_password");
}
