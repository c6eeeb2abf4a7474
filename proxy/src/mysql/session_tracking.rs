//! What the texts of statements tell of a session that its server does not tell: names, locks, pending settings.
//!
//! Only what would be lost is looked for. Text that merely looks like it teaches something that turns out not to be
//! there; that costs a question at a handover, or delays a cutover, and loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use memchr::memmem::Finder;
use protocol::mysql::sql::{Lexer, Token};

use super::hidden_writes::Hiding;
use super::sql_text::{self, Naming};

/// Names beyond this are not learned; the session's variables then count as unknown.
const NAMES_MAX: usize = 256;

/// Statements prepared by SQL beyond this are not learned.
const NAMED_MAX: usize = 64;

/// The longest name of a user variable.
const NAME_BYTES_MAX: usize = 256;

static LOCK_LOWER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"get_lock"));
static LOCK_UPPER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"GET_LOCK"));

/// What a session has begun although its server reports no transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// LOCK TABLES, or a global read lock: the session counts as inside.
    pub locked: bool,
    /// SET TRANSACTION for the next transaction, which must follow the session where it moves.
    pub characteristics: bool,
}

/// What statements did to a session, as far as their texts tell; a failure may take it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// What keeps it inside.
    pub inside: Inside,
    /// Temporary tables that may be there.
    pub temporary: u32,
    /// Statements that created tables of any kind.
    pub tables_created: u32,
    /// Of those, for temporary ones.
    pub temporary_created: u32,
}

impl Marks {
    /// The worse of both, where it is not known which one is true.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            inside: Inside {
                locked: self.inside.locked | other.inside.locked,
                characteristics: self.inside.characteristics | other.inside.characteristics,
            },
            temporary: self.temporary.max(other.temporary),
            tables_created: self.tables_created.min(other.tables_created),
            temporary_created: self.temporary_created.min(other.temporary_created),
        }
    }
}

/// What a prepared statement does whenever it is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// What comes of a session that nothing keeps inside.
    free: Marks,
    /// What comes of one that everything keeps inside.
    kept: Inside,
}

impl Effect {
    /// What comes of `marks` by an execution.
    pub fn on(self, marks: Marks) -> Marks {
        let either = |now, free, kept| if now { kept } else { free };
        Marks {
            inside: Inside {
                locked: either(marks.inside.locked, self.free.inside.locked, self.kept.locked),
                characteristics: either(
                    marks.inside.characteristics,
                    self.free.inside.characteristics,
                    self.kept.characteristics,
                ),
            },
            temporary: marks.temporary.saturating_add(self.free.temporary),
            tables_created: marks.tables_created.saturating_add(self.free.tables_created),
            temporary_created: marks.temporary_created.saturating_add(self.free.temporary_created),
        }
    }
}

/// What texts cannot tell, or only in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blind {
    /// A text was too long to be looked at as a whole, and what was not looked at may matter.
    pub partial: bool,
    /// A temporary table may be of an engine that does not list it.
    pub other_engine: bool,
}

/// A statement that was prepared by SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: Vec<u8>,
    /// Its text; `None` where it is not known to be whole.
    pub text: Option<Vec<u8>>,
}

/// What is known of one session.
#[derive(Debug, Default)]
pub struct SessionTracking {
    /// What its statements did.
    pub marks: Marks,
    /// A user-level lock may be held.
    pub user_lock: bool,
    /// The last text, where it was nothing but SET TRANSACTION: the statement that does the same.
    pending: Option<String>,
    /// The last text that set it named this variable, by which a session writes past what follows the log.
    pub hides_writes: Option<&'static str>,
    /// The server's counts of the session's statements began anew, so that they tell too little.
    pub uncounted: bool,
    /// How often the default database was chosen anew, and which one was chosen last, where that is known.
    choices: u32,
    chosen: Option<Vec<u8>>,
    /// What is known only by texts that were not learned as a whole.
    pub blind: Blind,
    named: BTreeMap<Vec<u8>, Named>,
    prepares: u64,
    deallocations: u64,
    names: BTreeSet<Vec<u8>>,
    too_many: bool,
}

impl SessionTracking {
    /// Looks at the text of a statement that is executed. Answers whether it may hold several. Allocates only where a
    /// name is new.
    pub fn learn(&mut self, text: &[u8], backslash: bool) -> bool {
        self.pending = None;
        let more = |end| !text[end..].trim_ascii().is_empty();
        let several = memchr::memchr(b';', text).is_some_and(|at| more(at + 1));
        let first = text.trim_ascii_start().first().map(u8::to_ascii_lowercase);
        // The first letters of what is looked for, and of a comment before it.
        let telling =
            matches!(first, Some(b'a' | b'b' | b'c' | b'd' | b'f' | b'l' | b's' | b'u' | b'/' | b'-' | b'#' | 0x0b));
        self.user_lock |= LOCK_LOWER.find(text).is_some() || LOCK_UPPER.find(text).is_some();
        if matches!(first, Some(b'p' | b'd' | b'/' | b'-' | b'#' | 0x0b)) {
            self.learn_naming(text, backslash);
        }
        let variables = memchr::memchr(b'@', text).is_some();
        let pending = self.marks.inside.characteristics;
        if !(pending || several || variables || telling && begins_tellingly(text, backslash)) {
            return false;
        }
        let mut lexer = Lexer::new(text, backslash);
        while self.learn_statement(&mut lexer) {}
        if several {
            self.pending = None;
        }
        several
    }

    /// The statement that sets for the next transaction what this session has set for it.
    pub fn pending_statement(&self) -> Option<&str> {
        self.pending.as_deref().filter(|_| self.marks.inside.characteristics)
    }

    /// Whether something may be set for the next transaction, and it is not known for certain what.
    pub fn is_pending_unknown(&self) -> bool {
        self.marks.inside.characteristics && self.pending.is_none()
    }

    /// What was set for the next transaction may have been used, or may not have been set.
    pub fn doubt_pending(&mut self) {
        self.pending = None;
    }

    /// The part of a text that is not looked at.
    pub fn pass_over(&mut self, rest: &[u8]) {
        let hides = |name: &[u8]| memchr::memmem::find(rest, name).is_some();
        if hides(b"sql_log_bin") || hides(b"SQL_LOG_BIN") {
            self.hides_writes = Some("sql_log_bin");
        }
        self.blind.partial |= memchr::memchr2(b'@', b';', rest).is_some()
            || LOCK_LOWER.find(rest).is_some()
            || LOCK_UPPER.find(rest).is_some();
    }

    /// Whether a text goes on beyond what is looked at.
    pub fn pass_over_beyond(&mut self, more: bool) {
        self.blind.partial |= more;
    }

    /// A statement that prepares another, or forgets it.
    fn learn_naming(&mut self, text: &[u8], backslash: bool) {
        let Some(naming) = sql_text::naming(text, backslash) else {
            return;
        };
        match naming {
            Naming::Prepare(name, text) => {
                let key = name.to_ascii_lowercase();
                if self.named.len() >= NAMED_MAX && !self.named.contains_key(&key) {
                    return;
                }
                let inside = self.marks.inside;
                self.learn(&text, backslash);
                self.pending = None;
                self.marks.inside = inside;
                self.prepares += 1;
                let text = Some(text);
                self.named.insert(key, Named { name, text });
            }
            Naming::Deallocate(name) => {
                self.deallocations += 1;
                self.named.remove(&name.to_ascii_lowercase());
            }
        }
    }

    /// The statements prepared by SQL, where texts told of all: the server counted so many.
    pub fn named(&self, prepares: u64, deallocations: u64) -> Option<Vec<Named>> {
        let all = self.prepares == prepares && self.deallocations == deallocations;
        all.then(|| self.named.values().cloned().collect())
    }

    /// Whether a statement may have been prepared by SQL.
    pub fn has_named(&self) -> bool {
        self.prepares > self.deallocations
    }

    /// Whether texts told of all the statements that were prepared by SQL.
    pub fn knows_prepared(&self, prepares: u64) -> bool {
        self.prepares >= prepares
    }

    /// Another server session goes on, which has prepared these by SQL.
    pub fn move_to(&mut self, named: Vec<Named>) {
        self.prepares = named.len() as u64;
        self.deallocations = 0;
        self.named = named.into_iter().map(|named| (named.name.to_ascii_lowercase(), named)).collect();
    }

    /// Looks at the text of a statement that is prepared. Answers what it will do when it is executed.
    pub fn foresee(&mut self, text: &[u8], backslash: bool) -> Effect {
        let present = self.marks;
        let prepares = (self.prepares, self.deallocations);
        let all = Inside { locked: true, characteristics: true };
        self.marks = Marks::default();
        self.learn(text, backslash);
        let free = self.marks;
        self.marks.inside = all;
        self.learn(text, backslash);
        let kept = self.marks.inside;
        self.marks = present;
        self.pending = None;
        // The server refuses to prepare what prepares.
        (self.prepares, self.deallocations) = prepares;
        Effect { free, kept }
    }

    /// Looks at one statement. False where the text ends.
    fn learn_statement(&mut self, tokens: &mut Lexer<'_>) -> bool {
        let mut words: [&[u8]; 5] = [b""; 5];
        let mut behind = Vec::new();
        let mut count = 0;
        let mut sets_next = false;
        let mut reads = false;
        let mut engine = false;
        let mut ended = true;
        let mut hiding = Hiding::default();
        while let Some(piece) = tokens.next_significant() {
            if words[0].eq_ignore_ascii_case(b"set") {
                self.hides_writes = hiding.next(piece).or(self.hides_writes);
            }
            match piece.token {
                Token::Sign(b';') => {
                    ended = false;
                    break;
                }
                Token::Word(word) => {
                    if let Some(place) = words.get_mut(count) {
                        *place = word;
                    }
                    if count > 1 && words[1].eq_ignore_ascii_case(b"transaction") {
                        behind.push(word);
                    }
                    count += 1;
                    reads |= word.eq_ignore_ascii_case(b"from");
                    engine |= word.eq_ignore_ascii_case(b"engine") || word.eq_ignore_ascii_case(b"like");
                }
                Token::Variable(name, quote) => self.add(name, quote),
                // What touches a keyword is one too, where the statement names no accounts.
                Token::Host(name, quote) if !names_accounts(words[0]) => self.add(name, quote),
                Token::SystemVariable(name) => sets_next |= is_characteristic(name),
                // A name between two keywords keeps its place.
                Token::Quoted(_) | Token::Host(..) => count += 1,
                _ => {}
            }
        }
        self.hides_writes = hiding.end().or(self.hides_writes);
        if count > 0 {
            let before = self.marks.temporary;
            self.conclude(words, sets_next, reads);
            if words[0].eq_ignore_ascii_case(b"set") {
                self.pending = set_transaction(&behind);
            }
            self.blind.other_engine |= engine && self.marks.temporary > before;
        }
        !ended
    }

    fn conclude(&mut self, words: [&[u8]; 5], sets_next: bool, reads: bool) {
        let is = |at: usize, known: &[u8]| words[at].eq_ignore_ascii_case(known);
        let any = |known: &[u8]| words.iter().any(|word| word.eq_ignore_ascii_case(known));
        let marks = &mut self.marks;
        if is(0, b"set") {
            marks.inside.characteristics |= is(1, b"transaction") || sets_next;
            return;
        }
        // What touches no table is no transaction yet, and leaves what was set for the next one.
        let idle: [&[u8]; 7] = [b"show", b"use", b"do", b"kill", b"prepare", b"deallocate", b"help"];
        let touches = !idle.iter().any(|known| is(0, known)) && (reads || !is(0, b"select"));
        marks.inside.characteristics &= !touches;
        if is(0, b"use") {
            self.choose(None);
        } else if is(0, b"lock") || (is(0, b"backup") && !any(b"unlock")) {
            marks.inside.locked = true;
        } else if is(0, b"flush") {
            marks.inside.locked |= any(b"lock") || any(b"with") || any(b"for");
            self.uncounted |= any(b"status");
        } else if is(0, b"unlock") || is(0, b"backup") || is(0, b"begin") || (is(0, b"start") && is(1, b"transaction"))
        {
            marks.inside.locked = false;
        } else if is(0, b"create") && any(b"table") {
            marks.tables_created = marks.tables_created.saturating_add(1);
            if any(b"temporary") {
                marks.temporary_created = marks.temporary_created.saturating_add(1);
                marks.temporary = marks.temporary.saturating_add(1);
            }
        } else if is(0, b"drop") && is(1, b"temporary") && !is(3, b"if") {
            // Where it may have found nothing to drop, what was created may be there still.
            marks.temporary = marks.temporary.saturating_sub(1);
        }
    }

    /// The session goes on elsewhere with variables of these names, and its server's counts begin anew.
    pub fn move_on(&mut self, names: &BTreeSet<Vec<u8>>) {
        self.marks = Marks { inside: self.marks.inside, ..Marks::default() };
        self.uncounted = false;
        for name in names {
            self.add(name, None);
        }
    }

    /// Which default database it is: another number where it may be another one.
    pub fn database(&self) -> u32 {
        self.choices
    }

    /// The client chooses a default database.
    pub fn choose(&mut self, name: Option<&[u8]>) {
        if name.is_none() || self.chosen.as_deref() != name {
            self.choices = self.choices.wrapping_add(1);
            self.chosen = name.map(<[u8]>::to_vec);
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

/// Whether the first word is one that may change what is known.
fn begins_tellingly(text: &[u8], backslash: bool) -> bool {
    let mut tokens = Lexer::new(text, backslash);
    let Some(Token::Word(word)) = tokens.next_significant().map(|piece| piece.token) else {
        return true;
    };
    // SELECT, SET and DELETE are the most frequent of those that begin with a telling letter.
    ![&b"select"[..], b"delete"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether `user@host` may stand in a statement that begins with this word.
fn names_accounts(word: &[u8]) -> bool {
    let known: [&[u8]; 7] = [b"grant", b"revoke", b"create", b"alter", b"drop", b"rename", b"show"];
    known.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// The statement `SET TRANSACTION` with these words behind it, where they are understood.
fn set_transaction(mut words: &[&[u8]]) -> Option<String> {
    const KNOWN: [&str; 6] = [
        "ISOLATION LEVEL READ UNCOMMITTED",
        "ISOLATION LEVEL READ COMMITTED",
        "ISOLATION LEVEL REPEATABLE READ",
        "ISOLATION LEVEL SERIALIZABLE",
        "READ ONLY",
        "READ WRITE",
    ];
    let mut parts = Vec::new();
    while !words.is_empty() {
        let found = KNOWN.iter().find_map(|known| {
            let count = known.split(' ').count();
            let (head, rest) = words.split_at_checked(count)?;
            let same = known.split(' ').zip(head).all(|(known, word)| word.eq_ignore_ascii_case(known.as_bytes()));
            same.then_some((*known, rest))
        });
        let (known, rest) = found?;
        parts.push(known);
        words = rest;
    }
    (!parts.is_empty()).then(|| format!("SET TRANSACTION {}", parts.join(", ")))
}

/// Whether setting it without a scope means the next transaction only.
fn is_characteristic(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"transaction_isolation", b"tx_isolation", b"transaction_read_only", b"tx_read_only"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(texts: &[&str]) -> SessionTracking {
        let mut learned = SessionTracking::default();
        for text in texts {
            learned.learn(text.as_bytes(), true);
        }
        learned
    }

    #[test]
    fn what_hides_writes_from_the_log_is_seen_in_every_form() {
        let hides = |text: &str| learned(&[text]).hides_writes;
        for text in [
            "SET sql_log_bin = 0",
            "set @a = 1, b = 2, session SQL_LOG_BIN := OFF",
            "SET @@session.sql_log_bin=0; insert into t values (1)",
            "set `sql_log_bin` = @saved",
            "/* x */ SET /*!40101 sql_log_bin = 0 */",
            "SET STATEMENT sql_log_bin = 0 FOR INSERT INTO t VALUES (1)",
        ] {
            assert_eq!(hides(text), Some("sql_log_bin"), "{text}");
        }
        assert_eq!(hides("set binlog_format = 'STATEMENT'"), Some("binlog_format"));
        for text in [
            "SET sql_log_bin = 1, a = 0",
            "set binlog_format = 'ROW'",
            "select @@sql_log_bin",
            "update t set sql_log_bin = 0",
            "set @sql_log_bin = 0",
        ] {
            assert_eq!(hides(text), None, "{text}");
        }
    }

    #[test]
    fn locks_keep_a_session_inside_until_they_end() {
        assert!(learned(&["LOCK TABLES t WRITE"]).marks.inside.locked);
        assert!(learned(&["select 1; lock table t read"]).marks.inside.locked);
        assert!(!learned(&["lock tables t read", "UNLOCK TABLES"]).marks.inside.locked);
        assert!(!learned(&["lock tables t read", "start transaction"]).marks.inside.locked);
        assert!(learned(&["flush tables with read lock"]).marks.inside.locked);
        assert!(!learned(&["flush privileges"]).marks.inside.locked);
        assert!(!learned(&["select 'lock tables'", "update t set a=1"]).marks.inside.locked);
    }

    #[test]
    fn what_is_set_for_the_next_transaction_is_pending_until_that_one_comes() {
        let set = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";
        assert!(learned(&[set]).marks.inside.characteristics);
        assert!(learned(&[set, "set names utf8mb4"]).marks.inside.characteristics);
        assert!(learned(&["set @@tx_isolation='READ-COMMITTED'"]).marks.inside.characteristics);
        // No table is touched, and no transaction begins.
        for idle in ["select 1", "show warnings", "use shop", "do 1", "kill 7"] {
            assert!(learned(&[set, idle]).marks.inside.characteristics, "{idle}");
        }
        assert!(!learned(&[set, "select a from t"]).marks.inside.characteristics);
        assert!(!learned(&[set, "begin"]).marks.inside.characteristics);
        assert!(!learned(&[set, "update t set a=1"]).marks.inside.characteristics);
        assert!(!learned(&["set session transaction isolation level serializable"]).marks.inside.characteristics);
        assert!(!learned(&["select @@transaction_isolation"]).marks.inside.characteristics);
    }

    #[test]
    fn what_a_server_does_not_tell_is_learned() {
        assert!(learned(&["create or replace temporary table t (a int)"]).marks.temporary > 0);
        assert!(learned(&["CREATE /*!32312 TEMPORARY */ TABLE t (a int)"]).marks.temporary > 0);
        assert!(!learned(&["create table temporary_things (a int)"]).marks.temporary > 0);
        assert!(learned(&["select get_lock('a', 1)"]).user_lock);
        let names = learned(&["set @a=1", "select @a, @`b``c`", "insert into t values ('x@example.com')"]);
        assert!(names.names().iter().eq([&b"a"[..], b"b`c"]));
    }

    #[test]
    fn a_temporary_table_counts_until_it_was_surely_dropped() {
        let left = |texts: &[&str]| learned(texts).marks.temporary;
        let create = "CREATE TEMPORARY TABLE t (a int)";
        assert_eq!(left(&[create, "drop temporary table t"]), 0);
        assert_eq!(left(&["drop temporary table if exists t", create]), 1);
        assert_eq!(left(&[create, "drop temporary table if exists other"]), 1);
        let marks = learned(&["create table a (a int)", create]).marks;
        assert_eq!((marks.tables_created, marks.temporary_created), (2, 1));
    }

    #[test]
    fn what_came_along_is_known_and_counts_begin_anew() {
        let mut learned = learned(&["create table a (a int)", "flush status", "set @mine=1"]);
        learned.move_on(&BTreeSet::from([b"hidden".to_vec()]));
        assert_eq!(learned.marks, Marks::default());
        assert!(!learned.uncounted && learned.names().contains(&b"hidden"[..]));
    }

    #[test]
    fn another_default_database_is_seen_and_the_same_one_is_no_other() {
        let mut learned = SessionTracking::default();
        learned.choose(Some(b"a"));
        let first = learned.database();
        learned.choose(Some(b"a"));
        assert_eq!(learned.database(), first);
        learned.learn(b"use b", true);
        assert_ne!(learned.database(), first);
    }

    #[test]
    fn statements_prepared_by_sql_are_known_where_the_server_counted_no_others() {
        let mut learned = learned(&[
            "prepare A from 'select ''x'', \\'y\\', @v'",
            "PREPARE `o``dd` FROM \"select 2\";",
            "prepare gone from 'select 3'",
            "deallocate prepare GONE",
        ]);
        let named = learned.named(3, 1).expect("all are known");
        let named: Vec<(&[u8], &[u8])> =
            named.iter().map(|named| (&named.name[..], named.text.as_deref().unwrap_or_default())).collect();
        assert_eq!(named, [(&b"A"[..], &b"select 'x', 'y', @v"[..]), (b"o`dd", b"select 2")]);
        assert!(learned.names().contains(&b"v"[..]));
        assert!(learned.named(4, 1).is_none(), "one came from elsewhere");
        assert!(learned.named(3, 2).is_none());
        for unknown in
            ["prepare a from @v", "prepare a from 'x' 'y'", "prepare a from _latin1'x'", "select 1; prepare a from 'x'"]
        {
            learned.learn(unknown.as_bytes(), true);
        }
        assert!(learned.named(3, 1).is_some(), "a text that is not known was counted");
        learned.move_to(Vec::new());
        assert_eq!(learned.named(0, 0), Some(Vec::new()));
    }

    #[test]
    fn more_names_than_are_kept_are_known_to_be_missing() {
        let mut learned = SessionTracking::default();
        for number in 0..=NAMES_MAX {
            learned.learn(format!("set @n{number}=1").as_bytes(), true);
        }
        assert!(learned.has_too_many());
    }
}
