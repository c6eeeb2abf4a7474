//! Checks of both servers together: versions, encodings, collations, extensions, room for locks.

use super::super::Postgres;
use super::super::client::{self, failed};
use super::super::sql::quote_ident;
use super::side::{Side, one};
use crate::error::Result;
use crate::postgres::schema::properties::assign;
use crate::preflight::{Findings, Level};

pub(super) async fn run(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) {
    if target.major() < source.major() {
        findings.error(
            "target_version",
            format!("the target is version {}, the source {}", target.major(), source.major()),
            "the target must be of the same or a newer major version",
            "",
        );
    } else {
        findings.ok("target_version", format!("version {}", target.major()));
    }
    let outcome = encodings(source, target, findings).await;
    findings.ran("encoding", outcome);
    let outcome = extensions(source, target, findings).await;
    findings.ran("extensions", outcome);
    let outcome = client_settings(postgres, target, findings).await;
    findings.ran("client_settings", outcome);
    let outcome = locks(postgres, source, target, findings).await;
    findings.ran("max_locks_per_transaction", outcome);
    let outcome = same_database(postgres, source, target, findings).await;
    findings.ran("same_database", outcome);
}

/// A database's encoding, collation, character classes, provider and the version of its collation.
async fn locale(side: &Side) -> Result<[String; 5]> {
    let row = side
        .session
        .query_one(
            "SELECT pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
                 coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
                 coalesce(to_jsonb(d) ->> 'datcollversion',
                     (SELECT pg_catalog.pg_collation_actual_version(c.oid) FROM pg_catalog.pg_collation c
                      WHERE c.collprovider = 'c' AND c.collname = d.datcollate LIMIT 1), 'unknown')
             FROM pg_catalog.pg_database d WHERE d.datname = current_database()",
            &[],
        )
        .await
        .map_err(|error| failed("the database's encoding cannot be read", error))?;
    let text =
        |column: usize| row.try_get::<_, String>(column).map_err(|error| failed("the encoding cannot be read", error));
    Ok([text(0)?, text(1)?, text(2)?, text(3)?, text(4)?])
}

async fn encodings(source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let there = locale(source).await?;
    if !target.has_database {
        findings.ok("encoding", format!("the target's database will be created with {}", there[0]));
        return Ok(());
    }
    let here = locale(target).await?;
    if there[0] == here[0] {
        findings.ok("encoding", there[0].as_str());
    } else {
        findings.error(
            "encoding",
            format!("the source is in {}, the target in {}", there[0], here[0]),
            "let Headgate create the target's database: name one that does not exist",
            "",
        );
    }
    // Without a language's rules, texts are ordered by their bytes, the same everywhere.
    let plain = ["C", "POSIX"];
    let same_order = there[1..] == here[1..] || plain.contains(&&*there[1]) && plain.contains(&&*here[1]);
    if same_order {
        findings.ok("collation", format!("{} on both sides", there[1]));
    } else {
        findings.warning(
            "collation",
            format!("texts are ordered by {} on the source and {} on the target", there[1..].join(" "), here[1..].join(" ")),
            "ORDER BY and unique indexes on text may answer differently; indexes are rebuilt, so they are right for the target",
            "",
        );
    }
    Ok(())
}

async fn extensions(source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let used: Vec<String> = one(
        &source.session,
        "SELECT coalesce(array_agg(extname::text ORDER BY 1), '{}') FROM pg_catalog.pg_extension",
        &[],
    )
    .await?;
    let missing: Vec<String> = one(
        &target.session,
        "SELECT coalesce(array_agg(name), '{}') FROM unnest($1::text[]) AS name
         WHERE name NOT IN (SELECT name FROM pg_catalog.pg_available_extensions)
           AND name NOT IN (SELECT extname FROM pg_catalog.pg_extension)",
        &[&used],
    )
    .await?;
    let missing: Vec<_> = missing
        .into_iter()
        .map(|name| {
            let fix = format!("DROP EXTENSION {}", quote_ident(&name));
            (format!("the extension {name} is not available on the target"), fix)
        })
        .collect();
    findings.each(
        "extensions",
        Level::Error,
        &missing,
        "install it on the target's server, or drop it from the source if nothing needs it",
        &format!("{} on the source, all available on the target", used.join(", ")),
    );
    Ok(())
}

/// What a server's configuration sets for its sessions, where that changes what statements mean or what they may do. What
/// databases and roles set is carried over, and not asked here.
const INHERITED: &str = "SELECT coalesce(array_agg(name || '=' || reset_val ORDER BY name), '{}')
    FROM pg_catalog.pg_settings WHERE context IN ('user', 'superuser')
      AND source NOT IN ('database', 'user', 'database user', 'client')
      AND (category ~ '^(Client Connection Defaults / (Statement|Locale)|Version and Platform)'
          OR name IN ('synchronous_commit', 'password_encryption'))
      AND name NOT IN ('client_encoding', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable',
          'session_replication_role', 'lc_messages', 'icu_validation_level', 'event_triggers',
          'restrict_nonsystem_relation_kind')";

/// A session that moves keeps what it had; a new one gets what the target's configuration says.
async fn client_settings(postgres: &Postgres, target: &Side, findings: &mut Findings) -> Result<()> {
    let plainly = async |endpoint, database: &str| {
        let endpoint = client::Endpoint { database: database.to_owned(), ..Clone::clone(endpoint) };
        client::connect_plainly(&endpoint, &postgres.purpose("precheck")).await
    };
    let here = if target.has_database {
        postgres.target().database.clone()
    } else {
        one(&target.session, "SELECT current_database()::text", &[]).await?
    };
    let (there, here) =
        tokio::try_join!(plainly(postgres.source(), &postgres.source().database), plainly(postgres.target(), &here))?;
    let ours: Vec<String> = one(&there, INHERITED, &[]).await?;
    let theirs: Vec<String> = one(&here, INHERITED, &[]).await?;
    let database = quote_ident(&postgres.source().database);
    let differing: Vec<(String, String)> = ours
        .iter()
        .filter(|setting| !theirs.contains(setting))
        .filter_map(|setting| {
            let (name, value) = setting.split_once('=')?;
            let prefix = format!("{name}=");
            let other = theirs.iter().find_map(|one| one.strip_prefix(&prefix))?;
            let set = format!("ALTER DATABASE {database} {}", assign(setting));
            Some((format!("sessions get {name} = {value} on the source and {other} on the target"), set))
        })
        .collect();
    findings.each(
        "client_settings",
        Level::Warning,
        &differing,
        "set it for the source's database, which carries it over, or in the target's configuration",
        "sessions get the same settings on both sides, as far as these change what statements mean",
    );
    Ok(())
}

/// The fence locks every table at once on the source; the schema is restored in one transaction on the target.
async fn locks(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let relations: i64 = one(
        &source.session,
        "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'i', 'I', 'S', 'v', 'm', 't') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]) OR n.nspname = 'pg_toast')",
        &[&postgres.settings().schemas],
    )
    .await?;
    for (side, name) in [(source, "source"), (target, "target")] {
        let sessions: i64 = one(
            &side.session,
            "SELECT current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint",
            &[],
        )
        .await?;
        let each: i64 = one(&side.session, "SELECT current_setting('max_locks_per_transaction')::bigint", &[]).await?;
        let room = each * sessions;
        if relations > room / 2 {
            findings.error(
                "max_locks_per_transaction",
                format!("{relations} relations in one transaction, room for {room} locks on the {name}"),
                "raise max_locks_per_transaction and restart the server",
                format!("ALTER SYSTEM SET max_locks_per_transaction = {}", (relations * 3 / sessions).max(256)),
            );
        } else {
            findings.ok("max_locks_per_transaction", format!("{relations} of {room} on the {name}"));
        }
    }
    Ok(())
}

/// Moving a database onto itself would empty it.
async fn same_database(postgres: &Postgres, source: &Side, target: &Side, findings: &mut Findings) -> Result<()> {
    let identity = "SELECT (system_identifier::text || ' ' || pg_catalog.pg_postmaster_start_time()::text)
         FROM pg_catalog.pg_control_system()";
    let there: String = one(&source.session, identity, &[]).await?;
    let here: String = one(&target.session, identity, &[]).await?;
    if there == here && postgres.source().database == postgres.target().database {
        findings.error(
            "same_database",
            "source and target are the same database of the same server",
            "name another cluster or another database as the target",
            "",
        );
    } else {
        findings.ok("same_database", "source and target are different databases");
    }
    Ok(())
}
