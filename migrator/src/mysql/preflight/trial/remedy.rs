//! What ends a refusal of the trial: derived from the server's error, and never more than it asks for.

use mysql_async::Conn;

use super::super::super::catalogue::ask;
use super::super::super::sql::{qualified, quote_ident, quote_literal};
use super::builder::Refusal;
use crate::error::Result;
use crate::mysql::preflight::side::Side;
use crate::mysql::preflight::tables::PRIMARY_KEYS;
use crate::mysql::refusal::right_needed;
use crate::mysql::schema::grants;
use crate::preflight::{Check, Findings, Level};

pub(super) const NAME: &str = "schema_trial";

/// How many refusals are listed.
const LISTED_MAX: usize = 200;
const NO_SUCH_SRS: u16 = 3548;
/// How a target says that it makes no table without a key, or cannot add one by itself, by a word of each message.
const NO_KEY: [(u16, &str); 3] = [(3750, "sql_require_primary_key"), (4109, ""), (1235, "invisible primary key")];

/// Functions that MySQL 9 has in a component of its own.
const CLASSIC_HASHES: [&str; 3] = ["md5", "sha", "sha1"];

const REMEDY: &str = "change or drop it on the source, or give the target what it needs, before the start";

/// The refusals as findings.
pub(super) async fn reported(
    refused: Vec<Refusal>,
    source: &mut Side,
    target: &mut Side,
    findings: &mut Findings,
) -> Result<()> {
    let account = ask(&mut target.session, "SELECT CURRENT_USER()", "who we are").await?;
    let account = account.first().map_or("", |row| row.text(0));
    let account = match account.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", quote_ident(user), quote_ident(host)),
        None => quote_ident(account),
    };
    // What lacks nothing but its definer is told by the check of definers, with what ends it.
    let defined = |one: &Refusal| {
        one.message.contains("ALLOW_NONEXISTENT_DEFINER")
            && findings.checks.iter().any(|check| check.name == "definers" && check.level == Level::Error)
    };
    // So is what lacks nothing but a key, by the check of keys.
    let keyless = |one: &Refusal| {
        NO_KEY.iter().any(|(code, word)| one.code == *code && one.message.contains(word))
            && findings.checks.iter().any(|check| check.name == PRIMARY_KEYS && check.level == Level::Error)
    };
    let of_another_check = |one: &Refusal| defined(one) || keyless(one);
    let own: Vec<Refusal> =
        refused.iter().filter(|one| !follows(one, &refused) && !of_another_check(one)).cloned().collect();
    if own.is_empty() {
        findings.ok(NAME, "the target takes the whole schema: it was built there without rows, and dropped again");
    }
    for one in own.iter().take(LISTED_MAX) {
        let broken = is_broken(one, &mut source.session).await;
        let mut mended = of(one, &account, target, broken);
        if one.code == NO_SUCH_SRS {
            mended.fix = reference_system(&one.message, &mut source.session).await?;
        }
        let statement = one.statement.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = statement.chars().take(240).collect();
        if shown.len() < statement.len() {
            shown.push('…');
        }
        findings.checks.push(Check::new(
            NAME,
            mended.level,
            format!("{}: {} (error {}); the statement: {shown}", one.object, one.message, one.code),
            mended.remedy,
            mended.fix,
        ));
    }
    Ok(())
}

/// The statement that creates on the target the spatial reference system that it lacks.
async fn reference_system(message: &str, source: &mut Conn) -> Result<String> {
    let number: String = message.rsplit(' ').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    let query = format!(
        "SELECT SRS_NAME, DEFINITION, ORGANIZATION, ORGANIZATION_COORDSYS_ID, DESCRIPTION
         FROM information_schema.ST_SPATIAL_REFERENCE_SYSTEMS WHERE SRS_ID = '{number}'"
    );
    let rows = ask(source, &query, "cannot read a spatial reference system").await?;
    let Some(row) = rows.first() else {
        return Ok(String::new());
    };
    let mut create = format!(
        "CREATE SPATIAL REFERENCE SYSTEM {number} NAME {} DEFINITION {}",
        quote_literal(row.text(0)),
        quote_literal(row.text(1))
    );
    if let Some(organization) = row.get(2) {
        let identified = format!(" ORGANIZATION {} IDENTIFIED BY {}", quote_literal(organization), row.text(3));
        create.push_str(&identified);
    }
    if let Some(description) = row.get(4) {
        create = format!("{create} DESCRIPTION {}", quote_literal(description));
    }
    Ok(create)
}

/// Whether it is a view that the source itself cannot read.
async fn is_broken(one: &Refusal, source: &mut Conn) -> bool {
    let view = one.object.starts_with("the view ");
    let Some((schema, name)) = one.name.split_once('.').filter(|_| view) else {
        return false;
    };
    let look = format!("SELECT 1 FROM {} LIMIT 0", qualified(schema, name));
    ask(source, &look, "a view").await.is_err()
}

/// Whether it was refused only because something else was.
fn follows(one: &Refusal, all: &[Refusal]) -> bool {
    all.iter().any(|other| {
        other.name != one.name
            && !other.name.is_empty()
            && (one.message.contains(&format!("'{}'", other.name))
                || one.message.contains(&format!(" {} ", other.name)))
    })
}

struct Mended {
    level: Level,
    remedy: String,
    fix: String,
}

impl Mended {
    fn new(remedy: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Error, remedy: remedy.into(), fix: fix.into() }
    }
}

/// `account` is Headgate's own on the target, as SQL writes it; `broken` tells that the source cannot use it either.
fn of(refusal: &Refusal, account: &str, target: &Side, broken: bool) -> Mended {
    let (statement, message) = (&refusal.statement, &refusal.message);
    if grants::is_about_rights(statement, refusal.code) {
        return not_passed_on(statement, message, account);
    }
    match refusal.code {
        1418 | 1419 => Mended::new(
            "the target refuses to create it while its binary log is on: let it trust whoever creates functions and triggers",
            target.set("log_bin_trust_function_creators", "ON"),
        ),
        1227 => {
            let right = right_needed(message);
            let fix = right.map(|right| format!("GRANT {right} ON *.* TO {account}"));
            Mended::new(
                "give Headgate's account on the target the right that it lacks, or create it there yourself",
                fix.unwrap_or_default(),
            )
        }
        _ if statement.starts_with("GRANT ") => Mended {
            level: Level::Warning,
            remedy: "it is left out: nobody has this right there, or on what is not there".to_owned(),
            fix: String::new(),
        },
        1305 => match missing(&refusal.message).and_then(|name| component(name, target)) {
            Some(fix) => Mended::new("give the target the function before the start", fix),
            None => Mended::new(REMEDY, ""),
        },
        _ if broken => Mended::new(
            "it cannot be used on the source either: mend it, or drop it",
            refusal
                .name
                .split_once('.')
                .map(|(schema, name)| format!("DROP VIEW {}.{}", quote_ident(schema), quote_ident(name)))
                .unwrap_or_default(),
        ),
        _ => Mended::new(REMEDY, ""),
    }
}

/// What Headgate's account may not do for another: it holds the same and may pass it on, or somebody else does it.
fn not_passed_on(statement: &str, message: &str, account: &str) -> Mended {
    let fix = grants::lets_pass_on(statement, message, account).unwrap_or_default();
    if statement.starts_with("GRANT ") {
        return Mended::new(
            "Headgate's account on the target may not grant it: give it the same with the grant option, or the account has less rights there",
            fix,
        );
    }
    // It is a right to change every account, and somebody who has it can do this later.
    Mended {
        level: Level::Warning,
        remedy: "Headgate's account on the target may not set another's default role: run the statement there yourself once the \
                 migration follows, before the check; or give Headgate's account the right, by which it may change every account"
            .to_owned(),
        fix,
    }
}

/// The function that a server says it does not have.
fn missing(message: &str) -> Option<&str> {
    let name = message.strip_prefix("FUNCTION ")?.split(' ').next()?;
    name.rsplit('.').next()
}

/// The statement that gives the target this function, where it has it in store.
pub(super) fn component(function: &str, target: &Side) -> Option<String> {
    let known = CLASSIC_HASHES.contains(&function.to_ascii_lowercase().as_str());
    (known && target.version.is_mysql_from(9, 0, 0))
        .then(|| "INSTALL COMPONENT 'file://component_classic_hashing'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Refusal, follows, missing};

    fn refusal(name: &str, message: &str) -> Refusal {
        Refusal {
            object: String::new(),
            name: name.to_owned(),
            statement: String::new(),
            code: 1,
            message: message.to_owned(),
        }
    }

    #[test]
    fn what_lacks_something_refused_is_not_refused_itself() {
        let all = [
            refusal("shop.t", "Too big scale"),
            refusal("shop.v", "Table 'shop.t' doesn't exist"),
            refusal("shop.w", "View 'shop.w' references invalid table(s)"),
            refusal("shop.f", "FUNCTION shop.g does not exist"),
            refusal("shop.g", "near 'rank'"),
            refusal("shop.x", "Table 'shop.tt' doesn't exist"),
        ];
        let own: Vec<&str> = all.iter().filter(|one| !follows(one, &all)).map(|one| one.name.as_str()).collect();
        assert_eq!(own, ["shop.t", "shop.w", "shop.g", "shop.x"]);
    }

    #[test]
    fn the_function_is_read_from_the_server_s_own_words() {
        assert_eq!(missing("FUNCTION shop.MD5 does not exist"), Some("MD5"));
    }
}
