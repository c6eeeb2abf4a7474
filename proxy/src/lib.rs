//! The data plane: one client session, one server session, and a gate between transactions.
//!
//! The life of a session: [`listener`] accepts it; `client_login` of its engine hears who it is and what it wants;
//! `server_login` opens its server session with the client's own startup parameters; `session` serves it: [`relay`]
//! forwards bytes both ways, and the engine's `wire` tells it, from frame headers alone, where transactions begin and
//! end. To begin one a session passes its route's [`gate`]. When the [`route`] leads to another cluster, `handover`
//! rebuilds the session there before its next statement. [`registry`] knows who is there.

pub mod admission;
pub mod client;
pub mod config;
pub mod console;
pub mod data_plane;
pub mod failed_logins;
pub mod flow;
pub mod gate;
pub mod gate_state;
pub mod hidden_writes;
mod hold;
pub mod listener;
pub mod metrics;
pub mod mysql;
pub mod networks;
pub mod pending_logins;
mod per_cluster;
pub mod postgres;
mod proxy_header;
pub mod registry;
pub mod relay;
pub mod route;
mod session;
mod session_gate;
mod stack;
pub mod tls;
pub mod upstream;
pub mod workers;
