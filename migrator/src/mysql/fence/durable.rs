//! What of the fence a restart of the source's server would forget: completed after the switch, raised again where it
//! came down, and taken back with the fence.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::super::client::{self, Version, failed};
use super::super::{Mysql, stale_sessions};
use super::kept::{Accounts, INSTALL, persisted, remembered, unlogged};
use super::passing;
use super::passing::{Passing, own_rights};
use super::write_block::{REFUSAL, TURN};
use super::writers;
use super::{locked, write_block};
use crate::error::{Error, Result};
use crate::preflight::{Check, Findings};

const NAME: &str = "source_refusal";

/// What keeps the refusal up when the source's server is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    /// The server, which remembers its settings.
    Server,
    /// Locked accounts, as the server is not known to remember.
    Accounts,
    /// Headgate, as long as it runs.
    Headgate,
}

impl Keeper {
    async fn of(session: &mut Conn, version: Version) -> Result<Self> {
        if remembers(session, version).await? {
            return Ok(Self::Server);
        }
        Ok(if version.locks_accounts() { Self::Accounts } else { Self::Headgate })
    }
}

/// Whether a restart brings settings back that were persisted. That a server reads no files at all (`--no-defaults`) is in
/// none of its settings: one that did says so of the settings that it found in them.
async fn remembers(session: &mut Conn, version: Version) -> Result<bool> {
    if !version.is_mysql_from(8, 0, 0) {
        return Ok(false);
    }
    let reported: Option<u8> = session
        .query_first(
            "SELECT @@GLOBAL.persisted_globals_load = 1 AND EXISTS (
                 SELECT 1 FROM performance_schema.variables_info
                 WHERE variable_source IN ('GLOBAL', 'SERVER', 'EXPLICIT', 'EXTRA', 'USER', 'LOGIN', 'PERSISTED'))",
        )
        .await
        .map_err(|error| failed("cannot see whether the source keeps its settings", error))?;
    Ok(reported == Some(1))
}

/// Lets the server remember `read_only`, where it does that and lets us; else the accounts are locked after the switch.
pub(super) async fn persist(mysql: &Mysql, session: &mut Conn, version: Version) -> Result<()> {
    if !version.is_mysql_from(8, 0, 0) {
        return Ok(());
    }
    match session.query_drop("SET PERSIST read_only = ON").await {
        Ok(()) => Ok(()),
        Err(Failure::Server(reported)) => {
            tracing::warn!(
                migration = mysql.name(),
                "the source does not remember read_only ({}); its accounts are locked after the switch",
                reported.message
            );
            Ok(())
        }
        Err(error) => Err(failed("cannot make the fence durable", error)),
    }
}

/// Completes a sealed fence, and raises again what a restart of the server has taken down. Tells whether that must be
/// looked at again and again.
pub async fn uphold(mysql: &Mysql) -> Result<bool> {
    let mut session = mysql.connect_source("uphold").await?;
    // Whoever lifts it meanwhile would find it raised again behind him.
    stale_sessions::take_turn(mysql, &mut session, REFUSAL, TURN).await?;
    let outcome = uphold_in(mysql, &mut session).await;
    stale_sessions::end_turn(mysql, &mut session, REFUSAL).await?;
    outcome
}

async fn uphold_in(mysql: &Mysql, session: &mut Conn) -> Result<bool> {
    if !write_block::is_sealed_by_setting(mysql, session).await? {
        return Ok(false);
    }
    let version = client::version(session).await?;
    raise_again(mysql, session).await?;
    session
        .query_drop(INSTALL)
        .await
        .map_err(|error| failed("cannot create what the fence is remembered in", error))?;
    let kept = remembered(mysql, session).await?;
    if kept.is_none() {
        let scheduler = persisted(session, version, "event_scheduler").await?;
        session
            .exec_drop(
                "INSERT IGNORE INTO headgate.fence_durable (switch_of, scheduler, accounts) VALUES (?, ?, '[]')",
                (mysql.name(), scheduler),
            )
            .await
            .map_err(unwritable)?;
    }
    if version.is_mysql_from(8, 0, 0)
        && persisted(session, version, "event_scheduler").await?.as_deref() != Some("OFF")
        && let Err(error) = session.query_drop("SET PERSIST event_scheduler = OFF").await
    {
        let error = failed("the source does not remember that its events are stopped", error);
        tracing::warn!(migration = mysql.name(), %error, "a restart of it starts them again, until Headgate stops them");
    }
    let by = Keeper::of(session, version).await?;
    let read_only = persisted(session, version, "read_only").await?;
    if by == Keeper::Server && read_only.as_deref() == Some("ON") {
        return Ok(false);
    }
    if version.locks_accounts() {
        lock(mysql, session, kept.map(|kept| kept.accounts).unwrap_or_default()).await?;
    }
    Ok(true)
}

async fn raise_again(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    let on: Option<(u8, String)> = session
        .query_first("SELECT @@GLOBAL.read_only = 1, CAST(@@GLOBAL.event_scheduler AS CHAR)")
        .await
        .map_err(|error| failed("cannot see whether the source refuses writes", error))?;
    let (read_only, scheduler) = on.unwrap_or((0, String::new()));
    let mut again = Vec::new();
    if read_only != 1 {
        again.push("SET GLOBAL read_only = ON");
    }
    if scheduler == "ON" {
        again.push("SET GLOBAL event_scheduler = OFF");
    }
    for statement in again {
        tracing::warn!(
            migration = mysql.name(),
            statement,
            "the source's server was restarted, or somebody lifted its fence: it is raised again"
        );
        session.query_drop(statement).await.map_err(|error| failed("cannot raise the source's fence again", error))?;
    }
    Ok(())
}

/// Locks every account that may log in and that `read_only` stops; what passes that would not be stopped by it now either.
async fn lock(mysql: &Mysql, session: &mut Conn, mut ours: Accounts) -> Result<()> {
    let who = Passing::read(mysql, session).await?;
    let open: Accounts = locked::accounts(mysql, session)
        .await?
        .into_iter()
        .filter(|account| !who.holds_it(account) && !passing::is_administrators(&account.0))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<&(String, String)> = ours.iter().collect();
    let fresh: Accounts = open.iter().filter(|account| !known.contains(account)).cloned().collect();
    ours.extend(fresh);
    let written = serde_json::to_string(&ours)
        .map_err(|error| Error::fatal("the accounts cannot be written down").because(error))?;
    session
        .exec_drop("UPDATE headgate.fence_durable SET accounts = ? WHERE switch_of = ?", (written, mysql.name()))
        .await
        .map_err(unwritable)?;
    unlogged(session).await;
    for (name, failure) in locked::alter(session, &open, "LOCK").await {
        match failure {
            Failure::Server(reported) => tracing::warn!(
                migration = mysql.name(),
                account = name,
                "the account cannot be locked ({}): it may write again when the old source's server is restarted",
                reported.message
            ),
            error => return Err(failed("cannot lock accounts of the source", error)),
        }
    }
    Ok(())
}

/// What will become of the refusal when the old source's server is restarted.
pub(in super::super) async fn finding(session: &mut Conn, findings: &mut Findings) -> Result<()> {
    let version = client::version(session).await?;
    let own = own_rights(session).await?;
    if passing::means(&own, version) == passing::Means::Accounts {
        findings.ok(NAME, "the fence locks accounts, and the source keeps them locked over a restart");
        return Ok(());
    }
    match Keeper::of(session, version).await? {
        Keeper::Server => findings.ok(NAME, "the source remembers read_only and stopped events over a restart"),
        Keeper::Accounts if passing::has(&own, &["CREATE USER"]) => findings.ok(
            NAME,
            format!(
                "{version} is not known to remember read_only over a restart: after the switch all accounts but \
                 administrators' are locked there too, and Headgate sets read_only again"
            ),
        ),
        Keeper::Accounts => findings.warning(
            NAME,
            format!(
                "{version} is not known to remember read_only over a restart, and Headgate's account may not lock the \
                 accounts: after one, direct writes to the old source are accepted until Headgate sets read_only again"
            ),
            "let it lock accounts after the switch",
            format!("GRANT CREATE USER ON *.* TO {}", writers::own_account(session).await?),
        ),
        Keeper::Headgate => findings.warning(
            NAME,
            format!(
                "{version} remembers neither read_only nor locks of accounts over a restart: after one, direct writes to \
                 the old source are accepted until Headgate sets read_only again, which it does as long as it runs"
            ),
            "at the switch, put read_only=ON and event_scheduler=OFF into the configuration of the old source",
            "",
        ),
    }
    Ok(())
}

/// How the refusal stands on the old source, for the list of next steps.
pub async fn state(mysql: &Mysql) -> Result<Vec<Check>> {
    let mut session = mysql.connect_source("readiness").await?;
    let mut findings = Findings::default();
    let on: Option<u8> = session
        .query_first("SELECT @@GLOBAL.read_only = 1")
        .await
        .map_err(|error| failed("cannot see whether the source refuses writes", error))?;
    let locked = remembered(mysql, &mut session).await?.map_or(0, |kept| kept.accounts.len());
    if write_block::is_sealed_by_setting(mysql, &mut session).await? && on != Some(1) {
        findings.error(
            "refusal",
            "the old source accepts writes: read_only is OFF there",
            "Headgate sets it again within seconds; find out who lifts it",
            "",
        );
    } else if locked > 0 {
        findings.ok("refusal", format!("the old source refuses writes, and {locked} of its accounts are locked"));
    } else {
        finding(&mut session, &mut findings).await?;
    }
    Ok(findings.checks)
}

fn unwritable(error: Failure) -> Error {
    failed("cannot write down what completes the source's fence", error)
}
