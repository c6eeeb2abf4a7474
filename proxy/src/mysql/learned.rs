//! What the texts of statements tell of a session that its server does not tell: names, locks, pending settings.
//!
//! Only what would be lost is looked for. Text that merely looks like it teaches something that turns out not to be
//! there; that costs a question at a handover, or delays a cutover, and loses nothing.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::lexer::{Lexer, Token};

/// Names beyond this are not learned; the session's variables then count as unknown.
const NAMES_MAX: usize = 256;

/// The longest name of a user variable.
const NAME_BYTES_MAX: usize = 256;

static LOCK_LOWER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"get_lock"));
static LOCK_UPPER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"GET_LOCK"));

/// What keeps a session inside although its server reports no transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// LOCK TABLES, or a global read lock.
    pub locked: bool,
    /// SET TRANSACTION for the next transaction.
    pub characteristics: bool,
}

impl Inside {
    /// Whether anything does.
    pub fn any(self) -> bool {
        self.locked || self.characteristics
    }
}

/// What is known of one session.
#[derive(Debug, Default)]
pub struct Learned {
    /// What keeps it inside.
    pub inside: Inside,
    /// A temporary table may be there.
    pub temporary: bool,
    /// A user-level lock may be held.
    pub user_lock: bool,
    names: BTreeSet<Vec<u8>>,
    too_many: bool,
}

impl Learned {
    /// Looks at the text of a statement. Allocates only where a name is new.
    pub fn learn(&mut self, text: &[u8], backslash: bool) {
        let more = |end| !text[end..].trim_ascii().is_empty();
        let several = memchr::memchr(b';', text).is_some_and(|at| more(at + 1));
        let first = text.trim_ascii_start().first().map(u8::to_ascii_lowercase);
        // The first letters of what is looked for, and of a comment before it.
        let telling = matches!(
            first,
            Some(b'a' | b'b' | b'c' | b'f' | b'l' | b's' | b'u' | b'/' | b'-' | b'#')
        );
        self.user_lock |= LOCK_LOWER.find(text).is_some() || LOCK_UPPER.find(text).is_some();
        let variables = memchr::memchr(b'@', text).is_some();
        let begins = telling && self.begins_tellingly(text, backslash);
        if !(several || variables || begins) {
            self.inside.characteristics = false;
            return;
        }
        let mut lexer = Lexer::new(text, backslash);
        while self.learn_statement(&mut lexer) {}
    }

    /// Whether the first word is one that may change what is known.
    fn begins_tellingly(&self, text: &[u8], backslash: bool) -> bool {
        let mut tokens = Lexer::new(text, backslash);
        let Some(Token::Word(word)) = tokens.next() else {
            return true;
        };
        // SELECT and SET are the most frequent of those that begin with a telling letter.
        !word.eq_ignore_ascii_case(b"select") || self.inside.characteristics
    }

    /// Looks at one statement. False where the text ends.
    fn learn_statement(&mut self, tokens: &mut Lexer<'_>) -> bool {
        let mut words: [&[u8]; 4] = [b""; 4];
        let mut count = 0;
        let mut sets_next = false;
        let mut ended = true;
        for token in tokens.by_ref() {
            match token {
                Token::Semicolon => {
                    ended = false;
                    break;
                }
                Token::Word(word) => {
                    if let Some(place) = words.get_mut(count) {
                        *place = word;
                    }
                    count += 1;
                }
                Token::Variable(name, quote) => self.add(name, quote),
                Token::SystemVariable(name) => sets_next |= is_characteristic(name),
                Token::Quoted | Token::Sign(_) => {
                    // A name between two keywords keeps its place.
                    count += usize::from(token == Token::Quoted);
                }
            }
        }
        if count > 0 {
            self.conclude(words, sets_next);
        }
        !ended
    }

    fn conclude(&mut self, words: [&[u8]; 4], sets_next: bool) {
        let is = |at: usize, known: &[u8]| words[at].eq_ignore_ascii_case(known);
        let any = |known: &[u8]| words.iter().any(|word| word.eq_ignore_ascii_case(known));
        if is(0, b"set") {
            self.inside.characteristics |= is(1, b"transaction") || sets_next;
            return;
        }
        self.inside.characteristics = false;
        if is(0, b"lock") || (is(0, b"backup") && !any(b"unlock")) {
            self.inside.locked = true;
        } else if is(0, b"flush") {
            self.inside.locked |= any(b"lock") || any(b"with") || any(b"for");
        } else if is(0, b"unlock")
            || is(0, b"backup")
            || is(0, b"begin")
            || (is(0, b"start") && is(1, b"transaction"))
        {
            self.inside.locked = false;
        } else if is(0, b"create") || is(0, b"alter") {
            self.temporary |= any(b"temporary");
        }
    }

    /// The names of user variables that statements used.
    pub fn names(&self) -> &BTreeSet<Vec<u8>> {
        &self.names
    }

    /// Whether there were more names than are kept.
    pub fn has_too_many(&self) -> bool {
        self.too_many
    }

    fn add(&mut self, name: &[u8], quote: Option<u8>) {
        let twice = quote.filter(|&quote| memchr::memmem::find(name, &[quote; 2]).is_some());
        if let Some(quote) = twice {
            let quote = char::from(quote).to_string();
            let name = String::from_utf8_lossy(name).replace(&quote.repeat(2), &quote);
            return self.add(name.as_bytes(), None);
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || self.names.contains(name) {
            return;
        }
        if self.names.len() < NAMES_MAX {
            self.names.insert(name.to_vec());
        } else {
            self.too_many = true;
        }
    }
}

/// Whether setting it without a scope means the next transaction only.
fn is_characteristic(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [
        b"transaction_isolation",
        b"tx_isolation",
        b"transaction_read_only",
        b"tx_read_only",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(texts: &[&str]) -> Learned {
        let mut learned = Learned::default();
        for text in texts {
            learned.learn(text.as_bytes(), true);
        }
        learned
    }

    #[test]
    fn locks_keep_a_session_inside_until_they_end() {
        assert!(learned(&["LOCK TABLES t WRITE"]).inside.locked);
        assert!(learned(&["select 1; lock table t read"]).inside.locked);
        assert!(
            !learned(&["lock tables t read", "UNLOCK TABLES"])
                .inside
                .locked
        );
        assert!(
            !learned(&["lock tables t read", "start transaction"])
                .inside
                .locked
        );
        assert!(learned(&["flush tables with read lock"]).inside.locked);
        assert!(!learned(&["flush privileges"]).inside.locked);
        assert!(
            !learned(&["select 'lock tables'", "update t set a=1"])
                .inside
                .any()
        );
    }

    #[test]
    fn what_is_set_for_the_next_transaction_is_pending_until_that_one_comes() {
        let set = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";
        assert!(learned(&[set]).inside.characteristics);
        assert!(learned(&[set, "set names utf8mb4"]).inside.characteristics);
        assert!(
            learned(&["set @@tx_isolation='READ-COMMITTED'"])
                .inside
                .characteristics
        );
        assert!(!learned(&[set, "select 1"]).inside.characteristics);
        assert!(!learned(&[set, "update t set a=1"]).inside.characteristics);
        assert!(
            !learned(&["set session transaction isolation level serializable"])
                .inside
                .characteristics
        );
        assert!(
            !learned(&["select @@transaction_isolation"])
                .inside
                .characteristics
        );
    }

    #[test]
    fn what_a_server_does_not_tell_is_learned() {
        assert!(learned(&["create or replace temporary table t (a int)"]).temporary);
        assert!(learned(&["CREATE /*!32312 TEMPORARY */ TABLE t (a int)"]).temporary);
        assert!(!learned(&["create table temporary_things (a int)"]).temporary);
        assert!(learned(&["select get_lock('a', 1)"]).user_lock);
        let names = learned(&[
            "set @a=1",
            "select @a, @`b``c`",
            "insert into t values ('x@example.com')",
        ]);
        assert!(names.names().iter().eq([&b"a"[..], b"b`c"]));
    }

    #[test]
    fn more_names_than_are_kept_are_known_to_be_missing() {
        let mut learned = Learned::default();
        for number in 0..=NAMES_MAX {
            learned.learn(format!("set @n{number}=1").as_bytes(), true);
        }
        assert!(learned.has_too_many());
    }
}
