//! The parts of a `CREATE TABLE` as a server writes it, and how another server wants them written.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::model::plan::Table;
use crate::mysql::client::Version;
use crate::mysql::sql::quote_ident;
use crate::mysql::tokens::{name, parentheses, position, split, words};

/// What kind of index it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The primary key.
    Primary,
    /// A unique index.
    Unique,
    /// An index that may hold a value twice.
    Plain,
    /// As [`Kind::Plain`]; a server builds only one of these at a time.
    Fulltext,
}

/// An index of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name; `PRIMARY` for the primary key.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// Its columns in order; `None` in the place of an expression.
    pub columns: Vec<Option<String>>,
    /// As it stands in the definition.
    pub text: String,
}

/// A named constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// As it stands in the definition.
    pub text: String,
}

/// A table's definition in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// Each column's name and what follows it.
    pub columns: Vec<(String, String)>,
    /// Every index, in the table's order.
    pub indexes: Vec<Index>,
    /// Foreign keys.
    pub foreign_keys: Vec<Constraint>,
    /// Checks of the table.
    pub checks: Vec<Constraint>,
    /// Whatever else stands between the parentheses.
    pub others: Vec<String>,
    /// The options after the parentheses.
    pub options: String,
    /// The partitions, or nothing.
    pub partitions: String,
}

/// What the other server wants to be different.
#[derive(Clone, Debug)]
pub struct Translation {
    /// Who wrote the definitions.
    pub source: Version,
    /// Who is to read them.
    pub target: Version,
    /// The collation that the source means where it names a character set only.
    pub collations: BTreeMap<String, String>,
}

impl Definition {
    /// Reads what `SHOW CREATE TABLE` answered.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| {
            let beginning: String = text.chars().take(80).collect();
            Error::fatal(format!("a table's definition cannot be read: {beginning}"))
                .remedy("report this; leave the table out by moving other databases only")
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (_, body, tail) = parentheses(text)?;
        let mut definition = Self::default();
        for element in split(body) {
            definition.add(element)?;
        }
        // Options are on one line, partitions begin on the next.
        let end = position(tail, b'\n')
            .or_else(|| tail.find("\n/*!50100 PARTITION").or_else(|| tail.find("\n/*!50500 PARTITION")))
            .unwrap_or(tail.len());
        tail.get(..end)?.trim().clone_into(&mut definition.options);
        tail.get(end..)?.trim().clone_into(&mut definition.partitions);
        Some(definition)
    }

    fn add(&mut self, element: &str) -> Option<()> {
        if element.starts_with('`') {
            let (column, rest) = name(element)?;
            self.columns.push((column, rest.trim().to_owned()));
            return Some(());
        }
        let lead = words(element);
        let kind = match lead.first().copied()? {
            "PRIMARY" => Kind::Primary,
            "UNIQUE" => Kind::Unique,
            "KEY" | "SPATIAL" => Kind::Plain,
            "FULLTEXT" => Kind::Fulltext,
            "CONSTRAINT" => {
                let (called, rest) = name(element.strip_prefix("CONSTRAINT")?)?;
                let constraint = Constraint { name: called, text: element.to_owned() };
                match words(rest).first().copied()? {
                    "FOREIGN" => self.foreign_keys.push(constraint),
                    "CHECK" => self.checks.push(constraint),
                    _ => self.others.push(element.to_owned()),
                }
                return Some(());
            }
            _ => {
                self.others.push(element.to_owned());
                return Some(());
            }
        };
        let (before, inside, _) = parentheses(element)?;
        let called = before
            .find('`')
            .and_then(|at| name(before.get(at..)?))
            .map_or_else(|| "PRIMARY".to_owned(), |(called, _)| called);
        self.indexes.push(Index {
            name: called,
            kind,
            columns: split(inside).into_iter().map(|part| name(part).map(|(column, _)| column)).collect(),
            text: element.to_owned(),
        });
        Some(())
    }

    /// The indexes that the table has from the start: those that find rows, and the one that counts.
    pub fn early(&self, table: &Table) -> Vec<&Index> {
        let key: Vec<Option<String>> = table.key.iter().cloned().map(Some).collect();
        let finds = |index: &&Index| index.kind == Kind::Primary || index.kind == Kind::Unique && index.columns == key;
        let mut early: Vec<&Index> = self.indexes.iter().filter(|one| one.kind == Kind::Primary).collect();
        if !early.iter().any(|one| one.columns == key) {
            early.extend(self.indexes.iter().find(|one| finds(one) && one.kind == Kind::Unique));
        }
        let counts = |index: &Index, column: &str| index.columns.first().and_then(Option::as_deref) == Some(column);
        for (column, rest) in &self.columns {
            let counting = words(rest).iter().any(|word| word.eq_ignore_ascii_case("AUTO_INCREMENT"));
            if counting && !early.iter().any(|one| counts(one, column)) {
                let plain = self.indexes.iter().filter(|one| one.kind == Kind::Plain);
                let unique = self.indexes.iter().filter(|one| one.kind == Kind::Unique);
                early.extend(plain.chain(unique).find(|one| counts(one, column)));
            }
        }
        // A full-text index needs this one from the start where the table names its own documents.
        let documents = self.indexes.iter().find(|one| one.name.eq_ignore_ascii_case("FTS_DOC_ID_INDEX"));
        if let Some(documents) = documents.filter(|one| !early.contains(one)) {
            early.push(documents);
        }
        early
    }

    /// The indexes that are built later.
    pub fn later(&self, table: &Table) -> Vec<&Index> {
        let early = self.early(table);
        self.indexes.iter().filter(|index| !early.contains(index)).collect()
    }

    /// The statements that create the table with all that belongs to it, step by step as a migration does.
    pub(crate) fn create_whole(
        &self,
        table: &Table,
        translation: &Translation,
        taken: &mut BTreeSet<String>,
    ) -> Vec<String> {
        let later = self.later(table);
        let is_full = |index: &&&Index| index.kind == Kind::Fulltext;
        let add = |index: &&Index| translation.add_index(index);
        let mut steps: Vec<String> = later.iter().filter(is_full).map(add).collect();
        let plain: Vec<String> = later.iter().filter(|one| !is_full(one)).map(add).collect();
        let keys: Vec<String> = self.foreign_keys.iter().map(|key| format!("ADD {}", key.text)).collect();
        steps.extend([plain, keys].iter().filter(|one| !one.is_empty()).map(|one| one.join(", ")));
        let alter = |step| format!("ALTER TABLE {} {step}", crate::mysql::sql::relation(table));
        let create = self.create(table, translation, taken);
        [create].into_iter().chain(steps.into_iter().map(alter)).collect()
    }

    /// The statement that creates the table as it is loaded. A check whose name `taken` holds gets another.
    pub fn create(&self, table: &Table, translation: &Translation, taken: &mut BTreeSet<String>) -> String {
        let mut parts: Vec<String> = self
            .columns
            .iter()
            .map(|(column, rest)| format!("{} {}", quote_ident(column), translation.column(rest)))
            .collect();
        parts.extend(self.early(table).iter().map(|index| translation.index(&index.text)));
        for check in &self.checks {
            parts.push(translation.check(check, &table.name, taken));
        }
        parts.extend(self.others.iter().cloned());
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  {}\n) {}\n{}",
            crate::mysql::sql::relation(table),
            parts.join(",\n  "),
            translation.options(&self.options),
            self.partitions
        )
    }
}

/// Options of a table that MySQL knows.
const KNOWN: [&str; 17] = [
    "ENGINE",
    "AUTO_INCREMENT",
    "CHARSET",
    "COLLATE",
    "COMMENT",
    "STATS_PERSISTENT",
    "STATS_AUTO_RECALC",
    "STATS_SAMPLE_PAGES",
    "ROW_FORMAT",
    "KEY_BLOCK_SIZE",
    "AVG_ROW_LENGTH",
    "MIN_ROWS",
    "MAX_ROWS",
    "CHECKSUM",
    "DELAY_KEY_WRITE",
    "PACK_KEYS",
    "ENCRYPTION",
];

impl Translation {
    /// From MariaDB to MySQL, where even the words differ.
    fn crosses(&self) -> bool {
        self.source.is_mariadb() && !self.target.is_mariadb()
    }

    /// A character set's or collation's name as the target writes it: `utf8` has a longer name now.
    pub fn charset(&self, called: &str) -> String {
        let longer =
            self.target.is_mysql_from(8, 0, 30) || self.target.is_mariadb() && self.target.number >= (10, 6, 0);
        match called.strip_prefix("utf8") {
            Some(rest) if longer && (rest.is_empty() || rest.starts_with('_')) => {
                format!("utf8mb3{rest}")
            }
            _ => called.to_owned(),
        }
    }

    fn collation_of(&self, charset: &str) -> Option<String> {
        self.collations.get(charset).map(|collation| self.charset(collation))
    }

    fn column(&self, rest: &str) -> String {
        let reported = words(rest);
        let mut out: Vec<String> = Vec::with_capacity(reported.len());
        let base = reported.first().map_or("", |word| word.split('(').next().unwrap_or(""));
        let long = base.ends_with("text") || base.ends_with("blob");
        let mut at = 0;
        while let Some(&word) = reported.get(at) {
            let before = at.checked_sub(1).and_then(|before| reported.get(before)).copied();
            let next = reported.get(at + 1).copied();
            if word == "SET" && before == Some("CHARACTER") {
                let charset = next.unwrap_or_default();
                out.push(format!("SET {}", self.charset(charset)));
                if reported.get(at + 2) != Some(&"COLLATE") {
                    out.extend(self.collation_of(charset).map(|name| format!("COLLATE {name}")));
                }
                at += 2;
                continue;
            }
            out.push(match before {
                Some("COLLATE") => self.charset(word),
                Some("DEFAULT") if self.crosses() && must_be_an_expression(word, long) => {
                    format!("({word})")
                }
                _ => word.to_owned(),
            });
            at += 1;
        }
        out.join(" ")
    }

    fn index(&self, text: &str) -> String {
        if !self.crosses() {
            return text.to_owned();
        }
        let reported = words(text);
        let kept: Vec<&str> = reported.into_iter().filter(|word| *word != "CLUSTERING=YES").collect();
        let mut out = kept.join(" ");
        if let Some(plain) = out.strip_suffix(" IGNORED") {
            out = format!("{plain} INVISIBLE");
        }
        out
    }

    /// An index as it is added to a table that is there.
    pub fn add_index(&self, index: &Index) -> String {
        format!("ADD {}", self.index(&index.text))
    }

    fn check(&self, check: &Constraint, table: &str, taken: &mut BTreeSet<String>) -> String {
        // Names of checks are a table's own on MariaDB and the database's on MySQL.
        if !self.crosses() || taken.insert(check.name.to_lowercase()) {
            return check.text.clone();
        }
        let rest = check.text.strip_prefix("CONSTRAINT").and_then(name).map_or("", |(_, rest)| rest);
        let other: String = format!("{table}_{}", check.name).chars().take(64).collect();
        taken.insert(other.to_lowercase());
        format!("CONSTRAINT {}{rest}", quote_ident(&other))
    }

    fn options(&self, text: &str) -> String {
        let reported = words(text);
        let value_of = |option: &str| reported.iter().find_map(|word| word.strip_prefix(option)?.strip_prefix('='));
        let row_format = value_of("ROW_FORMAT");
        let mut out = Vec::with_capacity(reported.len());
        for word in &reported {
            let (option, value) = word.split_once('=').unwrap_or((word, ""));
            let known = !self.crosses() || *word == "DEFAULT" || KNOWN.contains(&option);
            let elsewhere = matches!(option, "DATA" | "INDEX" | "DIRECTORY") || word.contains(" TABLESPACE ");
            let odd_size = option == "KEY_BLOCK_SIZE" && row_format.is_some_and(|format| format != "COMPRESSED");
            let odd_format = option == "ROW_FORMAT" && matches!(value, "FIXED" | "PAGE");
            if !known || elsewhere || odd_size || odd_format {
                continue;
            }
            match option {
                "CHARSET" => {
                    out.push(format!("CHARSET={}", self.charset(value)));
                    if value_of("COLLATE").is_none() {
                        out.extend(self.collation_of(value).map(|name| format!("COLLATE={name}")));
                    }
                }
                "COLLATE" => out.push(format!("COLLATE={}", self.charset(value))),
                _ => out.push((*word).to_owned()),
            }
        }
        out.join(" ")
    }
}

/// Whether MySQL wants this default of MariaDB's in parentheses.
fn must_be_an_expression(value: &str, long: bool) -> bool {
    let lower = value.to_ascii_lowercase();
    if lower == "null" || lower.starts_with('(') || lower.starts_with("current_timestamp") {
        return false;
    }
    let literal = value.starts_with(['\'', '-', '+', '.'])
        || value.starts_with(|first: char| first.is_ascii_digit())
        || ["b'", "x'", "_", "true", "false"].iter().any(|lead| lower.starts_with(lead));
    long || !literal
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Definition, Kind, Translation};
    use crate::model::plan::Table;
    use crate::mysql::client::Version;

    fn table(key: &[&str]) -> Table {
        Table {
            schema: "shop".into(),
            name: "t".into(),
            columns: Vec::new(),
            key: key.iter().map(|column| (*column).to_owned()).collect(),
            rows_estimated: 0,
            bytes: 0,
        }
    }

    fn translation(source: &str, target: &str) -> Translation {
        let version = |text| Version::parse(text).expect("a version");
        Translation {
            source: version(source),
            target: version(target),
            collations: BTreeMap::from([
                ("utf8mb4".to_owned(), "utf8mb4_general_ci".to_owned()),
                ("utf8".to_owned(), "utf8_general_ci".to_owned()),
            ]),
        }
    }

    fn names(indexes: &[&super::Index]) -> Vec<String> {
        indexes.iter().map(|index| index.name.clone()).collect()
    }

    #[test]
    fn a_table_begins_with_the_indexes_that_find_rows_and_the_one_that_counts() {
        let definition = Definition::parse(
            "CREATE TABLE `t` (\n  `a` int NOT NULL,\n  `b` int NOT NULL AUTO_INCREMENT,\n  UNIQUE KEY `ua` (`a`),\n  \
             UNIQUE KEY `uz` (`b`,`a`),\n  KEY `kb` (`b`,`a`),\n  KEY `x` ((`a` + 1)),\n  FULLTEXT KEY `ft` (`c`),\n  \
             CONSTRAINT `fk` FOREIGN KEY (`a`) REFERENCES `o` (`id`)\n) ENGINE=InnoDB",
        )
        .expect("it is a definition");
        assert_eq!(names(&definition.early(&table(&["a"]))), ["ua", "kb"]);
        assert_eq!(names(&definition.early(&table(&["b", "a"]))), ["uz"]);
        assert_eq!(names(&definition.later(&table(&["a"]))), ["uz", "x", "ft"]);
        assert_eq!(definition.indexes[3].columns, [None]);
        assert_eq!(definition.indexes[4].kind, Kind::Fulltext);
        assert_eq!(definition.foreign_keys[0].name, "fk");
    }

    #[test]
    fn an_old_server_s_unnamed_collations_are_named() {
        let text = "CREATE TABLE `t` (\n  `a` varchar(9) CHARACTER SET utf8mb4 DEFAULT 'CHARACTER SET utf8',\n  \
            `b` text CHARACTER SET utf8 COLLATE utf8_bin\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='CHARSET=utf8'\n\
            /*!50100 PARTITION BY HASH (a)\nPARTITIONS 4 */";
        let definition = Definition::parse(text).expect("it is a definition");
        let created = definition.create(&table(&[]), &translation("5.6.24", "9.7.4"), &mut BTreeSet::new());
        for part in [
            "`a` varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci DEFAULT 'CHARACTER SET utf8'",
            "`b` text CHARACTER SET utf8mb3 COLLATE utf8mb3_bin",
            "DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci COMMENT='CHARSET=utf8'",
            "/*!50100 PARTITION BY HASH (a)\nPARTITIONS 4 */",
        ] {
            assert!(created.contains(part), "no {part:?} in {created}");
        }
    }

    #[test]
    fn what_only_mariadb_writes_is_written_for_mysql() {
        let text = "CREATE TABLE `t` (\n  `a` text DEFAULT 'x',\n  `b` varchar(9) DEFAULT concat('a,','b'),\n  \
            `c` datetime DEFAULT current_timestamp() ON UPDATE current_timestamp(),\n  `d` int(11) DEFAULT -1,\n  \
            KEY `k` (`d`) IGNORED,\n  CONSTRAINT `ck` CHECK (`d` > 0)\n) ENGINE=InnoDB PAGE_CHECKSUM=1 `page_compressed`='1' COMMENT='x'";
        let definition = Definition::parse(text).expect("it is a definition");
        let crossing = translation("10.11.19-MariaDB", "9.7.4");
        let mut taken = BTreeSet::from(["ck".to_owned()]);
        let created = definition.create(&table(&[]), &crossing, &mut taken);
        for part in [
            "`a` text DEFAULT ('x')",
            "DEFAULT (concat('a,','b'))",
            "DEFAULT current_timestamp() ON UPDATE current_timestamp()",
            "DEFAULT -1",
            "CONSTRAINT `t_ck` CHECK (`d` > 0)",
            ") ENGINE=InnoDB COMMENT='x'",
        ] {
            assert!(created.contains(part), "no {part:?} in {created}");
        }
        assert_eq!(crossing.add_index(&definition.indexes[0]), "ADD KEY `k` (`d`) INVISIBLE");
    }
}
