//! Whether a cutover will have a way back: what the target lacks to be followed, and the source to take what comes back.

use super::super::rights::Held;
use super::super::{Mysql, catalogue};
use super::side::Side;
use super::{rights, server, tables};
use crate::error::Result;
use crate::preflight::{Check, Findings, Level};

const SOURCE: &str = "source_way_back";
const TARGET: &str = "target_way_back";
const REFUSED: &str = "a cutover is refused without it, unless it says WITH (way_back = 'none')";

/// What keeps changes from going from the source of `mysql` to its target, or their rows from being compared, by the
/// server that lacks it.
pub(super) async fn lacking(mysql: &Mysql, source: &mut Side, target: &mut Side) -> [Vec<Check>; 2] {
    let (mut here, mut there) = (Findings::default(), Findings::default());
    server::stream(mysql, source, &mut here).await;
    let outcome = tables::cascades(source, &catalogue::listed(mysql), &mut here).await;
    here.ran("foreign_key_cascades", outcome);
    rights::source(mysql, source, &mut here).await;
    here.checks.retain(|check| check.level == Level::Error);
    rights::applier(mysql, target, &mut there).await;
    let outcome = triggers(mysql, target, &mut there).await;
    there.ran("triggers", outcome);
    there.checks.retain(|check| check.level != Level::Ok);
    [here.checks, there.checks]
}

/// Triggers are out of the way while changes come, and created anew before the target serves.
async fn triggers(mysql: &Mysql, target: &mut Side, findings: &mut Findings) -> Result<()> {
    const NAME: &str = "triggers";
    let held = Held::read(&mut target.session).await?;
    let moving = format!("TRIGGER_SCHEMA IN ({})", catalogue::listed(mysql));
    let trusted = target.is_on("log_bin_trust_function_creators") || !target.is_on("log_bin");
    if !trusted && !held.has(&["SUPER"]) {
        let any =
            format!("SELECT TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE {moving} LIMIT 1");
        if let Some((schema, name)) = target.pairs(&any).await?.first() {
            findings.error(
                NAME,
                format!("the trigger {schema}.{name} could not be created on the target again"),
                "it is refused while the binary log is on: let the target trust whoever creates triggers",
                target.set("log_bin_trust_function_creators", "ON"),
            );
        }
    }
    if target.version.is_mysql_from(8, 0, 16) && !held.has(&["SYSTEM_USER"]) {
        let any = format!(
            "SELECT CONCAT(TRIGGER_SCHEMA, '.', TRIGGER_NAME), DEFINER FROM information_schema.TRIGGERS
                 JOIN mysql.global_grants ON PRIV = 'SYSTEM_USER'
                     AND CAST(DEFINER AS BINARY) = CAST(CONCAT(USER, '@', HOST) AS BINARY)
                 WHERE {moving} LIMIT 1"
        );
        if let Some((name, definer)) = target.pairs(&any).await?.first() {
            findings.error(
                NAME,
                format!(
                    "the trigger {name} of {definer} could not be created on the target again: it lacks SYSTEM_USER"
                ),
                "its definer has this right: give it to Headgate's account too, or the trigger another definer",
                format!("GRANT SYSTEM_USER ON *.* TO {}", held.account),
            );
        }
    }
    Ok(())
}

pub(super) async fn run(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) {
    let next = mysql.for_leg(mysql.leg().next());
    let [there, here] = lacking(&next, target, source).await;
    for (name, lacking, fine) in [
        (SOURCE, here, "the source can take what comes back"),
        (TARGET, there, "the target's log can be followed for a way back"),
    ] {
        if lacking.is_empty() {
            findings.ok(name, fine);
        }
        for check in lacking {
            let mut remedy = turned(&check.remedy);
            if check.level == Level::Error {
                remedy = format!("{remedy}; {REFUSED}");
            }
            findings.warning(name, turned(&check.evidence), &remedy, check.fix);
        }
    }
}

/// What is told of the sides of the next leg, in the words of this one.
fn turned(text: &str) -> String {
    let parts: Vec<String> = text.split("the source").map(|part| part.replace("the target", "the source")).collect();
    parts.join("the target")
}
