//! Checks of what both servers do where nobody says otherwise: names, sizes, modes, events, time zones.

use std::collections::BTreeSet;

use super::super::catalogue::{TextRow, ask};
use super::super::sql::quote_literal;
use super::side::Side;
use crate::error::Result;
use crate::mysql::limits::TransactionLimit;
use crate::preflight::Findings;

/// A transaction of the source is one on the target too.
fn transactions(source: &Side, target: &Side, findings: &mut Findings) {
    const NAME: &str = "transaction_size";
    let lower = TransactionLimit::lower_on_target(|name| source.setting(name), |name| target.setting(name));
    if lower.is_empty() {
        findings.ok(NAME, "the target takes transactions as large as the source's");
    }
    for (name, here, there) in lower {
        let there_text = there.map_or("unlimited".to_owned(), |there| there.to_string());
        let fix = there.map_or(String::new(), |there| target.set(name, &there.to_string()));
        findings.warning(
            NAME,
            format!("{name} is {there_text} on the source and {here} on the target"),
            "a transaction of the source that is larger stops the follower, and Headgate's own stay below it: let the target take \
             what the source takes, or see that the application writes less at once",
            fix,
        );
    }
}

pub(super) fn settings(source: &Side, target: &Side, findings: &mut Findings) {
    let (there, here) = (source.setting("lower_case_table_names"), target.setting("lower_case_table_names"));
    if there == here {
        findings.ok("lower_case_table_names", there.unwrap_or("0"));
    } else {
        findings.error(
            "lower_case_table_names",
            format!("lower_case_table_names is {} on the source and {} on the target", there.unwrap_or("?"), here.unwrap_or("?")),
            "names of tables would not be found: set up the target anew with the source's value, which cannot be changed later",
            "",
        );
    }
    let (there, here) =
        (source.number("max_allowed_packet").unwrap_or(0), target.number("max_allowed_packet").unwrap_or(0));
    if here >= there {
        findings.ok("max_allowed_packet", format!("{here} bytes on the target"));
    } else {
        findings.error(
            "max_allowed_packet",
            format!("max_allowed_packet is {there} on the source and {here} on the target"),
            "the largest rows and statements would be refused",
            target.set("max_allowed_packet", &there.to_string()),
        );
    }
    transactions(source, target, findings);
    let modes = |side: &Side| -> BTreeSet<String> {
        let modes = side.setting("sql_mode").unwrap_or_default().split(',');
        modes.filter(|mode| !mode.is_empty() && *mode != "NO_AUTO_CREATE_USER").map(str::to_owned).collect()
    };
    let (there, here) = (modes(source), modes(target));
    if there == here {
        findings.ok("sql_mode", source.setting("sql_mode").unwrap_or_default());
    } else {
        let only = |some: &BTreeSet<String>, other: &BTreeSet<String>| {
            let names: Vec<&str> = some.difference(other).map(String::as_str).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        let list: Vec<&str> = there.iter().map(String::as_str).collect();
        findings.warning(
            "sql_mode",
            format!("only on the source: {}; only on the target: {}", only(&there, &here), only(&here, &there)),
            "sessions that move keep the source's mode; new ones get the target's, which may refuse zero dates or cut values that passed so far",
            target.set("sql_mode", &quote_literal(&list.join(","))),
        );
    }
    if source.is_on("event_scheduler") && !target.is_on("event_scheduler") {
        findings.warning(
            "event_scheduler",
            "the event scheduler runs on the source and not on the target",
            "events would not run after the switch",
            target.set("event_scheduler", "ON"),
        );
    } else {
        findings.ok("event_scheduler", "events run on the target as they do on the source");
    }
}

pub(super) async fn time_zones(source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    const QUERY: &str = "SELECT COUNT(*) FROM mysql.time_zone_name";
    let there = ask(&mut source.session, QUERY, "cannot read the source's time zones").await?;
    let here = ask(&mut target.session, QUERY, "cannot read the target's time zones").await?;
    let count = |rows: &[TextRow]| rows.first().map_or(0, |row| row.number(0));
    if count(&there) > 0 && count(&here) == 0 {
        findings.warning(
            "time_zones",
            format!("the source knows {} named time zones, the target none", count(&there)),
            "sessions, events and CONVERT_TZ that name one would fail: load them with mysql_tzinfo_to_sql /usr/share/zoneinfo | mysql mysql",
            "",
        );
    } else {
        findings.ok("time_zones", "the target knows named time zones where the source does");
    }
    let zone = |side: &Side| {
        let zone = match side.setting("time_zone") {
            Some("SYSTEM") | None => side.setting("system_time_zone").unwrap_or_default(),
            Some(zone) => zone,
        };
        // Names are known only where they were loaded; this one is known everywhere.
        match zone {
            "UTC" | "GMT" | "Etc/UTC" => "+00:00".to_owned(),
            zone => zone.to_owned(),
        }
    };
    let (there, here) = (zone(source), zone(target));
    if there == here {
        findings.ok("time_zone", there);
        return Ok(());
    }
    let known = format!("SELECT CONVERT_TZ('2000-01-01', '+00:00', {}) IS NOT NULL", quote_literal(&there));
    let known = ask(&mut target.session, &known, "cannot try a time zone").await?;
    let fix = if known.first().is_some_and(|row| row.is_on(0)) {
        target.set("time_zone", &quote_literal(&there))
    } else {
        String::new()
    };
    findings.warning(
        "time_zone",
        format!("the source's time zone is {there}, the target's {here}"),
        "sessions that move keep the source's; new ones read TIMESTAMP values in the target's: set it there, after its named time zones are loaded where it does not know this one",
        fix,
    );
    Ok(())
}
