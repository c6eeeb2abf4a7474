//! Statements in the text of a message: where they end, and which of them prepares what.

use protocol::postgres::sql::{Lexer, Token, unquoted};

/// The statements of a text, without those that are empty. `backslash` where `standard_conforming_strings` is off.
pub fn statements(text: &str, backslash: bool) -> Vec<&str> {
    let mut lexer = Lexer::new(text.as_bytes(), backslash);
    let mut all = Vec::new();
    let (mut from, mut depth, mut is_empty) = (0, 0_usize, true);
    while let Some(piece) = lexer.next_significant() {
        match piece.token {
            Token::Sign(b';') if depth == 0 => {
                all.extend(text.get(from..piece.start).filter(|_| !is_empty));
                (from, is_empty) = (piece.start + 1, true);
                continue;
            }
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_empty = false;
    }
    all.extend(text.get(from..).filter(|_| !is_empty));
    all
}

/// The one statement of a text that is `PREPARE name …`; none where there are several.
pub fn preparation<'a>(text: &'a str, name: &str, backslash: bool) -> Option<&'a str> {
    let mut found =
        statements(text, backslash).into_iter().filter(|statement| prepared_name(statement).as_deref() == Some(name));
    let one = found.next();
    one.filter(|_| found.next().is_none())
}

/// The name that a statement prepares, if it prepares one.
fn prepared_name(statement: &str) -> Option<String> {
    let mut lexer = Lexer::new(statement.as_bytes(), false);
    let prepares =
        matches!(lexer.next_significant()?.token, Token::Word(word) if word.eq_ignore_ascii_case(b"prepare"));
    let name = lexer.next_significant().filter(|_| prepares)?;
    let bytes = match name.token {
        Token::Word(word) => word.to_ascii_lowercase(),
        Token::Quoted(b'"') if name.text.starts_with(b"\"") => unquoted(name.text),
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_no_literal_name_or_comment_hides() {
        let text = "select 'a;b' ;; select \"c;\", $$d;$$, $x$ $$; $x$ -- e;\n, E'\\';' /* f; /* g; */ ; */;\
             create rule r as on insert to t do (select 1; select 2); select a$b$;c; -- the end";
        let found = statements(text, false);
        assert_eq!(found.len(), 5, "{found:?}");
        assert_eq!(found[3].trim(), "select a$b$");
        assert_eq!(statements("select '\\'; select '", false).len(), 2);
        assert_eq!(statements("select '\\'; select '", true).len(), 1);
        assert_eq!(statements("prepare p as select E'a'\n'\\'; prepare q'", false).len(), 1);
    }

    #[test]
    fn a_preparation_is_found_among_other_statements_where_it_is_the_only_one() {
        let text = "set a = 1; Prepare P as select ';'; /* x */prepare/**/\"P\"\"\" as select 2; prepare q";
        let found = |name| preparation(text, name, false).map(str::trim);
        assert_eq!(found("p"), Some("Prepare P as select ';'"));
        assert_eq!(found("P\""), Some("/* x */prepare/**/\"P\"\"\" as select 2"));
        assert_eq!(found("P"), None);
        assert_eq!(preparation("prepare p as select 1; prepare p as select 2", "p", false), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[-;'\"$a/*\\\\e ()\n]{0,40}", backslash in any::<bool>()) {
            let pieces = statements(&text, backslash);
            prop_assert!(pieces.iter().map(|piece| piece.len()).sum::<usize>() <= text.len());
            preparation(&text, "a", backslash);
        }
    }
}
