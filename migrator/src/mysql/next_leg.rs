//! The leg that comes after a switch and goes the other way: armed before the hold, pinned inside it, and over once it was
//! switched itself.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::{self, Version, failed};
use super::heartbeat::{self, Signal};
use super::position::{self, compare_files};
use super::schema::archive::{Archive, Kind};
use super::schema::triggers::set_aside;
use super::{BinlogPosition, Mysql, catalogue, fence, follow, preflight, records};
use crate::database::Kept;
use crate::error::{Error, Result};
use crate::model::leg::Leg;
use crate::model::plan::Plan;

/// How long the marker may take the whole way.
const MARKER_TIMEOUT: Duration = Duration::from_mins(1);
const DAY: u64 = 24 * 60 * 60;

/// A session on the source that tells at once where its log ends.
pub(super) struct Armed {
    session: Conn,
    version: Version,
    server: String,
}

impl Armed {
    /// Opens it.
    pub(super) async fn open(mysql: &Mysql) -> Result<Self> {
        let mut session = mysql.connect_source("arm").await?;
        let version = client::version(&mut session).await?;
        let server = position::server(&mut session).await?;
        Ok(Self { session, version, server })
    }

    /// Where the log ends now.
    pub(super) async fn stream_end(&mut self) -> Result<BinlogPosition> {
        position::end(&mut self.session, self.version, self.server.clone()).await
    }
}

/// Makes what the stream needs on both sides, and follows one marker from the source to the target's record. It reads
/// signals alone: what the leg before writes to the source meanwhile is its own.
pub(super) async fn arm(mysql: &Mysql, plan: &Plan, token: &str) -> Result<Armed> {
    let Some(before) = mysql.leg().before() else {
        return Err(Error::refused("the first leg begins with the copy"));
    };
    preflight::refuse_way_back(mysql).await?;
    let mut target = mysql.connect_target("arm").await?;
    // Armed again, it would begin behind what it has not applied yet.
    if fence::is_sealed(&mysql.for_leg(before), &mut target).await? {
        return Err(Error::refused(format!("leg {} has begun: {:?} is fenced for it", mysql.leg(), mysql.target())));
    }
    let mut armed = Armed::open(mysql).await?;
    records::install_records(&mut target).await?;
    heartbeat::install(&mut armed.session).await?;
    keep_definitions(mysql, &mut armed.session, &mut target).await?;
    let begins = armed.stream_end().await?;
    records::begin_anew(mysql, &mut target, &plan.tables, &begins).await?;
    heartbeat::signal(&mut armed.session, &mysql.key(), Signal::Marker, token).await?;
    let stop = CancellationToken::new();
    timeout(MARKER_TIMEOUT, follow::marker(mysql, token, &stop)).await.map_err(|_| {
        let seconds = MARKER_TIMEOUT.as_secs();
        Error::transient(format!(
            "the marker of the way back did not come from {:?} within {seconds} s",
            mysql.source()
        ))
    })??;
    Ok(armed)
}

/// What the source is defined as, for whoever asks later whether a statement of its log has changed that: with the
/// events that the leg before will enable.
async fn keep_definitions(mysql: &Mysql, source: &mut Conn, target: &mut Conn) -> Result<()> {
    let mut archive = Archive::read(mysql).await?;
    if mysql.leg().before() == Some(Leg::FIRST)
        && let Some(moved) = Archive::kept(&mysql.for_leg(Leg::FIRST), source).await?
    {
        for event in archive.programs.iter_mut().filter(|program| program.kind == Kind::Event) {
            let mut of_source = moved.of(Kind::Event);
            event.enabled |= of_source.any(|one| one.enabled && one.schema == event.schema && one.name == event.name);
        }
    }
    archive.keep(mysql, target).await
}

/// Puts back what had to be out of the way of this leg's changes, and lets writers in to its target, which has refused
/// them since the switch before.
pub(super) async fn open_target(mysql: &Mysql, target: &mut Conn) -> Result<()> {
    let Some(before) = mysql.leg().before() else {
        return Ok(());
    };
    set_aside::put_back(mysql, target).await?;
    fence::open_again(&mysql.for_leg(before), target).await
}

/// Removes this leg's signals from its source.
pub(super) async fn retire(mysql: &Mysql) -> Result<()> {
    const NO_TABLE: [u16; 2] = [1049, 1146];
    let mut source = mysql.connect_source("retire").await?;
    let removing = source.exec_drop("DELETE FROM headgate.signals WHERE migration = ?", (mysql.key(),)).await;
    match removing {
        Err(mysql_async::Error::Server(reported)) if NO_TABLE.contains(&reported.code) => Ok(()),
        outcome => outcome.map_err(|error| failed("cannot remove the signals of a leg that is over", error)),
    }
}

/// What the source has in its log since the place that the target has reached, and how long it keeps that.
pub(super) async fn kept(mysql: &Mysql) -> Result<Kept> {
    let (mut source, mut target) = tokio::try_join!(mysql.connect_source("status"), mysql.connect_target("status"))?;
    let reached = records::progress(mysql, &mut target).await?;
    let rows: Vec<Row> = source
        .query("SHOW BINARY LOGS")
        .await
        .map_err(|error| failed("cannot list the files of the source's log", error))?;
    let mut bytes: u64 = 0;
    for row in &rows {
        let file = catalogue::text(row, 0)?;
        let size = match row.get_opt::<u64, _>(1) {
            Some(Ok(size)) => size,
            _ => 0,
        };
        bytes = bytes.saturating_add(match &reached {
            Some(at) if compare_files(&file, &at.file).is_lt() => 0,
            Some(at) if file == at.file => size.saturating_sub(at.offset),
            _ => size,
        });
    }
    let purges = catalogue::variable(&mut source, "binlog_expire_logs_auto_purge").await?;
    let seconds = number(&mut source, "binlog_expire_logs_seconds").await?;
    let days = number(&mut source, "expire_logs_days").await?;
    let kept_for = seconds.filter(|seconds| *seconds > 0).or(days.map(|days| days.saturating_mul(DAY)));
    let kept_for = kept_for.filter(|seconds| *seconds > 0 && purges.as_deref() != Some("OFF"));
    let bytes_max = number(&mut source, "max_binlog_total_size").await?;
    Ok(Kept { bytes, bytes_max: bytes_max.filter(|bytes| *bytes > 0), time_max: kept_for.map(Duration::from_secs) })
}

/// A setting that is a number; MariaDB writes days with decimals.
async fn number(session: &mut Conn, name: &str) -> Result<Option<u64>> {
    let shown = catalogue::variable(session, name).await?;
    Ok(shown.and_then(|shown| shown.split('.').next()?.parse().ok()))
}
