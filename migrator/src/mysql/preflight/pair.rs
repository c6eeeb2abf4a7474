//! Checks of both servers together: versions, names, character sets, modes, and what only one of them knows.

use std::collections::BTreeSet;

use super::super::Mysql;
use super::super::archive::{Archive, Kind};
use super::super::catalogue::{ask, listed};
use super::super::definitions::Translation;
use super::super::sql::quote_ident;
use super::{Side, defaults};
use crate::error::Result;
use crate::preflight::{Findings, Level};

pub(super) async fn run(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) {
    versions(source, target, findings);
    same_server(source, target, findings);
    defaults::settings(source, target, findings);
    let outcome = defaults::time_zones(source, target, findings).await;
    findings.ran("time_zones", outcome);
    let outcome = collations(mysql, source, target, findings).await;
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
        findings.error(
            NAME,
            evidence,
            "MySQL does not move to MariaDB: name a cluster of MySQL as the target",
            "",
        );
    } else if !to.is_mariadb() && !to.is_mysql_from(8, 0, 0)
        || to.is_mariadb() && to.number < (10, 6, 0)
    {
        findings.error(
            NAME,
            evidence,
            "the target must be MySQL 8.0 or MariaDB 10.6 or newer",
            "",
        );
    } else if from.flavor == to.flavor
        && (from.number.0, from.number.1) > (to.number.0, to.number.1)
    {
        findings.error(
            NAME,
            evidence,
            "the target must be of the same or a newer version",
            "",
        );
    } else if from.flavor != to.flavor {
        findings.warning(NAME, evidence, "views, routines and the application's own statements may mean something else there: rehearse with them", "");
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

/// What stands for a collation that only the other family has.
fn nearest(collation: &str) -> &'static str {
    if collation.starts_with("utf8mb4_uca1400") {
        "utf8mb4_0900_ai_ci (close, but it does not ignore trailing spaces) or utf8mb4_unicode_520_ci"
    } else if collation.contains("nopad") {
        "the collation of the same name without nopad, or utf8mb4_0900_ai_ci"
    } else {
        "utf8mb4_unicode_520_ci"
    }
}

async fn collations(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
    let databases = listed(mysql);
    let used = ask(
        &mut source.session,
        &format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLLATION_NAME, COLUMN_TYPE FROM information_schema.COLUMNS
                 WHERE TABLE_SCHEMA IN ({databases}) AND COLLATION_NAME IS NOT NULL
             UNION ALL SELECT TABLE_SCHEMA, TABLE_NAME, '', TABLE_COLLATION, '' FROM information_schema.TABLES
                 WHERE TABLE_SCHEMA IN ({databases}) AND TABLE_COLLATION IS NOT NULL
             UNION ALL SELECT SCHEMA_NAME, '', '', DEFAULT_COLLATION_NAME, '' FROM information_schema.SCHEMATA
                 WHERE SCHEMA_NAME IN ({databases})"
        ),
        "cannot read the source's collations",
    )
    .await?;
    let query = if target.version.is_mariadb() {
        "SELECT FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
    } else {
        "SELECT COLLATION_NAME FROM information_schema.COLLATIONS"
    };
    let known = ask(
        &mut target.session,
        query,
        "cannot read the target's collations",
    )
    .await?;
    let known: BTreeSet<&str> = known.iter().map(|row| row.text(0)).collect();
    let translation = Translation {
        source: source.version,
        target: target.version,
        collations: std::collections::BTreeMap::new(),
    };
    let found: Vec<_> = used
        .iter()
        .filter(|row| !known.contains(translation.charset(row.text(3)).as_str()))
        .take(100)
        .map(|row| {
            let [schema, table, column, collation] = [0, 1, 2, 3].map(|at| row.text(at));
            let place: Vec<&str> = [schema, table, column]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            let (name, set) = (
                quote_ident(schema),
                "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci",
            );
            let fix = if table.is_empty() {
                format!("ALTER DATABASE {name} {set}")
            } else if column.is_empty() {
                format!("ALTER TABLE {name}.{} {set}", quote_ident(table))
            } else {
                format!("ALTER TABLE {name}.{} CONVERT TO {set}", quote_ident(table))
            };
            let evidence = format!(
                "{} has the collation {collation}, which the target does not know; nearest is {}",
                place.join("."),
                nearest(collation)
            );
            (evidence, fix)
        })
        .collect();
    findings.each(
        "collations",
        Level::Error,
        &found,
        "choose one that both know; unique keys and the order of texts may change with it",
        "the target knows every character set and collation in use",
    );
    Ok(())
}

/// What MariaDB has and MySQL has not.
async fn foreign_to_mysql(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
    if !source.version.is_mariadb() || target.version.is_mariadb() {
        return Ok(());
    }
    let databases = listed(mysql);
    let mut found = source
        .pairs(&format!(
            "SELECT CONCAT('the sequence ', TABLE_SCHEMA, '.', TABLE_NAME, ' has no twin in MySQL'),
                 CONCAT('DROP SEQUENCE `', TABLE_SCHEMA, '`.`', TABLE_NAME, '`')
             FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({databases}) AND TABLE_TYPE = 'SEQUENCE'
             UNION ALL SELECT CONCAT('the column ', TABLE_SCHEMA, '.', TABLE_NAME, '.', COLUMN_NAME, ' is of the type ', DATA_TYPE, ', which MySQL does not have'),
                 CONCAT('ALTER TABLE `', TABLE_SCHEMA, '`.`', TABLE_NAME, '` MODIFY `', COLUMN_NAME, '` VARCHAR(45)')
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({databases}) AND DATA_TYPE IN ('uuid', 'inet4', 'inet6', 'xmltype')
             UNION ALL SELECT CONCAT('the column ', TABLE_SCHEMA, '.', TABLE_NAME, '.', COLUMN_NAME, ' defaults to the value of a sequence'), ''
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({databases}) AND COLUMN_DEFAULT LIKE '%nextval(%'
             LIMIT 100"
        ))
        .await?;
    let archive = Archive::read(mysql).await?;
    for table in &archive.tables {
        for (text, what) in [
            ("\n  PERIOD FOR ", "a period"),
            (" USING HASH", "a unique index by hash"),
            ("\n  VECTOR KEY ", "a vector index"),
            (" PARTITION BY SYSTEM_TIME", "partitions by the age of rows"),
        ] {
            if table.create.contains(text) {
                found.push((
                    format!(
                        "{}.{} has {what}, which MySQL does not have",
                        table.schema, table.name
                    ),
                    String::new(),
                ));
            }
        }
    }
    for one in archive.programs.iter().filter(|one| {
        one.sql_mode.split(',').any(|mode| mode == "ORACLE")
            || matches!(one.kind, Kind::Package | Kind::PackageBody)
    }) {
        found.push((
            format!(
                "the {} {}.{} is written in the mode ORACLE",
                one.kind.word().to_lowercase(),
                one.schema,
                one.name
            ),
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
async fn words(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
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
    let reserved: BTreeSet<String> = reserved
        .iter()
        .map(|row| row.text(0).to_lowercase())
        .collect();
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
    for name in names
        .iter()
        .map(|row| row.text(0))
        .filter(|name| reserved.contains(*name))
    {
        // A word of plain letters: where the source takes it for a name, applications may have left the quotes away.
        if ask(
            &mut source.session,
            &format!("SELECT 1 AS {name}"),
            "a word",
        )
        .await
        .is_ok()
        {
            found.push((
                format!("{name} is a reserved word on the target and not on the source"),
                String::new(),
            ));
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

async fn keys(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
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
    let fix = if found.is_empty() {
        String::new()
    } else {
        target.set("restrict_fk_on_non_standard_key", "OFF")
    };
    let found: Vec<_> = found
        .into_iter()
        .map(|(evidence, _)| (evidence, fix.clone()))
        .collect();
    findings.each(
        "foreign_key_targets",
        Level::Warning,
        &found,
        "Headgate creates it where its account may set restrict_fk_on_non_standard_key; make the columns a unique key, or switch the restriction off",
        "every foreign key points to a unique key",
    );
    Ok(())
}

async fn functions(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
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
    let found: Vec<_> = found
        .into_iter()
        .map(|(evidence, _)| (evidence, fix.clone()))
        .collect();
    findings.each(
        "functions",
        Level::Error,
        &found,
        "the target refuses to create it while its binary log is on: let it trust whoever creates functions",
        "every function says what the target's binary log asks for",
    );
    Ok(())
}
