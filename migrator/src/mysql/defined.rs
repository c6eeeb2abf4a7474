//! Indexes, constraints and other objects as both catalogues define them, for the check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::Mysql;
use super::client::{self, failed};
use super::described::{Side, among, knows, text};
use super::sql::{quote_ident, title_of};
use super::stamp;
use crate::definitions::{Compared, Definitions};
use crate::error::Result;
use crate::plan::Plan;

/// A table's database and name, with the columns of one of its keys.
pub(super) type Key = ((String, String), Vec<String>);

/// Reads one side's. Triggers count on the target only: before the switch there must be none.
pub(super) async fn read(
    session: &mut Conn,
    side: Side,
    databases: &[String],
) -> Result<Definitions> {
    let among = among(databases);
    let mut read = Definitions::new();
    for index in indexes(session, side, &among).await? {
        let called = called("index", &index.name, &index.table);
        read.insert(called, index.definition);
    }
    foreign_keys(session, side, &among, &mut read).await?;
    checks(session, side, &among, &mut read).await?;
    partitions(session, side, &among, &mut read).await?;
    others(session, side, &among, &mut read).await?;
    Ok(read)
}

struct Index {
    table: (String, String),
    name: String,
    definition: String,
    columns: Vec<String>,
    /// Each row has exactly one value of it, and no two have the same.
    is_key: bool,
}

/// Every key that tells rows apart, of each table the best first.
pub(super) async fn keys(
    session: &mut Conn,
    side: Side,
    databases: &[String],
) -> Result<Vec<(Key, bool)>> {
    let mut keys: Vec<(Key, bool)> = indexes(session, side, &among(databases))
        .await?
        .into_iter()
        .filter(|index| index.is_key)
        .map(|index| ((index.table, index.columns), index.name == "PRIMARY"))
        .collect();
    keys.sort_by_key(|((_, columns), primary)| (!primary, columns.len()));
    Ok(keys)
}

async fn indexes(session: &mut Conn, side: Side, among: &str) -> Result<Vec<Index>> {
    let expression = if knows(session, "STATISTICS", "EXPRESSION").await? {
        "expression"
    } else {
        "NULL"
    };
    let query = format!(
        "SELECT table_schema, table_name, index_name, CAST(non_unique AS CHAR), column_name,
                CAST(sub_part AS CHAR), collation, index_type, nullable, {expression}
         FROM information_schema.statistics WHERE table_schema {among}
         ORDER BY table_schema, table_name, index_name, seq_in_index"
    );
    let mut found: Vec<Index> = Vec::new();
    for row in &ask(session, side, query).await? {
        let table = (text(row, 0)?, text(row, 1)?);
        let (name, kind) = (text(row, 2)?, text(row, 7)?);
        let unique = text(row, 3)? == "0";
        let continued = found
            .last()
            .is_some_and(|last| last.table == table && last.name == name);
        if !continued {
            let word = if unique { "unique " } else { "" };
            found.push(Index {
                table,
                name,
                definition: format!("{word}{}", kind.to_ascii_lowercase()),
                columns: Vec::new(),
                is_key: unique,
            });
        }
        let Some(index) = found.last_mut() else {
            continue;
        };
        let (column, computed) = (text(row, 4)?, text(row, 9)?);
        let part = text(row, 5)?;
        let whole = computed.is_empty() && part.is_empty();
        index.is_key &= whole && text(row, 8)? != "YES";
        if computed.is_empty() {
            let _ = write!(index.definition, " {}", quote_ident(&column));
        } else {
            let _ = write!(index.definition, " ({})", normal(&computed));
        }
        // What of these other kinds of index are told is how they are made, and each version tells it otherwise.
        if kind == "BTREE" {
            let _ = write!(index.definition, "[{part}]");
            if text(row, 6)? == "D" {
                index.definition.push_str(" desc");
            }
        }
        index.columns.push(column);
    }
    Ok(found)
}

async fn foreign_keys(
    session: &mut Conn,
    side: Side,
    among: &str,
    read: &mut Definitions,
) -> Result<()> {
    let query = format!(
        "SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema,
                k.referenced_table_name, k.referenced_column_name, r.update_rule, r.delete_rule
         FROM information_schema.key_column_usage AS k
         JOIN information_schema.referential_constraints AS r
           ON r.constraint_schema = k.constraint_schema AND r.table_name = k.table_name
          AND r.constraint_name = k.constraint_name
         WHERE k.table_schema {among} AND r.constraint_schema {among} AND k.referenced_table_name IS NOT NULL
         ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position"
    );
    for row in &ask(session, side, query).await? {
        let name = called(
            "foreign key",
            &text(row, 2)?,
            &(text(row, 0)?, text(row, 1)?),
        );
        // InnoDB does the same for both, and the families call what was not said differently.
        let rule = |text: String| text.replace("RESTRICT", "NO ACTION");
        let (update, delete) = (rule(text(row, 7)?), rule(text(row, 8)?));
        let definition = read.entry(name).or_default();
        let _ = write!(
            definition,
            "{} to {}.{} on update {update} on delete {delete};",
            quote_ident(&text(row, 3)?),
            title_of(&text(row, 4)?, &text(row, 5)?),
            quote_ident(&text(row, 6)?),
        );
    }
    Ok(())
}

async fn checks(session: &mut Conn, side: Side, among: &str, read: &mut Definitions) -> Result<()> {
    if !knows(session, "CHECK_CONSTRAINTS", "CHECK_CLAUSE").await? {
        return Ok(());
    }
    let query = if knows(session, "CHECK_CONSTRAINTS", "TABLE_NAME").await? {
        format!(
            "SELECT constraint_schema, table_name, constraint_name, check_clause, 'YES'
             FROM information_schema.check_constraints WHERE constraint_schema {among}"
        )
    } else {
        format!(
            "SELECT t.table_schema, t.table_name, c.constraint_name, c.check_clause, t.enforced
             FROM information_schema.check_constraints AS c
             JOIN information_schema.table_constraints AS t
               ON t.constraint_schema = c.constraint_schema AND t.constraint_name = c.constraint_name
              AND t.constraint_type = 'CHECK'
             WHERE c.constraint_schema {among}"
        )
    };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for row in &ask(session, side, query).await? {
        let table = (text(row, 0)?, text(row, 1)?);
        let (name, clause) = (text(row, 2)?, normal(&text(row, 3)?));
        if side.mixed {
            // Names that are given by themselves differ between the families, and so do the words of a clause.
            if !clause.starts_with("json_valid") {
                *counts.entry(title_of(&table.0, &table.1)).or_default() += 1;
            }
            continue;
        }
        let enforced = if text(row, 4)? == "NO" {
            " not enforced"
        } else {
            ""
        };
        read.insert(
            called("check", &name, &table),
            format!("{clause}{enforced}"),
        );
    }
    for (title, count) in counts {
        read.insert(format!("checks of {title}"), count.to_string());
    }
    Ok(())
}

async fn partitions(
    session: &mut Conn,
    side: Side,
    among: &str,
    read: &mut Definitions,
) -> Result<()> {
    let query = format!(
        "SELECT table_schema, table_name, partition_name, partition_method, partition_expression,
                partition_description, subpartition_method, subpartition_expression
         FROM information_schema.partitions
         WHERE table_schema {among} AND partition_name IS NOT NULL AND COALESCE(subpartition_ordinal_position, 1) = 1"
    );
    for row in &ask(session, side, query).await? {
        let name = called("partition", &text(row, 2)?, &(text(row, 0)?, text(row, 1)?));
        let mut definition = String::new();
        for index in 3..8 {
            let _ = write!(definition, "{};", normal(&text(row, index)?));
        }
        read.insert(name, definition);
    }
    Ok(())
}

/// Views, routines, events and sequences by name and kind, routines with their text, and the target's triggers.
async fn others(session: &mut Conn, side: Side, among: &str, read: &mut Definitions) -> Result<()> {
    let mut queries = vec![
        format!(
            "SELECT 'view', table_schema, table_name, '' FROM information_schema.views WHERE table_schema {among}"
        ),
        format!(
            "SELECT LOWER(routine_type), routine_schema, routine_name, routine_definition
             FROM information_schema.routines WHERE routine_schema {among}"
        ),
        format!(
            "SELECT 'event', event_schema, event_name, event_definition
             FROM information_schema.events WHERE event_schema {among}"
        ),
        format!(
            "SELECT 'sequence', table_schema, table_name, '' FROM information_schema.tables
             WHERE table_schema {among} AND table_type = 'SEQUENCE'"
        ),
    ];
    if side.name == "target" {
        queries.push(format!(
            "SELECT 'trigger', trigger_schema, trigger_name, '' FROM information_schema.triggers
             WHERE trigger_schema {among}"
        ));
    }
    for query in queries {
        for row in &ask(session, side, query).await? {
            let called = format!(
                "{} {}",
                text(row, 0)?,
                title_of(&text(row, 1)?, &text(row, 2)?)
            );
            // The families do not keep the same text of a program.
            let body = if side.mixed {
                String::new()
            } else {
                text(row, 3)?
            };
            read.insert(called, program(&body));
        }
    }
    Ok(())
}

/// A program's text without blanks, and without the semicolon at its end: a server keeps that of a program that was
/// created together with others in one packet, and drops it of one that came alone.
fn program(body: &str) -> String {
    let text: String = body.split_whitespace().collect();
    text.trim_end_matches(';').to_owned()
}

async fn ask(session: &mut Conn, side: Side, query: String) -> Result<Vec<Row>> {
    session.query(query).await.map_err(|error| {
        failed(
            &format!("cannot read the {}'s definitions", side.name),
            error,
        )
    })
}

fn called(what: &str, name: &str, table: &(String, String)) -> String {
    format!(
        "{what} {} of {}",
        quote_ident(name),
        title_of(&table.0, &table.1)
    )
}

/// Reads both sides' and compares them, in sessions of its own.
pub(super) async fn compare(mysql: &Mysql, _plan: &Plan) -> Result<Compared> {
    let fingerprint = stamp::fingerprint(mysql).await?;
    let (mut source, mut target) = tokio::try_join!(
        mysql.connect_source("definitions"),
        mysql.connect_target("definitions")
    )?;
    let (from, to) = tokio::try_join!(client::version(&mut source), client::version(&mut target))?;
    let mixed = from.flavor != to.flavor;
    let side = |name, version| Side {
        name,
        version,
        mixed,
    };
    let databases = mysql.databases();
    let (ours, theirs) = tokio::try_join!(
        read(&mut source, side("source", from), &databases),
        read(&mut target, side("target", to), &databases)
    )?;
    Ok(Compared {
        fingerprint,
        differences: differences(&ours, &theirs),
    })
}

/// What is not the same on both sides.
pub(super) fn differences(source: &Definitions, target: &Definitions) -> Vec<String> {
    let called: BTreeSet<&String> = source.keys().chain(target.keys()).collect();
    let told =
        called
            .into_iter()
            .filter_map(|called| match (source.get(called), target.get(called)) {
                (Some(_), None) => Some(format!("{called} (not on the target)")),
                (None, Some(_)) if called.starts_with("trigger ") => {
                    Some(format!("{called} (on the target before the switch)"))
                }
                (None, Some(_)) => Some(format!("{called} (not on the source)")),
                (source, target) => (source != target).then(|| format!("{called} (differs)")),
            });
    told.collect()
}

/// An expression without parentheses, blanks, quotes of names and character sets of constants, in lower case: each
/// version puts those elsewhere, as in `(_utf8mb4\'a\' = `k`)`.
pub(super) fn normal(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len());
    let unescaped = expression.replace("\\'", "'");
    let mut rest = unescaped.as_str();
    while let Some(first) = rest.chars().next() {
        let after = rest.strip_prefix(first).unwrap_or_default();
        rest = after;
        if first == '\'' {
            let (inner, next) = after.split_once('\'').unwrap_or((after, ""));
            drop_introducer(&mut out);
            out.push('\'');
            out.push_str(inner);
            out.push('\'');
            rest = next;
        } else if !matches!(first, '(' | ')' | '`') && !first.is_whitespace() {
            out.extend(first.to_lowercase());
        }
    }
    out
}

fn drop_introducer(out: &mut String) {
    for charset in [
        "_utf8mb4", "_utf8mb3", "_utf8", "_latin1", "_binary", "_ascii",
    ] {
        if out.ends_with(charset) {
            out.truncate(out.len() - charset.len());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{normal, program};

    #[test]
    fn a_semicolon_counts_inside_of_a_program_but_not_at_its_end() {
        assert_eq!(program("RETURN 'a €' ;\n"), program("RETURN 'a €'"));
        assert_ne!(program("BEGIN END"), program("BEGIN; END"));
    }

    #[test]
    fn only_what_versions_write_differently_is_left_out_of_an_expression() {
        assert_eq!(
            normal(r"(`k` in (_utf8mb4\'A b\',_utf8mb4'c'))"),
            normal("`k` IN ('A b','c')")
        );
        assert_ne!(normal("`a` > 1"), normal("`a` > 2"));
        assert_ne!(normal("`a` = 'x y'"), normal("`a` = 'xy'"));
        assert_ne!(normal("`a` = 'X'"), normal("`a` = 'x'"));
    }
}
