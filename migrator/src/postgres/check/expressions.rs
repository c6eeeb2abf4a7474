//! Expressions and queries as servers of several versions print them, made comparable.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::error::Result;
use crate::postgres::client::failed;

/// How this server prints a view that is defined by `query`; `None` where it does not understand the query.
async fn canonical_view(session: &Client, query: &str) -> Result<Option<String>> {
    let cannot = |error| failed("cannot compare a view's query", error);
    session.batch_execute("BEGIN").await.map_err(cannot)?;
    let printing = async {
        let create = format!("CREATE TEMPORARY VIEW headgate_canonical AS {}", query.trim_end().trim_end_matches(';'));
        session.batch_execute(&create).await?;
        let row =
            session.query_one("SELECT pg_catalog.pg_get_viewdef('pg_temp.headgate_canonical'::regclass)", &[]).await?;
        row.try_get(0)
    };
    let printed = printing.await;
    session.batch_execute("ROLLBACK").await.map_err(cannot)?;
    match printed {
        Ok(printed) => Ok(Some(printed)),
        Err(error) if error.code().is_some_and(|code| *code != SqlState::ADMIN_SHUTDOWN) => Ok(None),
        Err(error) => Err(cannot(error)),
    }
}

/// A definition without parentheses, blanks, casts and quotes that are not needed: a server that reads back what another
/// one wrote puts those elsewhere, as in `(ARRAY['a'::character varying])::text[]`, and quotes what is a word of its own.
fn normal(definition: &str) -> String {
    let mut out = String::with_capacity(definition.len());
    let mut rest = definition;
    while let Some(first) = rest.chars().next() {
        if let Some(cast) = rest.strip_prefix("::") {
            rest = after_type(cast);
            continue;
        }
        if let Some((quoted, after)) = quoted(rest) {
            out.push_str(quoted);
            rest = after;
            continue;
        }
        if !matches!(first, '(' | ')') && !first.is_whitespace() {
            out.push(first);
        }
        rest = rest.strip_prefix(first).unwrap_or_default();
    }
    out
}

/// A text of the server's, in which every identifier is quoted, with only the quotes that its reader needs.
pub(crate) fn readable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (part, after) = quoted(rest).unwrap_or_else(|| rest.split_at(first.len_utf8()));
        out.push_str(part);
        rest = after;
    }
    out
}

/// Columns as JSON, the names in them with only the quotes that they need: a version puts none around a type of its own.
pub(crate) fn legible(columns: &str) -> String {
    fn each(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = readable(text),
            serde_json::Value::Array(values) => values.iter_mut().for_each(each),
            serde_json::Value::Object(values) => values.values_mut().for_each(each),
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_str(columns) else {
        return columns.to_owned();
    };
    each(&mut value);
    value.to_string()
}

/// The literal or identifier in quotes that `text` starts with, an identifier without them where they change nothing, and
/// what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
    let mut end = 1;
    // A quote inside is written twice.
    loop {
        end += text.get(end..)?.find(quote)? + 1;
        if !text.get(end..)?.starts_with(quote) {
            break;
        }
        end += 1;
    }
    let (whole, after) = text.split_at_checked(end)?;
    let inner = whole.strip_prefix(quote)?.strip_suffix(quote)?;
    let bare = quote == '"' && is_plain(inner);
    Some((if bare { inner } else { whole }, after))
}

/// Whether a name is the same with quotes and without. What a server means as a word of its own it prints in capitals.
fn is_plain(name: &str) -> bool {
    !name.starts_with(|character: char| character.is_ascii_digit())
        && name
            .chars()
            .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_')
}

/// What follows the type that `text` starts with.
fn after_type(text: &str) -> &str {
    let mut rest = text;
    loop {
        let before = rest;
        rest = rest
            .trim_start_matches(|character: char| character.is_alphanumeric() || matches!(character, '_' | '$' | '.'));
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, after)| after);
        }
        if rest == before {
            break;
        }
    }
    loop {
        let before = rest;
        for more in [" varying", " precision", " without time zone", " with time zone", "[]"] {
            rest = rest.strip_prefix(more).unwrap_or(rest);
        }
        if let Some((modifier, after)) = rest.strip_prefix('(').and_then(|in_| in_.split_once(')'))
            && modifier.chars().all(|character| character.is_ascii_digit() || character == ',')
        {
            rest = after;
        }
        if rest == before {
            return rest;
        }
    }
}

/// Whether what the servers print of the object of this name means the same: versions print the same in other words, and
/// for a view the target's own print of the source's text decides.
pub(crate) async fn same_text(target: &Client, name: &str, ours: Option<&str>, theirs: Option<&str>) -> Result<bool> {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return Ok(ours == theirs);
    };
    Ok(normal(ours) == normal(theirs)
        || name.starts_with("query of view ") && canonical_view(target, ours).await?.as_deref() == Some(theirs))
}

#[cfg(test)]
mod tests {
    use super::{normal, readable};

    #[test]
    fn only_casts_blanks_and_parentheses_outside_of_quotes_are_left_out() {
        assert_eq!(
            normal("CHECK (((k)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying(9)])::text[])))"),
            normal(
                "CHECK (((k)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying(9))::text])))"
            ),
        );
        assert_eq!(normal("(x)::timestamp(3) without time zone > '::text (''y'::\"My Type\".\"t\""), "x>'::text (''y'");
        assert_ne!(normal("(a > 1)"), normal("(a > 2)"));
        assert_ne!(normal("(a = 'x y')"), normal("(a = 'xy')"));
        // A word of the newer version's in capitals is no column.
        assert_eq!(normal("(\"system_user\" <> 'a')"), normal("(system_user <> 'a')"));
        assert_ne!(normal("(\"system_user\" <> 'a')"), normal("(SYSTEM_USER <> 'a')"));
    }

    #[test]
    fn a_name_keeps_the_quotes_that_its_reader_needs() {
        for (text, shown) in [
            ("\"public\".\"orders\".\"id\"", "public.orders.id"),
            ("\"we\"\"ird ü\".\"T\"", "\"we\"\"ird ü\".\"T\""),
            ("label 'it''s \"a\"' of \"mood\"", "label 'it''s \"a\"' of mood"),
            ("\"1a\" \"open", "\"1a\" \"open"),
            ("", ""),
        ] {
            assert_eq!(readable(text), shown);
        }
    }
}
