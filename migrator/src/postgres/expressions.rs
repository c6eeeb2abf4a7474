//! Expressions and queries as servers of several versions print them, made comparable.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::client::failed;
use crate::error::Result;

/// How this server prints a view that is defined by `query`; `None` where it does not understand the query.
pub(super) async fn canonical_view(session: &Client, query: &str) -> Result<Option<String>> {
    let cannot = |error| failed("cannot compare a view's query", error);
    session.batch_execute("BEGIN").await.map_err(cannot)?;
    let printing = async {
        let create = format!(
            "CREATE TEMPORARY VIEW headgate_canonical AS {}",
            query.trim_end().trim_end_matches(';')
        );
        session.batch_execute(&create).await?;
        let row = session
            .query_one(
                "SELECT pg_catalog.pg_get_viewdef('pg_temp.headgate_canonical'::regclass)",
                &[],
            )
            .await?;
        row.try_get(0)
    };
    let printed = printing.await;
    session.batch_execute("ROLLBACK").await.map_err(cannot)?;
    match printed {
        Ok(printed) => Ok(Some(printed)),
        Err(error)
            if error
                .code()
                .is_some_and(|code| *code != SqlState::ADMIN_SHUTDOWN) =>
        {
            Ok(None)
        }
        Err(error) => Err(cannot(error)),
    }
}

/// A definition without parentheses, blanks and casts: a server that reads back what another one wrote puts those
/// elsewhere, as in `(ARRAY['a'::character varying])::text[]`.
pub(super) fn normal(definition: &str) -> String {
    let mut out = String::with_capacity(definition.len());
    let mut rest = definition;
    while let Some(first) = rest.chars().next() {
        if let Some(cast) = rest.strip_prefix("::") {
            rest = after_type(cast);
            continue;
        }
        let after = rest.strip_prefix(first).unwrap_or_default();
        if matches!(first, '\'' | '"') {
            let (inner, next) = after.split_once(first).unwrap_or((after, ""));
            out.extend([first]);
            out.push_str(inner);
            out.extend([first]);
            rest = next;
            continue;
        }
        if !matches!(first, '(' | ')') && !first.is_whitespace() {
            out.push(first);
        }
        rest = after;
    }
    out
}

/// What follows the type that `text` starts with.
fn after_type(text: &str) -> &str {
    let mut rest = text;
    loop {
        let before = rest;
        rest = rest.trim_start_matches(|character: char| {
            character.is_alphanumeric() || matches!(character, '_' | '$' | '.')
        });
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, after)| after);
        }
        if rest == before {
            break;
        }
    }
    loop {
        let before = rest;
        for more in [
            " varying",
            " precision",
            " without time zone",
            " with time zone",
            "[]",
        ] {
            rest = rest.strip_prefix(more).unwrap_or(rest);
        }
        if let Some((modifier, after)) = rest.strip_prefix('(').and_then(|in_| in_.split_once(')'))
            && modifier
                .chars()
                .all(|character| character.is_ascii_digit() || character == ',')
        {
            rest = after;
        }
        if rest == before {
            return rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn only_casts_blanks_and_parentheses_outside_of_quotes_are_left_out() {
        assert_eq!(
            normal(
                "CHECK (((k)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying(9)])::text[])))"
            ),
            normal(
                "CHECK (((k)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying(9))::text])))"
            ),
        );
        assert_eq!(
            normal("(x)::timestamp(3) without time zone > '::text (''y'::\"My Type\".\"t\""),
            "x>'::text (''y'"
        );
        assert_ne!(normal("(a > 1)"), normal("(a > 2)"));
        assert_ne!(normal("(a = 'x y')"), normal("(a = 'xy')"));
    }
}
