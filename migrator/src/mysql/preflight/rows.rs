//! Rows and columns of the source that the target would refuse, or that its log cannot carry: else the copy ends at the first
//! of them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::catalogue::{ask, listed};
use super::super::sql::{qualified, quote_ident, title_of};
use super::super::tokens::words;
use super::super::{Mysql, plan};
use super::side::Side;
use crate::error::Result;
use crate::mysql::schema::archive::Archive;
use crate::mysql::schema::create_table::Definition;
use crate::preflight::{Findings, Level};

const NAME: &str = "refused_rows";
/// How long one table may keep the source busy, in seconds.
const ONE_LOOK: u32 = 10;
/// How long all of them together may.
const ALL_LOOKS: Duration = Duration::from_secs(40);
const TOO_LONG: &str = "(error 1969,";

/// What a row must be to be taken.
struct Demand {
    what: String,
    /// Whether a row is refused, in SQL.
    refused: String,
    /// The statement that changes those rows, where one can.
    fix: String,
}

pub(super) async fn run(mysql: &Mysql, source: &mut Side, target: &Side, findings: &mut Findings) -> Result<()> {
    // Only MariaDB lets rows in that break a CHECK, and times beyond those of MySQL; only it has columns of its own kind.
    if !source.version.is_mariadb() {
        findings.ok(NAME, "the source holds no row that the target would refuse");
        return Ok(());
    }
    compressed(mysql, findings).await?;
    let demands = demands(mysql, source, target).await?;
    let keys: BTreeMap<(String, String), Vec<String>> = plan::read_in(&mut source.session, &mysql.databases())
        .await?
        .tables
        .into_iter()
        .map(|table| ((table.schema, table.name), table.key))
        .collect();
    let until = Instant::now() + ALL_LOOKS;
    let (mut found, mut unseen) = (Vec::new(), Vec::new());
    for ((schema, name), demands) in demands {
        let title = title_of(&schema, &name);
        if Instant::now() >= until {
            unseen.push(title);
            continue;
        }
        let key = keys.get(&(schema.clone(), name.clone())).filter(|key| !key.is_empty());
        let key = key.map_or_else(
            || "''".to_owned(),
            |columns| {
                let columns: Vec<String> = columns.iter().map(|one| quote_ident(one)).collect();
                format!("CONCAT_WS(', ', {})", columns.join(", "))
            },
        );
        let looks: Vec<String> = demands
            .iter()
            .map(|one| format!("COALESCE(SUM({0}), 0), MIN(IF({0}, {key}, NULL))", one.refused))
            .collect();
        let query = format!(
            "SET STATEMENT max_statement_time = {ONE_LOOK} FOR SELECT {} FROM {}",
            looks.join(", "),
            qualified(&schema, &name)
        );
        let reported = match ask(&mut source.session, &query, "cannot look through a table").await {
            Ok(reported) => reported,
            Err(failure) if failure.full_text().contains(TOO_LONG) => {
                unseen.push(title);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let Some(row) = reported.first() else {
            continue;
        };
        for (number, demand) in demands.iter().enumerate() {
            let count = row.text(2 * number);
            if count != "0" {
                let first = row.text(2 * number + 1);
                found.push((
                    format!("{count} rows of {title} {}; the first has the key ({first})", demand.what),
                    demand.fix.clone(),
                ));
            }
        }
    }
    if unseen.is_empty() || !found.is_empty() {
        findings.each(
            NAME,
            Level::Error,
            &found,
            "change these rows on the source: the target refuses them, and the copy ends there",
            "the source holds no row that the target would refuse",
        );
    }
    if !unseen.is_empty() {
        findings.warning(
            NAME,
            format!(
                "it cannot be known whether the target takes every row: looking took too long for {}",
                unseen.join(", ")
            ),
            "a row that the target refuses stops the copy; look for such rows when the source has time",
            "",
        );
    }
    Ok(())
}

/// What is demanded of the rows of each table.
async fn demands(mysql: &Mysql, source: &mut Side, target: &Side) -> Result<BTreeMap<(String, String), Vec<Demand>>> {
    const WHAT: &str = "cannot read what the source demands of rows";
    let databases = listed(mysql);
    let mut demands: BTreeMap<(String, String), Vec<Demand>> = BTreeMap::new();
    let query = format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS
         WHERE CONSTRAINT_SCHEMA IN ({databases})"
    );
    for row in ask(&mut source.session, &query, WHAT).await? {
        demands.entry((row.owned(0), row.owned(1))).or_default().push(Demand {
            what: format!("break the constraint {}: CHECK ({})", row.text(2), row.text(3)),
            refused: format!("NOT ({})", row.text(3)),
            fix: String::new(),
        });
    }
    if !target.version.is_mariadb() {
        let query = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS c
             WHERE TABLE_SCHEMA IN ({databases}) AND DATA_TYPE = 'time' AND DATETIME_PRECISION > 0
               AND (SELECT TABLE_TYPE FROM information_schema.TABLES t
                    WHERE t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME) <> 'VIEW'"
        );
        for row in ask(&mut source.session, &query, WHAT).await? {
            let column = quote_ident(row.text(2));
            let refused = format!("ABS(TIME_TO_SEC({column})) > 3020399");
            demands.entry((row.owned(0), row.owned(1))).or_default().push(Demand {
                what: format!("hold a time in {} that MySQL does not have: its last is 838:59:59", row.text(2)),
                fix: format!(
                    "UPDATE {} SET {column} = IF({column} > 0, '838:59:59', '-838:59:59') WHERE {refused}",
                    qualified(row.text(0), row.text(1))
                ),
                refused,
            });
        }
    }
    Ok(demands)
}

/// The log has the values of such columns in a form of their own.
async fn compressed(mysql: &Mysql, findings: &mut Findings) -> Result<()> {
    let archive = Archive::read(mysql).await?;
    let mut found = Vec::new();
    for table in &archive.tables {
        for (column, rest) in Definition::parse(&table.create)?.columns {
            let reported = words(&rest);
            let is_mark = |word: &&str| word.starts_with("/*") && word.contains("COMPRESSED");
            if !reported.iter().any(is_mark) {
                continue;
            }
            let plain: Vec<&str> = reported.iter().copied().filter(|word| !is_mark(word)).collect();
            found.push((
                format!(
                    "the column {}.{column} is stored compressed, and so are its values in the log",
                    title_of(&table.schema, &table.name)
                ),
                format!(
                    "ALTER TABLE {} MODIFY {} {}",
                    qualified(&table.schema, &table.name),
                    quote_ident(&column),
                    plain.join(" ")
                ),
            ));
        }
    }
    findings.each(
        "compressed_columns",
        Level::Error,
        &found,
        "such values are not read: store it plainly; the log's files from before do not matter",
        "no column is stored compressed",
    );
    Ok(())
}
