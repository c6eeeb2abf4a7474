//! MySQL's and MariaDB's conversation.

pub mod auth;
pub mod frame;
pub mod handshake;
