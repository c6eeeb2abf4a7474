//! Who writes to the source, as the source itself says: also around Headgate, and past the fence.

use tokio_postgres::{Client, Statement};

use crate::database::GatedBackends;
use crate::error::Result;
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::rights;
use crate::postgres::service;
use crate::postgres::sql::quote_ident;
use crate::preflight::{Check, Findings, Level};
use crate::rights::Side;

/// How many are named.
const NAMED_MAX: usize = 10;

/// A write transaction that the source has open.
struct Writer {
    pid: i64,
    /// What it is, for people.
    who: String,
    /// Who may switch the fence's triggers off.
    passes_fence: bool,
}

/// A session on the source that asks who writes there, planned ahead: planning takes longer than looking.
pub(crate) struct Watch {
    session: Client,
    statement: Statement,
}

impl Watch {
    /// Prepares the session.
    pub(crate) async fn open(session: Client) -> Result<Self> {
        let query =
            "SELECT a.pid::bigint, format('pid %s of user %s (application %s), writing for %s s', a.pid, a.usename,
                 quote_literal(a.application_name),
                 coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::int::text, 'an unknown number of')),
                 r.rolsuper
             FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
             WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()
               AND NOT (a.usename = current_user AND a.application_name LIKE 'headgate %')
             UNION ALL
             SELECT 0, format('the prepared transaction %L of user %s, since %s', gid, owner, prepared), true
             FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
             ORDER BY 1";
        let statement =
            session.prepare(query).await.map_err(|error| failed("cannot see who writes to the source", error))?;
        let watch = Self { session, statement };
        // The server plans a statement when it runs it for the first time.
        open(&watch).await?;
        Ok(watch)
    }
}

/// Sessions of this database with a write transaction that are not Headgate's own; prepared transactions have no pid. Of
/// a session whose details are hidden the source still says who it is and whether it writes.
async fn open(watch: &Watch) -> Result<Vec<Writer>> {
    let cannot = |error| failed("cannot see who writes to the source", error);
    let rows = watch.session.query(&watch.statement, &[]).await.map_err(cannot)?;
    rows.iter()
        .map(|row| Ok(Writer { pid: row.try_get(0)?, who: row.try_get(1)?, passes_fence: row.try_get(2)? }))
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(cannot)
}

/// Refuses where somebody has a write open that the fence does not stop: a superuser's session, which may switch the
/// fence's triggers off, or a prepared transaction, whose commit is no session's write.
pub(crate) async fn refuse(postgres: &Postgres, watch: &Watch) -> Result<()> {
    let passing: Vec<String> = open(watch)
        .await?
        .into_iter()
        .filter(|writer| writer.passes_fence)
        .map(|writer| writer.who)
        .take(NAMED_MAX)
        .collect();
    crate::writers::refuse(postgres.name(), &passing, "applications must not connect as superuser")
}

/// What stands in the way of a cutover, or that nobody does.
pub(crate) async fn findings(postgres: &Postgres, gated_backends: GatedBackends<'_>) -> Result<Vec<Check>> {
    let watch = Watch::open(postgres.connect_source("readiness").await?).await?;
    let source = &watch.session;
    let gated = gated_backends()?;
    let mut findings = Findings::default();
    let writers = open(&watch).await?;
    let direct: Vec<&Writer> = writers.iter().filter(|writer| !gated.contains(&writer.pid)).collect();
    for writer in direct.iter().take(NAMED_MAX) {
        let (level, remedy) = if writer.passes_fence {
            (Level::Error, "the fence does not stop it: let it end, or end it")
        } else {
            (Level::Warning, "it goes around Headgate; the fence waits for it, and refuses its next write")
        };
        let fix = if writer.pid == 0 { String::new() } else { format!("SELECT pg_terminate_backend({})", writer.pid) };
        findings.checks.push(Check::new("writers", level, writer.who.clone(), remedy, fix));
    }
    if direct.is_empty() {
        findings.ok("writers", "no write transaction goes around Headgate, and none is prepared");
    }
    let lacking = rights::lacking(postgres, source, Side::Source).await?;
    let service = service::of(source).await?.service();
    if let Some(grant) = lacking.iter().find(|grant| grant.check == "source_sessions") {
        findings.error(
            "direct_sessions",
            format!("{} may not {} on the source: {}", postgres.source().user, grant.what, grant.without),
            "grant the right",
            grant.statement.clone(),
        );
    } else {
        let outcome = direct_sessions(source, &gated, &mut findings).await;
        findings.ran("direct_sessions", outcome);
    }
    let hidden: Vec<_> = lacking.iter().filter(|grant| grant.check == "source_origins").collect();
    for grant in &hidden {
        findings.warning(
            "replication_origins",
            format!("{} may not {} on the source: {}", postgres.source().user, grant.what, grant.without),
            &rights::remedy(grant, service),
            grant.statement.clone(),
        );
    }
    if hidden.is_empty() {
        let outcome = replication_origins(postgres, source, &mut findings).await;
        findings.ran("replication_origins", outcome);
    }
    Ok(findings.checks)
}

/// Sessions that do not come through the gate stay on the source after the switch; of those that hide their changes from
/// triggers, replicas or the change stream the server tells nobody but themselves.
async fn direct_sessions(source: &Client, gated: &[i64], findings: &mut Findings) -> Result<()> {
    let rows = source
        .query(
            "SELECT a.pid::bigint, format('%s from %s as %s', quote_literal(a.application_name),
                 coalesce(host(a.client_addr), 'a local socket'), a.usename)
             FROM pg_catalog.pg_stat_activity a
             WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
               AND NOT (a.usename = current_user AND a.application_name LIKE 'headgate %') ORDER BY 1",
            &[],
        )
        .await
        .map_err(|error| failed("cannot see who is connected to the source", error))?;
    let mut direct = Vec::new();
    for row in &rows {
        let read = || Ok::<(i64, String), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
        let (pid, who) = read().map_err(|error| failed("cannot see who is connected to the source", error))?;
        if !gated.contains(&pid) {
            direct.push(who);
        }
    }
    if direct.is_empty() {
        findings.ok("direct_sessions", "all sessions come through Headgate");
    } else {
        let count = direct.len();
        direct.dedup();
        direct.truncate(NAMED_MAX);
        findings.warning(
            "direct_sessions",
            format!("{count} sessions go around Headgate: {}", direct.join("; ")),
            "they stay on the source, where their writes are refused after the switch: let them connect through Headgate",
            "",
        );
    }
    Ok(())
}

/// Other replication that writes to the source.
async fn replication_origins(postgres: &Postgres, source: &Client, findings: &mut Findings) -> Result<()> {
    let hiding: bool = source
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_origin_status s
                 WHERE s.external_id NOT LIKE 'headgate%')",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot see whether other replication writes to the source", error))?;
    if hiding {
        findings.warning(
            "replication_origins",
            format!(
                "replication writes to the source; what it writes reaches {} too",
                quote_ident(&postgres.target().database)
            ),
            "stop it before the cutover: it passes the fence's triggers",
            "",
        );
    }
    Ok(())
}
