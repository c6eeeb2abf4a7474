//! Checks of each server by itself: version, the binary log, what runs, what it refuses.

use super::super::Mysql;
use super::super::catalogue::ask;
use super::super::client::failed;
use super::super::processlist::{MACHINE_TIME, sessions};
use super::super::service;
use super::super::sql::quote_literal;
use super::side::Side;
use crate::error::Result;
use crate::mysql::catalogue::text;
use crate::mysql::context::RECORDS;
use crate::preflight::{Findings, Level};

const DAY: u64 = 24 * 60 * 60;
/// A copy that takes longer than the binary log is kept must start again.
const KEPT_MIN: u64 = 2 * DAY;
const LONG_SECONDS: u32 = 30;

pub(super) async fn source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    let supported =
        source.version.is_mysql_from(5, 6, 0) || source.version.is_mariadb() && source.version.number >= (10, 3, 0);
    if supported {
        findings.ok("source_version", source.version.to_string());
    } else {
        findings.error(
            "source_version",
            format!("the source is {}", source.version),
            "the source must be MySQL 5.6 or MariaDB 10.3 or newer: upgrade it in place first",
            "",
        );
    }
    stream(mysql, source, findings).await;
    let outcome = prepared(source, findings).await;
    findings.ran("xa_transactions", outcome);
    let outcome = long_transactions(source, findings).await;
    findings.ran("long_transactions", outcome);
    let outcome = replica(source, findings).await;
    findings.ran("source_replica", outcome);
}

/// What a change stream from this server needs.
pub(super) async fn stream(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    binary_log(source, findings);
    let outcome = retention(source, findings).await;
    findings.ran("binlog_retention", outcome);
    positions(source, findings);
    let outcome = filters(mysql, source, findings).await;
    findings.ran("binlog_filters", outcome);
}

/// A setting that must have one value.
struct Wanted {
    name: &'static str,
    value: &'static str,
    level: Level,
    remedy: &'static str,
    /// What it means that the server has no such setting; nothing where that is in order.
    absent: &'static str,
}

const WANTED: [Wanted; 6] = [
    Wanted {
        name: "log_bin",
        value: "ON",
        level: Level::Error,
        remedy: "add log_bin and a server_id to the source's configuration and restart it",
        absent: "",
    },
    Wanted {
        name: "binlog_format",
        value: "ROW",
        level: Level::Error,
        remedy: "log rows; sessions that are open keep what they have, so let applications connect again",
        absent: "",
    },
    Wanted {
        name: "binlog_row_image",
        value: "FULL",
        level: Level::Error,
        remedy: "log whole rows; sessions that are open keep what they have, so let applications connect again",
        absent: "",
    },
    Wanted {
        name: "binlog_row_metadata",
        value: "FULL",
        level: Level::Warning,
        remedy: "with the names of columns in the log a changed table is noticed for certain",
        absent: "the source logs no names of columns: columns are told apart by their place, and every change of a table stops the migration",
    },
    Wanted {
        name: "binlog_order_commits",
        value: "ON",
        level: Level::Error,
        remedy: "a position in the log must mean what is visible: let commits be in its order",
        absent: "",
    },
    Wanted {
        name: "log_bin_compress",
        value: "OFF",
        level: Level::Error,
        remedy: "compressed events are not read; the log's files from before do not matter",
        absent: "",
    },
];

fn binary_log(source: &Side, findings: &mut Findings) {
    for wanted in &WANTED {
        let name = wanted.name;
        match source.setting(name) {
            Some(value) if value.eq_ignore_ascii_case(wanted.value) => findings.ok(name, value),
            Some(value) => {
                let fix =
                    if name == "log_bin" { String::new() } else { source.set(name, &quote_literal(wanted.value)) };
                let evidence = format!("{name} is {value} on the source, {} is needed", wanted.value);
                findings.each(name, wanted.level, &[(evidence, fix)], wanted.remedy, "");
            }
            None if wanted.absent.is_empty() => {}
            None => findings.warning(name, wanted.absent, "change no table while the migration runs", ""),
        }
    }
    match source.setting("binlog_row_value_options") {
        None | Some("") => findings.ok("binlog_row_value_options", "JSON values are logged whole"),
        Some(options) => findings.error(
            "binlog_row_value_options",
            format!("the source logs parts of JSON values ({options})"),
            "log them whole; sessions that are open keep what they have, so let applications connect again",
            source.set("binlog_row_value_options", "''"),
        ),
    }
    match source.number("server_id") {
        Some(0) | None => findings.error(
            "server_id",
            "the source's server_id is 0: it serves its log to nobody",
            "give every server a number of its own",
            source.set("server_id", "1"),
        ),
        Some(number) => findings.ok("server_id", number.to_string()),
    }
}

async fn retention(source: &mut Side, findings: &mut Findings) -> Result<()> {
    const NAME: &str = "binlog_retention";
    if let Some(hours) = service::retention_hours(&mut source.session).await? {
        match hours {
            Some(hours) if hours.saturating_mul(60 * 60) >= KEPT_MIN => {
                findings.ok(NAME, format!("the source keeps its log for {hours} hours"));
            }
            _ => findings.error(
                NAME,
                match hours {
                    Some(hours) => format!("the source keeps its log for {hours} hours only"),
                    None => "the service purges the source's log as soon as it can".to_owned(),
                },
                "a migration would lose its place: keep the log for its duration",
                service::keep_log(7 * 24),
            ),
        }
        return Ok(());
    }
    let seconds = source.number("binlog_expire_logs_seconds").filter(|seconds| *seconds > 0);
    let days = source.number("expire_logs_days").filter(|days| *days > 0).map(|days| days.saturating_mul(DAY));
    match seconds.or(days) {
        None => findings.ok("binlog_retention", "the source keeps its log until it is purged by hand"),
        Some(kept) if kept >= KEPT_MIN => {
            findings.ok("binlog_retention", format!("the source keeps its log for {} hours", kept / 3600));
        }
        Some(kept) => {
            let fix = if seconds.is_some() {
                source.set("binlog_expire_logs_seconds", &(7 * DAY).to_string())
            } else {
                source.set("expire_logs_days", "7")
            };
            findings.warning(
                "binlog_retention",
                format!("the source keeps its log for {} hours only", kept / 3600),
                "a migration that takes longer or stands still for longer must start again; keep it for its duration",
                fix,
            );
        }
    }
    Ok(())
}

fn positions(source: &Side, findings: &mut Findings) {
    let evidence = match source.setting("gtid_mode") {
        Some("ON") => "transactions have GTIDs",
        _ if source.version.is_mariadb() => "transactions have MariaDB's GTIDs",
        _ => {
            "no GTIDs: files and offsets of this one server tell where the migration is, so the source cannot be replaced by its replica on the way"
        }
    };
    findings.ok("gtid_mode", evidence);
}

async fn filters(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let query = if source.version.is_mysql_from(8, 2, 0) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let rows = ask(&mut source.session, query, "cannot read the source's log position").await?;
    let (only, without) = rows.first().map_or_else(Default::default, |row| (row.owned(2), row.owned(3)));
    let names = |list: &str| -> Vec<String> {
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (only, without) = (names(&only), names(&without));
    let mut hidden = Vec::new();
    for database in mysql.databases().into_iter().chain([RECORDS.to_owned()]) {
        if without.contains(&database) || !only.is_empty() && !only.contains(&database) {
            let evidence = format!("the source does not log the database {database} (binlog-do-db, binlog-ignore-db)");
            hidden.push((evidence, String::new()));
        }
    }
    let remedy = "take the filter out of the source's configuration and restart it";
    findings.each("binlog_filters", Level::Error, &hidden, remedy, "no filter hides what moves");
    Ok(())
}

async fn prepared(source: &mut Side, findings: &mut Findings) -> Result<()> {
    let rows = ask(&mut source.session, "XA RECOVER", "cannot look for prepared XA transactions").await?;
    let found: Vec<_> = rows
        .iter()
        .take(100)
        .map(|row| {
            let id = row.text(3);
            (format!("the XA transaction {id:?} is prepared and neither committed nor rolled back"), String::new())
        })
        .collect();
    findings.each(
        "xa_transactions",
        Level::Error,
        &found,
        "end it as its owner wants (XA COMMIT or XA ROLLBACK): it could commit past the fence",
        "no XA transaction is prepared on the source",
    );
    Ok(())
}

async fn long_transactions(source: &mut Side, findings: &mut Findings) -> Result<()> {
    // The storage engine writes the time of the server's machine, whatever zone the server or the session has.
    let query = format!(
        "SELECT CONCAT('session ', trx_mysql_thread_id, ' has had a transaction open for ',
                 TIMESTAMPDIFF(SECOND, trx_started, {MACHINE_TIME}), ' s'),
                 CONCAT('KILL ', trx_mysql_thread_id)
             FROM information_schema.INNODB_TRX
             WHERE trx_mysql_thread_id > 0
               AND trx_started < {MACHINE_TIME} - INTERVAL {LONG_SECONDS} SECOND
             LIMIT 100"
    );
    let rows = sessions(&mut source.session, &query).await.map_err(|error| failed("a check could not run", error))?;
    let found: Vec<(String, String)> =
        rows.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?))).collect::<Result<_>>()?;
    findings.each(
        "long_transactions",
        Level::Warning,
        &found,
        "a cutover waits for it, and gives up when that takes too long",
        "no transaction on the source is older than 30 s",
    );
    Ok(())
}

/// The channels by which a server follows another, each by the statement that ends it for good.
async fn channels(side: &mut Side) -> Result<Vec<String>> {
    const WHAT: &str = "cannot ask whether a server is a replica";
    if side.version.is_mariadb() {
        let rows = ask(&mut side.session, "SHOW ALL SLAVES STATUS", WHAT).await?;
        let names = rows.iter().map(|row| quote_literal(row.text(0)));
        return Ok(names.map(|name| format!("STOP SLAVE {name}; RESET SLAVE {name} ALL")).collect());
    }
    let word = if side.version.is_mysql_from(8, 0, 22) { "REPLICA" } else { "SLAVE" };
    let rows = ask(&mut side.session, &format!("SHOW {word} STATUS"), WHAT).await?;
    // Without a channel's name all are meant.
    let stop = format!("STOP {word}; RESET {word} ALL");
    Ok(rows.first().map(|_| stop).into_iter().collect())
}

async fn replica(source: &mut Side, findings: &mut Findings) -> Result<()> {
    if channels(source).await?.is_empty() {
        findings.ok("source_replica", "the source follows no other server");
    } else {
        findings.warning(
            "source_replica",
            "the source follows another server",
            "what it receives from there passes the fence: point the cluster at the primary, or stop its replication for good",
            "",
        );
    }
    if source.is_on("read_only") {
        findings.warning("source_read_only", "read_only is ON on the source", "point the cluster at the primary", "");
    }
    Ok(())
}

pub(super) async fn target(mysql: &Mysql, target: &mut Side, findings: &mut Findings) {
    findings.ok("target_version", format!("{} at {:?}", target.version, mysql.target()));
    if target.is_on("read_only") || target.is_on("super_read_only") {
        findings.error(
            "target_read_only",
            "read_only is ON on the target",
            "point the cluster at the primary, or let it accept writes",
            // It implies the other one where there is such a thing.
            ["super_read_only", "read_only"]
                .into_iter()
                .filter(|name| target.setting(name).is_some())
                .map(|name| target.set(name, "OFF"))
                .collect::<Vec<_>>()
                .join("; "),
        );
    } else {
        findings.ok("target_read_only", "the target accepts writes");
    }
    if target.is_on("local_infile") {
        findings.ok("local_infile", "the target loads what Headgate sends");
    } else {
        findings.error(
            "local_infile",
            "local_infile is OFF on the target",
            "rows are loaded with LOAD DATA LOCAL; it can be switched off again afterwards",
            target.set("local_infile", "ON"),
        );
    }
    let outcome = channels(target).await.map(|stops| {
        if !stops.is_empty() {
            findings.error(
                "target_replica",
                "the target follows another server",
                "two writers would meet there: stop its replication for good, or name another cluster",
                stops.join("; "),
            );
        }
    });
    findings.ran("target_replica", outcome);
}
