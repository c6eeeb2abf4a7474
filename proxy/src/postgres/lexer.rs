//! Cuts texts of statements where they end, and passes over blanks, comments, literals and quoted names.

/// Whether a byte may be part of a name without quotes.
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether `text` may go on to be `word`, whatever its case.
pub fn is_start_of(text: &[u8], word: &[u8]) -> bool {
    word.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
}

/// What follows `word`, whatever its case.
pub fn strip_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

/// What follows white space and comments.
pub fn after_blanks(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let length = match text {
            [b'-', b'-', ..] => memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len()),
            [b'/', b'*', ..] => comment(text),
            _ => return text,
        };
        text = text.get(length..).unwrap_or_default();
    }
}

/// The length of the comment at the start of `text`; comments may stand inside of comments.
fn comment(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'/', b'*', text.get(at..).unwrap_or_default()) {
        at += found;
        match text.get(at..at + 2) {
            Some(b"/*") => depth += 1,
            Some(b"*/") if depth == 1 => return at + 2,
            Some(b"*/") => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    text.len()
}

/// The length of what begins `text` and hides what is inside of it: a blank, a comment, a literal or a quoted name.
/// 0 where nothing does.
fn hidden(text: &[u8], before: &[u8], backslash: bool) -> usize {
    let rest = text.get(1..).unwrap_or_default();
    let behind = |at: Option<usize>, length: usize| at.map_or(text.len(), |at| 1 + at + length);
    match text {
        [b'\'', ..] => {
            let escapes = backslash || is_escape_string(before);
            behind(end_of_literal(rest, escapes), 1)
        }
        [b'"', ..] => behind(memchr::memchr(b'"', rest), 1),
        [b'$', ..] if !before.last().copied().is_some_and(is_name_byte) => {
            let tag = rest.iter().take_while(|&&byte| is_tag_byte(byte)).count();
            match text.get(..tag + 2) {
                Some(quote) if quote.ends_with(b"$") => {
                    let body = &text[quote.len()..];
                    let end = memchr::memmem::find(body, quote);
                    end.map_or(text.len(), |end| end + 2 * quote.len())
                }
                _ => 0,
            }
        }
        _ => text.len() - after_blanks(text).len(),
    }
}

fn is_tag_byte(byte: u8) -> bool {
    byte != b'$' && is_name_byte(byte)
}

/// Whether the quote behind `before` begins a literal with escapes, `E'…'`.
fn is_escape_string(before: &[u8]) -> bool {
    match before {
        [.., byte, b'e' | b'E'] => !is_name_byte(*byte),
        [b'e' | b'E'] => true,
        _ => false,
    }
}

/// Where the literal ends. A quote that stands twice begins the next literal, which is as good.
fn end_of_literal(text: &[u8], escapes: bool) -> Option<usize> {
    if !escapes {
        return memchr::memchr(b'\'', text);
    }
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'\'', b'\\', text.get(at..)?)?;
        match text.get(at..)? {
            // Here it does matter that the next literal would be one without escapes.
            [b'\\', ..] | [b'\'', b'\'', ..] => at += 2,
            _ => return Some(at),
        }
    }
}

/// The statements of a text, without those that are empty. `backslash` where `standard_conforming_strings` is off.
pub fn statements(text: &str, backslash: bool) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut all = Vec::new();
    let (mut from, mut at, mut depth) = (0, 0, 0_usize);
    let mut add = |from: usize, to: usize| {
        let piece = text.get(from..to).unwrap_or_default();
        if !after_blanks(piece.as_bytes()).is_empty() {
            all.push(piece);
        }
    };
    while let Some(&byte) = bytes.get(at) {
        let length = hidden(&bytes[at..], &bytes[..at], backslash);
        if length > 0 {
            at += length;
            continue;
        }
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => {
                add(from, at);
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    add(from, bytes.len());
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
    let text = after_blanks(statement.as_bytes());
    let (word, rest) = text.split_at_checked(b"prepare".len())?;
    let rest = after_blanks(rest);
    if !word.eq_ignore_ascii_case(b"prepare") {
        return None;
    }
    let Some(mut quoted) = rest.strip_prefix(b"\"") else {
        let end = rest.iter().take_while(|&&byte| is_name_byte(byte)).count();
        let name = String::from_utf8(rest[..end].to_vec()).ok()?;
        return Some(name.to_ascii_lowercase());
    };
    let mut name = Vec::new();
    loop {
        let end = memchr::memchr(b'"', quoted)?;
        name.extend_from_slice(&quoted[..end]);
        match quoted.get(end + 1..)? {
            [b'"', rest @ ..] => {
                name.push(b'"');
                quoted = rest;
            }
            _ => return String::from_utf8(name).ok(),
        }
    }
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
