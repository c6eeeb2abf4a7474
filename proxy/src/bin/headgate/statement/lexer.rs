//! Cuts a text into words, and the words into statements. Linear in the length of the text.

use std::fmt;

use super::mistake::Mistake;

/// One word or sign, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub word: Word,
    /// Where it begins, in characters of the whole text, counted from 1.
    pub position: usize,
}

/// A word or sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A keyword or name, folded to lower case.
    Bare(String),
    /// A name in double quotes, as it was written.
    Quoted(String),
    /// A text in single quotes.
    Text(String),
    /// Digits, perhaps with a point or a unit.
    Number(String),
    /// `$1`
    Parameter(usize),
    /// Anything else.
    Sign(char),
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 60;
        let whole = match self {
            Self::Bare(text) | Self::Quoted(text) | Self::Number(text) => format!("\"{text}\""),
            Self::Text(text) => format!("'{text}'"),
            Self::Parameter(number) => format!("\"${number}\""),
            Self::Sign(sign) => format!("\"{sign}\""),
        };
        let shown: String = whole.chars().take(SHOWN_MAX).collect();
        formatter.write_str(&shown)
    }
}

/// Cuts a text at its semicolons; empty statements are left out.
pub(crate) fn split(text: &str) -> Result<Vec<Vec<Token>>, Mistake> {
    let mut statements = vec![Vec::new()];
    let mut lexer = Lexer { rest: text.chars().peekable(), position: 1 };
    while let Some(token) = lexer.next()? {
        if token.word == Word::Sign(';') {
            statements.push(Vec::new());
        } else if let Some(statement) = statements.last_mut() {
            statement.push(token);
        }
    }
    statements.retain(|statement| !statement.is_empty());
    Ok(statements)
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    position: usize,
}

impl Lexer<'_> {
    fn bump(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.position += usize::from(next.is_some());
        next
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(next) = self.rest.next_if(|next| wanted(*next)) {
            self.position += 1;
            text.push(next);
        }
        text
    }

    fn next(&mut self) -> Result<Option<Token>, Mistake> {
        loop {
            let position = self.position;
            let Some(first) = self.bump() else {
                return Ok(None);
            };
            let word = match first {
                space if space.is_whitespace() => continue,
                '-' if self.rest.peek() == Some(&'-') => {
                    self.take_while(|next| next != '\n');
                    continue;
                }
                '/' if self.rest.peek() == Some(&'*') => {
                    self.comment(position)?;
                    continue;
                }
                '"' | '`' => Word::Quoted(self.quoted(first, position)?),
                '\'' => Word::Text(self.quoted('\'', position)?),
                '$' if self.rest.peek().is_some_and(char::is_ascii_digit) => {
                    let digits = self.take_while(|next| next.is_ascii_digit());
                    Word::Parameter(parameter(&digits, position)?)
                }
                digit if digit.is_ascii_digit() => {
                    let more = self.take_while(|next| next.is_ascii_alphanumeric() || next == '.');
                    Word::Number(format!("{digit}{more}"))
                }
                letter if letter.is_alphabetic() || letter == '_' => {
                    let inside = |next: char| next.is_alphanumeric() || matches!(next, '_' | '$');
                    let more = self.take_while(inside);
                    Word::Bare(format!("{letter}{more}").to_lowercase())
                }
                sign => Word::Sign(sign),
            };
            return Ok(Some(Token { word, position }));
        }
    }

    fn quoted(&mut self, quote: char, position: usize) -> Result<String, Mistake> {
        let mut text = String::new();
        loop {
            match self.bump() {
                Some(next) if next == quote => {
                    if self.rest.next_if_eq(&quote).is_none() {
                        return Ok(text);
                    }
                    self.position += 1;
                    text.push(quote);
                }
                Some(next) => text.push(next),
                None => {
                    let hint = format!("close it with another {quote}");
                    return Err(Mistake::syntax("unterminated quote", hint, position));
                }
            }
        }
    }

    fn comment(&mut self, position: usize) -> Result<(), Mistake> {
        let mut depth = 0_usize;
        let mut before = '/';
        loop {
            let Some(next) = self.bump() else {
                return Err(Mistake::syntax("unterminated comment", "close it with */", position));
            };
            match (before, next) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth = depth.saturating_sub(1),
                _ => {
                    before = next;
                    continue;
                }
            }
            if depth == 0 {
                return Ok(());
            }
            // The two signs are used up: in "/*/" the star does not close what it opened.
            before = ' ';
        }
    }
}

fn parameter(digits: &str, position: usize) -> Result<usize, Mistake> {
    const PARAMETERS_MAX: usize = 100;
    let number = digits.parse().ok().filter(|number| (1..=PARAMETERS_MAX).contains(number));
    number.ok_or_else(|| Mistake::syntax(format!("there is no parameter ${digits}"), "use $1 to $100", position))
}
