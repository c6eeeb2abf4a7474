//! Every statement's form, for HELP and for those who nearly wrote one.

use std::sync::LazyLock;

use proxy::config::{DefaultValue, Key, Migrator, nearest};

use super::{Token, Word};

/// One statement of the console.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// How it is written: keywords in capitals.
    pub text: String,
    /// What it does.
    pub meaning: &'static str,
}

fn form(text: &str, meaning: &'static str) -> Form {
    Form { text: text.to_owned(), meaning }
}

/// Every statement, in the order in which a migration needs them.
pub(crate) static FORMS: LazyLock<Vec<Form>> = LazyLock::new(forms);

/// What may be said of a cutover or rollback.
const SWITCHING: &str = "max_hold = '2s', waive_check = false, waive_accounts = '', waive_sessions = false, way_back = 'armed', proof = 'after', check_budget = '500ms'";

fn forms() -> Vec<Form> {
    let options: String = Migrator::options().map(option).collect();
    vec![
        form(
            &format!(
                "CREATE MIGRATION name FROM cluster TO cluster [FOR ROUTE route] [WITH ({options}schemas = 'a,b')]"
            ),
            "defines a migration and touches no database",
        ),
        form("PRECHECK MIGRATION name", "runs every check that can say no, and returns all findings"),
        form("START MIGRATION name", "starts to copy and follow, or goes on"),
        form("STOP MIGRATION name", "stops at a place from which START goes on"),
        form("CHECK MIGRATION name", "begins to compare both sides while changes go on"),
        form(
            "RECOPY TABLE table OF MIGRATION name",
            "takes a table anew, as after a check that differs; check again then, because what was proved is void",
        ),
        form(
            "REHEARSE MIGRATION name [WITH (max_hold = '2s', way_back = 'armed', proof = 'after', check_budget = '500ms')]",
            "runs a cutover, or after one a rollback, up to the decision, then opens again where it was",
        ),
        form(
            &format!("CUTOVER MIGRATION name [WITH ({SWITCHING})]"),
            "switches the route, or undoes everything and says why; without way_back = 'none' what is written afterwards comes back to the source; with proof = 'before' the rows that changed since the check are compared inside the hold, which may take check_budget",
        ),
        form(
            &format!("ROLLBACK MIGRATION name [WITH ({SWITCHING})]"),
            "after a cutover: switches the route back to the source, with all that was written since; then CUTOVER goes forward again",
        ),
        form(
            "FINISH MIGRATION name [WITH (waive_proof = false)]",
            "after a switch, once it is proved that both sides were equal then: closes the way back and removes what the migration left on both sides; the refusal on the side that does not serve and the reports stay",
        ),
        form(
            "DROP MIGRATION name [WITH (target_objects = 'keep')]",
            "forgets a migration that does not run, and removes its slot and records on both sides; with target_objects = 'drop' also what it made on the target; reports stay",
        ),
        form(
            "CLEAR SWITCH MARK ON cluster FOR ROUTE route [WITH (give_up_switch = false)]",
            "lets a cluster take writes again that a switch unknown to this journal left; with give_up_switch one that took place",
        ),
        form("SHOW MIGRATION LIST", "one line per migration"),
        form("SHOW MIGRATION STATUS [name]", "all numbers of one or all migrations"),
        form("SHOW MIGRATION TABLES name", "all numbers of its tables"),
        form("SHOW MIGRATION CHECKS name", "the findings of the last precheck"),
        form("SHOW MIGRATION CHECK STATUS name", "how the comparison goes or went"),
        form("SHOW READINESS name", "what stands between now and a cutover; after a switch, what is left to do"),
        form("SHOW CUTOVER REPORT name", "what the last cutover, rollback or rehearsal did, and what it cost"),
        form("SHOW ROUTES", "where each route leads"),
        form("SHOW CLUSTERS", "every cluster of the configuration"),
        form("SHOW SESSIONS", "every client session"),
        form("SHOW CONFIG", "the configuration without its secrets"),
        form("SHOW VERSION", "Headgate's version"),
        form("HELP", "this list"),
    ]
}

/// A key as an option with its default.
fn option(key: &Key) -> String {
    let name = key.name();
    match key.default {
        DefaultValue::Text(number) if number.parse::<i64>().is_ok() => format!("{name} = {number}, "),
        DefaultValue::Text(text) => format!("{name} = '{text}', "),
        DefaultValue::Required | DefaultValue::Nothing(_) | DefaultValue::SectionName => format!("{name} = '…', "),
    }
}

/// The form that somebody probably meant.
pub(super) fn nearest_form(tokens: &[Token]) -> String {
    const WORDS_MAX: usize = 4;
    let words: Vec<&str> = tokens
        .iter()
        .take(WORDS_MAX)
        .map_while(|token| match &token.word {
            Word::Bare(word) => Some(word.as_str()),
            _ => None,
        })
        .collect();
    let score = |form: &Form| {
        let keywords = keywords(form);
        let given: Vec<&str> = words.iter().take(keywords.len()).copied().collect();
        let same = keywords.iter().zip(&given).filter(|(keyword, word)| is_near(keyword, word)).count();
        let spelled = keywords.iter().zip(&given);
        let spelled = spelled.filter(|(keyword, word)| keyword == word).count();
        // A form that is matched to its end is meant rather than a longer one that begins alike.
        (same * 8 + spelled + usize::from(same == keywords.len()) * 4).saturating_sub(keywords.len() - same)
    };
    let best = FORMS.iter().max_by_key(|form| (score(form), std::cmp::Reverse(form.text.len())));
    match best {
        Some(form) if score(form) >= 7 => format!("write {}", form.text),
        _ => "write HELP for the statements that there are".to_owned(),
    }
}

/// The leading keywords of a form, in lower case.
fn keywords(form: &Form) -> Vec<String> {
    let capital = |word: &&str| word.chars().all(|letter| letter.is_ascii_uppercase());
    form.text.split(' ').take_while(capital).map(str::to_lowercase).collect()
}

fn is_near(keyword: &str, word: &str) -> bool {
    nearest(word, [keyword]).is_some()
}

/// Whether drivers ask for this setting of a server.
pub(super) fn is_setting(words: &str) -> bool {
    setting(words).is_some()
}

/// What Headgate's console answers for a server's setting.
pub(crate) fn setting(words: &str) -> Option<&'static str> {
    Some(match words {
        "transaction isolation level" | "transaction_isolation" => "read committed",
        "transaction_read_only" | "default_transaction_read_only" => "off",
        "standard_conforming_strings" => "on",
        "server_version" => env!("CARGO_PKG_VERSION"),
        "client_encoding" | "server_encoding" => "UTF8",
        "datestyle" => "ISO, YMD",
        "timezone" => "UTC",
        "search_path" => "",
        "max_identifier_length" => "63",
        _ => return None,
    })
}
