//! `caching_sha2_password`: the quick proof, for which one must have seen the password once.
//!
//! The proof is `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)`. What servers keep on disk is another,
//! slow hash, from which nobody can check it.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{same, xor};
use crate::mysql::handshake::NONCE_BYTES;

/// The length of a proof.
pub const PROOF_BYTES: usize = 32;

/// The proof against a nonce. An empty password is proven by no bytes at all, and not by this.
pub fn prove(password: &[u8], nonce: &[u8; NONCE_BYTES]) -> [u8; PROOF_BYTES] {
    let key: Zeroizing<[u8; PROOF_BYTES]> = Zeroizing::new(Sha256::digest(password).into());
    let twice = Sha256::digest(key.as_slice());
    let mask = Sha256::new().chain_update(twice).chain_update(nonce).finalize();
    xor(&key, &mask.into())
}

/// Whether `proof` was made from `password`.
pub fn check(password: &[u8], nonce: &[u8; NONCE_BYTES], proof: &[u8]) -> bool {
    same(&prove(password, nonce), proof)
}
