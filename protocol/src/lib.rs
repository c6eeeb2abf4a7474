//! What the bytes of both engines' conversations mean: no sockets, no clock.
//!
//! Time and randomness are arguments. Bytes from a peer are data: every reader here is bounded by the bytes it was
//! given, allocates no more than them, and answers [`error::Malformed`] where they break the protocol.

pub mod error;
pub mod mysql;
pub mod postgres;
pub mod progress;
pub mod proxy_protocol;
pub mod reader;
