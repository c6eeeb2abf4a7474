//! How a client proves who it is: the packets of the exchange, both ways, and what each plugin computes.
//!
//! MySQL internals manual, "Authentication Phase". Whatever the plugin, the server ends the exchange with OK or ERR.

use bytes::{BufMut, Bytes, BytesMut};
use rsa::pkcs8::DecodePublicKey;
use rsa::rand_core::CryptoRngCore;
use rsa::{Oaep, RsaPublicKey};
use sha1_for_rsa::Sha1;
use zeroize::Zeroizing;

use crate::error::Malformed;
use crate::mysql::frame::put_cstr;
use crate::mysql::handshake::NONCE_BYTES;
use crate::mysql::lenenc::Fields;

pub mod caching_sha2;
pub mod ed25519;
pub mod native;

/// The plugin of old accounts: two rounds of SHA-1.
pub const NATIVE: &[u8] = b"mysql_native_password";
/// The plugin of new accounts: thousands of rounds of SHA-256 once, a quick proof afterwards.
pub const CACHING_SHA2: &[u8] = b"caching_sha2_password";
/// The plugin between the two: always the password itself, encrypted.
pub const SHA256: &[u8] = b"sha256_password";
/// MariaDB's plugin of signatures, by the name that clients know; accounts have it as `ed25519`.
pub const ED25519: &[u8] = b"client_ed25519";
/// The password as it is.
pub const CLEAR: &[u8] = b"mysql_clear_password";

/// `caching_sha2_password`: the quick proof was right.
pub const FAST_OK: u8 = 3;
/// `caching_sha2_password`: the password itself is needed.
pub const FULL_NEEDED: u8 = 4;
/// `caching_sha2_password`: a client asks for the key to encrypt its password with.
pub const KEY_WANTED: u8 = 2;
/// `sha256_password`: the same.
pub const KEY_WANTED_SHA256: u8 = 1;

const OK: u8 = 0x00;
const MORE_DATA: u8 = 0x01;
const NEXT_FACTOR: u8 = 0x02;
const SWITCH: u8 = 0xFE;
const ERR: u8 = 0xFF;

/// What a server says during a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Welcome; the whole body of the OK packet.
    Ok(Bytes),
    /// No; the whole body of the ERR packet.
    Err(Bytes),
    /// Prove it once more, by another plugin or against another nonce.
    Switch {
        /// The plugin.
        plugin: Bytes,
        /// What it begins with, a nonce for most.
        data: Bytes,
    },
    /// Prove it by the scramble from before 4.1, which nobody may use any more.
    OldSwitch,
    /// The plugin's next words.
    MoreData(Bytes),
    /// Prove something else too.
    NextFactor,
}

impl Step {
    /// Reads the body.
    pub fn parse(body: Bytes) -> Result<Self, Malformed> {
        let mut reader = Fields::new("login packet", &body);
        match reader.u8()? {
            OK => Ok(Self::Ok(body)),
            ERR => Ok(Self::Err(body)),
            MORE_DATA => Ok(Self::MoreData(Bytes::copy_from_slice(reader.rest()))),
            NEXT_FACTOR => Ok(Self::NextFactor),
            SWITCH if reader.remaining() == 0 => Ok(Self::OldSwitch),
            SWITCH => Ok(Self::Switch {
                plugin: Bytes::copy_from_slice(reader.cstr()?),
                data: Bytes::copy_from_slice(reader.rest()),
            }),
            _ => Err(reader.malformed()),
        }
    }
}

/// The nonce at the start of a plugin's data.
pub fn nonce_of(data: &[u8]) -> Option<[u8; NONCE_BYTES]> {
    data.first_chunk().copied()
}

/// Appends the body that asks for a proof by `plugin` against `nonce`.
pub fn put_switch(out: &mut BytesMut, plugin: &[u8], nonce: &[u8; NONCE_BYTES]) {
    out.put_u8(SWITCH);
    put_cstr(out, plugin);
    out.extend_from_slice(nonce);
    out.put_u8(0);
}

/// Appends the body that tells a client more of its plugin's exchange.
pub fn put_more_data(out: &mut BytesMut, data: &[u8]) {
    out.put_u8(MORE_DATA);
    out.extend_from_slice(data);
}

/// The password with its closing zero, or the other way round: what goes into, and comes out of, RSA.
#[must_use]
pub fn mask(bytes: &[u8], nonce: &[u8; NONCE_BYTES]) -> Zeroizing<Vec<u8>> {
    let masked = bytes.iter().zip(nonce.iter().cycle());
    Zeroizing::new(masked.map(|(byte, mask)| byte ^ mask).collect())
}

/// Encrypts for the server whose public key, as PEM, is `key`: OAEP with SHA-1, as the protocol has it. `None` where that
/// is no key, or too short for it.
pub fn seal(key: &[u8], clear: &[u8], random: &mut impl CryptoRngCore) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(key).ok()?;
    let key = RsaPublicKey::from_public_key_pem(text.trim_end_matches('\0').trim()).ok()?;
    key.encrypt(random, Oaep::new::<Sha1>(), clear).ok()
}

/// Compares without telling by time where the first difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

fn xor<const N: usize>(one: &[u8; N], other: &[u8; N]) -> [u8; N] {
    let mut out = *one;
    for (to, with) in out.iter_mut().zip(other) {
        *to ^= with;
    }
    out
}
