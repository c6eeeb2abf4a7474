//! Cuts SQL text that a server wrote where it may be cut: never inside quotes, parentheses or comments.

use protocol::mysql::sql::{Lexer, Token, unquoted};

/// Where a comment that starts at `at` ends, or `at` where none starts there.
fn comment_end(text: &str, at: usize) -> usize {
    let mut pieces = Lexer::new(text.as_bytes().get(at..).unwrap_or_default(), true);
    let last = match pieces.next().map(|first| (first.token, first)) {
        Some((Token::Comment, comment)) => Some(comment),
        Some((Token::ExecutableStart, _)) => pieces.find(|piece| piece.token == Token::ExecutableEnd),
        _ => return at,
    };
    last.map_or(text.len(), |last| at + last.start + last.text.len())
}

/// Calls `visit` with each place outside of quotes, comments and parentheses until it returns true, and returns that place.
fn find(text: &str, mut visit: impl FnMut(usize, u8) -> bool) -> Option<usize> {
    let (mut depth, mut executable) = (0_usize, false);
    for piece in Lexer::new(text.as_bytes(), true) {
        match piece.token {
            Token::ExecutableStart => executable = true,
            Token::ExecutableEnd => executable = false,
            Token::Blank | Token::Sign(_) if !executable => {
                let mut places = (piece.start..).zip(piece.text);
                if depth == 0
                    && let Some((at, _)) = places.find(|&(at, &byte)| visit(at, byte))
                {
                    return Some(at);
                }
                match piece.token {
                    Token::Sign(b'(') => depth += 1,
                    Token::Sign(b')') => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    None
}

/// The first place of this byte outside of quotes, comments and parentheses.
pub fn position(text: &str, wanted: u8) -> Option<usize> {
    find(text, |_, byte| byte == wanted)
}

/// The text inside the first pair of parentheses, what stands before it and what after it.
pub fn parentheses(text: &str) -> Option<(&str, &str, &str)> {
    let open = position(text, b'(')?;
    let inside = text.get(open + 1..)?;
    // Seen from inside, the closing one is the first that stands outside of any pair.
    let close = position(inside, b')')?;
    Some((text.get(..open)?, inside.get(..close)?, inside.get(close + 1..)?))
}

/// The pieces between commas.
pub fn split(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    find(text, |at, byte| {
        if byte == b',' {
            pieces.extend(text.get(start..at).map(str::trim));
            start = at + 1;
        }
        false
    });
    pieces.extend(text.get(start..).map(str::trim).filter(|last| !last.is_empty()));
    pieces
}

/// The words between spaces; a quoted text, a comment, and what a pair of parentheses holds belong to one word.
pub fn words(text: &str) -> Vec<&str> {
    placed_words(text).into_iter().map(|(_, word)| word).collect()
}

/// As [`words`], each with the place where it begins.
pub fn placed_words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let bytes = text.as_bytes();
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        if byte.is_ascii_whitespace() {
            index += 1;
            continue;
        }
        let mut end = comment_end(text, index);
        if end == index {
            let rest = text.get(index..).unwrap_or_default();
            end = find(rest, |_, byte| byte.is_ascii_whitespace()).map_or(text.len(), |length| index + length);
        }
        words.extend(text.get(index..end).map(|word| (index, word)));
        index = end.max(index + 1);
    }
    words
}

/// Takes a quoted name off the front: the name itself and what comes after it.
pub fn name(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let piece = Lexer::new(text.as_bytes(), false).next()?;
    let Token::Quoted(_) = piece.token else {
        return None;
    };
    let name = String::from_utf8(unquoted(piece.text, false)).ok()?;
    Some((name, text.get(piece.text.len()..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{name, parentheses, split, words};
    use crate::mysql::sql::{quote_ident, quote_literal};

    #[test]
    fn a_comma_in_a_comment_or_value_ends_nothing() {
        assert_eq!(
            split("`a` enum('x,y','it''s'), KEY `k` (`a`,`b`) COMMENT 'x, \\'y', /*! z, */ c"),
            ["`a` enum('x,y','it''s')", "KEY `k` (`a`,`b`) COMMENT 'x, \\'y'", "/*! z, */ c"]
        );
    }

    #[test]
    fn words_keep_what_belongs_together() {
        assert_eq!(
            words("int DEFAULT '4 )' /*!80023 INVISIBLE */ AS (a + 1) COMMENT='x y' text /*M!1 C*/ z"),
            [
                "int",
                "DEFAULT",
                "'4 )'",
                "/*!80023 INVISIBLE */",
                "AS",
                "(a + 1)",
                "COMMENT='x y'",
                "text",
                "/*M!1 C*/",
                "z"
            ]
        );
    }

    #[test]
    fn a_server_writes_names_without_escapes() {
        assert_eq!(name(r"'a\'@'%'"), Some((r"a\".to_owned(), "@'%'")));
    }

    #[test]
    fn a_parenthesis_in_a_name_is_no_parenthesis() {
        assert_eq!(
            parentheses("CREATE TABLE `a(b` (`)` int) ENGINE=x"),
            Some(("CREATE TABLE `a(b` ", "`)` int", " ENGINE=x"))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_panic(text in ".*") {
            let _ = (words(&text), split(&text), parentheses(&text), name(&text));
        }

        #[test]
        fn quoted_names_and_values_come_back_whole(ident in "[^\0]{1,20}", value in "[^\0]{0,20}") {
            let quoted = quote_ident(&ident);
            prop_assert_eq!(name(&quoted), Some((ident, "")));
            let text = format!("{quoted} text DEFAULT {}", quote_literal(&value));
            prop_assert_eq!(words(&text).len(), 4);
            let twice = format!("{text},{text}");
            prop_assert_eq!(split(&twice).len(), 2);
        }
    }
}
