//! What the application's sessions mean for a cutover: those that may have written past the log, and those that it closes.

use std::time::Duration;

use super::migration::Migration;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::model::definition::Options;
use crate::model::definitions::named;
use crate::model::report::Kind;
use crate::model::status::Verdict;
use crate::other_routes;
use crate::preflight::{Check, Level};

/// How long idle sessions may take to say what of them cannot move.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Sessions that are listed one by one.
const LISTED_MAX: usize = 100;
const HIDDEN: &str = "hidden_writes";
const CLOSED: &str = "sessions_to_close";
const HIDDEN_REMEDY: &str =
    "end these sessions, or let them undo the setting and connect anew; then run CHECK MIGRATION again";

impl<D: Database> Migration<D> {
    /// Refuses where sessions of the route could not move: the target did not take them when it was asked.
    pub(super) fn admit_sessions(&self, unopened: &[String], kind: Kind, options: &Options) -> Result<()> {
        let Some(why) = unopened.first() else {
            return Ok(());
        };
        let (name, (_, target), count) = (self.name(), self.ends(), unopened.len());
        if options.waive_sessions {
            tracing::warn!(
                migration = name,
                count,
                why,
                "sessions cannot move to the target; going on at the operator's word"
            );
            return Ok(());
        }
        Err(Error::refused(format!(
            "{count} sessions of route {} cannot be opened on {target}, and a switch would end them: {why}",
            self.definition.route
        ))
        .remedy(format!(
            "make room on {target} (connections, limits of the account) or mend what the text names; or, at your own \
             risk, {} MIGRATION {name} WITH (waive_sessions=true)",
            kind.statement()
        )))
    }

    /// Sessions whose writes the last check cannot have seen: no stream carries what they wrote since.
    fn hidden_since_check(&self) -> Result<Vec<String>> {
        let check = self.journal.leg_check(self.name())?;
        let begun = check.filter(|check| check.verdict == Verdict::Passed).map(|check| check.started);
        let hidden = self.traffic.hidden_writes(&self.definition.route)?;
        let live = self.live();
        let seen = live.hidden.iter();
        let direct = seen.filter(|(_, until)| begun.is_none_or(|begun| **until >= begun)).map(|(what, _)| what.clone());
        Ok(hidden
            .into_iter()
            .filter(|session| match (session.until, begun) {
                (Some(until), Some(begun)) => until >= begun,
                _ => true,
            })
            .map(|session| {
                format!("pid {} of user {} from {} set {}", session.pid, session.user, session.client, session.what)
            })
            .chain(direct)
            .collect())
    }

    /// Refuses where the proof is void because somebody may have written past the log since.
    pub(super) fn refuse_hidden_writes(&self) -> Result<()> {
        let hidden = self.hidden_since_check()?;
        if hidden.is_empty() {
            return Ok(());
        }
        Err(Error::refused(format!(
            "the proof is void: sessions may have written past the log or the fence since: {}",
            named(&hidden)
        ))
        .remedy(HIDDEN_REMEDY))
    }

    pub(super) fn hidden_writes_finding(&self) -> Result<Check> {
        let hidden = self.hidden_since_check()?;
        Ok(if hidden.is_empty() {
            Check::ok(HIDDEN, "no session was seen that wrote past the log since the last check")
        } else {
            let evidence = format!("may have written past the log or the fence: {}", named(&hidden));
            Check::new(HIDDEN, Level::Error, evidence, HIDDEN_REMEDY, "")
        })
    }

    /// Whether the gate of the migration's route holds everybody who comes to its databases through Headgate.
    pub(super) fn other_routes_finding(&self) -> Result<Check> {
        let (route, (source, _)) = (&self.definition.route, self.ends());
        let databases = self.database()?.databases();
        let traffic = &*self.traffic;
        Ok(other_routes::finding(traffic, route, source, &databases))
    }

    /// Each session that the switch would close, with its reason.
    pub(super) async fn sessions_findings(&self) -> Result<Vec<Check>> {
        let route = &self.definition.route;
        let unmovable = self.traffic.unmovable(route, ASK_TIMEOUT).await?;
        if unmovable.is_empty() {
            let evidence = "every session of the route can move";
            return Ok(vec![Check::ok(CLOSED, evidence)]);
        }
        let listed = unmovable.iter().take(LISTED_MAX).map(|session| {
            Check::new(
                CLOSED,
                Level::Warning,
                format!(
                    "pid {} of user {} from {}: {}",
                    session.pid, session.user, session.client, session.reason
                ),
                "the switch closes it with an error that drivers take as a lost connection; let it end what holds it, or end it",
                "",
            )
        });
        Ok(listed.collect())
    }
}
