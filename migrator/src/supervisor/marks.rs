//! Marks of switches that the journal knows nothing of: such a cluster is neither served nor migrated from.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use super::LOOKED_AT_TOGETHER;
use super::Supervisor;
use super::migration::Migration;
use crate::backoff::Backoff;
use crate::database::Database;
use crate::error::{Error, Kind, Result};
use crate::model::definition::Definition;
use crate::model::mark::{self, Mark, Stage};
use crate::model::plan::Settings;
use crate::model::status::State;
use crate::preflight::Check;
use crate::traffic::Admission;

/// A server that is silent for longer is away.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
const CLEAR_TIMEOUT: Duration = Duration::from_mins(1);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// What the servers see as the name of a session that only looks.
const LOOKING: &str = "looking";
/// Names of which it is remembered that nothing is in their way.
const NAMES_MAX: usize = 1000;
impl<D: Database> Supervisor<D> {
    /// Lets nobody in before the routes' clusters were looked at.
    pub(super) fn shut_doors(&self) -> Result<()> {
        for (route, _) in self.traffic.served() {
            self.traffic.admit(&route, Admission::Looking(None))?;
        }
        Ok(())
    }

    /// Looks at the cluster of every route that is not open, and opens it where nothing is in the way.
    pub fn look_for_marks(self: &Arc<Self>) {
        self.unmarked_names.lock().clear();
        let supervisor = Arc::clone(self);
        tokio::spawn(async move {
            let shut = supervisor.traffic.served().into_iter();
            let shut = shut.filter(|(route, _)| {
                let admission = supervisor.traffic.admission(route);
                admission.is_ok_and(|admission| admission != Admission::Open)
            });
            let looking = shut.map(|(route, _)| supervisor.look(route));
            futures_util::stream::iter(looking).buffer_unordered(LOOKED_AT_TOGETHER).collect::<()>().await;
        });
    }

    /// Looks at the cluster of a route that has come to be, in a task of its own.
    pub fn look_at(self: &Arc<Self>, route: String) {
        let served = self.traffic.served().into_iter();
        let known = self.unmarked_names.lock();
        let mut here = served.filter(|(name, _)| *name == route);
        if here.any(|place| known.contains(&place)) && self.traffic.admit(&route, Admission::Open).is_ok() {
            return;
        }
        drop(known);
        let supervisor = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(_turn) = supervisor.looking.acquire().await else {
                return;
            };
            supervisor.look(route).await;
        });
    }

    /// Looks at a route's cluster until it answers, and says who is let in.
    async fn look(&self, route: String) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let served = self.traffic.served().into_iter();
            let Some((_, cluster)) = served.into_iter().find(|(name, _)| *name == route) else {
                return;
            };
            let error = match self.foreign_mark(&cluster, &route).await {
                Ok(found) => {
                    self.admit_or_refuse(&route, &cluster, found.as_ref());
                    return;
                }
                Err(error) if error.kind() != Kind::Transient => {
                    self.admit_unseen(&route, &cluster, &error);
                    return;
                }
                Err(error) => error,
            };
            tracing::debug!(route, cluster, %error, "the cluster could not be looked at");
            let looking = Admission::Looking(Some(error.full_text()));
            if self.traffic.admit(&route, looking).is_err() {
                return;
            }
            sleep(backoff.step()).await;
        }
    }

    /// Clients are not kept waiting for a right of Headgate's own; the operator is told.
    fn admit_unseen(&self, route: &str, cluster: &str, error: &Error) {
        tracing::warn!(
            route, cluster, %error,
            "it cannot be known whether this cluster was switched away from; the route is served"
        );
        let remedy = error.remedy_text().unwrap_or("mend what the text names");
        let unseen = Admission::Unseen {
            why: error.full_text(),
            remedy: format!("{remedy}; then reload (SIGHUP), which looks again"),
        };
        if let Err(error) = self.traffic.admit(route, unseen) {
            tracing::warn!(route, %error, "nobody can be let in");
        }
    }

    fn admit_or_refuse(&self, route: &str, cluster: &str, found: Option<&Mark>) {
        let admission = match found {
            None => {
                let mut known = self.unmarked_names.lock();
                if known.len() >= NAMES_MAX {
                    known.clear();
                }
                known.insert((route.to_owned(), cluster.to_owned()));
                Admission::Open
            }
            Some(mark) => {
                let (why, remedy) = (mark.evidence(cluster), mark.remedy(cluster, route));
                tracing::error!(route, cluster, why, remedy, "the route is not served");
                Admission::Refused { why, remedy }
            }
        };
        if let Err(error) = self.traffic.admit(route, admission) {
            tracing::warn!(route, %error, "nobody can be let in");
        }
    }

    /// A mark on `cluster` that concerns `route`, and of which the journal knows nothing.
    async fn foreign_mark(&self, cluster: &str, route: &str) -> Result<Option<Mark>> {
        let database = self.looking_at(LOOKING, cluster, route, Settings::default())?;
        foreign(&self.marks_of(&database).await?, &self.journal, (cluster, route))
    }

    async fn marks_of(&self, database: &D) -> Result<Vec<Mark>> {
        timeout(LOOK_TIMEOUT, database.marks())
            .await
            .unwrap_or_else(|_| Err(Error::transient("the cluster did not answer in time")))
    }

    /// One end only: what is on `cluster`.
    fn looking_at(&self, name: &str, cluster: &str, route: &str, settings: Settings) -> Result<D> {
        (self.factory)(&Definition {
            name: name.to_owned(),
            source: cluster.to_owned(),
            target: cluster.to_owned(),
            route: route.to_owned(),
            settings,
        })
    }

    /// Refuses where the route's cluster carries a mark of which the journal knows nothing.
    pub(super) fn unmarked(&self, route: &str) -> Result<()> {
        match self.traffic.admission(route)? {
            Admission::Refused { why, remedy } => {
                Err(Error::refused(format!("route {route} is not served: {why}")).remedy(remedy))
            }
            Admission::Open | Admission::Looking(_) | Admission::Unseen { .. } => Ok(()),
        }
    }

    /// What a precheck says of marks: on the source those that the journal does not know, on the target all.
    pub(super) async fn mark_findings(&self, migration: &Migration<D>) -> Result<Vec<Check>> {
        let Definition { source, target, route, settings, .. } = &migration.definition;
        let mut findings = Vec::new();
        let mut add = |marks: Result<Vec<Mark>>, finding: &dyn Fn(&Mark) -> Check| match marks {
            Ok(marks) => findings.extend(marks.iter().map(finding)),
            // What cannot be reached is a finding of the precheck already.
            Err(error) if error.kind() == Kind::Transient => {}
            Err(error) => findings.push(mark::unknown(&error)),
        };
        let on_source = self.marks_of(&migration.database()?).await;
        let on_source = on_source.and_then(|marks| {
            let found = foreign(&marks, &self.journal, (source, route))?;
            Ok(found.into_iter().collect())
        });
        add(on_source, &|mark| mark.on_source(source, route));
        let there = self.looking_at(LOOKING, target, route, settings.clone())?;
        let on_target = self.marks_of(&there).await;
        add(on_target, &|mark| mark.on_target(target, route));
        if findings.is_empty() {
            findings.push(mark::none());
        }
        Ok(findings)
    }

    /// Lifts the fences that the marks on a cluster tell of, as far as they concern the route, and removes the marks. One
    /// of a switch that took place goes only where the operator gives the switch up.
    pub async fn clear_mark(self: &Arc<Self>, cluster: &str, route: &str, give_up: bool) -> Result<()> {
        let _alone = self.defining.lock().await;
        self.traffic.admission(route)?;
        let database = self.looking_at(LOOKING, cluster, route, Settings::default())?;
        let marks = self.marks_of(&database).await?;
        if marks.is_empty() {
            return Err(Error::refused(format!(
                "cluster {cluster} carries no mark of a switch that concerns route {route}"
            ))
            .remedy("SHOW ROUTES tells which route is not served, and why"));
        }
        for mark in &marks {
            let known = self.journal.knows(mark)?;
            let state = self.find(&mark.migration).ok();
            let state = state.map(|migration| migration.live().state);
            // What is switched keeps its fence up.
            let under_way = [State::Copying, State::Following, State::Cutover, State::Switched, State::RolledBack];
            if known && state.is_some_and(|state| under_way.contains(&state)) {
                let name = &mark.migration;
                return Err(Error::refused(format!(
                    "the mark is of migration {name}, which this journal knows and which is not over"
                ))
                .remedy(format!("FINISH MIGRATION {name} first, or STOP it where it was not switched")));
            }
            let switched = mark.stage == Stage::Switched || known && mark.stage != Stage::Fenced;
            if switched && !give_up {
                return Err(Error::refused(mark.evidence(cluster)).remedy(mark.remedy(cluster, route)));
            }
        }
        for mark in &marks {
            let its = self.looking_at(&mark.migration, cluster, route, Settings::default())?;
            timeout(CLEAR_TIMEOUT, its.clear_mark()).await.unwrap_or_else(|_| {
                Err(Error::transient("the cluster did not answer in time")
                    .remedy("look whether it answers, and try again"))
            })?;
            tracing::warn!(
                cluster,
                route,
                migration = mark.migration,
                epoch = mark.epoch,
                "a mark of a switch was cleared at the operator's word; the cluster takes writes again"
            );
        }
        if self.traffic.admission(route)? != Admission::Open {
            self.look(route.to_owned()).await;
        }
        self.look_for_marks();
        Ok(())
    }
}

impl<D: Database> Migration<D> {
    /// Refuses to work on a source that was switched away from, unknown to this journal.
    pub(super) async fn source_unmarked(&self, database: &D) -> Result<()> {
        let marks = timeout(LOOK_TIMEOUT, database.marks())
            .await
            .unwrap_or_else(|_| Err(Error::transient("the source did not answer in time")))?;
        let (route, (source, _)) = (&self.definition.route, self.ends());
        match foreign(&marks, &self.journal, (source, route))? {
            None => Ok(()),
            Some(mark) => Err(Error::refused(mark.evidence(source)).remedy(mark.remedy(source, route))),
        }
    }
}

/// The mark that keeps `cluster` from serving `route`: one that the journal does not know, and one which says that this
/// very route was switched away, unless the journal has brought it back since: one that was restored from an older copy
/// has not.
fn foreign(marks: &[Mark], journal: &crate::journal::Journal, (cluster, route): (&str, &str)) -> Result<Option<Mark>> {
    for mark in marks {
        let left = mark.stage == Stage::Switched && mark.route == route && mark.target != cluster;
        if left && !journal.came_back(mark, cluster)? || !journal.knows(mark)? {
            return Ok(Some(mark.clone()));
        }
    }
    Ok(None)
}
