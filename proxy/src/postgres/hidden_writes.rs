//! Settings and functions by which a session writes past what follows the log, as statements name them.

use protocol::postgres::sql::{after_blanks, is_start_of, strip_word};

/// What lets a session write past what follows the log, as its name stands in a text, and by what it is told.
const HIDING: [(&[u8], &str); 2] = [(ROLE.as_bytes(), ROLE), (b"session_setup", "pg_replication_origin_session_setup")];

/// The setting by which triggers, and so the fence, leave a session alone.
pub(super) const ROLE: &str = "session_replication_role";

/// What stands at one place of a text.
pub(super) enum Hides {
    /// Nothing of the kind.
    Nothing,
    /// What this names.
    Writes(&'static str),
    /// The text ends before it can be said.
    Short,
}

/// Whether `text` begins with a name that lets a session write past what follows the log, and turns it on. Where the
/// value is not told it may be on.
pub(super) fn hides_writes(text: &[u8]) -> Hides {
    for (name, what) in HIDING {
        if text.len() <= name.len() && is_start_of(text, name) {
            return Hides::Short;
        }
        let Some(rest) = strip_word(text, name) else {
            continue;
        };
        if what != ROLE {
            return Hides::Writes(what);
        }
        let unquoted = |text| {
            let text: &[u8] = after_blanks(text);
            let quotes = text.iter().take_while(|&&byte| matches!(byte, b'\'' | b'"'));
            let quotes = quotes.count();
            after_blanks(&text[quotes..])
        };
        let rest = unquoted(rest);
        let value = match rest {
            [] | [b't' | b'T' | b'/' | b'-'] => return Hides::Short,
            [b'=' | b',', value @ ..] => value,
            // Whoever asks for it, or resets it, turns nothing on.
            rest => match strip_word(rest, b"to") {
                Some(value) => value,
                None => return Hides::Nothing,
            },
        };
        let value = unquoted(value);
        let plain: [&[u8]; 3] = [b"origin", b"local", b"default"];
        if plain.iter().any(|word| strip_word(value, word).is_some()) {
            return Hides::Nothing;
        }
        if plain.iter().any(|word| is_start_of(value, word)) {
            return Hides::Short;
        }
        return Hides::Writes(what);
    }
    Hides::Nothing
}
