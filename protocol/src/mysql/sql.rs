//! Cuts SQL text into words, names, literals, comments and signs, as the servers' own lexers do.
//!
//! The pieces cover the text from its start to its end. Comments that a server runs (`/*! … */`) are read as what they
//! hold, between two pieces of their own; which server runs which is for the reader to say.

use memchr::{memchr, memmem};

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// White space.
    Blank,
    /// A comment.
    Comment,
    /// `/*!` or `/*M!` and a version: what follows is run by some servers.
    ExecutableStart,
    /// The `*/` of such a comment.
    ExecutableEnd,
    /// A keyword, a name or a number, as it stands.
    Word(&'a [u8]),
    /// A string or a quoted name, by its quote.
    Quoted(u8),
    /// `@name`, without the sign and the quotes, and the quote, which stands twice where it is part of the name.
    Variable(&'a [u8], Option<u8>),
    /// As [`Token::Variable`], where it touches what stands before it: the host of `user@host`, or, where that was a
    /// keyword, a variable.
    Host(&'a [u8], Option<u8>),
    /// `@@name`, without the signs.
    SystemVariable(&'a [u8]),
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
    /// Inside of a comment that a server runs.
    executable: bool,
    /// The piece before may be the user of `user@host`.
    touching: bool,
}

impl<'a> Lexer<'a> {
    /// Begins to read; `backslash` where a backslash escapes, which `NO_BACKSLASH_ESCAPES` ends.
    pub fn new(text: &'a [u8], backslash: bool) -> Self {
        Self { text, at: 0, backslash, executable: false, touching: false }
    }

    /// The next piece that is neither white space nor a comment, nor the sign of one.
    pub fn next_significant(&mut self) -> Option<Piece<'a>> {
        use Token::{Blank, Comment, ExecutableEnd, ExecutableStart};
        self.find(|piece| !matches!(piece.token, Blank | Comment | ExecutableStart | ExecutableEnd))
    }

    /// What begins `rest`, and its length.
    fn token(&self, rest: &'a [u8]) -> Option<(Token<'a>, usize)> {
        Some(match rest {
            [] => return None,
            [byte, ..] if is_blank(*byte) => (Token::Blank, count(rest, is_blank)),
            [b'#', ..] => (Token::Comment, line(rest)),
            [b'-', b'-', after @ ..] if after.first().is_none_or(|&next| is_blank(next) || next.is_ascii_control()) => {
                (Token::Comment, line(rest))
            }
            [b'/', b'*', b'!', after @ ..] => (Token::ExecutableStart, version(after, false).saturating_add(3)),
            [b'/', b'*', b'M', b'!', after @ ..] => (Token::ExecutableStart, version(after, true).saturating_add(4)),
            [b'/', b'*', after @ ..] => {
                let end = memmem::find(after, b"*/");
                (Token::Comment, end.map_or(rest.len(), |end| end.saturating_add(4)))
            }
            [b'*', b'/', ..] if self.executable => (Token::ExecutableEnd, 2),
            [quote @ (b'\'' | b'"' | b'`'), ..] => (Token::Quoted(*quote), quoted(rest, *quote, self.backslash)),
            [b'@', b'@', name @ ..] => {
                let length = count(name, is_variable_byte);
                (Token::SystemVariable(name.get(..length)?), length.saturating_add(2))
            }
            [b'@', name @ ..] => {
                let quote = name.first().copied().filter(|first| matches!(first, b'\'' | b'"' | b'`'));
                let length = match quote {
                    Some(quote) => quoted(name, quote, self.backslash),
                    None => count(name, is_variable_byte),
                };
                let name = name.get(..length)?;
                let name = if quote.is_some() { inside(name) } else { name };
                let token = if self.touching { Token::Host(name, quote) } else { Token::Variable(name, quote) };
                (token, length.saturating_add(1))
            }
            [first, ..] => match count(rest, is_name_byte) {
                0 => (Token::Sign(*first), 1),
                length => (Token::Word(rest.get(..length)?), length),
            },
        })
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = self.text.get(self.at..)?;
        let (token, length) = self.token(rest)?;
        match token {
            Token::ExecutableStart => self.executable = true,
            Token::ExecutableEnd => self.executable = false,
            _ => {}
        }
        self.touching = matches!(token, Token::Word(_) | Token::Quoted(_));
        let start = self.at;
        self.at = start.saturating_add(length);
        Some(Piece { token, text: rest.get(..length)?, start })
    }
}

/// What a quoted piece means.
pub fn unquoted(quoted: &[u8], backslash: bool) -> Vec<u8> {
    let quote = quoted.first().copied().unwrap_or_default();
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = inside(quoted).iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == quote {
            // It stands twice.
            bytes.next();
            out.push(byte);
        } else if byte == b'\\' && backslash && quote != b'`' {
            match bytes.next() {
                Some(b'0') => out.push(0),
                Some(b'b') => out.push(8),
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b't') => out.push(b'\t'),
                Some(b'Z') => out.push(26),
                Some(sign @ (b'%' | b'_')) => out.extend_from_slice(&[b'\\', sign]),
                other => out.extend(other),
            }
        } else {
            out.push(byte);
        }
    }
    out
}

fn inside(quoted: &[u8]) -> &[u8] {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()
}

/// Whether a byte may be part of a name without quotes.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn is_variable_byte(byte: u8) -> bool {
    is_name_byte(byte) || byte == b'.'
}

/// Whether a byte is white space. A zero byte is passed over, as some clients end their texts with one.
pub fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, 0x0b | 0)
}

fn count(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|&&byte| belongs(byte)).count()
}

fn line(text: &[u8]) -> usize {
    memchr(b'\n', text).map_or(text.len(), |end| end.saturating_add(1))
}

/// The length of the version that a comment begins with: five digits, or six where no digit follows that could begin a
/// number; MariaDB takes a sixth in any case. Fewer are what the comment holds.
fn version(text: &[u8], is_mariadb: bool) -> usize {
    match count(text, |byte| byte.is_ascii_digit()) {
        0..=4 => 0,
        6.. if is_mariadb
            || text.get(6).is_some_and(|&next| is_blank(next) || next.is_ascii_alphabetic() || next == b'@') =>
        {
            6
        }
        _ => 5,
    }
}

/// The length of the quoted piece that begins `text`, with its quotes; all of it where the piece does not end.
fn quoted(text: &[u8], quote: u8, backslash: bool) -> usize {
    let mut bytes = text.iter().enumerate().skip(1).peekable();
    while let Some((at, &byte)) = bytes.next() {
        if byte == b'\\' && backslash && quote != b'`' {
            bytes.next();
        } else if byte == quote && bytes.next_if(|&(_, &next)| next == quote).is_none() {
            return at.saturating_add(1);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(text: &str) -> Vec<String> {
        Lexer::new(text.as_bytes(), true)
            .filter_map(|piece| match piece.token {
                Token::Variable(name, _) => Some(String::from_utf8_lossy(name).into_owned()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn variables_are_found_and_addresses_are_not() {
        assert_eq!(variables("set @a=1, @`b c` := 2, @'d'=3"), ["a", "b c", "d"]);
        assert_eq!(variables(r"insert into t values ('x@y.z', 'it\'s @no', 'a''@no')"), [""; 0]);
        assert_eq!(variables("/*!40101 SET @old=@@sql_mode */; -- @no\nselect 1 into @x"), ["old", "x"]);
        assert_eq!(variables("grant select on t to 'u'@'h', u@localhost, `u`@`h`"), [""; 0]);
        assert_eq!(variables("select /* @no */ @@session.sql_mode # @no"), [""; 0]);
        assert_eq!(variables("select 'unfinished @no"), [""; 0]);
    }

    /// The significant pieces with a space between them.
    fn read(text: &str) -> String {
        let mut lexer = Lexer::new(text.as_bytes(), true);
        let pieces = std::iter::from_fn(|| lexer.next_significant());
        let pieces: Vec<String> = pieces.map(|piece| String::from_utf8_lossy(piece.text).into_owned()).collect();
        pieces.join(" ")
    }

    #[test]
    fn comments_end_and_begin_where_the_server_says() {
        for (text, pieces) in [
            // A vertical tab is white space, and so is what stands behind two dashes at the end.
            ("kill\u{b}7 --", "kill 7"),
            ("select 5--3", "select 5 - - 3"),
            ("select 5--\u{1}'\n+1", "select 5 + 1"),
            // Fewer than five digits are no version.
            ("select /*!1+*/1, /*!500012*/, /*!050001 2*/ /*M!1000003 */", "select 1 + 1 , 2 , 2 3"),
            ("/*!100100SET @a*/ = /*!500001@b*/", "SET @a = @b"),
            // Where none began, no comment ends.
            ("select 2*/* it's */3", "select 2 * 3"),
            ("select /*! 2 /* it's */ * 3 */ * 4", "select 2 * 3 * 4"),
            ("select /*M it's */ 1", "select 1"),
            ("select a\u{a0}b", "select a\u{a0}b"),
            (r"select 'a\'b', `c\`, 'd''e'", r"select 'a\'b' , `c\` , 'd''e'"),
        ] {
            assert_eq!(read(text), pieces, "{text}");
        }
    }

    #[test]
    fn a_quoted_piece_means_what_it_means_to_the_server() {
        assert_eq!(unquoted(br"'a\'b''c\n\%\x'", true), b"a'b'c\n\\%x");
        assert_eq!(unquoted(br"'a\n'", false), br"a\n");
        assert_eq!(unquoted(br"`a``\n`", true), br"a`\n");
    }

    proptest! {
        #[test]
        fn the_pieces_cover_any_bytes(bytes in any::<Vec<u8>>(), odd in "[-/*!M15 '\"`@\\\\#\na.;]{0,60}", backslash in any::<bool>()) {
            for text in [bytes.as_slice(), odd.as_bytes()] {
                let pieces: Vec<_> = Lexer::new(text, backslash).collect();
                for piece in &pieces {
                    prop_assert!(!piece.text.is_empty());
                    prop_assert!(text.get(piece.start..).is_some_and(|rest| rest.starts_with(piece.text)));
                    unquoted(piece.text, backslash);
                }
                prop_assert_eq!(pieces.iter().map(|piece| piece.text).collect::<Vec<_>>().concat(), text);
            }
        }

        #[test]
        fn a_text_that_begins_at_a_piece_is_cut_in_the_same_way(text in "[-/* '\"`@\\\\#\na.;]{0,60}") {
            // What stands before matters only to a comment that is run and to the host of an account.
            let pieces: Vec<_> = Lexer::new(text.as_bytes(), true).collect();
            for (at, piece) in pieces.iter().enumerate() {
                let rest = Lexer::new(text.as_bytes().get(piece.start..).unwrap_or_default(), true);
                let texts: Vec<_> = rest.map(|piece| piece.text).collect();
                let all: Vec<_> = pieces.iter().skip(at).map(|piece| piece.text).collect();
                prop_assert_eq!(texts, all);
            }
        }
    }
}
