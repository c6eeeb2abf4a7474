//! What a statement in the binary log means for the databases that move.

pub(crate) mod harmless;

use protocol::mysql::sql::{self, Lexer, unquoted};

/// A part of a statement's text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A bare word or a quoted name.
    Name { text: String, quoted: bool },
    /// Any other single character.
    Sign(u8),
    /// A string constant, a variable, or the host of an account.
    Other,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Name { text, quoted: false } if text.eq_ignore_ascii_case(word))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Name { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// What to do about a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A transaction begins.
    Begin,
    /// It is committed.
    Commit,
    /// It is undone, all of it or a part.
    Rollback,
    /// A distributed transaction that was prepared before is committed.
    XaCommit,
    /// A distributed transaction that was prepared before is undone.
    XaRollback,
    /// This table was emptied.
    Truncate(String, String),
    /// Nothing that moves is concerned.
    Nothing,
    /// Something that moves is concerned; in short what the statement does.
    Stop(String),
}

/// Longer statements than this are judged by their beginning.
const LENGTH_MAX: usize = 1 << 20;
const TOKENS_MAX: usize = 20_000;

/// Reads a statement of the log. `moving` says whether a database moves.
pub(crate) fn meaning(text: &[u8], database: &str, moving: impl Fn(&str) -> bool) -> Meaning {
    let tokens = tokens(text);
    let statement = Statement { tokens: &tokens, database, moving: &moving };
    statement.meaning()
}

/// When a statement about a table does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Always.
    None,
    /// Only where the table is not there (`IF NOT EXISTS`).
    IfAbsent,
    /// Only where it is there (`IF EXISTS`).
    IfThere,
}

/// Whether a statement may take rows away, or bring some, that no other event of the log tells of, and leave every
/// definition as it is.
pub(crate) fn moves_rows(text: &[u8]) -> bool {
    let tokens = tokens(text);
    let has = |words: &[&str]| tokens.iter().any(|token| words.iter().any(|word| token.is(word)));
    let first = |word: &str| tokens.first().is_some_and(|token| token.is(word));
    let replaces =
        tokens.windows(2).take(2).any(|pair| matches!(pair, [or, replace] if or.is("OR") && replace.is("REPLACE")));
    let is_table = tokens.iter().take(4).any(|token| token.is("TABLE"));
    first("ALTER") && has(&["TRUNCATE", "EXCHANGE", "DISCARD", "IMPORT"])
        || first("CREATE") && replaces && is_table
        || first("DROP") && tokens.get(1).is_some_and(|token| token.is("DATABASE") || token.is("SCHEMA"))
}

/// The tables, each by database and name, about whose shape a statement speaks.
fn tables_of(text: &str, database: &str) -> Vec<((String, String), Guard)> {
    let tokens = tokens(text.as_bytes());
    let statement = Statement { tokens: &tokens, database, moving: &|_| true };
    statement.tables()
}

struct Statement<'a> {
    tokens: &'a [Token],
    database: &'a str,
    moving: &'a dyn Fn(&str) -> bool,
}

impl Statement<'_> {
    fn word(&self, at: usize) -> String {
        match self.tokens.get(at) {
            Some(Token::Name { text, quoted: false }) => text.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    fn meaning(&self) -> Meaning {
        let first = self.word(0);
        let second = self.word(1);
        match (first.as_str(), second.as_str()) {
            ("BEGIN", _) | ("START", "TRANSACTION") | ("XA", "START" | "BEGIN") => Meaning::Begin,
            ("COMMIT", _) => Meaning::Commit,
            ("ROLLBACK", _) => Meaning::Rollback,
            ("XA", "COMMIT") => Meaning::XaCommit,
            ("XA", "ROLLBACK") => Meaning::XaRollback,
            ("TRUNCATE", _) => {
                let at = if second == "TABLE" { 2 } else { 1 };
                match self.qualified(at) {
                    Some((database, table, _)) if (self.moving)(&database) => Meaning::Truncate(database, table),
                    Some(_) => Meaning::Nothing,
                    None => self.unless_elsewhere("TRUNCATE"),
                }
            }
            ("SET", "STATEMENT") => {
                let after = self.tokens.iter().position(|token| token.is("FOR"));
                let tokens = after.and_then(|at| self.tokens.get(at + 1..));
                let tokens = tokens.unwrap_or_default();
                Statement { tokens, ..*self }.meaning()
            }
            ("CREATE" | "ALTER" | "DROP" | "RENAME", _) => self.definition(&first),
            (
                "" | "SAVEPOINT" | "RELEASE" | "XA" | "FLUSH" | "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "GRANT"
                | "REVOKE" | "SET" | "RESET" | "PURGE" | "INSTALL" | "UNINSTALL" | "KILL" | "CACHE" | "USE" | "LOCK"
                | "UNLOCK",
                _,
            ) => Meaning::Nothing,
            _ => self.unless_elsewhere(&first),
        }
    }

    fn tables(&self) -> Vec<((String, String), Guard)> {
        let verb = self.word(0);
        if !["CREATE", "ALTER", "DROP", "RENAME"].contains(&verb.as_str()) {
            return Vec::new();
        }
        // The kind of the object comes before its name, and no name is quoted before it.
        let kinds = ["TABLE", "TABLES", "INDEX"];
        let other =
            ["VIEW", "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "DATABASE", "SCHEMA", "USER", "ROLE", "PACKAGE"];
        let kind = self.tokens.iter().enumerate().skip(1).find_map(|(at, token)| {
            let word = |words: &[&str]| words.iter().any(|word| token.is(word));
            if word(&kinds) { Some(Some(at)) } else { word(&other).then_some(None) }
        });
        let Some(Some(at)) = kind else {
            return Vec::new();
        };
        if self.tokens.iter().take(at).any(|token| token.is("TEMPORARY")) {
            return Vec::new();
        }
        let mut from = at + 1;
        let mut guard = Guard::None;
        if self.tokens[at].is("INDEX") {
            let on = self.tokens.iter().position(|token| token.is("ON"));
            from = on.map_or(from, |on| on + 1);
        } else if self.word(from) == "IF" {
            let absent = self.word(from + 1) == "NOT";
            guard = if absent { Guard::IfAbsent } else { Guard::IfThere };
            from += if absent { 3 } else { 2 };
        }
        let mut found = Vec::new();
        let mut next = from;
        while let Some((database, name, end)) = self.qualified(next) {
            found.push(((database, name), guard));
            let goes_on = self.tokens.get(end).is_some_and(|token| *token == Token::Sign(b',') || token.is("TO"));
            if !goes_on || self.tokens[at].is("INDEX") || ["CREATE", "ALTER"].contains(&verb.as_str()) {
                next = end;
                break;
            }
            next = end + 1;
        }
        if verb == "ALTER" {
            let renames =
                (next..self.tokens.len()).filter(|at| self.tokens.get(*at).is_some_and(|token| token.is("RENAME")));
            for at in renames {
                let to = match self.word(at + 1).as_str() {
                    "TO" | "AS" => at + 2,
                    "COLUMN" | "INDEX" | "KEY" => continue,
                    _ => at + 1,
                };
                if let Some((database, name, _)) = self.qualified(to) {
                    found.push(((database, name), Guard::None));
                }
            }
        }
        found
    }

    /// What is neither known nor clearly about other databases must not be passed over.
    fn unless_elsewhere(&self, what: &str) -> Meaning {
        if (self.moving)(self.database) || self.names_a_moving_database() {
            Meaning::Stop(what.to_owned())
        } else {
            Meaning::Nothing
        }
    }

    fn names_a_moving_database(&self) -> bool {
        self.tokens.windows(2).any(|pair| match pair {
            [name, Token::Sign(b'.')] => name.name().is_some_and(|name| (self.moving)(name)),
            _ => false,
        })
    }

    /// The database and name of what stands there, and where it ends.
    fn qualified(&self, at: usize) -> Option<(String, String, usize)> {
        let first = self.tokens.get(at)?.name()?;
        if self.tokens.get(at + 1) == Some(&Token::Sign(b'.')) {
            let name = self.tokens.get(at + 2)?.name()?;
            return Some((first.to_owned(), name.to_owned(), at + 3));
        }
        Some((self.database.to_owned(), first.to_owned(), at + 1))
    }

    fn definition(&self, verb: &str) -> Meaning {
        const OBJECTS: [&str; 23] = [
            "TABLE",
            "TABLES",
            "INDEX",
            "VIEW",
            "PROCEDURE",
            "FUNCTION",
            "TRIGGER",
            "EVENT",
            "DATABASE",
            "SCHEMA",
            "SEQUENCE",
            "PACKAGE",
            "LIBRARY",
            "USER",
            "ROLE",
            "SERVER",
            "TABLESPACE",
            "LOGFILE",
            "INSTANCE",
            "RESOURCE",
            "REFERENCE",
            "CATALOG",
            "MASKING",
        ];
        // What stands before the kind of object: options, and the account that defines it.
        let found = self.tokens.iter().enumerate().skip(1).find(|(_, token)| OBJECTS.iter().any(|word| token.is(word)));
        let Some((at, object)) = found else {
            return self.unless_elsewhere(verb);
        };
        let object = object.name().unwrap_or_default().to_ascii_uppercase();
        let what = format!("{verb} {object}");
        let temporary = self.tokens.iter().take(at).any(|token| token.is("TEMPORARY"));
        let mut from = at + 1;
        while ["IF", "NOT", "EXISTS", "BODY"].contains(&self.word(from).as_str()) {
            from += 1;
        }
        match object.as_str() {
            "USER" | "ROLE" | "SERVER" | "TABLESPACE" | "LOGFILE" | "INSTANCE" | "RESOURCE" | "REFERENCE"
            | "CATALOG" | "MASKING" => Meaning::Nothing,
            "TABLE" | "TABLES" if temporary => Meaning::Nothing,
            // Counters are set past the source's when the migration switches, however they were changed.
            "SEQUENCE" if verb == "ALTER" => Meaning::Nothing,
            "DATABASE" | "SCHEMA" => match self.tokens.get(from).and_then(Token::name) {
                Some(name) if (self.moving)(name) => Meaning::Stop(format!("{what} {name}")),
                // The name may be left out: then it is the session's.
                _ if verb == "ALTER" && (self.moving)(self.database) => Meaning::Stop(what),
                _ => Meaning::Nothing,
            },
            "INDEX" => {
                let on = self.tokens.iter().position(|token| token.is("ON"));
                self.each_name(&what, on.map_or(from, |on| on + 1))
            }
            _ => self.each_name(&what, from),
        }
    }

    /// Stops where one of the names in a list, or any name with a database before it, is in what moves.
    fn each_name(&self, what: &str, from: usize) -> Meaning {
        let mut at = from;
        while let Some((database, name, end)) = self.qualified(at) {
            if (self.moving)(&database) {
                return Meaning::Stop(format!("{what} {database}.{name}"));
            }
            let goes_on = self.tokens.get(end).is_some_and(|token| *token == Token::Sign(b',') || token.is("TO"));
            if !goes_on {
                break;
            }
            at = end + 1;
        }
        if at == from && self.qualified(from).is_none() || self.names_a_moving_database() {
            return Meaning::Stop(what.to_owned());
        }
        Meaning::Nothing
    }
}

fn tokens(text: &[u8]) -> Vec<Token> {
    let name = |bytes: &[u8], quoted| Token::Name { text: String::from_utf8_lossy(bytes).into_owned(), quoted };
    let mut lexer = Lexer::new(text.get(..LENGTH_MAX).unwrap_or(text), true);
    let pieces = std::iter::from_fn(|| lexer.next_significant()).take(TOKENS_MAX);
    pieces
        .map(|piece| match piece.token {
            sql::Token::Word(word) => name(word, false),
            // Double quotes may stand around a name too.
            sql::Token::Quoted(b'`' | b'"') => name(&unquoted(piece.text, true), true),
            sql::Token::Sign(sign) => Token::Sign(sign),
            _ => Token::Other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Meaning, meaning};

    fn read(database: &str, text: &str) -> Meaning {
        meaning(text.as_bytes(), database, |name| name == "shop")
    }

    #[test]
    fn a_change_of_the_schema_of_a_moving_database_stops() {
        for text in [
            "ALTER TABLE orders ADD c INT",
            "alter /* x */ table `orders` add c int",
            "CREATE TABLE IF NOT EXISTS shop.n (a INT)",
            "CREATE OR REPLACE DEFINER=`a`@`b` SQL SECURITY DEFINER VIEW v AS SELECT 1",
            "DROP TABLE other.a, b",
            "RENAME TABLE other.a TO shop.b",
            "CREATE UNIQUE INDEX i ON orders (a)",
            "DROP INDEX i ON `shop`.`orders`",
            "DROP DATABASE shop",
            "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`l`*/ /*!50003 TRIGGER t BEFORE INSERT ON o FOR EACH ROW SET @a=1 */",
            "INSERT INTO orders VALUES (1)",
            "CREATE PROCEDURE p() SELECT 1",
            "CREATE VIEW other.v AS SELECT 5--3, a.* FROM shop.orders a",
            "CREATE VIEW other.v AS SELECT 2*/* it's */3 FROM shop.orders",
            "ALTER DATABASE CHARACTER SET latin1",
        ] {
            assert!(matches!(read("shop", text), Meaning::Stop(_)), "{text}");
        }
        assert!(matches!(read("", "UPDATE shop.orders SET a=1"), Meaning::Stop(_)));
        assert!(matches!(read("other", "ALTER TABLE x RENAME TO shop.y"), Meaning::Stop(_)));
    }

    #[test]
    fn what_concerns_nothing_that_moves_is_passed_over() {
        for text in [
            "CREATE TABLE t (a INT COMMENT 'shop.orders')",
            "CREATE USER 'a'@'b' IDENTIFIED BY 'x'",
            "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `shop`.`t`",
            "INSERT INTO t VALUES ('shop.')",
            "SAVEPOINT `shop`",
            "GRANT ALL ON shop.* TO a",
            "ANALYZE TABLE shop.orders",
            "# Dummy event",
            "CREATE DATABASE other2",
            "CREATE DEFINER=a@shop.example VIEW v AS SELECT 1",
            "CREATE VIEW v AS SELECT a.b AS shop\u{a0}.c FROM a",
        ] {
            assert_eq!(read("other", text), Meaning::Nothing, "{text}");
        }
    }

    #[test]
    fn an_emptied_table_is_named() {
        let emptied = Meaning::Truncate("shop".into(), "a`b".into());
        assert_eq!(read("shop", "TRUNCATE `a``b`"), emptied);
        assert_eq!(read("x", "truncate table shop.`a``b` /* now */"), emptied);
        assert_eq!(read("x", "truncate y"), Meaning::Nothing);
    }

    #[test]
    fn the_begin_and_end_of_transactions_are_known() {
        assert_eq!(read("shop", "BEGIN"), Meaning::Begin);
        assert_eq!(read("shop", "XA START X'61',X'',1"), Meaning::Begin);
        assert_eq!(read("shop", "COMMIT"), Meaning::Commit);
        assert_eq!(read("shop", "ROLLBACK TO `s`"), Meaning::Rollback);
        assert_eq!(read("shop", "XA COMMIT X'61'"), Meaning::XaCommit);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}") {
            let _ = read("shop", &text);
        }
    }
}
