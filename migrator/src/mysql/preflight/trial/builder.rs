//! Tries the statements of a trial one by one, and collects what the target refuses.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::super::super::catalogue;
use super::super::super::client::{failed, is_transient};
use super::super::super::sql::{quote_ident, relation, title, title_of};
use crate::error::Result;
use crate::model::plan::Table;
use crate::mysql::schema::archive::{Archive, Program};
use crate::mysql::schema::create_table::{Definition, Translation};

/// What the target refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What it was, for people.
    pub(super) object: String,
    /// `database.name` as servers write it in their messages.
    pub(super) name: String,
    pub(super) statement: String,
    /// The server's number of the error; 0 where it did not come so far.
    pub(super) code: u16,
    pub(super) message: String,
}

/// One session that tries statements, and what it was refused.
pub(super) struct Builder {
    pub(super) session: Conn,
    pub(super) refused: Vec<Refusal>,
}

impl Builder {
    pub(super) fn new(session: Conn) -> Self {
        Self { session, refused: Vec::new() }
    }

    /// Whether the target takes it. A lost connection, or what may pass, is no answer.
    pub(super) async fn takes(&mut self, object: &str, name: &str, statement: &str) -> Result<bool> {
        let code = match self.session.query_drop(statement).await {
            Ok(()) => return Ok(true),
            Err(Failure::Server(reported)) if !is_transient(reported.code) => reported,
            Err(failure) => return Err(failed(&format!("cannot try {object}"), failure)),
        };
        self.refused.push(Refusal {
            object: object.to_owned(),
            name: name.to_owned(),
            statement: statement.to_owned(),
            code: code.code,
            message: code.message,
        });
        Ok(false)
    }

    /// As [`Builder::takes`], for what a check of its own tells of collations that the target lacks: what else is refused
    /// is found with others in their place.
    pub(super) async fn takes_but_collations(&mut self, object: &str, name: &str, statement: &str) -> Result<bool> {
        let mut statement = statement.to_owned();
        loop {
            if self.takes(object, name, &statement).await? {
                return Ok(true);
            }
            let unknown = self.refused.last().and_then(unknown_collation);
            let Some(collation) = unknown.filter(|name| statement.contains(name)) else {
                return Ok(false);
            };
            let charset = collation.split('_').next().unwrap_or_default();
            let plain = format!("{charset}_bin");
            if plain == collation {
                return Ok(false);
            }
            statement = statement.replace(&collation, &plain);
            self.refused.pop();
        }
    }

    pub(super) async fn enter(&mut self, schema: &str) -> Result<()> {
        let statement = format!("USE {}", quote_ident(schema));
        catalogue::run(&mut self.session, &statement, "cannot enter a database of the trial").await
    }

    /// A table with its indexes; the ones that it has from the start are of its statement.
    pub(super) async fn table(
        &mut self,
        table: &Table,
        statement: &str,
        archive: &Archive,
        translation: &Translation,
    ) -> Result<()> {
        let (object, name) = (format!("the table {}", title(table)), dotted(table));
        self.enter(&table.schema).await?;
        if !self.takes_but_collations(&object, &name, statement).await? {
            return Ok(());
        }
        let Some(text) = archive.table(&table.schema, &table.name) else {
            return Ok(());
        };
        let definition = Definition::parse(&text.create)?;
        let later = definition.later(table);
        let clauses: Vec<String> = later.iter().map(|one| translation.add_index(one)).collect();
        // All at once is quicker; where that is refused, each by itself tells which.
        let alter = format!("ALTER TABLE {} ", relation(table));
        let all = format!("{alter}{}", clauses.join(", "));
        if clauses.is_empty() || self.session.query_drop(all).await.is_ok() {
            return Ok(());
        }
        for (index, clause) in later.iter().zip(&clauses) {
            let object = format!("the index {} of {}", index.name, title(table));
            self.takes(&object, "", &format!("{alter}{clause}")).await?;
        }
        Ok(())
    }

    pub(super) async fn program(
        &mut self,
        program: &Program,
        statement: &str,
        translation: &Translation,
    ) -> Result<bool> {
        let word = program.kind.word().to_lowercase();
        let object = format!("the {word} {}", title_of(&program.schema, &program.name));
        let name = format!("{}.{}", program.schema, program.name);
        let entered = program.enter(&mut self.session, translation).await;
        let taken = match entered {
            Ok(()) => self.takes(&object, &name, statement).await,
            Err(failure) => {
                self.refused.push(Refusal {
                    object,
                    name,
                    statement: statement.to_owned(),
                    code: 0,
                    message: failure.full_text(),
                });
                Ok(false)
            }
        };
        Program::leave(&mut self.session).await?;
        taken
    }
}

/// `database.table` as servers write it in their messages.
pub(super) fn dotted(table: &Table) -> String {
    format!("{}.{}", table.schema, table.name)
}

/// The collation that a server says it does not know.
fn unknown_collation(refusal: &Refusal) -> Option<String> {
    const UNKNOWN_COLLATION: u16 = 1273;
    let is_it = refusal.code == UNKNOWN_COLLATION;
    let quoted = refusal.message.split('\'').nth(1).filter(|_| is_it)?;
    Some(quoted.to_owned())
}
