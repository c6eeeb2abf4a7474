//! Every definition as its server's catalogue shows it, property by property: what a proof was about, and whether it is
//! still so. Each side is compared with itself only, so that nothing has to be made alike.

use std::fmt::Write as _;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure, Row, Value};
use sha2::{Digest, Sha256};

use super::Mysql;
use super::client::failed;
use super::described::among;
use super::sql::quote_ident;
use crate::definitions::{Definitions, Fingerprint};
use crate::error::Result;

/// The server has no such table, or nobody may read it.
const NO_SUCH_TABLE: [u16; 2] = [1109, 1146];
const DENIED: [u16; 3] = [1044, 1142, 1143];

/// A class of definitions: how people call it, where it stands, by which column its database is told (none where it is
/// the whole server's), how many of the first columns make its name, and which columns.
struct Class {
    called: &'static str,
    table: &'static str,
    database: &'static str,
    named_by: &'static [&'static str],
    columns: &'static str,
}

const fn class(
    called: &'static str,
    table: &'static str,
    database: &'static str,
    named_by: &'static [&'static str],
) -> Class {
    Class {
        called,
        table,
        database,
        named_by,
        columns: "*",
    }
}

/// What belongs to the databases that move.
const OBJECTS: &[Class] = &[
    class(
        "database",
        "information_schema.SCHEMATA",
        "SCHEMA_NAME",
        &["SCHEMA_NAME"],
    ),
    class(
        "database",
        "information_schema.SCHEMATA_EXTENSIONS",
        "SCHEMA_NAME",
        &["SCHEMA_NAME"],
    ),
    Class {
        columns: "TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, ROW_FORMAT, TABLE_COLLATION, CREATE_OPTIONS, TABLE_COMMENT",
        ..class(
            "table",
            "information_schema.TABLES",
            "TABLE_SCHEMA",
            &["TABLE_SCHEMA", "TABLE_NAME"],
        )
    },
    class(
        "column",
        "information_schema.COLUMNS",
        "TABLE_SCHEMA",
        &["TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME"],
    ),
    class(
        "index",
        "information_schema.STATISTICS",
        "TABLE_SCHEMA",
        &["TABLE_SCHEMA", "TABLE_NAME", "INDEX_NAME"],
    ),
    class(
        "constraint",
        "information_schema.TABLE_CONSTRAINTS",
        "TABLE_SCHEMA",
        &["TABLE_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"],
    ),
    class(
        "constraint",
        "information_schema.KEY_COLUMN_USAGE",
        "TABLE_SCHEMA",
        &["TABLE_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"],
    ),
    class(
        "foreign key",
        "information_schema.REFERENTIAL_CONSTRAINTS",
        "CONSTRAINT_SCHEMA",
        &["CONSTRAINT_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"],
    ),
    class(
        "check",
        "information_schema.CHECK_CONSTRAINTS",
        "CONSTRAINT_SCHEMA",
        &["CONSTRAINT_SCHEMA", "CONSTRAINT_NAME"],
    ),
    class(
        "partition",
        "information_schema.PARTITIONS",
        "TABLE_SCHEMA",
        &["TABLE_SCHEMA", "TABLE_NAME", "PARTITION_NAME"],
    ),
    class(
        "view",
        "information_schema.VIEWS",
        "TABLE_SCHEMA",
        &["TABLE_SCHEMA", "TABLE_NAME"],
    ),
    class(
        "routine",
        "information_schema.ROUTINES",
        "ROUTINE_SCHEMA",
        &["ROUTINE_SCHEMA", "ROUTINE_NAME"],
    ),
    class(
        "routine",
        "information_schema.PARAMETERS",
        "SPECIFIC_SCHEMA",
        &["SPECIFIC_SCHEMA", "SPECIFIC_NAME"],
    ),
    class(
        "event",
        "information_schema.EVENTS",
        "EVENT_SCHEMA",
        &["EVENT_SCHEMA", "EVENT_NAME"],
    ),
    class(
        "library",
        "information_schema.LIBRARIES",
        "LIBRARY_SCHEMA",
        &["LIBRARY_SCHEMA", "LIBRARY_NAME"],
    ),
];

/// What only the source is looked at for: on the target triggers come with the cutover, and accounts as their passwords
/// become known.
const OF_THE_SOURCE: &[Class] = &[
    class(
        "trigger",
        "information_schema.TRIGGERS",
        "TRIGGER_SCHEMA",
        &["TRIGGER_SCHEMA", "TRIGGER_NAME"],
    ),
    class("account", "mysql.user", "", &["User", "Host"]),
    class("account", "mysql.global_priv", "", &["User", "Host"]),
    class("grants of", "mysql.global_grants", "", &["USER", "HOST"]),
    class("grants of", "mysql.db", "", &["User", "Host"]),
    class("grants of", "mysql.tables_priv", "", &["User", "Host"]),
    class("grants of", "mysql.columns_priv", "", &["User", "Host"]),
    class("grants of", "mysql.procs_priv", "", &["User", "Host"]),
    class("grants of", "mysql.proxies_priv", "", &["User", "Host"]),
    class("roles of", "mysql.role_edges", "", &["TO_USER", "TO_HOST"]),
    class("roles of", "mysql.roles_mapping", "", &["User", "Host"]),
    class("roles of", "mysql.default_roles", "", &["USER", "HOST"]),
    class("server", "mysql.servers", "", &["Server_name"]),
    class("loadable function", "mysql.func", "", &["name"]),
];

/// What changes although nobody changes a definition.
const PASSING: &[&str] = &[
    "AVG_ROW_LENGTH",
    "CARDINALITY",
    "CHECKSUM",
    "CHECK_TIME",
    "CREATED",
    "CREATE_TIME",
    "DATA_FREE",
    "DATA_LENGTH",
    "INDEX_LENGTH",
    "LAST_ALTERED",
    "LAST_EXECUTED",
    "MAX_DATA_LENGTH",
    "PRIVILEGES",
    "TABLE_ROWS",
    "Timestamp",
    "UPDATE_TIME",
];

/// Two sessions that read the definitions of both sides.
pub(super) struct Stamp {
    source: Conn,
    target: Conn,
    databases: Vec<String>,
}

impl Stamp {
    /// Opens the sessions.
    pub(super) async fn open(mysql: &Mysql) -> Result<Self> {
        let (source, target) =
            tokio::try_join!(mysql.connect_source("look"), mysql.connect_target("look"))?;
        Ok(Self {
            source,
            target,
            databases: mysql.databases(),
        })
    }

    /// Every definition of both sides, as digests.
    pub(super) async fn read(&mut self) -> Result<Fingerprint> {
        let among = among(&self.databases);
        let (ours, theirs) = tokio::try_join!(
            read(&mut self.source, &among, true),
            read(&mut self.target, &among, false)
        )?;
        Ok(Fingerprint::of(&ours, &theirs))
    }

    /// The session on the source.
    pub(super) fn source(&mut self) -> &mut Conn {
        &mut self.source
    }
}

/// As [`Stamp::read`], in sessions of its own.
pub(super) async fn fingerprint(mysql: &Mysql) -> Result<Fingerprint> {
    Stamp::open(mysql).await?.read().await
}

/// A short text that changes with it.
pub(super) fn short(fingerprint: &Fingerprint) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(format!("{fingerprint:?}")) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

async fn read(session: &mut Conn, among: &str, is_source: bool) -> Result<Definitions> {
    let mut read = Definitions::new();
    let more = if is_source { OF_THE_SOURCE } else { &[] };
    for class in OBJECTS.iter().chain(more) {
        let mut query = format!("SELECT {} FROM {}", class.columns, class.table);
        if !class.database.is_empty() {
            let _ = write!(query, " WHERE {} {among}", class.database);
        }
        let rows: Vec<Row> = match session.query(query).await {
            Ok(rows) => rows,
            Err(Failure::Server(told)) if NO_SUCH_TABLE.contains(&told.code) => continue,
            Err(Failure::Server(told)) if DENIED.contains(&told.code) => {
                read.insert(class.table.to_owned(), "not readable".to_owned());
                continue;
            }
            Err(error) => return Err(failed("cannot read a server's definitions", error)),
        };
        let mut told: Vec<(String, String)> = rows.iter().map(|row| told(class, row)).collect();
        // The servers promise no order.
        told.sort_unstable();
        for (name, text) in told {
            read.entry(name).or_default().push_str(&text);
        }
    }
    Ok(read)
}

/// An object's name, and everything that one row says of it.
fn told(class: &Class, row: &Row) -> (String, String) {
    let mut name = vec![String::new(); class.named_by.len()];
    let mut text = format!("{};", class.table);
    for (index, column) in row.columns_ref().iter().enumerate() {
        let column = column.name_str();
        let value = row.as_ref(index);
        let mut names = class.named_by.iter().zip(&mut name);
        if let Some((_, place)) = names.find(|(by, _)| by.eq_ignore_ascii_case(&column))
            && let Some(Value::Bytes(bytes)) = value
        {
            *place = quote_ident(&String::from_utf8_lossy(bytes));
        }
        if !PASSING
            .iter()
            .any(|passing| passing.eq_ignore_ascii_case(&column))
        {
            // Not as this type is shown for people, who are spared what is long.
            let value = value.map_or_else(String::new, |value| value.as_sql(true));
            let _ = write!(text, "{column}={value};");
        }
    }
    let separator = if class.database.is_empty() { "@" } else { "." };
    (format!("{} {}", class.called, name.join(separator)), text)
}
