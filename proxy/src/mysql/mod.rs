//! MySQL's and MariaDB's half of the data plane.
pub mod session;

pub mod disposable;
