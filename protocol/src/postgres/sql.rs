//! Cuts SQL text into words, names, literals, comments and signs, as the server's own lexer does.
//!
//! The pieces cover the text from its start to its end.

use memchr::{memchr, memchr2, memmem};

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// White space.
    Blank,
    /// A comment.
    Comment,
    /// A keyword, a name or digits, as they stand.
    Word(&'a [u8]),
    /// A string or a quoted name, by its quote, with the letter of its kind before it: `E'…'`, `U&"…"`, `$tag$…$tag$`.
    Quoted(u8),
    /// Anything else.
    Sign(u8),
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// What it is.
    pub token: Token<'a>,
    /// How it is spelled.
    pub text: &'a [u8],
    /// Where it begins.
    pub start: usize,
}

/// Reads one text from its start.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    backslash: bool,
}

impl<'a> Lexer<'a> {
    /// Begins to read; `backslash` where a backslash escapes in every string: `standard_conforming_strings` is off.
    pub fn new(text: &'a [u8], backslash: bool) -> Self {
        Self { text, at: 0, backslash }
    }

    /// The next piece that is neither white space nor a comment.
    pub fn next_significant(&mut self) -> Option<Piece<'a>> {
        self.find(|piece| !matches!(piece.token, Token::Blank | Token::Comment))
    }

    /// What begins `rest`, and its length.
    fn token(&self, rest: &'a [u8]) -> Option<(Token<'a>, usize)> {
        Some(match rest {
            [] => return None,
            [byte, ..] if is_blank(*byte) => (Token::Blank, count(rest, is_blank)),
            [b'-', b'-', ..] | [b'/', b'*', ..] => (Token::Comment, comment(rest)),
            [b'\'', ..] => (Token::Quoted(b'\''), string(rest, 0, self.backslash)),
            [b'e' | b'E', b'\'', ..] => (Token::Quoted(b'\''), string(rest, 1, true)),
            [b'n' | b'N', b'\'', ..] => (Token::Quoted(b'\''), string(rest, 1, self.backslash)),
            [b'b' | b'B' | b'x' | b'X', b'\'', ..] => (Token::Quoted(b'\''), string(rest, 1, false)),
            [b'u' | b'U', b'&', b'\'', ..] => (Token::Quoted(b'\''), string(rest, 2, false)),
            [b'u' | b'U', b'&', b'"', ..] => (Token::Quoted(b'"'), quoted(rest, 2, b'"', false)),
            [b'"', ..] => (Token::Quoted(b'"'), quoted(rest, 0, b'"', false)),
            [b'$', ..] => match dollar_quoted(rest) {
                0 => (Token::Sign(b'$'), 1),
                length => (Token::Quoted(b'$'), length),
            },
            [first, ..] => {
                // What follows digits may be the letter before a literal, or its dollar sign.
                let belongs =
                    |byte: u8| if first.is_ascii_digit() { byte.is_ascii_digit() } else { is_name_byte(byte) };
                match count(rest, belongs) {
                    0 => (Token::Sign(*first), 1),
                    length => (Token::Word(rest.get(..length)?), length),
                }
            }
        })
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = self.text.get(self.at..)?;
        let (token, length) = self.token(rest)?;
        let start = self.at;
        self.at = start.saturating_add(length);
        Some(Piece { token, text: rest.get(..length)?, start })
    }
}

/// A name in double quotes without them.
pub fn unquoted(quoted: &[u8]) -> Vec<u8> {
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let mut out = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'"' {
            // It stands twice.
            bytes.next();
        }
        out.push(byte);
    }
    out
}

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
        let length = match text {
            [byte, ..] if is_blank(*byte) => count(text, is_blank),
            [b'-', b'-', ..] | [b'/', b'*', ..] => comment(text),
            _ => return text,
        };
        text = text.get(length..).unwrap_or_default();
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn count(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|&&byte| belongs(byte)).count()
}

/// The length of the comment that begins `text`; comments may stand inside of comments.
fn comment(text: &[u8]) -> usize {
    if text.starts_with(b"--") {
        return memchr2(b'\n', b'\r', text).unwrap_or(text.len());
    }
    let mut depth = 0_usize;
    let mut at = 0_usize;
    while let Some(found) = memchr2(b'/', b'*', text.get(at..).unwrap_or_default()) {
        at = at.saturating_add(found);
        let end = at.saturating_add(2);
        at = match text.get(at..end) {
            Some(b"/*") => {
                depth = depth.saturating_add(1);
                end
            }
            Some(b"*/") if depth == 1 => return end,
            Some(b"*/") => {
                depth = depth.saturating_sub(1);
                end
            }
            _ => at.saturating_add(1),
        };
    }
    text.len()
}

/// The length of the string that begins `text`, after so many letters that tell its kind. A string goes on behind a
/// line's end, which matters where only its first part tells that a backslash escapes.
fn string(text: &[u8], prefix: usize, backslash: bool) -> usize {
    let mut end = quoted(text, prefix, b'\'', backslash);
    if prefix == 0 || !backslash {
        return end;
    }
    loop {
        let rest = text.get(end..).unwrap_or_default();
        let mut blanks = rest;
        loop {
            blanks = match blanks {
                [byte, after @ ..] if is_blank(*byte) => after,
                [b'-', b'-', ..] => blanks.get(comment(blanks)..).unwrap_or_default(),
                _ => break,
            };
        }
        let length = rest.len().saturating_sub(blanks.len());
        let has_line_end = memchr2(b'\n', b'\r', rest.get(..length).unwrap_or_default()).is_some();
        if !blanks.starts_with(b"'") || !has_line_end {
            return end;
        }
        end = quoted(text, end.saturating_add(length), b'\'', true);
    }
}

/// The end of what stands between quotes, the first of them at `at`; all of `text` where it does not end.
fn quoted(text: &[u8], at: usize, quote: u8, backslash: bool) -> usize {
    let mut bytes = text.iter().enumerate().skip(at.saturating_add(1)).peekable();
    while let Some((at, &byte)) = bytes.next() {
        if byte == b'\\' && backslash {
            bytes.next();
        } else if byte == quote && bytes.next_if(|&(_, &next)| next == quote).is_none() {
            return at.saturating_add(1);
        }
    }
    text.len()
}

/// The length of the string between two tags that begins `text`; 0 where none does.
fn dollar_quoted(text: &[u8]) -> usize {
    let tag = memchr(b'$', text.get(1..).unwrap_or_default()).map_or(0, |end| end.saturating_add(2));
    let name = text.get(1..tag.saturating_sub(1)).unwrap_or_default();
    if tag == 0 || name.first().is_some_and(u8::is_ascii_digit) || !name.iter().all(|&byte| is_name_byte(byte)) {
        return 0;
    }
    let (quote, body) = text.split_at_checked(tag).unwrap_or_default();
    memmem::find(body, quote).map_or(text.len(), |end| end.saturating_add(tag).saturating_add(tag))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The significant pieces with a bar between them.
    fn read(text: &str, backslash: bool) -> String {
        let mut lexer = Lexer::new(text.as_bytes(), backslash);
        let pieces = std::iter::from_fn(|| lexer.next_significant());
        let pieces: Vec<String> = pieces.map(|piece| String::from_utf8_lossy(piece.text).into_owned()).collect();
        pieces.join("|")
    }

    #[test]
    fn literals_names_and_comments_end_where_the_server_says() {
        for (text, pieces) in [
            ("select 'a;''b' -- c;\r, \"d\"\"e\"", "select|'a;''b'|,|\"d\"\"e\""),
            ("a/* b /* c */ */\u{b}d", "a|d"),
            (r"select '\', E'\'', e'a''\'b' , xE'c'", r"select|'\'|,|E'\''|,|e'a''\'b'|,|xE|'c'"),
            // The second part of a string is of the first one's kind, wherever its line ends.
            ("select E'a' -- x\n '\\';', b", "select|E'a' -- x\n '\\';'|,|b"),
            ("select E'a' '\\', b", "select|E'a'|'\\'|,|b"),
            (r#"U&"a"".b", u&'\0041', N'c', B'1', X'1F'"#, r#"U&"a"".b"|,|u&'\0041'|,|N'c'|,|B'1'|,|X'1F'"#),
            ("$$a;$$ $x$ $$; $x$, $1, a$b$;c", "$$a;$$|$x$ $$; $x$|,|$|1|,|a$b$|;|c"),
            ("$1$;$1$ 1$$;$$", "$|1|$|;|$|1|$|1|$$;$$"),
        ] {
            assert_eq!(read(text, false), pieces, "{text}");
        }
        assert_eq!(read(r"'\'', B'\', N'\''", true), r"'\''|,|B'\'|,|N'\''");
        assert_eq!(unquoted(b"\"P\"\"q\""), b"P\"q");
    }

    proptest! {
        #[test]
        fn the_pieces_cover_any_bytes(bytes in any::<Vec<u8>>(), odd in "[-/* '\"$\\\\\n&uEa1;]{0,60}", backslash in any::<bool>()) {
            for text in [bytes.as_slice(), odd.as_bytes()] {
                let pieces: Vec<_> = Lexer::new(text, backslash).collect();
                for piece in &pieces {
                    prop_assert!(!piece.text.is_empty());
                    prop_assert!(text.get(piece.start..).is_some_and(|rest| rest.starts_with(piece.text)));
                    unquoted(piece.text);
                }
                prop_assert_eq!(pieces.iter().map(|piece| piece.text).collect::<Vec<_>>().concat(), text);
                let code = Lexer::new(text, backslash).next_significant();
                let rest = code.and_then(|piece| text.get(piece.start..)).unwrap_or_default();
                prop_assert_eq!(rest, after_blanks(text));
            }
        }

        #[test]
        fn a_text_that_begins_at_a_piece_is_cut_in_the_same_way(text in "[-/* '\"$\\\\\n&uEa1;]{0,60}", backslash in any::<bool>()) {
            let pieces: Vec<_> = Lexer::new(text.as_bytes(), backslash).collect();
            for (at, piece) in pieces.iter().enumerate() {
                let rest = Lexer::new(text.as_bytes().get(piece.start..).unwrap_or_default(), backslash);
                let texts: Vec<_> = rest.map(|piece| piece.text).collect();
                let all: Vec<_> = pieces.iter().skip(at).map(|piece| piece.text).collect();
                prop_assert_eq!(texts, all);
            }
        }
    }
}
