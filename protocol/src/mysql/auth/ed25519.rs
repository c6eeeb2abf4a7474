//! `client_ed25519` of MariaDB: a signature by a key that is made of the password. Servers keep the public key, which
//! checks a proof and makes none: whoever is to log in elsewhere must know the password.
//!
//! RFC 8032 with the password in place of the seed, as <https://mariadb.com/kb/en/authentication-plugin-ed25519/> has it.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Digest, Sha512, VerifyingKey};
use zeroize::Zeroizing;

/// The length of what is signed.
pub const CHALLENGE_BYTES: usize = 32;
/// The length of a proof.
pub const PROOF_BYTES: usize = 64;

/// The proof against a challenge. An empty password has one too.
pub fn prove(password: &[u8], challenge: &[u8; CHALLENGE_BYTES]) -> [u8; PROOF_BYTES] {
    let hash: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(password).into());
    // Wiped when it is dropped.
    let key = ExpandedSecretKey::from_bytes(&hash);
    raw_sign::<Sha512>(&key, challenge, &VerifyingKey::from(&key)).to_bytes()
}
