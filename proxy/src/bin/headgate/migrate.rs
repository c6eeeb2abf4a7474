//! `headgate migrate`: precheck, copy, follow, check and, if asked, cutover in one go, with progress on the terminal.

mod configuration;
mod progress;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use migrator::database::Database;
use migrator::model::definition::{Definition, Options};
use migrator::model::report::{CutoverReport, Outcome};
use migrator::model::status::{State, Status, Verdict};
use migrator::preflight::{Check, Level, worst};
use migrator::supervisor::Supervisor;
use proxy::config::{Config, parse_duration};
use proxy::listener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::command::Migrate;
use super::dispatch;
use super::engine::{Engine, Task};
use super::output::{fail, print, record};
use super::reload::Running;
use super::statement::settings_of;
use super::wiring::{self, Wired};
use progress::Screen;

/// The one migration of this command.
const NAME: &str = "migrate";
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Close enough behind that a cutover fits its hold.
const LAG_READY: Duration = Duration::from_secs(1);

/// Why the command ends early: a text for the operator.
type TextResult<T = ()> = Result<T, String>;

/// Moves the database.
pub(crate) async fn run(migrate: Migrate) -> ExitCode {
    match dispatch::of_url("--from", &migrate.from) {
        Ok(kind) => dispatch::with(kind, Move(migrate)).await,
        Err(text) => fail(&text),
    }
}

struct Move(Migrate);

impl Task for Move {
    async fn run<E: Engine>(self) -> ExitCode {
        match move_it::<E>(self.0).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(STOPPED),
            Err(text) => fail(&text),
        }
    }
}

/// The exit code where a signal came before the end.
const STOPPED: u8 = 3;

/// False where a signal came before the end.
async fn move_it<E: Engine>(migrate: Migrate) -> TextResult<bool> {
    let options = Options {
        max_hold: parse_duration(&migrate.max_hold).ok_or("--max-hold: write a duration such as 500ms or 2s")?,
        ..Options::default()
    };
    let (config, route) = configuration::config::<E>(&migrate)?;
    let definition = Definition {
        name: NAME.to_owned(),
        source: configuration::SOURCE.to_owned(),
        target: configuration::TARGET.to_owned(),
        route,
        settings: settings_of(&config.migrator),
    };
    let welcome = welcome::<E>(&migrate, &config);
    let threads = config.listen.threads;
    let wired = wiring::join::<E>(Running::new(config, None)).map_err(|error| error.to_string())?;
    // Before anything runs: it would fail for want of its clusters.
    if let Ok(known) = wired.supervisor.status(NAME)
        && known.route != definition.route
    {
        return Err(format!(
            "--journal: {} belongs to the migration of {}; name another folder for {}",
            migrate.journal.display(),
            known.route,
            definition.route
        ));
    }
    if migrate.drop {
        // What ran when the last run ended is stopped; nothing runs in this one.
        let _stopped = wired.supervisor.stop(NAME).await;
        let dropped = wired.supervisor.drop_migration(NAME, false).await;
        dropped.map_err(|error| error.to_string())?;
        print("given up: nothing of it is left on either side\n");
        return Ok(true);
    }
    let stop = CancellationToken::new();
    let serving = match migrate.listen {
        None => None,
        Some(address) => {
            let bound = listener::bind(address);
            let bound = bound.map_err(|error| format!("--listen: {address} cannot be opened: {error}"))?;
            wired.metrics.set_ready(true);
            print(&welcome);
            Some(tokio::spawn(wiring::serve(
                Arc::clone(&wired.sessions),
                bound,
                wiring::start_workers(threads)?,
                stop.clone(),
            )))
        }
    };
    wired.supervisor.resume();
    let mut ended = interrupted()?;
    let work = Box::pin(work(&wired, definition, options, &migrate));
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = ended.wait() => Ok(false),
    };
    if serving.is_some() && matches!(outcome, Ok(true)) && switched(&wired.supervisor) {
        print("serving until SIGTERM or SIGINT; point the application to the target when it suits\n");
        ended.wait().await;
    }
    stop.cancel();
    wired.supervisor.shutdown().await;
    if let Some(serving) = serving {
        drop(serving.await);
    }
    let ended = outcome?;
    if !ended || !switched(&wired.supervisor) {
        let journal = migrate.journal.display();
        let how = if ended { "ready" } else { "stopped" };
        print(&format!(
            "{how}; the same command with the journal {journal} goes on, with --cutover it switches, with --drop it is \
             given up. Until then the source keeps its log for it\n"
        ));
    }
    Ok(ended)
}

fn switched<D: Database>(supervisor: &Arc<Supervisor<D>>) -> bool {
    let state = supervisor.status(NAME).map(|status| status.state);
    matches!(state, Ok(State::Switched | State::Finished))
}

/// True when all is done that was asked for.
async fn work<E: Engine>(
    wired: &Wired<E>,
    definition: Definition,
    options: Options,
    migrate: &Migrate,
) -> TextResult<bool> {
    let supervisor = &wired.supervisor;
    if supervisor.status(NAME).is_err() {
        supervisor.create(definition).await.map_err(|error| error.to_string())?;
    }
    if switched(supervisor) {
        print("the target serves already\n");
        return Ok(true);
    }
    if matches!(status(supervisor)?.state, State::Created | State::Prechecked) {
        let findings = supervisor.precheck(NAME).await.map_err(|error| error.to_string())?;
        print(&checks_text(&findings));
        if worst(&findings) == Level::Error {
            return Err("the precheck found errors; nothing was touched".to_owned());
        }
    }
    if !matches!(status(supervisor)?.state, State::Copying | State::Following) {
        supervisor.start(NAME).await.map_err(|error| error.to_string())?;
    }
    let screen = Screen::default();
    follow(supervisor, &screen).await?;
    check(supervisor, &screen).await?;
    if migrate.cutover {
        let report = supervisor.cutover(NAME, options).await.map_err(|error| error.to_string())?;
        screen.done();
        return reported(&report, migrate);
    }
    if migrate.listen.is_none() {
        screen.done();
        return Ok(true);
    }
    screen.note("ready: both sides are equal and changes are followed; CUTOVER MIGRATION migrate on the console switches, Ctrl-C stops");
    while !switched(supervisor) {
        screen.show(&failing(status(supervisor)?)?);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    screen.done();
    let report = supervisor.report(NAME).map_err(|error| error.to_string())?;
    report.map_or(Ok(true), |report| reported(&report, migrate))
}

fn status<D: Database>(supervisor: &Arc<Supervisor<D>>) -> TextResult<Status> {
    supervisor.status(NAME).map_err(|error| error.to_string())
}

fn failing(status: Status) -> TextResult<Status> {
    if status.state != State::Failed {
        return Ok(status);
    }
    let why = status.error.unwrap_or_else(|| "no reason is known".to_owned());
    let remedy = status.remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
    Err(format!("the migration failed: {why}{remedy}"))
}

/// Resolves once the target is close behind.
async fn follow<D: Database>(supervisor: &Arc<Supervisor<D>>, screen: &Screen) -> TextResult {
    loop {
        let now = failing(status(supervisor)?)?;
        screen.show(&now);
        if now.state == State::Following && now.lag.is_some_and(|lag| lag <= LAG_READY) {
            return Ok(());
        }
        if now.state == State::Stopped {
            return Err("the migration was stopped".to_owned());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Resolves once every range was found equal.
async fn check<D: Database>(supervisor: &Arc<Supervisor<D>>, screen: &Screen) -> TextResult {
    supervisor.check(NAME).await.map_err(|error| error.to_string())?;
    loop {
        failing(status(supervisor)?)?;
        let now = supervisor.check_status(NAME).map_err(|error| error.to_string())?;
        if let Some(now) = now {
            screen.show_check(&now);
            match now.verdict {
                Verdict::Running => {}
                Verdict::Passed => return Ok(()),
                Verdict::Different => {
                    let keys = now.differing.join("\n  ");
                    return Err(format!("the two sides differ in {} ranges:\n  {keys}", now.ranges_different));
                }
                Verdict::Broken => {
                    let why = now.error.unwrap_or_default();
                    return Err(format!("the check could not be finished: {why}"));
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What needs attention, in full; what is in order, only counted.
fn checks_text(findings: &[Check]) -> String {
    let (good, mut bad): (Vec<&Check>, Vec<&Check>) = findings.iter().partition(|check| check.level == Level::Ok);
    bad.sort_by_key(|check| std::cmp::Reverse(check.level));
    let mut text = format!("precheck: {} checks are in order\n", good.len());
    for check in bad {
        let head = [check.level.as_str(), ": ", &check.name, ": ", &check.evidence, "\n"];
        text.push_str(&head.concat());
        for (what, more) in [("remedy", &check.remedy), ("fix", &check.fix)] {
            if !more.is_empty() {
                text.push_str(&["    ", what, ": ", more, "\n"].concat());
            }
        }
    }
    text
}

fn reported(report: &CutoverReport, migrate: &Migrate) -> TextResult<bool> {
    let millis = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1e3);
    let steps = &report.steps;
    let lines = [
        ("outcome", report.outcome.name().to_owned()),
        ("hold", millis(report.hold)),
        ("gate", millis(steps.gate)),
        ("fence", millis(steps.fence)),
        ("catch up", millis(steps.catch_up)),
        ("check", millis(steps.check)),
        ("seal", millis(steps.seal)),
        ("switch", millis(steps.switch)),
        ("statements held", report.holds.held.to_string()),
        ("errors", report.errors().to_string()),
        ("ranges proved equal", report.proved.ranges.to_string()),
        ("rows in them", report.proved.rows.to_string()),
    ];
    let (names, values): (Vec<String>, Vec<Option<String>>) =
        lines.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).unzip();
    print(&record(&names, &values));
    if let Outcome::Undone { at, why, remedy } = &report.outcome {
        let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        return Err(format!("undone in {at}: {why}; the source goes on serving{remedy}"));
    }
    if migrate.listen.is_none() {
        print(
            "The source refuses writes to the moved tables from now on. No application went through this Headgate:\n\
             point every connection string to the target now.\n",
        );
    }
    Ok(true)
}

fn welcome<E: Engine>(migrate: &Migrate, config: &Config) -> String {
    let Some(address) = migrate.listen else {
        return String::new();
    };
    let (user, password) = (&config.admin.user, config.admin.password.reveal());
    let scheme = E::URL.split("://").next().unwrap_or_default();
    format!("applications: {address}\nadmin console: {scheme}://{user}:{password}@{address}/headgate\n")
}

/// SIGTERM and SIGINT.
struct Ended {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Ended {
    /// Resolves at the next signal. Cancel safe.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn interrupted() -> TextResult<Ended> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
    Ok(Ended { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
}
