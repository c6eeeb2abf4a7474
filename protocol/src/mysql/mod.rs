//! MySQL's and MariaDB's conversation.

pub mod frame;
