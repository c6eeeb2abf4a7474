//! MySQL beside MySQL Router, mydumper, mysqldump and a native replica.

pub(crate) mod copy;
pub(crate) mod cutover;
pub(crate) mod follow;
mod ground;
mod load;
mod migration;
mod router;
pub(crate) mod session;
pub(crate) mod way_back;
