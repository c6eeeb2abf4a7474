//! Rows that the target would refuse, and expressions that the load cannot compute, looked for in the source's tables:
//! else a constraint, an index or a materialized view fails once everything is copied.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::Postgres;
use super::super::client::failed;
use super::super::plan::OURS_TO_MOVE;
use super::side::Side;
use crate::error::Result;
use crate::preflight::{Findings, Level};

const ROWS: &str = "constraint_rows";
const EXPRESSIONS: &str = "expressions";
/// How long one table or constraint may keep the source busy.
const ONE_LOOK: Duration = Duration::from_secs(10);
/// How long all of them together may.
const ALL_LOOKS: Duration = Duration::from_mins(1);
/// Where the count of rows that break a foreign key ends.
const COUNTED_MAX: u32 = 1000;

/// What is computed of every row of a table: a CHECK, a generated column, an index's expression or predicate. In our
/// sessions its names are printed with their schemas, and the names in its functions are looked up nowhere, as in the load.
struct Expression {
    what: String,
    text: String,
    /// Whether a row for which it is false is refused.
    holds: bool,
    /// The statement that lets the constraint be one that was not checked for the rows that are there.
    not_valid: String,
    /// The statements that give its functions the names that they are written for.
    with_names: String,
}

const EXPRESSIONS_OF_TABLES: &str = "
    SELECT t, x.what, x.text, x.holds, x.not_valid, coalesce((
        SELECT string_agg(format('ALTER ROUTINE %s SET search_path = %s', p.oid::regprocedure, (
                SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path')), '; ')
        FROM (SELECT DISTINCT refobjid FROM pg_catalog.pg_depend
              WHERE (classid = x.class AND objid = x.object
                  OR classid = 'pg_catalog.pg_class'::regclass AND objid = c.oid AND objsubid = x.of_column)
                AND refclassid = 'pg_catalog.pg_proc'::regclass) d
        JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
        WHERE NOT coalesce(p.proconfig::text LIKE '%search_path=%', false)), '')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
    LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS t) named,
    LATERAL (
        SELECT 'pg_catalog.pg_constraint'::regclass AS class, k.oid AS object, format('the constraint %I', k.conname) AS what,
            pg_catalog.pg_get_expr(k.conbin, k.conrelid) AS text, true AS holds,
            CASE WHEN k.coninhcount = 0 THEN format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s NOT VALID',
                t, k.conname, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) ELSE '' END AS not_valid, -1 AS of_column
        FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated
        UNION ALL
        SELECT 'pg_catalog.pg_attrdef'::regclass, d.oid, format('the generated column %I', a.attname),
            pg_catalog.pg_get_expr(d.adbin, d.adrelid), false, '', a.attnum
        FROM pg_catalog.pg_attrdef d
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
        WHERE d.adrelid = c.oid
        UNION ALL
        SELECT 'pg_catalog.pg_class'::regclass, i.indexrelid, format('the index %I', x.relname), e.text, false, '', -1
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid,
        LATERAL (
            SELECT pg_catalog.pg_get_indexdef(i.indexrelid, k.ordinality::int, false) AS text
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, ordinality) WHERE k.attnum = 0
            UNION ALL SELECT pg_catalog.pg_get_expr(i.indpred, i.indrelid)) e
        WHERE i.indrelid = c.oid) x
    WHERE c.relkind = 'r' AND x.text IS NOT NULL AND ";

/// Each foreign key with the query that counts its rows without a partner. What a partition has of its parent is looked at
/// there; a key over periods is left out, for its partners are not found by equality.
const FOREIGN_KEYS: &str = "
    SELECT format('%s: rows break the foreign key %I', t, k.conname),
        format('SELECT count(*) FROM (SELECT FROM %s f WHERE (%s) AND NOT EXISTS (SELECT FROM %s p WHERE %s) LIMIT ',
            CASE c.relkind WHEN 'p' THEN t ELSE 'ONLY ' || t END,
            parts.present,
            CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || format('%I.%I', rn.nspname, r.relname),
            parts.joined),
        CASE WHEN c.relkind = 'r' THEN format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s NOT VALID',
            t, k.conname, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) ELSE '' END
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace,
    LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS t) named,
    LATERAL (
        SELECT string_agg(format('f.%I IS NOT NULL', fa.attname), CASE k.confmatchtype WHEN 'f' THEN ' OR ' ELSE ' AND ' END) AS present,
            string_agg(format('p.%I OPERATOR(%I.%s) f.%I%s', pa.attname, opn.nspname, o.oprname, fa.attname,
                CASE WHEN pa.attcollation <> fa.attcollation AND pa.attcollation <> 0
                    THEN format(' COLLATE %s', pa.attcollation::regcollation) ELSE '' END), ' AND ') AS joined
        FROM unnest(k.conkey, k.confkey, k.conpfeqop) AS part (of, at, by)
        JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = part.of
        JOIN pg_catalog.pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = part.at
        JOIN pg_catalog.pg_operator o ON o.oid = part.by
        JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace) parts
    WHERE k.contype = 'f' AND k.convalidated AND k.conparentid = 0
      AND NOT coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AND ";

const MATERIALIZED_VIEWS: &str = "
    SELECT t, rtrim(pg_catalog.pg_get_viewdef(c.oid), '; ')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
    LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS t) named
    WHERE c.relkind = 'm' AND c.relispopulated AND ";

pub(super) async fn run(postgres: &Postgres, source: &Side, findings: &mut Findings) {
    let mut looking = Looking {
        session: &source.session,
        schemas: &postgres.settings().schemas,
        ends: Instant::now() + ALL_LOOKS,
        unknown: Vec::new(),
        broken: Vec::new(),
        not_computed: Vec::new(),
    };
    let outcome = looking.all().await;
    let Looking { unknown, broken, not_computed, .. } = looking;
    findings.each(
        ROWS,
        Level::Error,
        &broken,
        "mend these rows on the source, or let the constraint be one that was not checked for the rows that are there; else the target refuses it once all is copied",
        "every row that was looked at keeps the constraints of its table",
    );
    findings.each(
        EXPRESSIONS,
        Level::Error,
        &not_computed,
        "names are looked up nowhere while the target is loaded: write the functions with names that state their schemas, or give them the search_path that they are written for",
        "what is computed of rows can be computed where names are looked up nowhere",
    );
    if !unknown.is_empty() {
        findings.warning(
            ROWS,
            format!(
                "it cannot be known whether the target takes every row: looking took too long for {}",
                unknown.join(", ")
            ),
            "a row that breaks its constraint would stop the start once all is copied; look for such rows when the source has time",
            "",
        );
    }
    findings.ran(ROWS, outcome);
}

struct Looking<'a> {
    session: &'a Client,
    schemas: &'a Vec<String>,
    ends: Instant,
    unknown: Vec<String>,
    broken: Vec<(String, String)>,
    not_computed: Vec<(String, String)>,
}

impl Looking<'_> {
    async fn all(&mut self) -> Result<()> {
        self.expressions().await?;
        self.materialized_views().await?;
        self.foreign_keys().await
    }

    async fn expressions(&mut self) -> Result<()> {
        let mut tables: BTreeMap<String, Vec<Expression>> = BTreeMap::new();
        for row in self.ask(EXPRESSIONS_OF_TABLES).await? {
            let read = || {
                let expression = Expression {
                    what: row.try_get(1)?,
                    text: row.try_get(2)?,
                    holds: row.try_get(3)?,
                    not_valid: row.try_get(4)?,
                    with_names: row.try_get(5)?,
                };
                Ok::<_, tokio_postgres::Error>((row.try_get(0)?, expression))
            };
            let (table, expression) = read().map_err(unreadable)?;
            tables.entry(table).or_default().push(expression);
        }
        for (table, expressions) in &tables {
            let outcome = self.computed(table, expressions).await;
            if let Looked::Refused(_) = outcome {
                // One of them cannot be computed: which, each by itself tells.
                for expression in expressions {
                    let one = std::slice::from_ref(expression);
                    if let Looked::Refused(error) = self.computed(table, one).await {
                        let what = format!("{table}: {} cannot be computed", expression.what);
                        let failure = failed(&what, error).full_text();
                        self.not_computed.push((failure, expression.with_names.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Computes these of every row, and takes note of those that do not hold.
    async fn computed(&mut self, table: &str, expressions: &[Expression]) -> Looked {
        let counts: Vec<String> = expressions
            .iter()
            .map(|one| {
                if one.holds {
                    format!("count(*) FILTER (WHERE NOT ({}))", one.text)
                } else {
                    format!("count(({}))", one.text)
                }
            })
            .collect();
        let query = format!("SELECT {} FROM ONLY {table}", counts.join(", "));
        let outcome = self.look(table, &query).await;
        if let Looked::Counted(counts) = &outcome {
            for (expression, count) in expressions.iter().zip(counts) {
                if expression.holds && *count > 0 {
                    let evidence = format!("{table}: {count} rows break {}", expression.what);
                    self.broken.push((evidence, expression.not_valid.clone()));
                }
            }
        }
        outcome
    }

    async fn materialized_views(&mut self) -> Result<()> {
        for row in self.ask(MATERIALIZED_VIEWS).await? {
            let read = || Ok::<(String, String), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
            let (view, query) = read().map_err(unreadable)?;
            // The first row tells whether its names are found.
            let query = format!("SELECT count(*) FROM (SELECT FROM ({query}) q LIMIT 1) one");
            if let Looked::Refused(error) = self.look(&view, &query).await {
                let what = format!("the materialized view {view} cannot be refreshed");
                self.not_computed.push((failed(&what, error).full_text(), String::new()));
            }
        }
        Ok(())
    }

    async fn foreign_keys(&mut self) -> Result<()> {
        for row in self.ask(FOREIGN_KEYS).await? {
            let read = || {
                Ok::<(String, String, String), tokio_postgres::Error>((
                    row.try_get(0)?,
                    row.try_get(1)?,
                    row.try_get(2)?,
                ))
            };
            let (what, query, not_valid) = read().map_err(unreadable)?;
            let query = format!("{query}{COUNTED_MAX}) broken");
            match self.look(&what, &query).await {
                Looked::Counted(counts) => {
                    let count = counts.first().copied().unwrap_or(0);
                    if count > 0 {
                        let or_more = if count >= i64::from(COUNTED_MAX) { " or more" } else { "" };
                        self.broken.push((format!("{what} ({count}{or_more})"), not_valid));
                    }
                }
                Looked::Refused(error) => self.unknown.push(failed(&what, error).full_text()),
                Looked::TooLong => {}
            }
        }
        Ok(())
    }

    /// One query of counts within the time that is left, in a transaction that writes nothing.
    async fn look(&mut self, of: &str, query: &str) -> Looked {
        let left = self.ends.saturating_duration_since(Instant::now());
        let limit = left.min(ONE_LOOK).as_millis();
        if limit == 0 {
            self.unknown.push(of.to_owned());
            return Looked::TooLong;
        }
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = '1s'");
        let outcome = match self.session.batch_execute(&begin).await {
            Ok(()) => self.session.query_one(query, &[]).await,
            Err(error) => Err(error),
        };
        let counts = outcome.and_then(|row| (0..row.len()).map(|at| row.try_get(at)).collect());
        let ended = self.session.batch_execute("ROLLBACK").await;
        match ended.and(counts) {
            Ok(counts) => Looked::Counted(counts),
            Err(error) => {
                let too_long = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE];
                if error.code().is_some_and(|code| too_long.contains(code)) {
                    self.unknown.push(of.to_owned());
                    Looked::TooLong
                } else {
                    Looked::Refused(error)
                }
            }
        }
    }

    async fn ask(&self, query: &str) -> Result<Vec<tokio_postgres::Row>> {
        self.session.query(&format!("{query}{OURS_TO_MOVE}"), &[self.schemas]).await.map_err(unreadable)
    }
}

/// What came of one look.
enum Looked {
    Counted(Vec<i64>),
    Refused(tokio_postgres::Error),
    TooLong,
}

fn unreadable(error: tokio_postgres::Error) -> crate::error::Error {
    failed("the source's constraints cannot be read", error)
}
