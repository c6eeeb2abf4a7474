//! PROXY headers: those of the specification, and what must hold for all bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that panics has found something"
)]

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use proptest::prelude::*;
use protocol::proxy_protocol::{Addresses, HEADER_BYTES_MAX, Header, Invalid, Parsed, parse};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn raw(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

fn complete(bytes: &[u8]) -> Header {
    match parse(bytes).expect("valid") {
        Parsed::Complete(header) => header,
        Parsed::Needs(more) => panic!("{more} bytes are missing"),
    }
}

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

#[test]
fn addresses_of_both_families_are_read_and_values_behind_them_are_passed_over() {
    let inet = [192, 0, 2, 1, 198, 51, 100, 2, 0xD9, 0x03, 0x0C, 0xEA];
    let proxied = Header::Proxied(addresses("192.0.2.1:55555", "198.51.100.2:3306"));
    assert_eq!(complete(&raw(0x21, 0x11, &inet)), proxied);
    let with_values = [&inet[..], &[0x04, 0, 3, 1, 2, 3], &[0xEA, 0, 2, 9, 9]].concat();
    assert_eq!(complete(&raw(0x21, 0x11, &with_values)), proxied);
    let mut inet6 = [0_u8; 36];
    (inet6[0], inet6[1], inet6[15], inet6[31], inet6[33], inet6[35]) = (0x20, 0x01, 7, 8, 1, 2);
    assert_eq!(complete(&raw(0x21, 0x21, &inet6)), Header::Proxied(addresses("[2001::7]:1", "[::8]:2")));
}

#[test]
fn local_connections_and_those_without_an_address_of_tcp_are_their_own() {
    for header in [
        raw(0x20, 0x00, b""),
        // A family that means nothing, and bytes that are not looked at.
        raw(0x20, 0xFF, b"whatever"),
        raw(0x21, 0x00, b""),
        raw(0x21, 0x31, &[1; 216]),
        raw(0x21, 0x12, &[1; 12]),
    ] {
        assert_eq!(complete(&header), Header::Local, "{header:?}");
    }
}

#[test]
fn what_breaks_the_protocol_is_refused_before_the_rest_arrives() {
    for (header, what) in [
        (raw(0x11, 0x11, &[1; 12]), "PROXY version and command"),
        (raw(0x22, 0x11, &[1; 12]), "PROXY version and command"),
        (raw(0x21, 0x41, &[1; 12]), "PROXY address family"),
        (raw(0x21, 0x13, &[1; 12]), "PROXY transport"),
        (raw(0x21, 0x11, &[1; 11]), "PROXY addresses"),
        (raw(0x21, 0x21, &[1; 35]), "PROXY addresses"),
        (raw(0x21, 0x31, &[1; 215]), "PROXY addresses"),
        (raw(0x20, 0x00, &[0; HEADER_BYTES_MAX - 15]), "PROXY length"),
        (raw(0x21, 0x11, &[0xFF].repeat(0xFFFF)), "PROXY length"),
    ] {
        match parse(&header[..16]) {
            Err(Invalid::Malformed(malformed)) => assert_eq!(malformed.what, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(complete(&raw(0x20, 0x00, &[0; HEADER_BYTES_MAX - 16])), Header::Local);
}

#[test]
fn something_else_is_refused_at_its_first_byte_and_version_1_by_its_name() {
    assert_eq!(parse(b"P"), Err(Invalid::Text));
    assert_eq!(parse(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), Err(Invalid::Text));
    // A request for TLS of PostgreSQL's clients, a TLS handshake, and a signature that goes wrong.
    for bytes in [&[0, 0, 0, 8][..], &[0x16], b"PRXOY ", b"\r\n\r\n\0\r\nQUIT\0", b"\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0C"]
    {
        assert_eq!(parse(bytes), Err(Invalid::Missing), "{bytes:?}");
    }
    assert!(Invalid::Text.to_string().contains("version 2"));
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(|ip| std::net::Ipv4Addr::from(ip).to_ipv6_mapped().into()),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

fn header() -> impl Strategy<Value = Header> {
    let proxied = (address(), address()).prop_map(|(source, destination)| Addresses { source, destination });
    prop_oneof![Just(Header::Local), proxied.prop_map(Header::Proxied)]
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_never_a_byte_more_is_asked_for(header in header(), cut in any::<prop::sample::Index>()) {
        let mut out = BytesMut::new();
        header.encode(&mut out);
        let canonical = match header {
            Header::Local => Header::Local,
            Header::Proxied(addresses) => Header::Proxied(addresses.canonical()),
        };
        prop_assert_eq!(parse(&out), Ok(Parsed::Complete(canonical)));
        let cut = cut.index(out.len());
        match parse(&out[..cut]) {
            Ok(Parsed::Needs(more)) => prop_assert!(more > 0 && cut + more <= out.len()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn read_as_it_asks_a_header_ends_where_it_says(
        rest in prop::collection::vec(any::<u8>(), 0..600),
        command in any::<u8>(),
        family in any::<u8>(),
        behind in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let whole = raw(command, family, &rest);
        let stream = [&whole[..], &behind].concat();
        let mut taken = 0;
        let outcome = loop {
            match parse(&stream[..taken]) {
                Ok(Parsed::Needs(more)) => taken += more,
                other => break other,
            }
            prop_assert!(taken <= whole.len());
        };
        prop_assert!(outcome.is_err() || taken == whole.len());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), signed in any::<bool>()) {
        let bytes = if signed { [SIGNATURE, &bytes].concat() } else { bytes };
        let _ = parse(&bytes);
    }
}
