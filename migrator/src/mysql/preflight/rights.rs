//! Checks of what Headgate's own accounts may do on both servers.

use super::super::rights::{Held, READ_ONLY_FENCE};
use super::super::{Mysql, fence};
use super::side::Side;
use crate::error::Result;
use crate::preflight::{Findings, Level};
use crate::rights::{Grant, Side as Which};

const REMEDY: &str =
    "grant the right, to the account or to a role that is active in its sessions; headgate grants prints all of them";
const PRINTS: &str = "a definition that the target prints in other words than the source cannot be compared otherwise";
const MAY_PRINT: &str = "Headgate's account may let the target print the source's definitions";
const WRITERS: &str = "whether others write there before a switch cannot be known otherwise";
const SEES_WRITERS: &str = "Headgate's account may see what others write to the target";

/// What lacks for this check, as (evidence, fix).
pub(super) fn of(lacking: &[Grant], check: &str, account: &str, which: Which) -> Vec<(String, String)> {
    let rows = lacking.iter().filter(|grant| grant.check == check);
    rows.map(|grant| {
        let (side, what) = (which.name(), grant.what);
        let right = right(&grant.statement);
        let evidence = format!("{account} may not {what} on the {side}: it lacks {right}");
        (evidence, grant.statement.clone())
    })
    .collect()
}

/// The right and what it is to.
fn right(statement: &str) -> &str {
    let to = statement.rfind(" TO ").unwrap_or(statement.len());
    statement.get("GRANT ".len()..to).unwrap_or_default()
}

pub(super) async fn source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    let outcome = on_source(mysql, source, findings).await;
    findings.ran("source_rights", outcome);
}

async fn on_source(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let held = Held::read(&mut source.session).await?;
    let lacking = held.lacking(Which::Source, source.version, &mysql.databases());
    let mut lacks = of(&lacking, "source_rights", &held.account, Which::Source);
    let fences = |fix: &str| READ_ONLY_FENCE.contains(&right(fix));
    let locking = held.account_fence_grants(source.version);
    let locks = locking.is_some_and(|lacking| lacking.is_empty())
        // With this one `read_only` would be tried, and the other right be missed.
        && !held.has(&["READ_ONLY ADMIN"]);
    let (unfenced, rest): (Vec<_>, Vec<_>) = lacks.drain(..).partition(|(_, fix)| fences(fix));
    lacks = rest;
    if locks && !unfenced.is_empty() {
        // What a service gives to nobody is not asked for.
        let asked = unfenced.into_iter().filter(|_| !held.service.is_managed());
        let fixes: Vec<String> = asked.map(|(_, fix)| fix).collect();
        findings.warning(
            "source_fence",
            format!("{} may not set read_only on the source", held.account),
            "the fence will lock every account of the server but Headgate's, whatever database it uses, and end all \
             sessions that do not come through this route; a login in the moment before the switch may be refused",
            fixes.join("; "),
        );
        let outcome = fence::events_finding(&mut source.session, findings).await;
        findings.ran("source_events", outcome);
    } else {
        lacks.extend(unfenced);
    }
    findings.each(
        "source_rights",
        Level::Error,
        &lacks,
        REMEDY,
        "Headgate's account has the rights it needs on the source",
    );
    findings.each(
        "source_snapshots",
        Level::Warning,
        &of(&lacking, "source_snapshots", &held.account, Which::Source),
        "exact snapshots lock the tables one by one; the server may then end a client's transaction as a deadlock",
        "Headgate's account may hold all commits back for the moment of an exact snapshot",
    );
    findings.each(
        "source_sessions",
        Level::Warning,
        &of(&lacking, "source_sessions", &held.account, Which::Source),
        "sessions of which the server does not tell enough end at the switch, with the error of a lost connection",
        "Headgate's account can see the state of the sessions that will move",
    );
    Ok(())
}

pub(super) async fn target(mysql: &Mysql, target: &mut Side, findings: &mut Findings) {
    let outcome = on_target(mysql, target, findings).await;
    findings.ran("target_rights", outcome);
}

async fn on_target(mysql: &Mysql, target: &mut Side, findings: &mut Findings) -> Result<()> {
    let held = Held::read(&mut target.session).await?;
    let lacking = held.lacking(Which::Target, target.version, &mysql.databases());
    let prints = of(&lacking, "target_prints", &held.account, Which::Target);
    findings.each("target_prints", Level::Warning, &prints, PRINTS, MAY_PRINT);
    findings.each(
        "target_sessions",
        Level::Warning,
        &of(&lacking, "target_sessions", &held.account, Which::Target),
        "clients are held longer at the cutover otherwise: all definitions of the target are read again",
        "Headgate's account can see that no session is changing a definition of the target",
    );
    findings.each(
        "target_proof",
        Level::Warning,
        &of(&lacking, "target_proof", &held.account, Which::Target),
        "it cannot be proved after the switch that both sides were equal: the proof would keep DDL waiting",
        "Headgate's account may prove the switch without keeping DDL of the target waiting",
    );
    let writers = of(&lacking, "target_writers", &held.account, Which::Target);
    findings.each("target_writers", Level::Error, &writers, REMEDY, SEES_WRITERS);
    let lacking = of(&lacking, "target_rights", &held.account, Which::Target);
    findings.each(
        "target_rights",
        Level::Error,
        &lacking,
        REMEDY,
        "Headgate's account has the rights it needs on the target",
    );
    Ok(())
}

/// What an applier needs on a server that has the schema already.
pub(super) async fn applier(mysql: &Mysql, target: &mut Side, findings: &mut Findings) {
    let outcome = of_applier(mysql, target, findings).await;
    findings.ran("target_rights", outcome);
}

async fn of_applier(mysql: &Mysql, target: &mut Side, findings: &mut Findings) -> Result<()> {
    let held = Held::read(&mut target.session).await?;
    let lacking = held.lacking_to_apply(target.version, &mysql.databases());
    let of = |check| of(&lacking, check, &held.account, Which::Target);
    findings.each("target_rights", Level::Error, &of("target_rights"), REMEDY, "Headgate's account may apply changes");
    findings.each("target_writers", Level::Warning, &of("target_writers"), WRITERS, SEES_WRITERS);
    findings.each("target_prints", Level::Warning, &of("target_prints"), PRINTS, MAY_PRINT);
    Ok(())
}
