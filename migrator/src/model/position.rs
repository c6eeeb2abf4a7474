//! A place in a source's change stream.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A place in a source's change stream. It offers no total order, only [`Position::covers`].
pub trait Position:
    Clone + fmt::Debug + fmt::Display + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Whether everything up to `other` is also before `self`.
    fn covers(&self, other: &Self) -> bool;
}
