//! PostgreSQL's half of the data plane.

pub mod accept;
mod ahead;
pub mod cancel;
pub mod connect;
pub mod custom;
pub mod dialogue;
pub mod disposable;
pub mod handover;
mod hidden_writes;
pub mod lexer;
pub mod passwords;
pub mod serving;
pub mod session;
pub mod spare;
pub mod state;
mod trial;
pub mod wire;
