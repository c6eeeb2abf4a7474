//! Cuts the text of a statement into what matters for a session: words, variables, and where statements end.
//!
//! Literals and comments are passed over, so that an address in a value is not taken for a variable. Comments that
//! the server executes (`/*! … */`) are read as what they hold.

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A keyword, a name or a number, as it stands.
    Word(&'a [u8]),
    /// `@name`, without the sign and the quotes, and the quote, which stands twice where it is part of the name.
    Variable(&'a [u8], Option<u8>),
    /// `@@name`, without the signs.
    SystemVariable(&'a [u8]),
    /// A string or a quoted name.
    Quoted,
    /// The end of a statement.
    Semicolon,
    /// Anything else.
    Sign(u8),
}

/// Reads one text from its start.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    rest: &'a [u8],
    backslash: bool,
    /// The piece before touches what follows, as the user of `'user'@'host'` does.
    touching: bool,
}

impl<'a> Lexer<'a> {
    /// Begins to read; `backslash` where the session's backslashes are escapes.
    pub fn new(text: &'a [u8], backslash: bool) -> Self {
        Self { rest: text, backslash, touching: false }
    }

    fn skip(&mut self, count: usize) -> &'a [u8] {
        let (before, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        before
    }

    /// Passes over white space and comments.
    fn skip_space(&mut self) {
        loop {
            let length = match self.rest {
                [byte, ..] if byte.is_ascii_whitespace() || *byte == 0 => 1,
                [b'/', b'*', b'!', rest @ ..] => 3 + rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
                [b'/', b'*', b'M', b'!', rest @ ..] => 4 + rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
                [b'/', b'*', rest @ ..] => {
                    let end = memchr::memmem::find(rest, b"*/");
                    end.map_or(self.rest.len(), |end| end + 4)
                }
                [b'*', b'/', ..] => 2,
                [b'#', ..] => line(self.rest),
                [b'-', b'-', next, ..] if next.is_ascii_whitespace() => line(self.rest),
                _ => return,
            };
            self.skip(length);
            self.touching = false;
        }
    }

    /// The next piece, and how it is spelled.
    pub fn spelled(&mut self) -> Option<(Token<'a>, &'a [u8])> {
        self.skip_space();
        let before = self.rest;
        let token = self.next()?;
        let length = before.len() - self.rest.len();
        Some((token, before.get(..length).unwrap_or_default()))
    }

    /// The length of a quoted piece that begins here, with its quotes.
    fn quoted(&self, text: &[u8], quote: u8) -> usize {
        let escapes = self.backslash && quote != b'`';
        let mut at = 1;
        while let Some(&byte) = text.get(at) {
            at += 1;
            if byte == b'\\' && escapes {
                at += 1;
            } else if byte == quote {
                if text.get(at) != Some(&quote) {
                    return at;
                }
                at += 1;
            }
        }
        text.len()
    }
}

fn line(text: &[u8]) -> usize {
    memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1)
}

fn word(text: &[u8], dots: bool) -> usize {
    text.iter()
        .take_while(|&&byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80 || (dots && byte == b'.')
        })
        .count()
}

fn inner(quoted: &[u8]) -> &[u8] {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_space();
        let touching = std::mem::replace(&mut self.touching, false);
        let &first = self.rest.first()?;
        let token = match first {
            b'\'' | b'"' | b'`' => {
                let length = self.quoted(self.rest, first);
                self.skip(length);
                self.touching = true;
                Token::Quoted
            }
            b'@' => {
                self.skip(1);
                match self.rest.first() {
                    Some(b'@') => {
                        self.skip(1);
                        let length = word(self.rest, true);
                        Token::SystemVariable(self.skip(length))
                    }
                    Some(&quote @ (b'\'' | b'"' | b'`')) => {
                        let length = self.quoted(self.rest, quote);
                        let name = inner(self.skip(length));
                        variable(touching, name, Some(quote))
                    }
                    _ => {
                        let length = word(self.rest, true);
                        variable(touching, self.skip(length), None)
                    }
                }
            }
            b';' => {
                self.skip(1);
                Token::Semicolon
            }
            _ => match word(self.rest, false) {
                0 => {
                    self.skip(1);
                    Token::Sign(first)
                }
                length => {
                    self.touching = true;
                    Token::Word(self.skip(length))
                }
            },
        };
        Some(token)
    }
}

/// `@name`, or the host of an account.
fn variable(touching: bool, name: &[u8], quote: Option<u8>) -> Token<'_> {
    if touching { Token::Quoted } else { Token::Variable(name, quote) }
}

/// A statement that names a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `PREPARE name FROM 'text'`.
    Prepare(Vec<u8>, Vec<u8>),
    /// `DEALLOCATE PREPARE name`, or `DROP PREPARE name`.
    Deallocate(Vec<u8>),
}

/// Reads a lone statement that prepares the text of one literal, or forgets what was prepared. Anything else,
/// a text from a variable too, is none.
pub fn naming(text: &[u8], backslash: bool) -> Option<Naming> {
    let mut tokens = Lexer::new(text, backslash);
    let keyword = |tokens: &mut Lexer<'_>, all: &[&[u8]]| match tokens.next()? {
        Token::Word(word) => all.iter().position(|known| word.eq_ignore_ascii_case(known)),
        _ => None,
    };
    let prepares = keyword(&mut tokens, &[b"prepare", b"deallocate", b"drop"])? == 0;
    if !prepares {
        keyword(&mut tokens, &[b"prepare"])?;
    }
    let name = match tokens.spelled()? {
        (Token::Word(word), _) => word.to_vec(),
        (Token::Quoted, name) if name.first() == Some(&b'`') => literal(name, false),
        _ => return None,
    };
    if name.is_empty() || !name.is_ascii() {
        return None;
    }
    let naming = if prepares {
        keyword(&mut tokens, &[b"from"])?;
        match tokens.spelled()? {
            (Token::Quoted, text) if text.first() != Some(&b'`') => Naming::Prepare(name, literal(text, backslash)),
            _ => return None,
        }
    } else {
        Naming::Deallocate(name)
    };
    tokens.all(|token| token == Token::Semicolon).then_some(naming)
}

/// What a quoted piece means.
fn literal(quoted: &[u8], backslash: bool) -> Vec<u8> {
    let quote = quoted.first().copied().unwrap_or_default();
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = inner(quoted).iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == quote {
            // It stands twice.
            bytes.next();
            out.push(byte);
        } else if byte == b'\\' && backslash {
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

/// Whom a lone KILL names, where it names a number: `KILL [HARD|SOFT] [CONNECTION|QUERY] [ID] n`.
pub fn kill(text: &[u8]) -> Option<(KillScope, u64)> {
    let mut ends = KillScope::Connection;
    let mut number = None;
    let mut negative = false;
    let mut tokens = Lexer::new(text, true);
    match tokens.next()? {
        Token::Word(word) if word.eq_ignore_ascii_case(b"kill") => {}
        _ => return None,
    }
    for token in tokens {
        match token {
            Token::Word(word) if number.is_none() => {
                let is = |known: &[u8]| word.eq_ignore_ascii_case(known);
                if is(b"query") {
                    ends = KillScope::Query;
                } else if !is(b"connection") && !is(b"hard") && !is(b"soft") {
                    let text = std::str::from_utf8(word).ok()?;
                    let value: u64 = text.parse().ok()?;
                    // A driver that keeps numbers signed means the number of the same bits.
                    let signed = i32::try_from(-i64::try_from(value).ok()?);
                    number = Some(match signed {
                        Ok(signed) if negative => u64::from(signed.cast_unsigned()),
                        _ if negative => return None,
                        _ => value,
                    });
                }
            }
            Token::Semicolon if number.is_some() => {}
            Token::Sign(b'-') if number.is_none() && !negative => negative = true,
            _ => return None,
        }
    }
    number.map(|number| (ends, number))
}

/// The databases that a text chooses by USE, in their order, and whether it is nothing but one USE.
pub fn uses(text: &[u8], backslash: bool) -> (Vec<Vec<u8>>, bool) {
    let mut names = Vec::new();
    let mut tokens = Lexer::new(text, backslash);
    let (mut statements, mut begins) = (0, true);
    while let Some((token, _)) = tokens.spelled() {
        if token == Token::Semicolon {
            begins = true;
            continue;
        }
        statements += usize::from(begins);
        let uses = begins && matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(b"use"));
        begins = false;
        if !uses {
            continue;
        }
        match tokens.spelled() {
            Some((Token::Word(name), _)) => names.push(name.to_vec()),
            Some((Token::Quoted, spelling)) => names.push(unquoted(spelling)),
            _ => {}
        }
    }
    let lone = statements == 1 && names.len() == 1;
    (names, lone)
}

/// A quoted name without its quotes.
fn unquoted(spelling: &[u8]) -> Vec<u8> {
    let quote = spelling.first().copied().unwrap_or_default();
    let mut name = Vec::new();
    let mut bytes = inner(spelling).iter();
    while let Some(&byte) = bytes.next() {
        if byte == quote {
            bytes.next();
        }
        name.push(byte);
    }
    name
}

/// What a KILL ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillScope {
    /// The session.
    Connection,
    /// What it runs.
    Query,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_of_use_are_read_wherever_a_statement_may_begin() {
        let read = |text: &str| {
            let (names, lone) = uses(text.as_bytes(), true);
            let names: Vec<String> = (names.iter()).map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            (names.join(" "), lone)
        };
        for (text, names, lone) in [
            ("USE shop", "shop", true),
            (" use\t`sh``op` ; ", "sh`op", true),
            ("/* a */ USE shop -- b", "shop", true),
            ("/*!40000 USE */ shop", "shop", true),
            ("SELECT 1; USE a; UPDATE t SET v = 'x; USE c'; USE \"b\"", "a b", false),
            ("SELECT 'USE a' FROM t USE INDEX (i)", "", false),
            ("USE", "", false),
            ("USE a b", "a", true),
        ] {
            assert_eq!(read(text), (names.to_owned(), lone), "{text}");
        }
    }

    fn variables(text: &str) -> Vec<String> {
        Lexer::new(text.as_bytes(), true)
            .filter_map(|token| match token {
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

    #[test]
    fn only_a_lone_kill_of_a_number_is_recognised() {
        assert_eq!(kill(b"KILL QUERY 2147483650"), Some((KillScope::Query, 2_147_483_650)));
        assert_eq!(kill(b"/* x */ kill 7 ;"), Some((KillScope::Connection, 7)));
        assert_eq!(kill(b"kill hard connection 7"), Some((KillScope::Connection, 7)));
        assert_eq!(kill(b"KILL QUERY -2147483598"), Some((KillScope::Query, 2_147_483_698)));
        for other in [
            "kill - - 7",
            "kill -99999999999",
            "kill",
            "kill query",
            "kill @a",
            "kill 7; select 1",
            "kill user x",
            "select 7",
            "killer 7",
            "kill 7 8",
        ] {
            assert_eq!(kill(other.as_bytes()), None, "{other}");
        }
    }
}
