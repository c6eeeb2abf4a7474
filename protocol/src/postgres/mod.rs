//! PostgreSQL's conversation.
//!
//! The client speaks first: a startup packet without a tag ([`handshake`]), perhaps after asking for encryption on
//! the same socket; the server answers with a demand for proof ([`auth`]), then with its settings, the key for
//! cancelling and its first ReadyForQuery. From then on both sides send tagged frames ([`frame`]): the client's
//! commands ([`command`]) and the server's replies ([`reply`]), of which only some end or change a state
//! ([`session`]). [`error_response`] is what a proxy says itself, [`change`] and [`position`] are the stream of changes.
//! Manual: <https://www.postgresql.org/docs/current/protocol.html>

pub mod auth;
pub mod change;
pub mod command;
pub mod error_response;
pub mod frame;
pub mod handshake;
pub mod login;
pub mod position;
pub mod reply;
pub mod session;
pub mod sql;
