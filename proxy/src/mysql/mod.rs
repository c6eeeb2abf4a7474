//! MySQL's and MariaDB's half of the data plane.

pub mod cipher;
pub mod connect;
pub mod session;

pub mod disposable;
