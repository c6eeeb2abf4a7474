//! Checks of both servers together: versions, names, character sets, modes, and what only one of them knows.

use std::collections::BTreeSet;

use super::super::Mysql;
use super::super::catalogue::{ask, listed};
use super::super::sql::{qualified, quote_ident, title_of};
use super::super::tokens::words as cut;
use super::side::Side;
use super::{collations, defaults, inherited, rows, tables};
use crate::error::Result;
use crate::mysql::schema::archive::{Archive, Kind};
use crate::mysql::schema::create_table::Definition;
use crate::preflight::{Findings, Level};

pub(super) async fn run(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) {
    versions(source, target, findings);
    same_server(source, target, findings);
    defaults::settings(source, target, findings);
    let outcome = defaults::time_zones(source, target, findings).await;
    findings.ran("time_zones", outcome);
    let outcome = inherited::run(mysql, source, target, findings).await;
    findings.ran("client_settings", outcome);
    let outcome = rows::run(mysql, source, target, findings).await;
    findings.ran("refused_rows", outcome);
    let outcome = tables::primary_keys(mysql, source, target, findings).await;
    findings.ran(tables::PRIMARY_KEYS, outcome);
    let outcome = collations::run(mysql, source, target, findings).await;
    findings.ran("collations", outcome);
    let outcome = foreign_to_mysql(mysql, source, target, findings).await;
    findings.ran("mariadb_only", outcome);
    let outcome = words(mysql, source, target, findings).await;
    findings.ran("reserved_words", outcome);
    let outcome = keys(mysql, source, target, findings).await;
    findings.ran("foreign_key_targets", outcome);
    let outcome = functions(mysql, source, target, findings).await;
    findings.ran("functions", outcome);
}

fn versions(source: &Side, target: &Side, findings: &mut Findings) {
    const NAME: &str = "version_pair";
    let (from, to) = (source.version, target.version);
    let evidence = format!("from {from} to {to}");
    if to.is_mariadb() && !from.is_mariadb() {
        findings.error(NAME, evidence, "MySQL does not move to MariaDB: name a cluster of MySQL as the target", "");
    } else if !to.is_mariadb() && !to.is_mysql_from(8, 0, 0) || to.is_mariadb() && to.number < (10, 6, 0) {
        findings.error(NAME, evidence, "the target must be MySQL 8.0 or MariaDB 10.6 or newer", "");
    } else if from.flavor == to.flavor && (from.number.0, from.number.1) > (to.number.0, to.number.1) {
        findings.error(NAME, evidence, "the target must be of the same or a newer version", "");
    } else if from.flavor != to.flavor {
        findings.warning(
            NAME,
            evidence,
            "views, routines and the application's own statements may mean something else there: rehearse with them",
            "",
        );
    } else {
        findings.ok(NAME, evidence);
    }
}

/// Moving a database onto itself would lose it.
fn same_server(source: &Side, target: &Side, findings: &mut Findings) {
    let identity = |side: &Side| {
        ["server_uuid", "hostname", "port", "datadir", "socket"]
            .map(|name| side.setting(name).unwrap_or_default().to_owned())
    };
    if identity(source) == identity(target) {
        findings.error(
            "same_server",
            "source and target are the same server",
            "name another cluster as the target",
            "",
        );
        return;
    }
    findings.ok("same_server", "source and target are different servers");
    if source.number("server_id") == target.number("server_id") {
        let number = target.number("server_id").unwrap_or(0);
        findings.error(
            "server_ids",
            format!("both servers have the server_id {number}"),
            "whose change it is could not be told: give each server a number of its own",
            target.set("server_id", &(number + 1).to_string()),
        );
    } else {
        findings.ok("server_ids", "each server has a server_id of its own");
    }
}

/// Types that only MariaDB has, and what holds the same texts.
const FOREIGN: [(&str, &str); 4] = [
    ("uuid", "CHAR(36) CHARACTER SET ascii"),
    ("inet4", "VARCHAR(15) CHARACTER SET ascii"),
    ("inet6", "VARCHAR(45) CHARACTER SET ascii"),
    ("xmltype", "LONGTEXT"),
];

/// What MariaDB has and MySQL has not.
async fn foreign_to_mysql(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    if !source.version.is_mariadb() || target.version.is_mariadb() {
        return Ok(());
    }
    let databases = listed(mysql);
    let mut found = source
        .pairs(&format!(
            "SELECT CONCAT('the sequence ', TABLE_SCHEMA, '.', TABLE_NAME, ' has no twin in MySQL'), ''
             FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({databases}) AND TABLE_TYPE = 'SEQUENCE'
             UNION ALL SELECT CONCAT('the column ', TABLE_SCHEMA, '.', TABLE_NAME, '.', COLUMN_NAME, ' defaults to the value of a sequence'), ''
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({databases}) AND COLUMN_DEFAULT LIKE '%nextval(%'
             LIMIT 100"
        ))
        .await?;
    let archive = Archive::read(mysql).await?;
    for table in &archive.tables {
        for (column, rest) in Definition::parse(&table.create)?.columns {
            let reported = cut(&rest);
            let Some((kind, rest)) = reported.split_first() else {
                continue;
            };
            let Some((_, other)) = FOREIGN.iter().find(|(foreign, _)| foreign == kind) else {
                continue;
            };
            found.push((
                format!(
                    "the column {}.{column} is of the type {kind}, which MySQL does not have",
                    title_of(&table.schema, &table.name)
                ),
                format!(
                    "ALTER TABLE {} MODIFY {} {other} {}",
                    qualified(&table.schema, &table.name),
                    quote_ident(&column),
                    rest.join(" ")
                ),
            ));
        }
        for (text, what) in [
            ("\n  PERIOD FOR ", "a period"),
            (" USING HASH", "a unique index by hash"),
            ("\n  VECTOR KEY ", "a vector index"),
            (" PARTITION BY SYSTEM_TIME", "partitions by the age of rows"),
        ] {
            if table.create.contains(text) {
                found.push((
                    format!("{}.{} has {what}, which MySQL does not have", table.schema, table.name),
                    String::new(),
                ));
            }
        }
    }
    for one in archive.programs.iter().filter(|one| {
        one.sql_mode.split(',').any(|mode| mode == "ORACLE") || matches!(one.kind, Kind::Package | Kind::PackageBody)
    }) {
        found.push((
            format!("the {} {}.{} is written in the mode ORACLE", one.kind.word().to_lowercase(), one.schema, one.name),
            String::new(),
        ));
    }
    findings.each(
        "mariadb_only",
        Level::Error,
        &found,
        "change it on the source to what both have, or move to a cluster of MariaDB",
        "nothing that only MariaDB has is in use",
    );
    Ok(())
}

/// Names that the application may have written without quotes so far.
async fn words(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    let reserved = ask(
        &mut target.session,
        if target.version.is_mariadb() {
            "SELECT WORD, '1' FROM information_schema.KEYWORDS WHERE FALSE"
        } else {
            "SELECT WORD, '1' FROM information_schema.KEYWORDS WHERE RESERVED = 1"
        },
        "cannot read the target's reserved words",
    )
    .await
    .unwrap_or_default();
    let reserved: BTreeSet<String> = reserved.iter().map(|row| row.text(0).to_lowercase()).collect();
    let databases = listed(mysql);
    let names = ask(
        &mut source.session,
        &format!(
            "SELECT DISTINCT LOWER(COLUMN_NAME) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({databases})
             UNION SELECT LOWER(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({databases})"
        ),
        "cannot read the source's names",
    )
    .await?;
    let mut found = Vec::new();
    for name in names.iter().map(|row| row.text(0)).filter(|name| reserved.contains(*name)) {
        // A word of plain letters: where the source takes it for a name, applications may have left the quotes away.
        if ask(&mut source.session, &format!("SELECT 1 AS {name}"), "a word").await.is_ok() {
            found.push((format!("{name} is a reserved word on the target and not on the source"), String::new()));
        }
    }
    findings.each(
        "reserved_words",
        Level::Warning,
        &found,
        "statements of the application must quote this name on the target; Headgate's own do",
        "no name becomes a reserved word",
    );
    Ok(())
}

async fn keys(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    if !target.is_on("restrict_fk_on_non_standard_key") {
        return Ok(());
    }
    let databases = listed(mysql);
    let found = source
        .pairs(&format!(
            "SELECT CONCAT('the foreign key ', r.CONSTRAINT_NAME, ' of ', r.CONSTRAINT_SCHEMA, '.', r.TABLE_NAME, ' points to columns of ',
                 r.REFERENCED_TABLE_NAME, ' that are no unique key'), ''
             FROM information_schema.REFERENTIAL_CONSTRAINTS r
             WHERE r.CONSTRAINT_SCHEMA IN ({databases}) AND NOT EXISTS (
                 SELECT 1 FROM information_schema.STATISTICS s
                 WHERE s.TABLE_SCHEMA = r.UNIQUE_CONSTRAINT_SCHEMA AND s.TABLE_NAME = r.REFERENCED_TABLE_NAME
                   AND s.INDEX_NAME = r.UNIQUE_CONSTRAINT_NAME AND s.NON_UNIQUE = 0)
             LIMIT 100"
        ))
        .await?;
    let fix = if found.is_empty() { String::new() } else { target.set("restrict_fk_on_non_standard_key", "OFF") };
    let found: Vec<_> = found.into_iter().map(|(evidence, _)| (evidence, fix.clone())).collect();
    findings.each(
        "foreign_key_targets",
        Level::Warning,
        &found,
        "Headgate creates it where its account may set restrict_fk_on_non_standard_key; make the columns a unique key, or switch the restriction off",
        "every foreign key points to a unique key",
    );
    Ok(())
}

async fn functions(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    if target.is_on("log_bin_trust_function_creators") || !target.is_on("log_bin") {
        findings.ok("functions", "the target lets functions be created");
        return Ok(());
    }
    let fix = target.set("log_bin_trust_function_creators", "ON");
    let found = source
        .pairs(&format!(
            "SELECT CONCAT('the function ', ROUTINE_SCHEMA, '.', ROUTINE_NAME, ' says neither DETERMINISTIC nor READS SQL DATA nor NO SQL'), ''
             FROM information_schema.ROUTINES
             WHERE ROUTINE_SCHEMA IN ({}) AND ROUTINE_TYPE = 'FUNCTION' AND IS_DETERMINISTIC = 'NO'
               AND SQL_DATA_ACCESS IN ('CONTAINS SQL', 'MODIFIES SQL DATA') LIMIT 100",
            listed(mysql)
        ))
        .await?;
    let found: Vec<_> = found.into_iter().map(|(evidence, _)| (evidence, fix.clone())).collect();
    findings.each(
        "functions",
        Level::Error,
        &found,
        "the target refuses to create it while its binary log is on: let it trust whoever creates functions",
        "every function says what the target's binary log asks for",
    );
    Ok(())
}
