//! The demo as an operator: statements to Headgate's admin console.

use std::time::Duration;

use super::failure::{Failure, Result};
use super::link::{Link, Record};

const TIMEOUT: Duration = Duration::from_mins(1);

/// The admin console.
pub(super) struct Console<L>(pub(super) L);

impl<L: Link> Console<L> {
    /// Sends a statement and gathers its rows.
    pub(super) async fn ask(&mut self, statement: &str) -> Result<Vec<Record>> {
        let answer = tokio::time::timeout(TIMEOUT, self.0.ask(statement)).await;
        let answer = answer.map_err(|_| Failure(format!("{statement}: no answer within {TIMEOUT:?}")))?;
        answer.map_err(|trouble| {
            let said = Failure::from(trouble);
            Failure(format!("{statement}: {said}"))
        })
    }

    /// The first row of the answer.
    pub(super) async fn ask_one(&mut self, statement: &str) -> Result<Record> {
        let rows = self.ask(statement).await?;
        rows.into_iter().next().ok_or_else(|| Failure(format!("{statement}: no row came")))
    }
}
