//! Who writes to the source, as the source itself says: also around Headgate, and past the fence.

use super::Postgres;
use crate::database::Carried;
use crate::error::Result;
use crate::preflight::Check;

/// What stands in the way of a cutover, or that nobody does.
#[expect(clippy::unused_async, reason = "every effect is awaited alike")]
pub(super) async fn findings(_postgres: &Postgres, _carried: Carried<'_>) -> Result<Vec<Check>> {
    Ok(Vec::new())
}
