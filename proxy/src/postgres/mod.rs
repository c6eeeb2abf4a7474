//! PostgreSQL's half of the data plane.

pub mod accounts;
mod ahead;
pub mod cancel;
pub mod client_login;
pub mod custom;
mod denied;
pub mod handover;
mod hidden_writes;
pub mod internal_query;

pub mod not_movable;
pub mod passwords;
pub mod server_login;
mod serving;
pub mod session;
pub mod sql_text;
pub mod state;
mod trial;
pub mod wire;
