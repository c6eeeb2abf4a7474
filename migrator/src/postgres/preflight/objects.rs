//! Checks of what is in the databases beside tables: what no stream carries, what is in the way, what runs already.

use std::collections::BTreeSet;

use super::super::client::failed;
use super::super::{Postgres, plan, schema};
use super::side::{Side, one, pairs};
use crate::error::Result;
use crate::postgres::records;
use crate::preflight::{Findings, Level};

const LONG: &str = "30 seconds";

pub(super) async fn source(postgres: &Postgres, source: &Side, findings: &mut Findings) {
    let outcome = listed(postgres, source, findings).await;
    findings.ran("source_objects", outcome);
    let outcome = materialized_views(postgres, source, findings).await;
    findings.ran("materialized_views", outcome);
    let outcome = counters(postgres, source, findings).await;
    findings.ran("counters", outcome);
    let outcome = large_objects(source, findings).await;
    findings.ran("large_objects", outcome);
}

/// A check whose rows are already (evidence, fix).
struct Listed {
    name: &'static str,
    level: Level,
    query: &'static str,
    remedy: &'static str,
    otherwise: &'static str,
}

const LISTED: [Listed; 6] = [
    Listed {
        name: "prepared_transactions",
        level: Level::Error,
        query: "SELECT format('the prepared transaction %L of %s is open since %s', gid, owner, prepared),
                format('ROLLBACK PREPARED %L', gid)
            FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() LIMIT 100",
        remedy: "end it as its owner wants (COMMIT PREPARED or ROLLBACK PREPARED): the change stream cannot start before",
        otherwise: "no prepared transaction is open on the source",
    },
    Listed {
        name: "long_transactions",
        level: Level::Warning,
        query: "SELECT format('pid %s (user %s, application %L) has had a transaction open for %s s', pid, usename,
                    application_name, extract(epoch FROM clock_timestamp() - xact_start)::int),
                format('SELECT pg_terminate_backend(%s)', pid)
            FROM pg_catalog.pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
              AND clock_timestamp() - xact_start > $1::text::interval LIMIT 100",
        remedy: "the change stream cannot start before it has ended",
        otherwise: "no transaction on the source is older than 30 s",
    },
    Listed {
        name: "superuser_applications",
        level: Level::Warning,
        query: "SELECT DISTINCT format('application %L is connected as %I, which is a superuser', a.application_name, a.usename),
                CASE WHEN r.oid <> 10 AND a.usename <> current_user
                    THEN format('ALTER ROLE %I NOSUPERUSER', a.usename) ELSE '' END
            FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
            WHERE r.rolsuper AND a.datname = current_database() AND a.backend_type = 'client backend'
              AND a.application_name NOT LIKE 'headgate %' LIMIT 100",
        remedy: "a superuser can switch the fence's triggers off; let applications use a role without that right",
        otherwise: "no application is connected to the source as superuser",
    },
    Listed {
        name: "publications",
        level: Level::Warning,
        query: "SELECT format('the publication %I is not created on the target', pubname), ''
            FROM pg_catalog.pg_publication WHERE pubname NOT LIKE 'headgate\\_%'
            UNION ALL SELECT format('the subscription %I is not created on the target', subname), ''
            FROM pg_catalog.pg_subscription s
            WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())",
        remedy: "other replication of this database must be set up on the target by hand",
        otherwise: "the source neither publishes nor subscribes",
    },
    Listed {
        name: "tablespaces",
        level: Level::Warning,
        query: "SELECT DISTINCT format('the tablespace %I is in use; on the target all goes to the default one', spcname), ''
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
            WHERE spcname !~ '^pg_'",
        remedy: "move tables on the target after the migration, where that matters",
        otherwise: "the source uses no tablespace of its own",
    },
    Listed {
        name: "subscriptions",
        level: Level::Error,
        query: "SELECT format('the subscription %I writes to the source', subname),
                format('ALTER SUBSCRIPTION %I DISABLE', subname)
            FROM pg_catalog.pg_subscription WHERE subenabled
              AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())",
        remedy: "what a subscription applies passes the fence and would be lost: disable it, and subscribe on the target after the migration",
        otherwise: "the source has no enabled subscription",
    },
];

async fn listed(postgres: &Postgres, source: &Side, findings: &mut Findings) -> Result<()> {
    for check in &LISTED {
        let outcome = if check.query.contains("$1") {
            pairs(&source.session, check.query, &[&LONG]).await
        } else {
            pairs(&source.session, check.query, &[]).await
        };
        match outcome {
            Ok(rows) => findings.each(check.name, check.level, &rows, check.remedy, check.otherwise),
            Err(failure) => findings.ran(check.name, Err(failure)),
        }
    }
    let absent: Vec<String> = one(
        &source.session,
        "SELECT coalesce(array_agg(name), '{}') FROM unnest($1::text[]) AS name
         WHERE name NOT IN (SELECT nspname FROM pg_catalog.pg_namespace)",
        &[&postgres.settings().schemas],
    )
    .await?;
    if !absent.is_empty() {
        findings.error(
            "schemas",
            format!("the source has no schema {}", absent.join(", ")),
            "create the migration anew with the names of schemas that exist",
            "",
        );
    }
    plan::read(postgres).await.map(|plan| {
        let bytes: u64 = plan.tables.iter().map(|table| table.bytes).sum();
        let evidence = format!("{} tables, {} MB, {} sequences", plan.tables.len(), bytes >> 20, plan.counters.len());
        findings.ok("plan", evidence);
    })
}

/// The stream carries no refresh: a materialized view on the target is as of the end of the copy.
async fn materialized_views(postgres: &Postgres, source: &Side, findings: &mut Findings) -> Result<()> {
    let query = format!(
        "SELECT format('%I.%I shows the state of the copy until it is refreshed on the target', n.nspname, c.relname),
             format('REFRESH MATERIALIZED VIEW %I.%I', n.nspname, c.relname)
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'm' AND c.relispopulated AND {} ORDER BY 1 LIMIT 100",
        plan::OURS_TO_MOVE
    );
    let found = pairs(&source.session, &query, &[&postgres.settings().schemas]).await?;
    findings.each(
        "materialized_views",
        Level::Warning,
        &found,
        "refresh it on the target right after the switch",
        "the source has no materialized view",
    );
    Ok(())
}

/// Which sequences have little left beside the gap that a cutover leaves.
async fn counters(postgres: &Postgres, source: &Side, findings: &mut Findings) -> Result<()> {
    let query = format!(
        "SELECT format('the sequence %I.%I has %s values left', nspname, relname, \"left\"), '' FROM (
             SELECT n.nspname, c.relname, s.seqcache, trunc(
                 (CASE WHEN s.seqincrement > 0 THEN s.seqmax ELSE s.seqmin END::numeric
                     - coalesce(CASE WHEN has_sequence_privilege(c.oid, 'USAGE, SELECT')
                         THEN pg_catalog.pg_sequence_last_value(c.oid) END, s.seqstart)) / s.seqincrement) AS \"left\"
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
             WHERE NOT s.seqcycle AND {}) sequences
         WHERE \"left\" < 2 * greatest($2::bigint, 10 * seqcache::numeric) ORDER BY 1 LIMIT 100",
        plan::OURS_TO_MOVE
    );
    let settings = postgres.settings();
    let found = pairs(&source.session, &query, &[&settings.schemas, &settings.counter_gap]).await?;
    findings.each(
        "counters",
        Level::Warning,
        &found,
        "the gap that the cutover leaves takes up to half of them; widen the column and the sequence first",
        "no sequence is near its end",
    );
    Ok(())
}

async fn large_objects(source: &Side, findings: &mut Findings) -> Result<()> {
    let count: i64 = one(&source.session, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata", &[]).await?;
    if count == 0 {
        findings.ok("large_objects", "the source has none");
    } else {
        findings.error(
            "large_objects",
            format!("the source has {count} large objects, which no change stream carries"),
            "move their contents into bytea columns, or remove what is not needed (vacuumlo)",
            "",
        );
    }
    Ok(())
}

pub(super) async fn target(postgres: &Postgres, target: &Side, source: Option<&Side>, findings: &mut Findings) {
    let ours = if target.has_database { begun(postgres, target).await } else { Ok(false) };
    let ours = match ours {
        Ok(ours) => ours,
        Err(failure) => return findings.ran("target_objects", Err(failure)),
    };
    if let Some(source) = source {
        let outcome = left_overs(postgres, source, ours, findings).await;
        findings.ran("left_overs", outcome);
    }
    if !target.has_database {
        findings.ok("target_objects", "the database is not there yet");
    } else if ours {
        findings.ok("target_objects", "what is there was put there by this migration");
    } else {
        let outcome = conflicts(postgres, target, source, findings).await;
        findings.ran("target_objects", outcome);
    }
}

/// Whether the target has records of this migration, so that what else it has is the migration's.
async fn begun(postgres: &Postgres, target: &Side) -> Result<bool> {
    if !schema::database::absent(&target.session, &["headgate.migrations".to_owned()]).await?.is_empty() {
        return Ok(false);
    }
    let part = records::part(postgres, &target.session, "pre_data").await?;
    Ok(part != records::Part::Waiting)
}

async fn left_overs(postgres: &Postgres, source: &Side, ours: bool, findings: &mut Findings) -> Result<()> {
    let found = pairs(
        &source.session,
        "SELECT format('a slot %s from an earlier migration is on the source', slot_name),
                format('SELECT pg_drop_replication_slot(%L)', slot_name)
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
         UNION ALL SELECT format('a publication %s from an earlier migration is on the source', pubname),
                format('DROP PUBLICATION %I', pubname)
         FROM pg_catalog.pg_publication WHERE pubname = $1",
        &[&postgres.slot()],
    )
    .await?;
    let found = if ours { Vec::new() } else { found };
    findings.each(
        "left_overs",
        Level::Error,
        &found,
        "drop it, or give this migration another name",
        "nothing is left of an earlier migration of this name",
    );
    Ok(())
}

async fn conflicts(postgres: &Postgres, target: &Side, source: Option<&Side>, findings: &mut Findings) -> Result<()> {
    let schemas = &postgres.settings().schemas;
    let present = objects(target, schemas).await?;
    let moving: BTreeSet<(String, String)> = match source {
        Some(source) => objects(source, schemas).await?.into_iter().collect(),
        None => BTreeSet::new(),
    };
    let in_the_way = |(kind, name): &(String, String)| {
        moving.iter().any(|(other, named)| {
            // Relations and types share their names; a routine shares its own with routines alone.
            named == name && ROUTINES.contains(&&**kind) == ROUTINES.contains(&&**other)
        })
    };
    let conflicting: Vec<_> = present
        .iter()
        .filter(|object| in_the_way(object))
        .take(100)
        .map(|(kind, name)| {
            let evidence = format!("the {} {name} is on the target already", kind.to_lowercase());
            (evidence, format!("DROP {kind} IF EXISTS {name} CASCADE"))
        })
        .collect();
    findings.each(
        "target_objects",
        Level::Error,
        &conflicting,
        "move into another database, or drop what is in the way after making sure that nobody needs it; what a migration \
         made goes with it by DROP MIGRATION … WITH (target_objects = 'drop')",
        "nothing on the target is in the way",
    );
    let others = present.iter().filter(|object| !in_the_way(object)).count();
    if others > 0 {
        findings.warning(
            "target_others",
            format!("the target's database has {others} objects that the source does not have"),
            "they stay as they are; a database of its own is cleaner",
            "",
        );
    }
    Ok(())
}

/// What has a list of arguments in its name; an aggregate is dropped as the routine that it is.
const ROUTINES: [&str; 3] = ["FUNCTION", "PROCEDURE", "ROUTINE"];

/// Everything that an object to be restored could collide with: the word that drops it, and its quoted name.
async fn objects(side: &Side, schemas: &[String]) -> Result<Vec<(String, String)>> {
    let cannot = |error| failed("the objects of a database cannot be read", error);
    let rows = side
        .session
        .query(
            "SELECT kind, name FROM (
                 SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                     WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END AS kind,
                     format('%I.%I', n.nspname, c.relname) AS name, n.nspname, 'pg_class'::regclass AS class, c.oid
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
                 UNION ALL SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END,
                     format('%I.%I', n.nspname, t.typname), n.nspname, 'pg_type'::regclass, t.oid
                 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
                 WHERE t.typtype IN ('d', 'e', 'r')
                 UNION ALL SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'ROUTINE' ELSE 'FUNCTION' END,
                     p.oid::regprocedure::text, n.nspname, 'pg_proc'::regclass, p.oid
                 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace) o
             WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'headgate')
               AND (cardinality($1::text[]) = 0 OR nspname = ANY ($1::text[]))
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                   WHERE d.classid = o.class AND d.objid = o.oid AND (d.deptype = 'e'
                       -- What belongs to something else goes with it; a pair of columns belongs to its own type.
                       OR d.deptype = 'i' AND NOT (kind = 'TYPE' AND o.class = 'pg_class'::regclass)))
             ORDER BY 2, 1",
            &[&schemas],
        )
        .await
        .map_err(cannot)?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(cannot)
}
