//! MySQL's and MariaDB's conversation.

pub mod auth;
pub mod change;
pub mod command;
pub mod error_response;
pub mod frame;
pub mod handshake;
pub mod lenenc;
pub mod login;
pub mod position;
pub mod reply;
pub mod session;
pub mod sql;
