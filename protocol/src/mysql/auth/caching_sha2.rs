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
    let mask = Sha256::new()
        .chain_update(twice)
        .chain_update(nonce)
        .finalize();
    xor(&key, &mask.into())
}

/// Whether `proof` was made from `password`.
pub fn check(password: &[u8], nonce: &[u8; NONCE_BYTES], proof: &[u8]) -> bool {
    same(&prove(password, nonce), proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_the_one_that_other_clients_make() {
        let made_by_pymysql = [
            0xd8, 0x2f, 0x58, 0x55, 0x31, 0xc2, 0x5f, 0xc7, 0xcc, 0x27, 0x5f, 0xf3, 0x74, 0x7c,
            0x45, 0x92, 0x4d, 0x86, 0xf6, 0x14, 0x4a, 0xa6, 0x13, 0x5d, 0x8d, 0xd6, 0xeb, 0x9f,
            0xde, 0xab, 0x76, 0xd2,
        ];
        assert_eq!(prove(b"secret", &[1; 20]), made_by_pymysql);
    }

    #[test]
    fn a_proof_is_right_for_its_password_and_its_nonce_only() {
        let proof = prove(b"secret", &[1; 20]);
        assert!(check(b"secret", &[1; 20], &proof));
        assert!(!check(b"Secret", &[1; 20], &proof));
        assert!(!check(b"secret", &[2; 20], &proof));
        assert!(!check(b"secret", &[1; 20], &proof[..31]));
        assert!(!check(b"secret", &[1; 20], &[]));
    }
}
