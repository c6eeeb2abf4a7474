//! Checks of the source's tables: what the change stream could not carry, or would carry wrongly.

use super::super::catalogue::{ask, listed};
use super::super::sql::{quote_ident, quote_literal, relation, title};
use super::super::{Mysql, plan, service};
use super::side::Side;
use crate::error::Result;
use crate::model::plan::Table;
use crate::mysql::refusal::ACCOUNT;
use crate::preflight::{Findings, Level};

/// How many findings of one kind are listed.
const LISTED_MAX: usize = 100;
/// The check of what the target demands of tables without a key.
pub(super) const PRIMARY_KEYS: &str = "primary_keys";
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
    let hidden = hidden(source);
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

/// Settings of the target by which a table without a key is refused, or gets a column that the source's does not have.
const KEY_SETTINGS: [(&str, &str); 2] = [
    ("sql_require_primary_key", "refuses it"),
    ("sql_generate_invisible_primary_key", "would add the column my_row_id to it"),
];

/// Whether the target lets Headgate's sessions make tables without a key as they are.
pub(super) async fn primary_keys(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
    const WHAT: &str = "cannot read what the target demands of tables";
    let names = KEY_SETTINGS.map(|(name, _)| quote_literal(name)).join(", ");
    let settings = format!("SHOW SESSION VARIABLES WHERE Variable_name IN ({names})");
    let settings = ask(&mut target.session, &settings, WHAT).await?;
    // The first one that the session could not switch off.
    let found = KEY_SETTINGS.iter().find(|(name, _)| settings.iter().any(|row| row.text(0) == *name && row.is_on(1)));
    let Some((setting, effect)) = found else {
        findings.ok(PRIMARY_KEYS, "Headgate may make tables without a key on the target");
        return Ok(());
    };
    let account = ask(&mut target.session, ACCOUNT, WHAT).await?;
    let grant = format!("GRANT SESSION_VARIABLES_ADMIN ON *.* TO {}", account.first().map_or("", |row| row.text(0)));
    let managed = service::of(&mut target.session).await?.is_managed();
    let plan = plan::read_in(&mut source.session, &mysql.databases()).await?;
    let hidden = hidden(source);
    let without = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES t WHERE TABLE_SCHEMA IN ({databases})
        AND NOT EXISTS (SELECT 1 FROM information_schema.STATISTICS s WHERE s.TABLE_SCHEMA = t.TABLE_SCHEMA
            AND s.TABLE_NAME = t.TABLE_NAME AND s.INDEX_NAME = 'PRIMARY')";
    let without = source.pairs(&without.replace("{databases}", &listed(mysql))).await?;
    // A unique key of columns that are never NULL is enough where a column would be added, and not where a key is demanded.
    let lacks = |table: &&Table| {
        (table.key.is_empty() || *setting == KEY_SETTINGS[0].0)
            && without.iter().any(|(schema, name)| *schema == table.schema && *name == table.name)
    };
    let mut reported = 0;
    for table in plan.tables.iter().filter(lacks) {
        let key = key_for(source, table, hidden).await?;
        reported += 1;
        if reported > LISTED_MAX {
            break;
        }
        let give = match key.as_str() {
            "" => "give it a primary key on the source that holds the columns by which it is partitioned".to_owned(),
            statement => format!("give it a key on the source: {statement}"),
        };
        let evidence = format!(
            "{} has no primary key, and the target {effect}: {setting} is ON, and Headgate's account may not switch it off in its own sessions",
            title(table)
        );
        let (remedy, fix) = if managed {
            (give, key)
        } else {
            (format!("let Headgate's account make tables without one: {grant}; or {give}"), grant.clone())
        };
        findings.error(PRIMARY_KEYS, evidence, &remedy, fix);
    }
    if reported == 0 {
        findings.ok(PRIMARY_KEYS, format!("{setting} is ON on the target, and every table has a key"));
    }
    Ok(())
}

/// How a new column is kept from statements that name no columns.
fn hidden(source: &Side) -> &'static str {
    if source.version.is_mysql_from(8, 0, 23) || source.version.is_mariadb() { " INVISIBLE" } else { "" }
}

/// The statement that gives a table a key that finds one row; empty where its partitions leave none. It may have a primary key, of columns that no log carries, and a column that
/// counts already, of which there is one at most. A key of a partitioned table holds the columns of its partitions.
async fn key_for(source: &mut Side, table: &Table, hidden: &str) -> Result<String> {
    const WHAT: &str = "cannot read what a table has for a key";
    let of_it =
        format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", quote_literal(&table.schema), quote_literal(&table.name));
    let query = format!(
        "SELECT COALESCE((SELECT MIN(COLUMN_NAME) FROM information_schema.COLUMNS
                 WHERE {of_it} AND EXTRA LIKE '%auto_increment%'), ''),
             (SELECT COUNT(*) FROM information_schema.STATISTICS WHERE {of_it} AND INDEX_NAME = 'PRIMARY'),
             (SELECT MAX(CONCAT_WS(',', PARTITION_EXPRESSION, SUBPARTITION_EXPRESSION))
                 FROM information_schema.PARTITIONS WHERE {of_it} AND PARTITION_NAME IS NOT NULL)"
    );
    let reported = ask(&mut source.session, &query, WHAT).await?;
    let row = reported.first().cloned().unwrap_or_default();
    let (counting, has_primary) = (row.text(0), row.text(1) != "0");
    let name = relation(table);
    let first = if counting.is_empty() { "headgate_id" } else { counting };
    let mut columns = vec![quote_ident(first)];
    if let Some(expression) = row.get(2) {
        let named = table.columns.iter().map(|column| quote_ident(&column.name));
        columns.extend(named.filter(|column| *column != quote_ident(first) && expression.contains(column.as_str())));
        if columns.len() == 1 && !expression.contains(&quote_ident(first)) {
            return Ok(String::new());
        }
    }
    let columns = columns.join(", ");
    let column = format!("ADD COLUMN headgate_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT{hidden}");
    Ok(if !table.key.is_empty() {
        let key: Vec<String> = table.key.iter().map(|column| quote_ident(column)).collect();
        format!("ALTER TABLE {name} ADD PRIMARY KEY ({})", key.join(", "))
    } else if !counting.is_empty() && has_primary {
        format!("ALTER TABLE {name} ADD UNIQUE KEY headgate_id ({columns})")
    } else if !counting.is_empty() {
        format!("ALTER TABLE {name} ADD PRIMARY KEY ({columns})")
    } else if has_primary {
        format!("ALTER TABLE {name} {column}, ADD UNIQUE KEY headgate_id ({columns})")
    } else {
        format!("ALTER TABLE {name} {column}, ADD PRIMARY KEY ({columns})")
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
