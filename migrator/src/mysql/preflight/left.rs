//! Checks of what stays behind: what a server has beside databases and accounts, and cannot be carried for everybody.

use super::super::Mysql;
use super::super::catalogue::{TextRow, ask, listed};
use super::super::sql::{qualified, quote_ident, quote_literal};
use super::side::Side;
use crate::error::Result;
use crate::mysql::refusal::ACCOUNT;
use crate::preflight::{Findings, Level};

const WHAT: &str = "a check of what stays behind could not run";
/// A side, and the check that says what cannot be seen there.
type On = (&'static str, &'static str);
const SOURCE: On = ("source_left_behind", "source");
const TARGET: On = ("target_left_behind", "target");

pub(super) async fn run(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) {
    let outcome = read_only(mysql, source, findings).await;
    findings.ran("read_only_databases", outcome);
    let outcome = tablespaces(mysql, source, findings).await;
    findings.ran("tablespaces", outcome);
    let outcome = resource_groups(source, target, findings).await;
    findings.ran("resource_groups", outcome);
    let outcome = plugins(source, target, findings).await;
    findings.ran("plugins", outcome);
    history(source, findings).await;
    costs(source, target, findings).await;
    statistics(mysql, source, findings).await;
}

async fn read_only(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let mut found = Vec::new();
    if source.version.is_mysql_from(8, 0, 22) {
        let query = format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA_EXTENSIONS
             WHERE OPTIONS LIKE '%READ ONLY=1%' AND SCHEMA_NAME IN ({})",
            listed(mysql)
        );
        for row in ask(&mut source.session, &query, WHAT).await? {
            found.push((
                format!("the database {} is READ ONLY, and will take writes on the target", row.text(0)),
                format!("ALTER DATABASE {} READ ONLY = 0", quote_ident(row.text(0))),
            ));
        }
    }
    findings.each(
        "read_only_databases",
        Level::Warning,
        &found,
        "the target is filled and followed, so that it cannot be READ ONLY before the switch: let it be writable on the \
         source too, and set READ ONLY = 1 on the target after the switch",
        "no database that moves is READ ONLY",
    );
    Ok(())
}

async fn tablespaces(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let mut found = Vec::new();
    if source.version.is_mysql_from(8, 0, 0) {
        let columns = "NAME";
        let table = "information_schema.INNODB_TABLES";
        let rows = shown(SOURCE, source, table, columns, "SPACE_TYPE = 'General'", findings).await;
        let moving = mysql.databases();
        for row in &rows {
            let (schema, name) = row.text(0).split_once('/').unwrap_or_default();
            // What the engine writes in another way is named as it writes it.
            if !moving.iter().any(|one| one == schema) {
                continue;
            }
            let table = qualified(schema, name.split('#').next().unwrap_or(name));
            found.push((
                format!("{table} is in a tablespace with others, and gets a file of its own on the target"),
                format!("ALTER TABLE {table} TABLESPACE `innodb_file_per_table`"),
            ));
        }
    }
    findings.each(
        "tablespaces",
        Level::Warning,
        &found,
        "where the files lie is no part of a migration: create the tablespace on the target and move the table there after the switch, or give it a file of its own here",
        "every table that moves has a file of its own",
    );
    Ok(())
}

async fn resource_groups(source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    const NAME: &str = "resource_groups";
    let mut found = Vec::new();
    let there = groups(SOURCE, source, findings).await?.unwrap_or_default();
    if !there.is_empty() {
        let knows = target.version.is_mysql_from(8, 0, 3);
        let Some(here) = groups(TARGET, target, findings).await? else {
            return Ok(());
        };
        for row in there.iter().filter(|row| !here.iter().any(|one| one.text(0) == row.text(0))) {
            let state = if row.is_on(4) { "ENABLE" } else { "DISABLE" };
            let create = format!(
                "CREATE RESOURCE GROUP {} TYPE = {} VCPU = {} THREAD_PRIORITY = {} {state}",
                quote_ident(row.text(0)),
                row.text(1),
                row.text(2),
                row.text(3)
            );
            found.push((
                format!("the resource group {} is not on the target", row.text(0)),
                if knows { create } else { String::new() },
            ));
        }
    }
    findings.each(
        NAME,
        Level::Warning,
        &found,
        "whoever uses it by a hint or SET RESOURCE GROUP gets a warning or an error: create it on the target, with its processors",
        "no resource group is missing on the target",
    );
    Ok(())
}

/// The resource groups that somebody made; `None` where they may not be seen. That is told by the server's own: every
/// server has these, and shows none at all to whoever may not use one.
async fn groups(on: On, side: &mut Side, findings: &mut Findings) -> Result<Option<Vec<TextRow>>> {
    const OWN: [&str; 2] = ["USR_default", "SYS_default"];
    const QUERY: &str = "SELECT RESOURCE_GROUP_NAME, RESOURCE_GROUP_TYPE, CAST(VCPU_IDS AS CHAR), THREAD_PRIORITY,
        RESOURCE_GROUP_ENABLED FROM information_schema.RESOURCE_GROUPS";
    if !side.version.is_mysql_from(8, 0, 3) {
        return Ok(Some(Vec::new()));
    }
    let mut rows = ask(&mut side.session, QUERY, WHAT).await?;
    if rows.is_empty() {
        hidden(on, side, "resource groups there are", "RESOURCE_GROUP_USER ON *.*", findings).await;
        return Ok(None);
    }
    rows.retain(|row| !OWN.contains(&row.text(0)));
    Ok(Some(rows))
}

/// Plugins, components and loadable functions by name, each with the statement that installs it.
async fn installed(on: On, side: &mut Side, findings: &mut Findings) -> Result<Vec<(String, String)>> {
    let query = "SELECT PLUGIN_NAME, PLUGIN_LIBRARY FROM information_schema.PLUGINS
        WHERE PLUGIN_LIBRARY IS NOT NULL AND PLUGIN_STATUS = 'ACTIVE'";
    let rows = ask(&mut side.session, query, WHAT).await?;
    let install = |row: &TextRow| {
        let library = row.text(1).trim_end_matches(".so").to_owned() + ".so";
        let install = format!("INSTALL PLUGIN {} SONAME {}", row.text(0), quote_literal(&library));
        (format!("plugin {}", row.text(0).to_lowercase()), install)
    };
    let mut found: Vec<(String, String)> = rows.iter().map(install).collect();
    if side.version.is_mysql_from(8, 0, 0) {
        let rows = shown(on, side, "mysql.component", "component_urn", "TRUE", findings).await;
        let install = |row: &TextRow| {
            let install = format!("INSTALL COMPONENT {}", quote_literal(row.text(0)));
            (format!("component {}", row.text(0)), install)
        };
        found.extend(rows.iter().map(install));
    }
    for row in shown(on, side, "mysql.func", "name, dl, ret, type", "TRUE", findings).await {
        let returns = match row.text(2) {
            "1" => "REAL",
            "2" => "INTEGER",
            "4" => "DECIMAL",
            _ => "STRING",
        };
        let aggregate = if row.text(3) == "aggregate" { "AGGREGATE " } else { "" };
        let install = format!(
            "CREATE {aggregate}FUNCTION {} RETURNS {returns} SONAME {}",
            quote_ident(row.text(0)),
            quote_literal(row.text(1))
        );
        found.push((format!("loadable function {}", row.text(0)), install));
    }
    Ok(found)
}

/// The rows of one of the server's own tables. Where they may not be read, that is a finding.
async fn shown(
    on: On,
    side: &mut Side,
    table: &str,
    columns: &str,
    only: &str,
    findings: &mut Findings,
) -> Vec<TextRow> {
    let query = format!("SELECT {columns} FROM {table} WHERE {only}");
    match ask(&mut side.session, &query, WHAT).await {
        Ok(rows) => rows,
        Err(failure) => {
            let right = match table.strip_prefix("information_schema.") {
                Some(_) => "PROCESS ON *.*".to_owned(),
                None => format!("SELECT ON {table}"),
            };
            let what = format!("{table} says ({})", failure.full_text());
            hidden(on, side, &what, &right, findings).await;
            Vec::new()
        }
    }
}

/// What this account may not see, with the grant that shows it.
async fn hidden((check, on): On, side: &mut Side, what: &str, right: &str, findings: &mut Findings) {
    let account = ask(&mut side.session, ACCOUNT, WHAT).await.unwrap_or_default();
    let account = account.first().map_or("", |row| row.text(0));
    findings.warning(
        check,
        format!("what {what} on the {on} cannot be known"),
        "grant the right, or look there yourself",
        format!("GRANT {right} TO {account}"),
    );
}

async fn plugins(source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    let there = installed(SOURCE, source, findings).await?;
    let here = installed(TARGET, target, findings).await?;
    let same = source.version.flavor == target.version.flavor;
    // Plugins and functions of another version may have another name, or none: what a component's is stays.
    let alike = same && source.version.number.0 == target.version.number.0;
    let found: Vec<_> = there
        .into_iter()
        .filter(|(name, _)| !here.iter().any(|(other, _)| other == name))
        .map(|(name, install)| {
            let is_known = alike || same && name.starts_with("component ");
            let install = if is_known { install } else { String::new() };
            (format!("the {name} is installed on the source and not on the target"), install)
        })
        .collect();
    findings.each(
        "plugins",
        Level::Warning,
        &found,
        "install it on the target where clients or programs use it",
        "every plugin, component and loadable function of the source is on the target",
    );
    Ok(())
}

async fn history(source: &mut Side, findings: &mut Findings) {
    const NAME: &str = "password_history";
    let kept = if source.version.is_mysql_from(8, 0, 3) {
        shown(SOURCE, source, "mysql.password_history", "User", "TRUE", findings).await.len()
    } else {
        0
    };
    if kept == 0 {
        findings.ok(NAME, "no account has passwords that it may not use again");
    } else {
        findings.warning(
            NAME,
            format!("{kept} earlier passwords that accounts may not use again (PASSWORD HISTORY, PASSWORD REUSE INTERVAL) are not carried over"),
            "the rules come along and count from the switch on",
            "",
        );
    }
}

async fn costs(source: &mut Side, target: &mut Side, findings: &mut Findings) {
    const NAME: &str = "optimizer_costs";
    let mut found = Vec::new();
    let both = source.version.is_mysql_from(8, 0, 0) && target.version.is_mysql_from(8, 0, 0);
    for (table, key) in
        [("mysql.server_cost", "cost_name"), ("mysql.engine_cost", "engine_name, device_type, cost_name")]
    {
        if !both {
            continue;
        }
        let columns = format!("CONCAT_WS(''', ''', {key}), CAST(cost_value AS CHAR)");
        let there = shown(SOURCE, source, table, &columns, "TRUE", findings).await;
        let here = shown(TARGET, target, table, &columns, "TRUE", findings).await;
        for row in there.iter().filter(|row| row.get(1).is_some() && !here.contains(row)) {
            let values = format!("'{}', {}", row.text(0), row.text(1));
            found.push((
                format!("{table} has another cost than the target: {values}"),
                format!("REPLACE INTO {table} ({key}, cost_value) VALUES ({values})"),
            ));
        }
    }
    findings.each(
        NAME,
        Level::Warning,
        &found,
        "the target may choose other plans: set the cost there too, then FLUSH OPTIMIZER_COSTS",
        "no cost that the optimizer counts with differs",
    );
}

async fn statistics(mysql: &Mysql, source: &mut Side, findings: &mut Findings) {
    const NAME: &str = "table_statistics";
    if !source.version.is_mariadb() {
        return findings.ok(NAME, "statistics are made anew after the load");
    }
    let moving = mysql.databases();
    let rows = shown(SOURCE, source, "mysql.table_stats", "db_name", "TRUE", findings).await;
    let count = rows.iter().filter(|row| moving.iter().any(|name| name == row.text(0))).count();
    findings.ok(
        NAME,
        format!("statistics are made anew after the load, those of the server's own tables for {count} tables"),
    );
}
