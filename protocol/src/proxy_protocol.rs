//! The PROXY protocol, version 2: the header by which a load balancer says whose connection it passes on.
//!
//! It comes before all else on a connection. [`parse`] says how many more bytes belong to it, so that its reader takes none of
//! what comes behind it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::error::Malformed;

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What a header of version 1 begins with.
const TEXT_SIGNATURE: &[u8] = b"PROXY ";
/// The signature, version and command, family and transport, and the length of the rest.
const FIXED_BYTES: usize = 16;
/// A header is no longer than this: addresses have up to 216 bytes, and the rest is additional values that nobody reads here.
pub const HEADER_BYTES_MAX: usize = 4096;

const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client's own address.
    pub source: SocketAddr,
    /// The address that it connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The addresses of the connection itself count: it is the sender's own, as for a health check, or the client's has none
    /// that TCP knows.
    Local,
    /// The connection is passed on for a client.
    Proxied(Addresses),
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So many bytes more belong to it, at least; never zero.
    Needs(usize),
    /// It is complete.
    Complete(Header),
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// The bytes are something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// It is of version 1.
    #[error(
        "the PROXY header is of version 1 (text), and only version 2 is accepted: configure the sender for version 2"
    )]
    Text,
    /// It breaks the protocol.
    #[error("the PROXY header is invalid: {0}")]
    Malformed(#[from] Malformed),
}

/// Reads a header that begins with these bytes. They must not be more than what was asked for.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        check_beginning(bytes)?;
        return Ok(Parsed::Needs(FIXED_BYTES.saturating_sub(bytes.len())));
    };
    check_beginning(fixed)?;
    let [.., version_and_command, family_and_transport, high, low] = *fixed;
    let (version, command) = (version_and_command >> 4, version_and_command & 0xF);
    let (family, transport) = (family_and_transport >> 4, family_and_transport & 0xF);
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version != VERSION || command > PROXY {
        return Err(malformed("PROXY version and command", 12, FIXED_BYTES));
    }
    // The family of a local connection means nothing.
    let is_local = command == LOCAL;
    let address_bytes = match family {
        _ if is_local => 0,
        0 => 0,
        INET => 12,
        INET6 => 36,
        UNIX => 216,
        _ => return Err(malformed("PROXY address family", 13, FIXED_BYTES)),
    };
    if !is_local && transport > DATAGRAM {
        return Err(malformed("PROXY transport", 13, FIXED_BYTES));
    }
    if length < address_bytes {
        return Err(malformed("PROXY addresses", 14, length));
    }
    if FIXED_BYTES.saturating_add(length) > HEADER_BYTES_MAX {
        return Err(malformed("PROXY length", 14, HEADER_BYTES_MAX));
    }
    if rest.len() < length {
        return Ok(Parsed::Needs(length.saturating_sub(rest.len())));
    }
    let header = match (family, transport) {
        _ if is_local => Header::Local,
        (INET, STREAM) => inet(rest).map_or(Header::Local, Header::Proxied),
        (INET6, STREAM) => inet6(rest).map_or(Header::Local, Header::Proxied),
        // Valid, and without an address of TCP: as if it were not specified.
        _ => Header::Local,
    };
    Ok(Parsed::Complete(header))
}

/// Refuses as soon as a byte is wrong: who sent something else may wait for an answer to it.
fn check_beginning(bytes: &[u8]) -> Result<(), Invalid> {
    let is_like = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    match () {
        () if is_like(&SIGNATURE) => Ok(()),
        () if is_like(TEXT_SIGNATURE) => Err(Invalid::Text),
        () => Err(Invalid::Missing),
    }
}

#[cold]
fn malformed(what: &'static str, at: usize, limit: usize) -> Invalid {
    Invalid::Malformed(Malformed { what, at, limit })
}

fn inet(bytes: &[u8]) -> Option<Addresses> {
    let (source, bytes) = bytes.split_first_chunk::<4>()?;
    let (destination, bytes) = bytes.split_first_chunk::<4>()?;
    Some(addresses(Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into(), *bytes.first_chunk()?))
}

fn inet6(bytes: &[u8]) -> Option<Addresses> {
    let (source, bytes) = bytes.split_first_chunk::<16>()?;
    let (destination, bytes) = bytes.split_first_chunk::<16>()?;
    Some(addresses(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), *bytes.first_chunk()?))
}

fn addresses(source: IpAddr, destination: IpAddr, ports: [u8; 4]) -> Addresses {
    let [source_high, source_low, high, low] = ports;
    Addresses {
        source: SocketAddr::new(source, u16::from_be_bytes([source_high, source_low])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([high, low])),
    }
    .canonical()
}

impl Addresses {
    /// The same with IPv4 as such, where IPv6 carries it.
    #[must_use]
    pub fn canonical(self) -> Self {
        let one = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { source: one(self.source), destination: one(self.destination) }
    }
}

impl Header {
    /// Appends the header in its shortest form.
    pub fn encode(&self, out: &mut BytesMut) {
        let (command, family, addresses) = match self {
            Self::Local => (LOCAL, 0, None),
            Self::Proxied(addresses) => {
                let addresses = addresses.canonical();
                let is_v4 = addresses.source.is_ipv4() && addresses.destination.is_ipv4();
                (PROXY, if is_v4 { INET } else { INET6 }, Some(addresses))
            }
        };
        out.put_slice(&SIGNATURE);
        out.put_u8(VERSION << 4 | command);
        let Some(Addresses { source, destination }) = addresses else {
            return out.put_bytes(0, 3);
        };
        out.put_u8(family << 4 | STREAM);
        out.put_u16(if family == INET { 12 } else { 36 });
        for address in [source.ip(), destination.ip()] {
            match address {
                IpAddr::V4(address) if family == INET => out.put_slice(&address.octets()),
                // Both are of one family.
                IpAddr::V4(address) => out.put_slice(&address.to_ipv6_mapped().octets()),
                IpAddr::V6(address) => out.put_slice(&address.octets()),
            }
        }
        out.put_u16(source.port());
        out.put_u16(destination.port());
    }
}
