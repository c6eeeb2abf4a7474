//! Checks of the collations in use: those that the target lacks, and what on both servers is nearest to each.

use std::collections::BTreeSet;

use super::super::Mysql;
use super::super::catalogue::{ask, listed};
use super::super::sql::{qualified, quote_ident};
use super::super::tokens::words;
use super::side::Side;
use crate::error::Result;
use crate::mysql::schema::archive::Archive;
use crate::mysql::schema::create_table::{Definition, Translation};
use crate::preflight::{Findings, Level};

pub(super) async fn run(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    let databases = listed(mysql);
    let used = ask(
        &mut source.session,
        &format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLLATION_NAME, COLUMN_TYPE FROM information_schema.COLUMNS
                 WHERE TABLE_SCHEMA IN ({databases}) AND COLLATION_NAME IS NOT NULL
             UNION ALL SELECT TABLE_SCHEMA, TABLE_NAME, '', TABLE_COLLATION, '' FROM information_schema.TABLES
                 WHERE TABLE_SCHEMA IN ({databases}) AND TABLE_COLLATION IS NOT NULL
             UNION ALL SELECT SCHEMA_NAME, '', '', DEFAULT_COLLATION_NAME, '' FROM information_schema.SCHEMATA
                 WHERE SCHEMA_NAME IN ({databases})"
        ),
        "cannot read the source's collations",
    )
    .await?;
    let known = known(target).await?;
    let translation =
        Translation { source: source.version, target: target.version, collations: std::collections::BTreeMap::new() };
    let takes = |collation: &str| known.contains(&translation.charset(collation));
    let lacking: Vec<_> = used.iter().filter(|row| !takes(row.text(3))).take(100).collect();
    let mut found = Vec::new();
    if !lacking.is_empty() {
        let common: BTreeSet<String> = known_there(source, &takes).await?;
        let archive = Archive::read(mysql).await?;
        for row in lacking {
            let [schema, table, column, collation] = [0, 1, 2, 3].map(|at| row.text(at));
            let place: Vec<&str> = [schema, table, column].into_iter().filter(|part| !part.is_empty()).collect();
            let near = nearest(collation, &common);
            let fix = near.map_or_else(String::new, |near| {
                let charset = near.split('_').next().unwrap_or(near);
                let set = format!("CHARACTER SET {charset} COLLATE {near}");
                if table.is_empty() {
                    format!("ALTER DATABASE {} {set}", quote_ident(schema))
                } else if column.is_empty() {
                    format!("ALTER TABLE {} {set}", qualified(schema, table))
                } else {
                    column_in(&archive, [schema, table, column], &set).unwrap_or_default()
                }
            });
            let evidence = format!(
                "{} has the collation {collation}, which the target does not know; nearest is {}",
                place.join("."),
                near.unwrap_or("none")
            );
            found.push((evidence, fix));
        }
    }
    findings.each(
        "collations",
        Level::Error,
        &found,
        "choose one that both know; the order of texts may change with it, and which are the same: where two of a unique key would be, \
         as with trailing spaces, the statement fails and changes nothing",
        "the target knows every character set and collation in use",
    );
    Ok(())
}

async fn known(side: &mut Side) -> Result<BTreeSet<String>> {
    let query = if side.version.is_mariadb() {
        "SELECT FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
    } else {
        "SELECT COLLATION_NAME FROM information_schema.COLLATIONS"
    };
    let rows = ask(&mut side.session, query, "cannot read a server's collations").await?;
    Ok(rows.iter().map(|row| row.owned(0)).collect())
}

/// Those of the source's that the target takes.
async fn known_there(source: &mut Side, takes: &impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
    let mut there = known(source).await?;
    there.retain(|collation| takes(collation));
    Ok(there)
}

/// What stands for a collation that the target lacks: of the same character set where that is known, and as sensitive to
/// case as it.
fn nearest<'a>(collation: &str, common: &'a BTreeSet<String>) -> Option<&'a str> {
    let charset = collation.split('_').next().unwrap_or(collation);
    let padded = collation.replace("_nopad", "");
    let is_sensitive = collation.ends_with("_bin") || collation.ends_with("_cs");
    let kinds: &[&str] = if is_sensitive { &["bin"] } else { &["unicode_520_ci", "unicode_ci", "general_ci", "bin"] };
    let of = |charset: &str| -> Vec<String> { kinds.iter().map(|kind| format!("{charset}_{kind}")).collect() };
    let candidates = [vec![padded], of(charset), of("utf8mb4")].concat();
    candidates.iter().find_map(|candidate| common.get(candidate)).map(String::as_str)
}

/// The statement that gives one column another collation and leaves everything else of it as it is.
fn column_in(archive: &Archive, place: [&str; 3], set: &str) -> Option<String> {
    let [schema, table, column] = place;
    let text = archive.table(schema, table)?;
    let definition = Definition::parse(&text.create).ok()?;
    let (_, rest) = definition.columns.iter().find(|(name, _)| name == column)?;
    let reported = words(rest);
    let (kind, rest) = reported.split_first()?;
    let mut kept = Vec::new();
    let mut rest = rest.iter().copied().peekable();
    while let Some(word) = rest.next() {
        match word {
            "CHARACTER" if rest.peek() == Some(&"SET") => {
                rest.next();
                rest.next();
            }
            "COLLATE" => {
                rest.next();
            }
            // Another check tells to store it plainly: what is done there is not undone here.
            word if word.starts_with("/*") && word.contains("COMPRESSED") => {}
            word => kept.push(word),
        }
    }
    Some(format!(
        "ALTER TABLE {} MODIFY {} {kind} {set} {}",
        qualified(schema, table),
        quote_ident(column),
        kept.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::nearest;

    #[test]
    fn the_nearest_collation_ignores_no_more_of_case() {
        let common: BTreeSet<String> =
            ["utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_unicode_520_ci", "latin1_bin", "latin1_swedish_ci"]
                .map(str::to_owned)
                .into();
        for (collation, near) in [
            ("utf8mb4_nopad_bin", "utf8mb4_bin"),
            ("latin1_swedish_nopad_ci", "latin1_swedish_ci"),
            ("latin1_nopad_bin", "latin1_bin"),
            ("utf8mb4_uca1400_as_cs", "utf8mb4_bin"),
            ("utf8mb4_uca1400_ai_ci", "utf8mb4_unicode_520_ci"),
            ("utf8mb4_general_nopad_ci", "utf8mb4_general_ci"),
            ("odd_thing_ci", "utf8mb4_unicode_520_ci"),
        ] {
            assert_eq!(nearest(collation, &common), Some(near), "{collation}");
        }
    }
}
