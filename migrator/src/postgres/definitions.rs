//! Indexes, constraints and triggers as both catalogues define them, for the check.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::Postgres;
use super::client::failed;
use super::sql::{quote_ident, title_of};
use crate::definitions::{Compared, Definitions, Fingerprint};
use crate::error::Result;
use crate::plan::Plan;

/// Reads one side's. An index that is not valid counts as none: it is not moved, and of no use. What a partition has
/// only because its parent does is told by the parent, and `NOT NULL` by the columns.
pub(super) async fn read(client: &Client, side: &str, schemas: &[String]) -> Result<Definitions> {
    let cannot = |error| failed(&format!("cannot read the {side}'s definitions"), error);
    let rows = client
        .query(
            "SELECT o.what, n.nspname, c.relname, o.name, o.definition FROM (
                 SELECT 'index' AS what, x.indrelid AS owner, i.relname::text AS name,
                        pg_catalog.pg_get_indexdef(x.indexrelid) AS definition
                 FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
                 WHERE x.indisvalid
                 UNION ALL
                 SELECT 'constraint', conrelid, conname::text,
                        pg_catalog.pg_get_constraintdef(oid) || CASE WHEN convalidated THEN '' ELSE ' unproven' END
                 FROM pg_catalog.pg_constraint WHERE contype <> 'n' AND conparentid = 0
                 UNION ALL
                 SELECT 'trigger', tgrelid, tgname::text, tgenabled::text
                 FROM pg_catalog.pg_trigger
                 WHERE NOT tgisinternal AND tgparentid = 0 AND tgname <> 'headgate_fence') AS o
             JOIN pg_catalog.pg_class AS c ON c.oid = o.owner
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
               AND n.nspname !~ '^pg_' AND n.nspname <> ALL ('{information_schema,headgate}')
               AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]))
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
            &[&schemas],
        )
        .await
        .map_err(cannot)?;
    rows.iter()
        .map(|row| {
            let what: &str = row.try_get(0)?;
            let name: &str = row.try_get(3)?;
            let owner = title_of(row.try_get(1)?, row.try_get(2)?);
            let called = format!("{what} {} of {owner}", quote_ident(name));
            Ok((called, normal(row.try_get(4)?)))
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(cannot)
}

/// Reads both sides' and compares them, in sessions of its own.
pub(super) async fn compare(postgres: &Postgres, _plan: &Plan) -> Result<Compared> {
    let (source, target) = tokio::try_join!(
        postgres.connect_source("definitions"),
        postgres.connect_target("definitions")
    )?;
    let schemas = &postgres.settings().schemas;
    let (ours, theirs) = tokio::try_join!(
        read(&source, "source", schemas),
        read(&target, "target", schemas)
    )?;
    Ok(Compared {
        fingerprint: Fingerprint::of(&ours, &theirs),
        differences: differences(&ours, &theirs),
    })
}

/// A text that changes with the definitions of either side.
pub(super) async fn stamp(postgres: &Postgres) -> Result<String> {
    let compared = compare(postgres, &Plan::default()).await?;
    Ok(format!("{:?}", compared.fingerprint))
}

/// What is not the same on both sides.
pub(super) fn differences(source: &Definitions, target: &Definitions) -> Vec<String> {
    let called: BTreeSet<&String> = source.keys().chain(target.keys()).collect();
    let told =
        called
            .into_iter()
            .filter_map(|called| match (source.get(called), target.get(called)) {
                (Some(_), None) => {
                    Some(format!("{called} (not on the target, or not valid there)"))
                }
                (None, Some(_)) => {
                    Some(format!("{called} (not on the source, or not valid there)"))
                }
                (source, target) => (source != target).then(|| format!("{called} (differs)")),
            });
    told.collect()
}

/// A definition without parentheses, blanks and casts: a server that reads back what another one wrote puts those
/// elsewhere, as in `(ARRAY['a'::character varying])::text[]`.
fn normal(definition: &str) -> String {
    let mut out = String::with_capacity(definition.len());
    let mut rest = definition;
    while let Some(first) = rest.chars().next() {
        if let Some(cast) = rest.strip_prefix("::") {
            rest = after_type(cast);
            continue;
        }
        let after = rest.strip_prefix(first).unwrap_or_default();
        if matches!(first, '\'' | '"') {
            let (inner, next) = after.split_once(first).unwrap_or((after, ""));
            out.extend([first]);
            out.push_str(inner);
            out.extend([first]);
            rest = next;
            continue;
        }
        if !matches!(first, '(' | ')') && !first.is_whitespace() {
            out.push(first);
        }
        rest = after;
    }
    out
}

/// What follows the type that `text` starts with.
fn after_type(text: &str) -> &str {
    let mut rest = text;
    loop {
        let before = rest;
        rest = rest.trim_start_matches(|character: char| {
            character.is_alphanumeric() || matches!(character, '_' | '$' | '.')
        });
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, after)| after);
        }
        if rest == before {
            break;
        }
    }
    loop {
        let before = rest;
        for more in [
            " varying",
            " precision",
            " without time zone",
            " with time zone",
            "[]",
        ] {
            rest = rest.strip_prefix(more).unwrap_or(rest);
        }
        if let Some((modifier, after)) = rest.strip_prefix('(').and_then(|in_| in_.split_once(')'))
            && modifier
                .chars()
                .all(|character| character.is_ascii_digit() || character == ',')
        {
            rest = after;
        }
        if rest == before {
            return rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn only_casts_blanks_and_parentheses_outside_of_quotes_are_left_out() {
        assert_eq!(
            normal(
                "CHECK (((k)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying(9)])::text[])))"
            ),
            normal(
                "CHECK (((k)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying(9))::text])))"
            ),
        );
        assert_eq!(
            normal("(x)::timestamp(3) without time zone > '::text (''y'::\"My Type\".\"t\""),
            "x>'::text (''y'"
        );
        assert_ne!(normal("(a > 1)"), normal("(a > 2)"));
        assert_ne!(normal("(a = 'x y')"), normal("(a = 'xy')"));
    }
}
