//! What must hold for MySQL's bytes, whoever sent them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a test that panics has found something"
)]

mod auth;
mod frame;
mod handshake;
mod login;
mod position;
mod session_model;
