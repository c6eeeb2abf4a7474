//! Reads of a server what the inventory compares: every column of its own catalogue that is not left out by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::record::{Asked, Record, WHAT};
use super::sequences;
use super::sequences::{EVERY_SEQUENCE, SEQUENCES};
use super::{Class, INVENTORY, Treatment};
use crate::error::Result;
use crate::mysql::Mysql;
use crate::mysql::catalogue::{TextRow, ask};
use crate::mysql::client::{self, Version, failed};
use crate::mysql::rights::Held;
use crate::mysql::schema::accounts;
use crate::mysql::sql::quote_ident;

/// The server has no such table, or nobody may read it.
const NO_SUCH_TABLE: [u16; 2] = [1109, 1146];
const DENIED: [u16; 4] = [1044, 1142, 1143, 1227];
/// Shows the routines of everybody.
const ROUTINES: &str = "SHOW_ROUTINE";
/// Columns that hold a document, whose parts are compared one by one.
const DOCUMENTS: [&str; 2] = ["user_attributes", "priv"];

/// What one server shows of itself, and how it is asked; found out ahead, so that reading takes no longer than it must.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// What the server runs.
    pub version: Version,
    asked: Vec<Asked>,
    hidden: BTreeMap<String, String>,
    account: String,
    own: Vec<String>,
    sees_sessions: bool,
}

/// What was read of one server.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What it showed.
    pub records: Vec<Record>,
    /// What it did not show to this account, each with the statement of the least grant that lets it look.
    pub hidden: BTreeMap<String, String>,
}

impl Catalogue {
    /// Finds out what this server has, and what of it this session may read.
    pub async fn open(mysql: &Mysql, session: &mut Conn) -> Result<Self> {
        let version = client::version(session).await?;
        let account = ask(session, "SELECT CURRENT_USER()", WHAT).await?;
        let account = account.first().map(|row| row.owned(0)).unwrap_or_default();
        let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
        let mut catalogue = Self {
            version,
            asked: Vec::new(),
            hidden: BTreeMap::new(),
            account: format!("{}@{}", quote_ident(user), quote_ident(host)),
            own: vec![mysql.source().user.clone(), mysql.target().user.clone()],
            sees_sessions: false,
        };
        let views = views(session).await?;
        for (table, on, treatment) in INVENTORY {
            let Treatment::Compared(class) = treatment else {
                continue;
            };
            if !on.has(version) {
                continue;
            }
            let name = table.strip_prefix("information_schema.");
            let columns = match name {
                Some(name) => views.get(&name.to_ascii_lowercase()).cloned(),
                None => catalogue.columns_of(session, table).await?,
            };
            if let Some(columns) = columns {
                catalogue.add(table, class, columns);
            }
        }
        catalogue.left_out(session, &mysql.databases()).await?;
        Ok(catalogue)
    }

    /// The columns of a table of the database `mysql`; nothing where it is not there or may not be read.
    async fn columns_of(&mut self, session: &mut Conn, table: &str) -> Result<Option<Vec<String>>> {
        let query = format!("SELECT * FROM {table} LIMIT 0");
        let answer = match session.query_iter(query).await {
            Ok(answer) => answer,
            Err(Failure::Server(reported)) if NO_SUCH_TABLE.contains(&reported.code) => {
                return Ok(None);
            }
            Err(Failure::Server(reported)) if DENIED.contains(&reported.code) => {
                let grant = format!("GRANT SELECT ON {table} TO {}", self.account);
                self.hidden.insert(table.to_owned(), grant);
                return Ok(None);
            }
            Err(error) => return Err(failed(WHAT, error)),
        };
        let columns = answer.columns_ref().iter();
        let columns = columns.map(|column| column.name_str().into_owned()).collect();
        answer.drop_result().await.map_err(|error| failed(WHAT, error))?;
        Ok(Some(columns))
    }

    fn add(&mut self, table: &'static str, class: &'static Class, columns: Vec<String>) {
        let is = |name: &str, column: &String| column.eq_ignore_ascii_case(name);
        let derived = class
            .derived
            .iter()
            .filter(|(name, on, _)| on.has(self.version) && !columns.iter().any(|column| is(name, column)));
        let derived: Vec<(String, String)> =
            derived.map(|(name, _, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
        let kept = columns.into_iter().filter(|column| !class.without.iter().any(|(name, _)| is(name, column)));
        let asked: Vec<(String, String)> =
            kept.map(|column| (column.clone(), format!("c.{}", quote_ident(&column)))).chain(derived).collect();
        let expressions: Vec<&str> = asked.iter().map(|(_, sql)| sql.as_str()).collect();
        let mut select = format!("SELECT {} FROM {table} c", expressions.join(", "));
        if !class.only.is_empty() {
            let _ = write!(select, " WHERE {}", class.only);
        }
        self.asked.push(Asked {
            table,
            class,
            columns: asked
                .into_iter()
                .map(|(column, _)| {
                    let renamed = class.renamed.iter().find(|(name, _)| is(name, &column));
                    renamed.map_or(column.as_str(), |(_, other)| other).to_ascii_lowercase()
                })
                .collect(),
            select,
        });
    }

    /// What this session may not see, each with the statement of the least grant that shows it.
    pub fn hidden(&self) -> &BTreeMap<String, String> {
        &self.hidden
    }

    /// Whether this session may see what others run.
    pub fn sees_sessions(&self) -> bool {
        self.sees_sessions
    }

    /// The account that reads, as SQL writes it.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Whether the server has such a table, and this session may read it.
    pub fn knows(&self, table: &str) -> bool {
        let sequences = table == EVERY_SEQUENCE && self.version.is_mariadb();
        sequences || self.asked.iter().any(|asked| asked.class.place(asked.table) == table)
    }

    /// Reads what is in these databases, and what the server has beside databases.
    pub async fn read(&self, session: &mut Conn, databases: &[String]) -> Result<Seen> {
        self.read_some(session, databases, |_| true).await
    }

    /// As [`Catalogue::read`], of some tables only.
    pub async fn read_some(
        &self,
        session: &mut Conn,
        databases: &[String],
        wanted: impl Fn(&Class) -> bool,
    ) -> Result<Seen> {
        let mut seen = Seen { records: Vec::new(), hidden: self.hidden.clone() };
        for asked in self.asked.iter().filter(|asked| wanted(asked.class)) {
            let rows = ask(session, &asked.query(databases), WHAT).await?;
            for row in &rows {
                self.add_row(asked, row, &mut seen);
            }
        }
        if wanted(&SEQUENCES) {
            let (asked, rows) = sequences::read(session, &seen.records).await?;
            for row in &rows {
                self.add_row(&asked, row, &mut seen);
            }
        }
        Ok(seen)
    }

    fn add_row(&self, asked: &Asked, row: &TextRow, seen: &mut Seen) {
        let class = asked.class;
        let mut values = BTreeMap::new();
        for (index, column) in asked.columns.iter().enumerate() {
            let value = row.get(index).map(str::to_owned);
            let document = DOCUMENTS.contains(&column.as_str());
            match value.as_deref().filter(|_| document).and_then(parts) {
                Some(parts) => {
                    for (name, part) in parts {
                        let column = format!("{column}.{name}");
                        let left_out = class.without.iter();
                        if !left_out.into_iter().any(|(name, _)| name.eq_ignore_ascii_case(&column)) {
                            values.insert(column, Some(part));
                        }
                    }
                }
                None if document => {}
                None => drop(values.insert(column.clone(), value)),
            }
        }
        let mut record = Record { class, table: asked.table, object: String::new(), account: None, values };
        let named: Vec<&str> = class.named_by.iter().map(|by| record.text(by)).collect();
        if class.of_accounts {
            let (user, host) = (named.first().copied(), named.get(1).copied());
            let user = user.unwrap_or_default().to_owned();
            let host = host.filter(|host| !host.is_empty()).unwrap_or("%").to_lowercase();
            if accounts::account::is_servers(&user) || self.own.contains(&user) {
                return;
            }
            record.object = format!("{} {}@{}", class.called, quote_ident(&user), quote_ident(&host));
            record.account = Some((user, host));
        } else {
            let named: Vec<String> = named.iter().map(|name| quote_ident(name)).collect();
            record.object = format!("{} {}", class.called, named.join("."));
        }
        seen.records.push(record);
    }

    /// What the views of `information_schema` leave out in silence: what this account has no privilege for.
    async fn left_out(&mut self, session: &mut Conn, databases: &[String]) -> Result<()> {
        let held = Held::read(session).await?;
        self.sees_sessions = held.has(&["PROCESS"]);
        let mut asked: BTreeSet<&str> = BTreeSet::from(["SELECT"]);
        for (_, on, treatment) in INVENTORY {
            if let Treatment::Compared(class) = treatment
                && on.has(self.version)
                && !class.shown_to.is_empty()
            {
                asked.insert(class.shown_to);
            }
        }
        for privilege in asked {
            if privilege == ROUTINES {
                self.routines(session, &held).await?;
                continue;
            }
            for database in databases.iter().filter(|name| !held.has_in(name, &[privilege])) {
                let database = quote_ident(database);
                let what = format!("what {privilege} shows of {database}");
                let grant = format!("GRANT {privilege} ON {database}.* TO {}", self.account);
                self.hidden.insert(what, grant);
            }
        }
        Ok(())
    }

    async fn routines(&mut self, session: &mut Conn, held: &Held) -> Result<()> {
        if !self.version.is_mysql_from(8, 0, 20) {
            return self.columns_of(session, "mysql.proc").await.map(drop);
        }
        if !held.has(&[ROUTINES, "SELECT"]) {
            let grant = format!("GRANT {ROUTINES} ON *.* TO {}", self.account);
            self.hidden.insert("routines".to_owned(), grant);
        }
        Ok(())
    }
}

/// The columns of every table of `information_schema`, by its name in lower case.
async fn views(session: &mut Conn) -> Result<BTreeMap<String, Vec<String>>> {
    let query = "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS
        WHERE TABLE_SCHEMA = 'information_schema' ORDER BY TABLE_NAME, ORDINAL_POSITION";
    let mut views: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in ask(session, query, WHAT).await? {
        let columns = views.entry(row.text(0).to_ascii_lowercase()).or_default();
        columns.push(row.owned(1));
    }
    Ok(views)
}

/// The parts of a document; nothing where it is none.
fn parts(document: &str) -> Option<BTreeMap<String, String>> {
    let document: serde_json::Value = serde_json::from_str(document).ok()?;
    let parts = document.as_object()?.iter();
    Some(parts.map(|(name, part)| (name.to_lowercase(), part.to_string())).collect())
}
