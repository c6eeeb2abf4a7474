//! The mark of a switch on the source: who moved which route away, so that a Headgate without the journal sees it.

use crate::error::{Error, Result};
use crate::preflight::{Check, Level};

/// What a cutover leaves on the cluster that it fences, together with the refusal and before the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The migration.
    pub migration: String,
    /// The route that it moves.
    pub route: String,
    /// The cluster that the mark is on.
    pub source: String,
    /// The cluster that serves the route after the switch.
    pub target: String,
    /// Which cutover of that journal it is.
    pub epoch: u64,
    /// Which journal decides about it; empty where a fence was left without a mark.
    pub journal: String,
    /// When the refusal was made durable, as the server tells the time.
    pub sealed: String,
    /// How far it came.
    pub stage: Stage,
}

/// How far a switch came, as its mark tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The source may refuse writes; nothing was decided.
    Fenced,
    /// The source refuses writes; whether the switch took place is in the journal alone.
    Sealed,
    /// The switch took place.
    Switched,
}

/// The name of the check that tells of marks.
const CHECK: &str = "switch_mark";

impl Mark {
    /// What it says, on `cluster`.
    pub fn evidence(&self, cluster: &str) -> String {
        let Self { migration, route, target, epoch, sealed, .. } = self;
        match self.stage {
            Stage::Fenced => format!(
                "cluster {cluster} carries a fence of migration {migration}: it may refuse writes, and no switch took place"
            ),
            Stage::Sealed => format!(
                "cluster {cluster} carries the mark of a switch: migration {migration} made it refuse writes at {sealed} \
                 to move route {route} to {target} (epoch {epoch}); whether the switch took place is not known here, it \
                 is in that Headgate's journal"
            ),
            Stage::Switched => format!(
                "cluster {cluster} carries the mark of a switch: migration {migration} moved route {route} to {target} \
                 at {sealed} (epoch {epoch}), and the rows here may be as old as that"
            ),
        }
    }

    /// What the operator can do where the journal does not know of it and `route` leads to `cluster`.
    pub fn remedy(&self, cluster: &str, route: &str) -> String {
        let clear = self.statement(cluster, route);
        let target = &self.target;
        match self.stage {
            Stage::Fenced => format!("{clear} lets {cluster} take writes again"),
            Stage::Sealed => format!(
                "restore the journal of the Headgate that did it and restart; or, if {target} serves the route, write \
                 cluster = \"{target}\" into [routes.{route}] and reload (SIGHUP); or, only if you know that no switch took \
                 place, {clear} lets {cluster} take writes again"
            ),
            Stage::Switched => format!(
                "restore the journal of the Headgate that did it and restart; or write cluster = \"{target}\" into \
                 [routes.{route}] and reload (SIGHUP); or, if what was written to {target} since shall be given up, {clear} \
                 lets {cluster} take writes again"
            ),
        }
    }

    fn statement(&self, cluster: &str, route: &str) -> String {
        let options = match self.stage {
            Stage::Switched => " WITH (give_up_switch = true)",
            Stage::Fenced | Stage::Sealed => "",
        };
        format!("CLEAR SWITCH MARK ON {cluster} FOR ROUTE {route}{options}")
    }

    /// The finding that `cluster`, which is to be filled, was switched away from.
    pub(crate) fn on_target(&self, cluster: &str, route: &str) -> Check {
        Check::new(
            CHECK,
            Level::Error,
            self.evidence(cluster),
            format!(
                "make sure that nobody needs what is on {cluster} any more; then clear the mark, which lets it take \
                 writes again, and drop what is in the way"
            ),
            self.statement(cluster, route),
        )
    }

    /// The finding that `cluster`, which is to be moved from, was switched away from, unknown to the journal.
    pub(crate) fn on_source(&self, cluster: &str, route: &str) -> Check {
        Check::new(
            CHECK,
            Level::Error,
            self.evidence(cluster),
            self.remedy(cluster, route),
            self.statement(cluster, route),
        )
    }
}

/// Refuses to act for the cutover `epoch` of a migration on a cluster that carries the mark of a later one, `found`: a copy
/// of this journal runs elsewhere. Whoever is refused stops for good.
pub(crate) fn refuse_later(migration: &str, found: Option<u64>, epoch: u64) -> Result<()> {
    match found {
        Some(found) if found > epoch => Err(Error::fatal(format!(
            "the cluster carries the mark of a later cutover of migration {migration} (epoch {found}) than this one (epoch \
             {epoch}): another Headgate has taken it up with a copy of this journal, and this one does nothing more there"
        ))
        .remedy("stop this Headgate; where it is the one to go on, stop the other and restore the newest journal first")),
        _ => Ok(()),
    }
}

/// The finding that no switch is in the way.
pub(crate) fn none() -> Check {
    Check::ok(CHECK, "neither cluster was switched away from")
}

/// The finding that it cannot be known whether one is.
pub(crate) fn unknown(error: &Error) -> Check {
    let remedy = error.remedy_text().unwrap_or_default();
    Check::new(CHECK, Level::Error, error.full_text(), remedy, "")
}
