//! `mysql_native_password`: what a server keeps is enough to check a proof, and to take from it what logs in elsewhere.
//!
//! The proof is `SHA1(password) XOR SHA1(nonce, SHA1(SHA1(password)))`, and the server keeps the inner double hash.
//! Whoever knows that hash can take `SHA1(password)` out of a right proof.

use std::fmt;

use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::{same, xor};
use crate::mysql::handshake::NONCE_BYTES;

/// The length of every hash here.
const HASH_BYTES: usize = 20;

/// `SHA1(SHA1(password))`, as servers keep it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verifier([u8; HASH_BYTES]);

/// `SHA1(password)`: as good as the password for every account with the same one. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; HASH_BYTES]>);

impl Verifier {
    /// Reads the text of `mysql.user`: an asterisk and forty hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('*')?.as_bytes();
        if digits.len() != HASH_BYTES.saturating_mul(2) {
            return None;
        }
        let mut hash = [0; HASH_BYTES];
        for (to, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            if pair.starts_with('+') {
                return None;
            }
            *to = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// The text of `mysql.user`, as [`Verifier::parse`] reads it.
    pub fn text(&self) -> String {
        let digits = self.0.iter().map(|byte| format!("{byte:02X}"));
        std::iter::once("*".to_owned()).chain(digits).collect()
    }

    /// Takes the key out of a proof; `None` where the proof is wrong.
    pub fn check(&self, nonce: &[u8; NONCE_BYTES], proof: &[u8]) -> Option<Key> {
        let proof: &[u8; HASH_BYTES] = proof.try_into().ok()?;
        let key = Key(Zeroizing::new(xor(proof, &masked(nonce, &self.0))));
        same(&key.verifier().0, &self.0).then_some(key)
    }
}

impl Key {
    /// The key of a password.
    pub fn of(password: &[u8]) -> Self {
        Self(Zeroizing::new(Sha1::digest(password).into()))
    }

    /// What a server keeps of it.
    pub fn verifier(&self) -> Verifier {
        Verifier(Sha1::digest(self.0.as_slice()).into())
    }

    /// The proof against a nonce.
    pub fn prove(&self, nonce: &[u8; NONCE_BYTES]) -> [u8; HASH_BYTES] {
        xor(&self.0, &masked(nonce, &self.verifier().0))
    }
}

fn masked(nonce: &[u8; NONCE_BYTES], verifier: &[u8; HASH_BYTES]) -> [u8; HASH_BYTES] {
    Sha1::new().chain_update(nonce).chain_update(verifier).finalize().into()
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Verifier};

    #[test]
    fn a_verifier_is_written_as_servers_keep_it() {
        let verifier = Key::of(b"password").verifier();
        let text = verifier.text();
        assert_eq!(text, "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
        assert!(Verifier::parse(&text) == Some(verifier));
    }
}
