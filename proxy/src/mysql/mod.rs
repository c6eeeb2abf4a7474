//! MySQL's and MariaDB's half of the data plane.

pub mod accounts;
mod ahead;
pub mod cancel;
pub mod cipher;
pub mod client_login;
mod denied;
pub mod greeting;
pub mod handover;
mod hidden_writes;
pub mod host;
pub mod internal_query;
pub mod introspection;
pub mod logins;
pub mod not_movable;
mod own_account;
pub mod passwords;
pub mod server_login;
mod serving;
pub mod session;
pub mod session_tracking;
pub mod sql_text;
pub mod state;
pub mod statements;
mod trial;
pub mod user_variables;
pub mod variables;
pub mod wire;
