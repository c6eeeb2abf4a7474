//! The admin console: carries out the statements of the database `headgate`.

pub(crate) mod answer;
pub(crate) mod columns;
pub(crate) mod rows;
pub(crate) mod session;
pub(crate) mod slot;

use std::future::Future;
use std::sync::Arc;

use migrator::database::Database;
use migrator::model::definition::Definition;
use migrator::model::definition::Options;
use migrator::model::report::{CutoverReport, Outcome};
use migrator::supervisor::Supervisor;
use proxy::config::{ADMIN_DATABASE, nearest};
use proxy::data_plane::DataPlane;
use tracing::{info, warn};

use super::reload::Running;
use super::statement::{Constant, Given, Statement, setting};
use answer::{Answer, Column, Refusal, Value};

/// The console's view of both planes.
pub(crate) struct Admin<D: Database> {
    /// What the operator configured.
    pub running: Arc<Running>,
    /// Routes and sessions.
    pub plane: Arc<DataPlane>,
    /// The migrations.
    pub supervisor: Arc<Supervisor<D>>,
}

/// Who carries statements out.
pub(crate) trait Execute: Send + Sync {
    /// The columns that the statement will answer; none where it answers no rows.
    fn columns(&self, statement: &Statement) -> &'static [Column];

    /// Carries it out.
    fn execute(&self, statement: Statement) -> impl Future<Output = Result<Answer, Refusal>> + Send;
}

impl<D: Database> Execute for Admin<D> {
    fn columns(&self, statement: &Statement) -> &'static [Column] {
        columns::of(statement)
    }

    async fn execute(&self, statement: Statement) -> Result<Answer, Refusal> {
        let Some(text) = statement.effect() else {
            return self.run(statement).await;
        };
        info!(statement = text, "the operator asks");
        let answer = self.run(statement).await;
        match &answer {
            Ok(_) => info!(statement = text, "done"),
            Err(Refusal { code, text: why, .. }) => {
                warn!(statement = text, code, why, "the statement failed");
            }
        }
        answer
    }
}

impl<D: Database> Admin<D> {
    async fn run(&self, statement: Statement) -> Result<Answer, Refusal> {
        let supervisor = &self.supervisor;
        let answer = match statement {
            Statement::Create { name, source, target, route, settings } => {
                self.create(name, source, target, route, settings).await?
            }
            Statement::Precheck(name) => {
                let checks = supervisor.precheck(&name).await?;
                Answer::rows(rows::checks(checks))
            }
            Statement::ShowReadiness(name) => {
                let checks = supervisor.readiness(&name).await?;
                Answer::rows(rows::checks(checks))
            }
            Statement::Start(name) => {
                supervisor.start(&name).await?;
                Answer::done("START MIGRATION")
            }
            Statement::Stop(name) => {
                supervisor.stop(&name).await?;
                Answer::done("STOP MIGRATION")
            }
            Statement::Check(name) => {
                supervisor.check(&name).await?;
                Answer::done("CHECK MIGRATION")
            }
            Statement::Recopy { name, schema, table } => {
                let recopying = supervisor.recopy(&name, schema.as_deref(), &table);
                recopying.await?;
                Answer::done("RECOPY TABLE")
            }
            Statement::Finish { name, waive_proof } => {
                supervisor.finish(&name, waive_proof).await?;
                Answer::done("FINISH MIGRATION")
            }
            Statement::Drop { name, target_objects } => {
                let dropping = supervisor.drop_migration(&name, target_objects);
                let stays = dropping.await?;
                let mut answer = Answer::done("DROP MIGRATION");
                if !stays.is_empty() {
                    let text = format!("some of what it made stays: {}", stays.join("; "));
                    warn!(migration = name, text, "a migration was dropped");
                    answer.notice = Some(text);
                }
                answer
            }
            Statement::ClearMark { cluster, route, give_up_switch } => {
                let clearing = supervisor.clear_mark(&cluster, &route, give_up_switch);
                clearing.await?;
                Answer::done("CLEAR SWITCH MARK")
            }
            Statement::Rehearse(name, options) => reported(&supervisor.rehearse(&name, options).await?)?,
            Statement::Cutover(name, options) => {
                let notice = waived(&options);
                Answer { notice, ..reported(&supervisor.cutover(&name, options).await?)? }
            }
            Statement::Rollback(name, options) => {
                let notice = waived(&options);
                Answer { notice, ..reported(&supervisor.rollback(&name, options).await?)? }
            }
            Statement::Later(what) => {
                let text = format!("{what} does not exist yet");
                let hint = "FINISH MIGRATION ends a migration after its switch; STOP MIGRATION and DROP MIGRATION end one before";
                return Err(Refusal::new("0A000", text, hint));
            }
            Statement::ShowList => Answer::rows(supervisor.list().into_iter().map(rows::summary).collect()),
            Statement::ShowStatus(Some(name)) => Answer::rows(vec![rows::status(supervisor.status(&name)?)]),
            Statement::ShowStatus(None) => {
                let all = supervisor.list().into_iter();
                let all: Result<Vec<_>, _> = all.map(|one| supervisor.status(&one.name)).collect();
                Answer::rows(all?.into_iter().map(rows::status).collect())
            }
            Statement::ShowTables(name) => {
                Answer::rows(supervisor.tables(&name)?.into_iter().map(rows::table).collect())
            }
            Statement::ShowChecks(name) => Answer::rows(rows::checks(supervisor.checks(&name)?)),
            Statement::ShowCheckStatus(name) => {
                Answer::rows(supervisor.check_status(&name)?.map(rows::check_status).into_iter().collect())
            }
            Statement::ShowReport(name) => Answer::rows(supervisor.report(&name)?.iter().map(rows::report).collect()),
            Statement::ShowRoutes => Answer::rows(rows::routes(&self.plane)),
            Statement::ShowClusters => {
                let config = self.running.config();
                Answer::rows(config.clusters.iter().map(rows::cluster).collect())
            }
            Statement::ShowSessions => Answer::rows(rows::sessions(&self.plane)),
            Statement::ShowConfig => Answer::rows(rows::config(&self.running.loaded(), &self.plane)),
            Statement::ShowVersion => Answer::rows(vec![vec![Value::from(version())]]),
            Statement::Help => Answer::rows(rows::help()),
            Statement::ShowSetting(name) => Answer::rows(vec![vec![Value::from(setting(&name))]]),
            Statement::Select(constant) => Answer::rows(vec![vec![self.constant(constant)]]),
            Statement::Begin | Statement::End { .. } | Statement::Set => Answer::done("SET"),
        };
        Ok(answer)
    }

    fn constant(&self, constant: Constant) -> Value {
        match constant {
            Constant::One => Value::Int(1),
            Constant::Version => Value::from(version()),
            Constant::Database => Value::from(ADMIN_DATABASE),
            Constant::User => Value::from(self.running.config().admin.user.clone()),
        }
    }

    async fn create(
        &self,
        name: String,
        source: String,
        target: String,
        route: Option<String>,
        settings: Given,
    ) -> Result<Answer, Refusal> {
        let config = self.running.config();
        for cluster in [&source, &target] {
            if !config.clusters.contains_key(cluster) {
                return Err(unknown("cluster", cluster, config.clusters.keys()));
            }
        }
        let route = match route {
            Some(route) => route,
            None => self.only_route_of(&source)?,
        };
        let Some(leads) = self.plane.routes.route(&route) else {
            return Err(unknown("route", &route, config.routes.keys()));
        };
        let cluster = leads.destination().cluster.name.clone();
        if cluster != source {
            let text = format!("route \"{route}\" is on {cluster}, not on {source}");
            return Err(Refusal::new(
                "55000",
                text,
                format!("CREATE MIGRATION {name} FROM {cluster} TO …; SHOW ROUTES lists all"),
            ));
        }
        let settings = settings.over(&self.running.config().migrator);
        self.supervisor.create(Definition { name, source, target, route, settings }).await?;
        Ok(Answer::done("CREATE MIGRATION"))
    }

    fn only_route_of(&self, source: &str) -> Result<String, Refusal> {
        let routes = self.plane.routes.routes();
        let mut names =
            routes.iter().filter(|route| route.destination().cluster.name == source).map(|route| route.name.clone());
        match (names.next(), names.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => {
                let text = format!("no route is on {source}");
                Err(Refusal::new("55000", text, "SHOW ROUTES tells where each route leads"))
            }
            (Some(one), Some(other)) => {
                let text = format!("several routes are on {source}: {one}, {other} and perhaps more");
                Err(Refusal::new("42601", text, format!("name one: FOR ROUTE {one}")))
            }
        }
    }
}

/// What the operator is told once more of what a switch was made without.
fn waived(options: &Options) -> Option<String> {
    let check = options.waive_check.then_some("without a passed check");
    let way_back = (!options.way_back).then_some("without a way back: what is written from now on does not come back");
    let waived: Vec<&str> = check.into_iter().chain(way_back).collect();
    (!waived.is_empty()).then(|| format!("switched {}, as asked", waived.join(" and ")))
}

/// Headgate's name and version.
pub(crate) fn version() -> &'static str {
    concat!("Headgate ", env!("CARGO_PKG_VERSION"))
}

/// A report as rows; what was undone is an error, so that a script that looks only for errors stops.
fn reported(report: &CutoverReport) -> Result<Answer, Refusal> {
    let Outcome::Undone { at, why, remedy } = &report.outcome else {
        return Ok(Answer::rows(vec![rows::report(report)]));
    };
    let text = format!("{} undone in {at}: {why}; clients stay on {}", report.kind, report.source);
    let more = format!("SHOW CUTOVER REPORT {} has the numbers", report.migration);
    let hint = remedy.as_ref().map_or(more.clone(), |remedy| format!("{remedy}; {more}"));
    Err(Refusal::new("55000", text, hint))
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String> + Clone) -> Refusal {
    let all = known.clone().map(String::as_str).collect::<Vec<_>>().join(", ");
    let hint = match nearest(name, known.map(String::as_str)) {
        Some(near) => format!("did you mean {near}? the configuration has {all}"),
        None => format!("the configuration has {all}"),
    };
    Refusal::new("42704", format!("{what} \"{name}\" does not exist"), hint)
}
