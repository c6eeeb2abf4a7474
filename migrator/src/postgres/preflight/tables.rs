//! Checks of the source's tables: what the change stream could not carry, or would carry wrongly.

use super::super::Postgres;
use super::super::plan::OURS_TO_MOVE;
use super::side::{Side, pairs};
use crate::preflight::{Findings, Level};

/// A check whose rows are the relations (`c`) that a condition holds for.
struct Rule {
    name: &'static str,
    level: Level,
    condition: &'static str,
    /// SQL text of what is wrong with it; `t` is its quoted name.
    evidence: &'static str,
    /// SQL text of the statement that mends it.
    fix: &'static str,
    remedy: &'static str,
    otherwise: &'static str,
}

const RULES: [Rule; 10] = [
    Rule {
        name: "replica_identity",
        level: Level::Error,
        condition: "c.relkind = 'r' AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
            OR c.relreplident = 'i' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
            OR EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid
                AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid AND a.attgenerated <> ''
                AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))",
        evidence: "format('%s has no key by which a changed row can be found', t)",
        fix: "format('ALTER TABLE %s REPLICA IDENTITY FULL', t)",
        remedy: "give it a primary key, or let the whole row be its identity; else its UPDATEs fail on the source as soon as it is published",
        otherwise: "every table has a key or its whole row as identity",
    },
    Rule {
        name: "replica_identity_full",
        level: Level::Warning,
        condition: "c.relkind = 'r' AND c.relreplident = 'f'",
        evidence: "format('%s is identified by its whole row (%s rows)', t, greatest(c.reltuples, 0)::bigint)",
        fix: "''",
        remedy: "each UPDATE and DELETE looks for its row through the whole table on the target; fine while it is small",
        otherwise: "no table is identified by its whole row",
    },
    Rule {
        name: "deferrable_key",
        level: Level::Error,
        condition: "c.relkind = 'r' AND c.relreplident = 'd' AND EXISTS (SELECT FROM pg_catalog.pg_index i
            WHERE i.indrelid = c.oid AND i.indisprimary AND NOT i.indimmediate)",
        evidence: "format('the primary key of %s is deferrable and identifies no row', t)",
        fix: "format('ALTER TABLE %s REPLICA IDENTITY FULL', t)",
        remedy: "make the key not deferrable, or let the whole row be the identity",
        otherwise: "no primary key is deferrable",
    },
    Rule {
        name: "unlogged_tables",
        level: Level::Error,
        condition: "c.relkind = 'r' AND c.relpersistence = 'u'",
        evidence: "format('%s is unlogged: its changes are in no stream', t)",
        fix: "format('ALTER TABLE %s SET LOGGED', t)",
        remedy: "make it logged for the migration, or move it to a schema that is not migrated",
        otherwise: "no table is unlogged",
    },
    Rule {
        name: "foreign_tables",
        level: Level::Warning,
        condition: "c.relkind = 'f'",
        evidence: "format('%s is a foreign table: its definition moves, its rows are elsewhere', t)",
        fix: "''",
        remedy: "see that the target can reach the foreign server too",
        otherwise: "there is no foreign table",
    },
    Rule {
        name: "partitioned_foreign",
        level: Level::Error,
        condition: "c.relkind = 'f' AND c.relispartition",
        evidence: "format('%s is a foreign table and a partition: writers cannot be kept off it', t)",
        fix: "''",
        remedy: "detach it for the migration",
        otherwise: "no partition is a foreign table",
    },
    Rule {
        name: "rules",
        level: Level::Warning,
        condition: "c.relkind IN ('r', 'p') AND EXISTS (SELECT FROM pg_catalog.pg_rewrite w
            WHERE w.ev_class = c.oid AND w.ev_enabled IN ('R', 'A'))",
        evidence: "format('%s has a rule that also acts on replicated changes', t)",
        fix: "(SELECT string_agg(format('ALTER TABLE %s ENABLE RULE %I', t, w.rulename), '; ')
            FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_enabled IN ('R', 'A'))",
        remedy: "let the rule act on the origin only, at least until the cutover",
        otherwise: "no rule acts on replicated changes",
    },
    Rule {
        name: "always_triggers",
        level: Level::Error,
        condition: "c.relkind IN ('r', 'p') AND EXISTS (SELECT FROM pg_catalog.pg_trigger g
            WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('R', 'A'))",
        evidence: "format('%s has triggers that would fire a second time when its changes are applied: %s', t,
            (SELECT string_agg(quote_ident(g.tgname), ', ') FROM pg_catalog.pg_trigger g
             WHERE g.tgrelid = c.oid AND g.tgenabled IN ('R', 'A')))",
        fix: "(SELECT string_agg(format('ALTER TABLE %s ENABLE TRIGGER %I', t, g.tgname), '; ')
            FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgenabled IN ('R', 'A'))",
        remedy: "let them fire on the origin only, at least until the cutover",
        otherwise: "no trigger fires on replicated changes",
    },
    Rule {
        name: "row_security",
        level: Level::Error,
        condition: "c.relkind = 'r' AND c.relrowsecurity AND NOT (SELECT rolsuper OR rolbypassrls
            FROM pg_catalog.pg_roles WHERE rolname = current_user)
            AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE'))",
        evidence: "format('the policies of %s hide rows from the migrator', t)",
        fix: "format('ALTER ROLE %I BYPASSRLS', current_user)",
        remedy: "let the migrator's role see every row",
        otherwise: "no policy hides rows from the migrator",
    },
    Rule {
        name: "inheritance",
        level: Level::Warning,
        condition: "c.relkind = 'r' AND NOT c.relispartition AND EXISTS (
            SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid)",
        evidence: "format('%s inherits from another table; each moves by itself', t)",
        fix: "''",
        remedy: "nothing to do; TRUNCATE of a parent reaches the children on the source as single truncates",
        otherwise: "no table inherits from another",
    },
];

/// How many findings of one kind are listed.
const LISTED_MAX: usize = 100;

pub(super) async fn run(postgres: &Postgres, source: &Side, findings: &mut Findings) {
    for rule in &RULES {
        let query = format!(
            "SELECT {}, coalesce({}, '') FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
             LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS t) named
             WHERE {} AND {OURS_TO_MOVE} ORDER BY c.relpages DESC LIMIT {LISTED_MAX}",
            rule.evidence, rule.fix, rule.condition
        );
        match pairs(&source.session, &query, &[&postgres.settings().schemas]).await {
            Ok(rows) => findings.each(rule.name, rule.level, &rows, rule.remedy, rule.otherwise),
            Err(failure) => findings.ran(rule.name, Err(failure)),
        }
    }
}
