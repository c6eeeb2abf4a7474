//! Variables by which a session writes past what follows the binary log, as a SET names them.

use protocol::mysql::sql::{Piece, Token};

/// Variables by which a session writes past what follows the log, each with the values by which it does not.
const HIDING: [(&str, &[&[u8]]); 4] = [
    ("sql_log_bin", &[b"1", b"on", b"true", b"default"]),
    ("binlog_format", &[b"row", b"default"]),
    ("skip_replication", &[b"0", b"off", b"false", b"default"]),
    ("binlog_row_value_options", &[b"default"]),
];

/// A variable of [`HIDING`] and its value, on their way through the pieces of a SET.
#[derive(Default)]
pub(super) struct Hiding {
    named: Option<(&'static str, &'static [&'static [u8]])>,
}

impl Hiding {
    /// The variable that is turned to hiding by the assignment which ends here. A value that is not read may be any.
    pub(super) fn next(&mut self, Piece { token, text, .. }: Piece<'_>) -> Option<&'static str> {
        let quoted = text.get(1..text.len().saturating_sub(1));
        let word = match token {
            Token::Word(word) | Token::SystemVariable(word) => Some(word),
            Token::Quoted(_) => quoted,
            _ => None,
        };
        if let Some((what, harmless)) = self.named {
            return match word {
                None if matches!(token, Token::Sign(b'=' | b':')) => None,
                Some(value) => {
                    self.named = None;
                    let harmless = harmless.iter().any(|known| value.eq_ignore_ascii_case(known));
                    (!harmless).then_some(what)
                }
                None => self.end(),
            };
        }
        let name = word?;
        let name = name.rsplit(|&byte| byte == b'.').next().unwrap_or(name);
        let known = HIDING.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        self.named = known.copied();
        None
    }

    /// Nothing readable follows.
    pub(super) fn end(&mut self) -> Option<&'static str> {
        self.named.take().map(|(what, _)| what)
    }
}
