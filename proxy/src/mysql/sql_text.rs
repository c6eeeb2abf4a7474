//! What the text of a statement tells by its words: which statement it prepares, which session it kills, which database
//! it chooses.

use protocol::mysql::sql::{Lexer, Token, is_blank, unquoted};

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
    let keyword = |tokens: &mut Lexer<'_>, all: &[&[u8]]| match tokens.next_significant()?.token {
        Token::Word(word) => all.iter().position(|known| word.eq_ignore_ascii_case(known)),
        _ => None,
    };
    let prepares = keyword(&mut tokens, &[b"prepare", b"deallocate", b"drop"])? == 0;
    if !prepares {
        keyword(&mut tokens, &[b"prepare"])?;
    }
    let name = tokens.next_significant()?;
    let name = match name.token {
        Token::Word(word) => word.to_vec(),
        Token::Quoted(b'`') => unquoted(name.text, false),
        _ => return None,
    };
    if name.is_empty() || !name.is_ascii() {
        return None;
    }
    let naming = if prepares {
        keyword(&mut tokens, &[b"from"])?;
        let text = tokens.next_significant()?;
        match text.token {
            Token::Quoted(b'\'' | b'"') => Naming::Prepare(name, unquoted(text.text, backslash)),
            _ => return None,
        }
    } else {
        Naming::Deallocate(name)
    };
    significant(tokens).all(|token| token == Token::Sign(b';')).then_some(naming)
}

/// The first byte that is no white space to the server.
pub fn first(text: &[u8]) -> Option<u8> {
    text.iter().copied().find(|&byte| !is_blank(byte))
}

fn significant(mut lexer: Lexer<'_>) -> impl Iterator<Item = Token<'_>> {
    std::iter::from_fn(move || lexer.next_significant().map(|piece| piece.token))
}

/// Whom a lone KILL names, where it names a number: `KILL [HARD|SOFT] [CONNECTION|QUERY] [ID] n`.
pub fn kill(text: &[u8]) -> Option<(KillScope, u64)> {
    let mut ends = KillScope::Connection;
    let mut number = None;
    let mut negative = false;
    let mut tokens = significant(Lexer::new(text, true));
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
            Token::Sign(b';') if number.is_some() => {}
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
    while let Some(piece) = tokens.next_significant() {
        if piece.token == Token::Sign(b';') {
            begins = true;
            continue;
        }
        statements += usize::from(begins);
        let uses = begins && matches!(piece.token, Token::Word(word) if word.eq_ignore_ascii_case(b"use"));
        begins = false;
        if !uses {
            continue;
        }
        let Some(name) = tokens.next_significant() else { break };
        match name.token {
            Token::Word(word) => names.push(word.to_vec()),
            Token::Quoted(_) => names.push(unquoted(name.text, false)),
            _ => {}
        }
    }
    let lone = statements == 1 && names.len() == 1;
    (names, lone)
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

    #[test]
    fn only_a_lone_kill_of_a_number_is_recognised() {
        assert_eq!(kill(b"KILL QUERY 2147483650"), Some((KillScope::Query, 2_147_483_650)));
        assert_eq!(kill(b"/* x */ kill 7 ;"), Some((KillScope::Connection, 7)));
        assert_eq!(kill(b"kill hard connection 7"), Some((KillScope::Connection, 7)));
        assert_eq!(kill(b"kill\x0b/*!7*/ --"), Some((KillScope::Connection, 7)));
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
