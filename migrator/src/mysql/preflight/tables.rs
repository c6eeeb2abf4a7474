//! Checks of the source's tables: what the change stream could not carry, or would carry wrongly.

use super::super::catalogue::listed;
use super::super::sql::{quote_ident, quote_literal, relation, title};
use super::super::{Mysql, plan};
use super::side::Side;
use crate::error::Result;
use crate::model::plan::Table;
use crate::preflight::{Findings, Level};

/// How many findings of one kind are listed.
const LISTED_MAX: usize = 100;
/// A changed row of a table without a key is searched for among all.
const KEYLESS_MANY: u64 = 100_000;

/// A check whose rows are (evidence, fix); `{databases}` stands for the databases that move.
struct Rule {
    name: &'static str,
    level: Level,
    query: &'static str,
    remedy: &'static str,
    otherwise: &'static str,
}

const RULES: [Rule; 5] = [
    Rule {
        name: "engines",
        level: Level::Error,
        query: "SELECT CONCAT('`', TABLE_SCHEMA, '`.`', TABLE_NAME, '` is stored by ', ENGINE),
                CONCAT('ALTER TABLE `', REPLACE(TABLE_SCHEMA, '`', '``'), '`.`', REPLACE(TABLE_NAME, '`', '``'), '` ENGINE = InnoDB')
            FROM information_schema.TABLES
            WHERE TABLE_SCHEMA IN ({databases}) AND TABLE_TYPE = 'BASE TABLE' AND ENGINE <> 'InnoDB'",
        remedy: "only InnoDB has snapshots and transactions: store it there",
        otherwise: "every table is stored by InnoDB",
    },
    Rule {
        name: "foreign_key_databases",
        level: Level::Error,
        query: "SELECT DISTINCT CONCAT('the foreign key ', CONSTRAINT_NAME, ' of `', TABLE_SCHEMA, '`.`', TABLE_NAME, '` points to the database ',
                REFERENCED_TABLE_SCHEMA, ', which does not move'),
                CONCAT('ALTER TABLE `', REPLACE(TABLE_SCHEMA, '`', '``'), '`.`', REPLACE(TABLE_NAME, '`', '``'), '` DROP FOREIGN KEY `', CONSTRAINT_NAME, '`')
            FROM information_schema.KEY_COLUMN_USAGE
            WHERE TABLE_SCHEMA IN ({databases}) AND REFERENCED_TABLE_SCHEMA NOT IN ({databases})",
        remedy: "move both databases in one migration: CREATE MIGRATION … WITH (schemas = 'one, other'), or drop the key",
        otherwise: "no foreign key leaves the databases that move",
    },
    Rule {
        name: "foreign_keys_from_outside",
        level: Level::Warning,
        query: "SELECT DISTINCT CONCAT('the foreign key ', CONSTRAINT_NAME, ' of `', TABLE_SCHEMA, '`.`', TABLE_NAME,
                '` stays behind and points to the database ', REFERENCED_TABLE_SCHEMA, ', which moves'), ''
            FROM information_schema.KEY_COLUMN_USAGE
            WHERE TABLE_SCHEMA NOT IN ({databases}) AND REFERENCED_TABLE_SCHEMA IN ({databases})",
        remedy: "after the switch it checks rows that nobody changes any more: move both databases in one migration",
        otherwise: "no foreign key points to the databases that move from another",
    },
    Rule {
        name: "float_keys",
        level: Level::Warning,
        query: "SELECT CONCAT('a key of `', TABLE_SCHEMA, '`.`', TABLE_NAME, '` holds the column ', COLUMN_NAME, ', a ', DATA_TYPE), ''
            FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA IN ({databases}) AND DATA_TYPE = 'float' AND COLUMN_KEY IN ('PRI', 'UNI')",
        remedy: "a FLOAT is not always found by its text: make it DOUBLE or DECIMAL",
        otherwise: "no key holds a FLOAT",
    },
    Rule {
        name: "system_versioned",
        level: Level::Error,
        query: "SELECT CONCAT('`', TABLE_SCHEMA, '`.`', TABLE_NAME, '` keeps the history of its rows, which no copy carries'),
                CONCAT('ALTER TABLE `', REPLACE(TABLE_SCHEMA, '`', '``'), '`.`', REPLACE(TABLE_NAME, '`', '``'), '` DROP SYSTEM VERSIONING')
            FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({databases}) AND TABLE_TYPE = 'SYSTEM VERSIONED'",
        remedy: "keep the history elsewhere, and take it off the table",
        otherwise: "no table keeps a history of its rows",
    },
];

pub(super) async fn run(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    let databases = listed(mysql);
    for rule in &RULES {
        let query = format!("{} LIMIT {LISTED_MAX}", rule.query.replace("{databases}", &databases));
        match source.pairs(&query).await {
            Ok(rows) => findings.each(rule.name, rule.level, &rows, rule.remedy, rule.otherwise),
            Err(failure) => findings.ran(rule.name, Err(failure)),
        }
    }
    let outcome = keys(mysql, source, findings).await;
    findings.ran("keys", outcome);
    let outcome = cascades(source, &databases, findings).await;
    findings.ran("foreign_key_cascades", outcome);
    let outcome = columns(source, &databases, findings).await;
    findings.ran("computed_columns", outcome);
}

async fn keys(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let plan = plan::read_in(&mut source.session, &mysql.databases()).await?;
    let bytes: u64 = plan.tables.iter().map(|table| table.bytes).sum();
    if plan.tables.is_empty() {
        findings.warning(
            "plan",
            format!("there is no table in {}", mysql.databases().join(", ")),
            "see that the route's database, or the schemas of the migration, are the ones meant",
            "",
        );
    } else {
        let (tables, counters) = (plan.tables.len(), plan.counters.len());
        findings.ok("plan", format!("{tables} tables, {} MB, {counters} counters", bytes >> 20));
    }
    let hidden = if source.version.is_mysql_from(8, 0, 23) || source.version.is_mariadb() { " INVISIBLE" } else { "" };
    let mut keyless = Vec::new();
    let without = plan.tables.iter().filter(|table| table.key.is_empty());
    for table in without.take(LISTED_MAX) {
        let how = if table.rows_estimated > KEYLESS_MANY {
            "each of its changed rows is searched for among all, which is slow"
        } else {
            "each of its changed rows is searched for among all"
        };
        keyless.push((
            format!(
                "{} has no key that finds one row ({} rows): it is copied in one pass under a lock of milliseconds, and {how}",
                title(table),
                table.rows_estimated
            ),
            key_for(source, table, hidden).await?,
        ));
    }
    findings.each(
        "keys",
        Level::Warning,
        &keyless,
        "give it a primary key, or a unique one of columns that are stored and never NULL; a new column is seen by statements \
         that name no columns, unless it is invisible",
        "every table has a key that finds one row",
    );
    Ok(())
}

/// The statement that gives a table a key that finds one row. It may have a primary key, of columns that no log carries,
/// and a column that counts already, of which there is one at most.
async fn key_for(source: &mut Side, table: &Table, hidden: &str) -> Result<String> {
    let of_it =
        format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", quote_literal(&table.schema), quote_literal(&table.name));
    let reported = source
        .pairs(&format!(
            "SELECT COALESCE((SELECT MIN(COLUMN_NAME) FROM information_schema.COLUMNS
                 WHERE {of_it} AND EXTRA LIKE '%auto_increment%'), ''),
             (SELECT COUNT(*) FROM information_schema.STATISTICS WHERE {of_it} AND INDEX_NAME = 'PRIMARY')"
        ))
        .await?;
    let (counting, primary) = reported.first().cloned().unwrap_or_default();
    let name = relation(table);
    Ok(if !counting.is_empty() {
        let column = quote_ident(&counting);
        format!("ALTER TABLE {name} ADD UNIQUE KEY headgate_id ({column})")
    } else if primary == "0" {
        format!("ALTER TABLE {name} ADD COLUMN headgate_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT{hidden} PRIMARY KEY")
    } else {
        format!(
            "ALTER TABLE {name} ADD COLUMN headgate_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT{hidden}, ADD UNIQUE KEY headgate_id (headgate_id)"
        )
    })
}

/// Rows that a cascade changes are in no log where the storage engine does it by itself.
pub(super) async fn cascades(source: &mut Side, databases: &str, findings: &mut Findings) -> Result<()> {
    const NAME: &str = "foreign_key_cascades";
    let native = source.is_on("innodb_native_foreign_keys");
    if source.version.is_mysql_from(9, 6, 0) && !native {
        findings.ok(NAME, "the source logs what cascades change");
        return Ok(());
    }
    let found = source
        .pairs(&format!(
            "SELECT CONCAT('the foreign key ', r.CONSTRAINT_NAME, ' of `', r.CONSTRAINT_SCHEMA, '`.`', r.TABLE_NAME,
                 '` changes rows that the source does not log (ON DELETE ', r.DELETE_RULE, ', ON UPDATE ', r.UPDATE_RULE, ')'),
                 CONCAT('ALTER TABLE `', REPLACE(r.CONSTRAINT_SCHEMA, '`', '``'), '`.`', REPLACE(r.TABLE_NAME, '`', '``'),
                     '` DROP FOREIGN KEY `', r.CONSTRAINT_NAME, '`, ADD CONSTRAINT `', r.CONSTRAINT_NAME, '_plain` FOREIGN KEY (',
                     (SELECT GROUP_CONCAT('`', k.COLUMN_NAME, '`' ORDER BY k.ORDINAL_POSITION) FROM information_schema.KEY_COLUMN_USAGE k
                      WHERE k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.TABLE_NAME = r.TABLE_NAME),
                     ') REFERENCES `', (SELECT MIN(k.REFERENCED_TABLE_SCHEMA) FROM information_schema.KEY_COLUMN_USAGE k
                      WHERE k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.TABLE_NAME = r.TABLE_NAME),
                     '`.`', r.REFERENCED_TABLE_NAME, '` (',
                     (SELECT GROUP_CONCAT('`', k.REFERENCED_COLUMN_NAME, '`' ORDER BY k.ORDINAL_POSITION) FROM information_schema.KEY_COLUMN_USAGE k
                      WHERE k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.TABLE_NAME = r.TABLE_NAME),
                     ')')
             FROM information_schema.REFERENTIAL_CONSTRAINTS r
             WHERE r.CONSTRAINT_SCHEMA IN ({databases})
               AND (r.DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR r.UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION'))
             ORDER BY 1 LIMIT {LISTED_MAX}"
        ))
        .await?;
    let remedy = if source.version.is_mysql_from(9, 6, 0) {
        "start the source with innodb_native_foreign_keys = OFF, so that it logs them, or let the application change the rows by itself"
    } else {
        "let the application change the rows by itself, or leave the key away until the switch"
    };
    findings.each(NAME, Level::Error, &found, remedy, "no foreign key changes rows by itself");
    Ok(())
}

async fn columns(source: &mut Side, databases: &str, findings: &mut Findings) -> Result<()> {
    let rows = source
        .pairs(&format!(
            "SELECT COALESCE(SUM(EXTRA LIKE '%VIRTUAL%' OR EXTRA LIKE '%STORED%' OR EXTRA LIKE '%PERSISTENT%'), 0),
                 COALESCE(SUM(EXTRA LIKE '%INVISIBLE%'), 0)
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({databases})"
        ))
        .await?;
    if let Some((computed, invisible)) = rows.first() {
        findings.ok(
            "computed_columns",
            format!(
                "{computed} generated columns are computed anew on the target, {invisible} invisible ones are copied"
            ),
        );
    }
    let defaults = source
        .pairs(&format!(
            "SELECT COUNT(*), '' FROM information_schema.COLUMNS
             WHERE TABLE_SCHEMA IN ({databases}) AND COLUMN_DEFAULT LIKE '%0000-00-00%'"
        ))
        .await?;
    let count = defaults.first().map_or("0", |(count, _)| count);
    findings.ok(
        "zero_dates",
        format!("{count} columns default to a zero date; Headgate's sessions write zero dates as they are"),
    );
    Ok(())
}
