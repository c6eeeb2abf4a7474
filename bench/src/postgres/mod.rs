//! PostgreSQL beside PgBouncer, pgcopydb and a native subscription.

pub(crate) mod copy;
pub(crate) mod cutover;
pub(crate) mod follow;
mod ground;
mod load;
mod migration;
mod pgbouncer;
pub(crate) mod session;
pub(crate) mod way_back;
