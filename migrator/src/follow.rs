//! What the follower of both engines shares.

mod handle;

pub(crate) use handle::Pause;
pub use handle::{Applied, Follow};
