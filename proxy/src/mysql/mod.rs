//! MySQL's and MariaDB's half of the data plane.

pub mod accept;
pub mod accounts;
mod ahead;
pub mod cancel;
pub mod cipher;
pub mod connect;
pub mod dialogue;
pub mod disposable;
pub mod greeting;
pub mod handover;
mod hidden_writes;
pub mod host;
pub mod learned;
pub mod lexer;
pub mod passwords;
pub mod serving;
pub mod session;
pub mod spare;
pub mod state;
pub mod statements;
mod trial;
pub mod user_variables;
pub mod variables;
pub mod wire;
pub mod witness;
