//! The exchange of a login, and what its plugins compute.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use protocol::mysql::auth::{
    FULL_NEEDED, NATIVE, Step, caching_sha2, ed25519, mask, native, nonce_of, put_more_data, put_switch,
};

#[test]
fn what_is_asked_of_a_client_reads_back() {
    let mut out = BytesMut::new();
    put_switch(&mut out, NATIVE, &[7; 20]);
    let Ok(Step::Switch { plugin, data }) = Step::parse(out.split().freeze()) else {
        panic!("not a switch");
    };
    assert_eq!(&plugin[..], NATIVE);
    assert_eq!(nonce_of(&data), Some([7; 20]));
    put_more_data(&mut out, &[FULL_NEEDED]);
    let more = Step::parse(out.freeze());
    assert_eq!(more, Ok(Step::MoreData(Bytes::from_static(&[FULL_NEEDED]))));
}

#[test]
fn a_masked_password_is_itself_after_the_second_mask_and_never_before() {
    let nonce = *b"abcdefghijklmnopqrst";
    let password = b"a password that is longer than the nonce\0";
    let masked = mask(password, &nonce);
    assert_ne!(&masked[..], password);
    assert_eq!(&mask(&masked, &nonce)[..], password);
}

/// What every server answers to `SELECT PASSWORD('password')`.
const STORED: &str = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";

#[test]
fn the_key_out_of_a_right_proof_logs_in_against_any_other_nonce() {
    let verifier = native::Verifier::parse(STORED).expect("a stored hash");
    let proof = native::Key::of(b"password").prove(&[1; 20]);
    let key = verifier.check(&[1; 20], &proof).expect("a right proof");
    assert_eq!(key.prove(&[2; 20]), native::Key::of(b"password").prove(&[2; 20]));
    assert_eq!(verifier.check(&[2; 20], &proof), None, "a proof was replayed");
    let wrong = native::Key::of(b"passw0rd").prove(&[1; 20]);
    assert_eq!(verifier.check(&[1; 20], &wrong), None);
    assert_eq!(verifier.check(&[1; 20], &[]), None);
}

#[test]
fn a_text_that_is_no_hash_is_none() {
    for text in ["", "*", "2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "*+1", "THISISNOTAVALIDPASSWORD"] {
        assert_eq!(native::Verifier::parse(text), None, "{text}");
    }
    let signed = format!("*{}", "+1".repeat(20));
    assert_eq!(native::Verifier::parse(&signed), None);
    let wide = format!("*{}", "é1".repeat(13));
    assert_eq!(native::Verifier::parse(&wide), None);
}

#[test]
fn a_proof_is_right_for_its_password_and_its_nonce_only() {
    let proof = caching_sha2::prove(b"secret", &[1; 20]);
    assert!(caching_sha2::check(b"secret", &[1; 20], &proof));
    assert!(!caching_sha2::check(b"Secret", &[1; 20], &proof));
    assert!(!caching_sha2::check(b"secret", &[2; 20], &proof));
    assert!(!caching_sha2::check(b"secret", &[1; 20], &proof[..31]));
    assert!(!caching_sha2::check(b"secret", &[1; 20], &[]));
}

/// Proofs of the password "secret" against the bytes from 1 to 20, as PyMySQL makes them, and against those from 1 to 32,
/// as the formulas of RFC 8032 make it with the integers of Python.
#[test]
fn proofs_are_those_that_other_programs_make() {
    let nonce = std::array::from_fn(|at| at as u8 + 1);
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    assert_eq!(hex(&native::Key::of(b"secret").prove(&nonce)), "b32bb3a583e1340c0a1108d58b1be49781ad8c2f");
    assert_eq!(
        hex(&caching_sha2::prove(b"secret", &nonce)),
        "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9"
    );
    let challenge = std::array::from_fn(|at| at as u8 + 1);
    assert_eq!(
        hex(&ed25519::prove(b"secret", &challenge)),
        "60a0f4f8bcb6396043e44b2a25521af16f0815ff6369cc541c281e2c4455c823\
         2b79b21ee5bb933507725db2f2919ea09e676f6abee19c5c7b98b40a627a9707"
    );
}
