//! The definitions of the source's schema: read once, kept on the target, written for the target.

mod written;

use std::collections::BTreeMap;

use mysql_async::Conn;
use serde::{Deserialize, Serialize};

use super::create_table::Translation;
use crate::error::{Error, Result};
use crate::mysql::Mysql;
use crate::mysql::catalogue;
use crate::mysql::catalogue::{TextRow, ask, listed};
use crate::mysql::client;
use crate::mysql::client::Version;
use crate::mysql::records;
use crate::mysql::sql::qualified;
pub(crate) use written::known_modes;

/// Everything of the source's schema that is not rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Archive {
    /// What the source called its version.
    pub version: String,
    /// The collation that the source means where it names a character set only.
    pub collations: BTreeMap<String, String>,
    /// The databases that move.
    pub databases: Vec<Database>,
    /// Every table's definition.
    pub tables: Vec<Text>,
    /// Sequences of MariaDB.
    pub sequences: Vec<Text>,
    /// Views, routines, triggers and events.
    pub programs: Vec<Program>,
}

/// A database and its defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its character set.
    pub charset: String,
    /// Its collation.
    pub collation: String,
    /// What people say of it; only MariaDB keeps that.
    #[serde(default)]
    pub comment: String,
}

/// A thing and the statement that creates it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    /// Its database.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The statement.
    pub create: String,
}

/// What kind of program it is; its text is the word in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A stored function.
    Function,
    /// A stored procedure.
    Procedure,
    /// A package of MariaDB.
    Package,
    /// The body of a package.
    PackageBody,
    /// A library of functions in another language.
    Library,
    /// A view.
    View,
    /// A trigger.
    Trigger,
    /// An event.
    Event,
}

impl Kind {
    /// As SQL calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Function => "FUNCTION",
            Self::Procedure => "PROCEDURE",
            Self::Package => "PACKAGE",
            Self::PackageBody => "PACKAGE BODY",
            Self::Library => "LIBRARY",
            Self::View => "VIEW",
            Self::Trigger => "TRIGGER",
            Self::Event => "EVENT",
        }
    }
}

/// Something that holds SQL text of its own, and what that text was written under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What it is.
    pub kind: Kind,
    /// Its database.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The statement that creates it.
    pub create: String,
    /// `account@host` of whoever it runs as.
    pub definer: String,
    /// The modes under which its text means what it means.
    pub sql_mode: String,
    /// The character set that its text was sent in.
    pub client: String,
    /// The collation of its constants.
    pub collation: String,
    /// A trigger's table; empty otherwise.
    pub table: String,
    /// An event's time zone; empty otherwise.
    pub time_zone: String,
    /// Whether an event runs on the source.
    pub enabled: bool,
    /// The collation that its database had when it was made, where that is another now; empty otherwise.
    #[serde(default)]
    pub database_collation: String,
}

impl Archive {
    /// What the target keeps, or else what the source has now, kept on the target from now on.
    pub async fn open(mysql: &Mysql, target: &mut Conn) -> Result<Self> {
        if let Some(kept) = Self::kept(mysql, target).await? {
            return Ok(kept);
        }
        Self::anew(mysql, target).await
    }

    /// What the source has now, kept on the target from now on.
    pub async fn anew(mysql: &Mysql, target: &mut Conn) -> Result<Self> {
        let archive = Self::read(mysql).await?;
        archive.keep(mysql, target).await?;
        Ok(archive)
    }

    /// Keeps it on the target from now on.
    pub async fn keep(&self, mysql: &Mysql, target: &mut Conn) -> Result<()> {
        let text = serde_json::to_string(self)
            .map_err(|error| Error::fatal("the definitions cannot be written").because(error))?;
        records::keep_archive(mysql, target, &text).await
    }

    /// What the target keeps, or nothing where it keeps nothing yet.
    pub async fn kept(mysql: &Mysql, target: &mut Conn) -> Result<Option<Self>> {
        let Some(kept) = records::archive(mysql, target).await? else {
            return Ok(None);
        };
        serde_json::from_str(&kept).map(Some).map_err(|error| {
            Error::fatal("the definitions that the target keeps cannot be read")
                .because(error)
                .remedy("DROP MIGRATION … WITH (target_objects = 'drop'), then create and start it again")
        })
    }

    /// Reads the source.
    pub async fn read(mysql: &Mysql) -> Result<Self> {
        let mut source = mysql.connect_source("schema").await?;
        let source = &mut source;
        let databases = listed(mysql);
        let mut archive = Self::begun(source, &databases).await?;
        archive.read_tables(source, &databases).await?;
        archive.read_routines(source, &databases).await?;
        archive.read_libraries(source, &databases).await?;
        archive.read_triggers(source, &databases).await?;
        archive.read_events(source, &databases).await?;
        Ok(archive.settled())
    }

    /// Reads of any server the triggers alone, and what they are created under.
    pub async fn triggers_of(mysql: &Mysql, server: &mut Conn) -> Result<Self> {
        let databases = listed(mysql);
        let mut archive = Self::begun(server, &databases).await?;
        archive.read_triggers(server, &databases).await?;
        Ok(archive.settled())
    }

    /// What all else is read under.
    async fn begun(source: &mut Conn, databases: &str) -> Result<Self> {
        let mut archive = Self { version: one(source, "SELECT VERSION()").await?.owned(0), ..Self::default() };
        for row in ask(
            source,
            "SELECT CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATIONS WHERE IS_DEFAULT = 'Yes'",
            "cannot read the source's collations",
        )
        .await?
        {
            archive.collations.insert(row.owned(0), row.owned(1));
        }
        let comment = if catalogue::prepare(source).await?.is_mariadb() { "SCHEMA_COMMENT" } else { "''" };
        let query = format!(
            "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, {comment}
             FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({databases}) ORDER BY 1"
        );
        for row in ask(source, &query, "cannot read the source's databases").await? {
            archive.databases.push(Database {
                name: row.owned(0),
                charset: row.owned(1),
                collation: row.owned(2),
                comment: row.owned(3),
            });
        }
        Ok(archive)
    }

    /// A collation is told only where it is another one than the database has now.
    fn settled(mut self) -> Self {
        for one in &mut self.programs {
            let now = self.databases.iter().find(|database| database.name == one.schema);
            if now.is_some_and(|database| database.collation == one.database_collation) {
                one.database_collation.clear();
            }
        }
        self
    }

    async fn read_tables(&mut self, source: &mut Conn, databases: &str) -> Result<()> {
        let query = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES
             WHERE TABLE_SCHEMA IN ({databases}) ORDER BY TABLE_SCHEMA, TABLE_NAME"
        );
        for row in ask(source, &query, "cannot read the source's tables").await? {
            let (schema, name) = (row.owned(0), row.owned(1));
            let (word, views) = match row.text(2) {
                "VIEW" => ("VIEW", true),
                "SEQUENCE" => ("SEQUENCE", false),
                "BASE TABLE" | "SYSTEM VERSIONED" => ("TABLE", false),
                _ => continue,
            };
            let reported = show(source, word, &schema, &name).await?;
            let create = reported.owned(1);
            if views {
                let definer = definer_of(&create);
                self.programs.push(Program {
                    kind: Kind::View,
                    schema,
                    name,
                    create,
                    definer,
                    sql_mode: String::new(),
                    client: reported.owned(2),
                    collation: reported.owned(3),
                    table: String::new(),
                    time_zone: String::new(),
                    enabled: false,
                    database_collation: String::new(),
                });
            } else if word == "SEQUENCE" {
                self.sequences.push(Text { schema, name, create });
            } else {
                self.tables.push(Text { schema, name, create });
            }
        }
        Ok(())
    }

    async fn read_routines(&mut self, source: &mut Conn, databases: &str) -> Result<()> {
        let query = format!(
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE, DEFINER FROM information_schema.ROUTINES
             WHERE ROUTINE_SCHEMA IN ({databases}) ORDER BY ROUTINE_TYPE, ROUTINE_SCHEMA, ROUTINE_NAME"
        );
        for row in ask(source, &query, "cannot read the source's routines").await? {
            let kind = match row.text(2) {
                "FUNCTION" => Kind::Function,
                "PROCEDURE" => Kind::Procedure,
                "PACKAGE" => Kind::Package,
                "PACKAGE BODY" => Kind::PackageBody,
                _ => continue,
            };
            // Name, modes, text, character set, collation.
            let reported = show(source, kind.word(), row.text(0), row.text(1)).await?;
            self.programs.push(program(kind, &row, &reported, 1, 2)?);
        }
        Ok(())
    }

    async fn read_libraries(&mut self, source: &mut Conn, databases: &str) -> Result<()> {
        if !client::version(source).await?.is_mysql_from(9, 2, 0) {
            return Ok(());
        }
        let query = format!(
            "SELECT LIBRARY_SCHEMA, LIBRARY_NAME, LANGUAGE, CREATOR FROM information_schema.LIBRARIES
             WHERE LIBRARY_SCHEMA IN ({databases}) ORDER BY LIBRARY_SCHEMA, LIBRARY_NAME"
        );
        for row in ask(source, &query, "cannot read the source's libraries").await? {
            let reported = show(source, "LIBRARY", row.text(0), row.text(1)).await?;
            let mut library = program(Kind::Library, &row, &reported, 1, 2)?;
            // It is kept in this one, whatever it was sent in.
            "utf8mb4".clone_into(&mut library.client);
            "utf8mb4_general_ci".clone_into(&mut library.collation);
            self.programs.push(library);
        }
        Ok(())
    }

    async fn read_triggers(&mut self, source: &mut Conn, databases: &str) -> Result<()> {
        // In the order in which they fire, because each new one comes last.
        let query = format!(
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE, DEFINER FROM information_schema.TRIGGERS
             WHERE TRIGGER_SCHEMA IN ({databases})
             ORDER BY EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, TRIGGER_NAME"
        );
        for row in ask(source, &query, "cannot read the source's triggers").await? {
            let reported = show(source, "TRIGGER", row.text(0), row.text(1)).await?;
            let mut trigger = program(Kind::Trigger, &row, &reported, 1, 2)?;
            trigger.table = row.owned(2);
            self.programs.push(trigger);
        }
        Ok(())
    }

    async fn read_events(&mut self, source: &mut Conn, databases: &str) -> Result<()> {
        let query = format!(
            "SELECT EVENT_SCHEMA, EVENT_NAME, STATUS, DEFINER FROM information_schema.EVENTS
             WHERE EVENT_SCHEMA IN ({databases}) ORDER BY EVENT_SCHEMA, EVENT_NAME"
        );
        for row in ask(source, &query, "cannot read the source's events").await? {
            let reported = show(source, "EVENT", row.text(0), row.text(1)).await?;
            let mut event = program(Kind::Event, &row, &reported, 1, 3)?;
            event.time_zone = reported.owned(2);
            event.enabled = row.text(2) == "ENABLED";
            self.programs.push(event);
        }
        Ok(())
    }

    /// The table's definition.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Text> {
        self.tables.iter().find(|table| table.schema == schema && table.name == name)
    }

    /// The programs of one kind, in the order in which they were read.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Program> {
        self.programs.iter().filter(move |program| program.kind == kind)
    }

    /// How the target wants it written.
    pub async fn translation(&self, target: &mut Conn) -> Result<Translation> {
        let source = Version::parse(&self.version)
            .ok_or_else(|| Error::fatal(format!("the source calls its version {:?}", self.version)))?;
        Ok(Translation { source, target: client::version(target).await?, collations: self.collations.clone() })
    }
}

fn program(kind: Kind, listed: &TextRow, reported: &TextRow, mode: usize, text: usize) -> Result<Program> {
    let Some(create) = reported.get(text) else {
        let (schema, name) = (listed.text(0), listed.text(1));
        return Err(Error::fatal(format!(
            "the text of the {} {schema}.{name} may not be read on the source",
            kind.word().to_lowercase()
        ))
        .remedy("give the migrator's account on the source the right to: SHOW_ROUTINE, or SELECT on mysql.proc"));
    };
    Ok(Program {
        kind,
        schema: listed.owned(0),
        name: listed.owned(1),
        create: create.to_owned(),
        definer: listed.owned(3),
        sql_mode: reported.owned(mode),
        client: reported.owned(text + 1),
        collation: reported.owned(text + 2),
        table: String::new(),
        time_zone: String::new(),
        enabled: false,
        database_collation: reported.owned(text + 3),
    })
}

/// ``DEFINER=`a`@`b` `` of a statement, as `a@b`.
fn definer_of(create: &str) -> String {
    let after = create.split_once("DEFINER=").map_or("", |(_, after)| after);
    let Some((user, rest)) = crate::mysql::tokens::name(after) else {
        return String::new();
    };
    let host = rest.strip_prefix('@').and_then(crate::mysql::tokens::name);
    host.map_or(user.clone(), |(host, _)| format!("{user}@{host}"))
}

async fn one(session: &mut Conn, query: &str) -> Result<TextRow> {
    let rows = ask(session, query, "cannot read the source's catalogue").await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

async fn show(source: &mut Conn, word: &str, schema: &str, name: &str) -> Result<TextRow> {
    let query = format!("SHOW CREATE {word} {}", qualified(schema, name));
    let what = format!("cannot read the definition of the {} {schema}.{name}", word.to_lowercase());
    let rows = ask(source, &query, &what).await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}
