//! Lets the target print what the source's definitions become there: each is created, without rows, in a database that is
//! dropped again, and read back as the target shows it.

use super::differences::{Owner, Printed, What};
use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use tokio::time::timeout;

use super::inventory::Part;
use super::inventory::record::Record;
use super::stamp::Side;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::model::plan::Table;
use crate::mysql::catalogue::{ask, run};
use crate::mysql::context::SCRATCH;
use crate::mysql::schema::archive::{Archive, Kind, Program};
use crate::mysql::schema::create_table::{Definition, Translation};
use crate::mysql::schema::post_data;
use crate::mysql::sql::{qualified, quote_ident, quote_literal};
use crate::mysql::tokens::{name, placed_words};
use crate::mysql::{Mysql, schema};

/// How long one comparison waits for another.
const TURN_TIMEOUT: Duration = Duration::from_mins(1);

/// Creates what the source has of these now, and reads it back.
pub(crate) async fn read(mysql: &Mysql, target: &mut Side, owners: &BTreeSet<Owner>) -> Result<Printed> {
    // A check and whoever watches the definitions build in databases of the same names.
    let Ok(_alone) = timeout(TURN_TIMEOUT, mysql.inner.printing.lock()).await else {
        let what = "another comparison of the definitions does not end on the target";
        return Err(Error::transient(what));
    };
    let archive = Archive::read(mysql).await?;
    let mut session = schema::connect(mysql, "definitions").await?;
    let translation = archive.translation(&mut session).await?;
    let mut printed = Printed::default();
    let schemas: BTreeSet<&str> = owners.iter().map(|owner| owner.schema.as_str()).collect();
    for (number, schema) in schemas.into_iter().enumerate() {
        let scratch = scratch_of(mysql, number);
        let some: Vec<&Owner> = owners.iter().filter(|one| one.schema == schema).collect();
        let made = Scratch { mysql, archive: &archive, translation: &translation, schema, name: &scratch };
        let outcome = made.print(&mut session, target, &some, &mut printed).await;
        let drop = format!("DROP DATABASE IF EXISTS {}", quote_ident(&scratch));
        // Where it could not be created, there is nothing to drop.
        let dropped = run(&mut session, &drop, "cannot drop what was built for a comparison").await;
        if let Err(failure) = outcome {
            if failure.kind() == ErrorKind::Transient {
                return Err(failure);
            }
            let pattern = SCRATCH.replace('_', "\\_");
            let grant = format!(
                "GRANT CREATE, DROP, SELECT, INDEX, ALTER, REFERENCES, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, \
                 ALTER ROUTINE, EVENT ON `{pattern}%`.* TO {}",
                target.catalogue.account()
            );
            tracing::warn!(%failure, grant, "the target cannot show what it makes of a definition");
            printed.hidden = Some(grant);
        } else {
            dropped?;
        }
    }
    Ok(printed)
}

/// Drops what a killed run left.
pub(crate) async fn forget(mysql: &Mysql, session: &mut Conn) -> Result<()> {
    for number in 0..mysql.databases().len() {
        let name = scratch_of(mysql, number);
        // Who may not create it may not drop it either, and does not see that of another.
        let asked = format!("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", quote_literal(&name));
        if ask(session, &asked, "cannot look for what was built for a comparison").await?.is_empty() {
            continue;
        }
        let drop = format!("DROP DATABASE IF EXISTS {}", quote_ident(&name));
        run(session, &drop, "cannot drop what was built for a comparison").await?;
    }
    Ok(())
}

/// A name that needs no quotes, is nobody else's, and stands in no definition.
fn scratch_of(mysql: &Mysql, number: usize) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in mysql.key().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{SCRATCH}{hash:016x}_{number}")
}

struct Scratch<'a> {
    mysql: &'a Mysql,
    archive: &'a Archive,
    translation: &'a Translation,
    schema: &'a str,
    name: &'a str,
}

impl Scratch<'_> {
    async fn print(
        &self,
        session: &mut Conn,
        target: &mut Side,
        owners: &[&Owner],
        printed: &mut Printed,
    ) -> Result<()> {
        let what = "cannot create a database for a comparison";
        let scratch = quote_ident(self.name);
        run(session, &format!("DROP DATABASE IF EXISTS {scratch}"), what).await?;
        let database = self.archive.databases.iter().find(|one| one.name == self.schema);
        let defaults = database.map_or_else(String::new, |one| schema::defaults(one, self.translation));
        run(session, &format!("CREATE DATABASE {scratch} {defaults}"), what).await?;
        let mut taken = BTreeSet::new();
        for owner in owners {
            match self.create(session, owner, &mut taken).await {
                Ok(true) => drop(printed.records.insert((*owner).clone(), Vec::new())),
                Ok(false) => {}
                Err(failure) if failure.kind() == ErrorKind::Transient => return Err(failure),
                Err(failure) => {
                    let why = format!("the target refuses the source's: {}", failure.full_text());
                    printed.refused.insert((*owner).clone(), why);
                }
            }
        }
        let only = [self.name.to_owned()];
        let parts = |class: &super::inventory::Class| class.part != Part::Alone;
        let seen = target.catalogue.read_some(&mut target.session, &only, parts).await?;
        for record in seen.records {
            let record = self.under_its_name(record);
            let owner = super::differences::owner(&record);
            if let Some(records) = owner.and_then(|owner| printed.records.get_mut(&owner)) {
                records.push(record);
            }
        }
        Ok(())
    }

    /// The record as it would be in the database of the source's name.
    fn under_its_name(&self, mut record: Record) -> Record {
        let quoted = (quote_ident(self.name), quote_ident(self.schema));
        let rename = |text: &str| text.replace(&quoted.0, &quoted.1).replace(self.name, self.schema);
        record.object = rename(&record.object);
        for value in record.values.values_mut().flatten() {
            if value.contains(self.name) {
                *value = rename(value);
            }
        }
        record
    }

    /// Whether there was something to create.
    async fn create(&self, session: &mut Conn, owner: &Owner, taken: &mut BTreeSet<String>) -> Result<bool> {
        let program = |kinds: &[Kind]| {
            self.archive
                .programs
                .iter()
                .find(|one| kinds.contains(&one.kind) && one.schema == owner.schema && one.name == owner.name)
        };
        let found = match owner.kind {
            What::Relation => {
                if let Some(text) = self.archive.table(&owner.schema, &owner.name) {
                    let definition = Definition::parse(&text.create)?;
                    let table = Table {
                        schema: self.name.to_owned(),
                        name: owner.name.clone(),
                        columns: Vec::new(),
                        key: Vec::new(),
                        rows_estimated: 0,
                        bytes: 0,
                    };
                    let what = "cannot create a table for a comparison";
                    run(session, &format!("USE {}", quote_ident(self.name)), what).await?;
                    for statement in definition.create_whole(&table, self.translation, taken) {
                        run(session, &statement, what).await?;
                    }
                    return Ok(true);
                }
                program(&[Kind::View]).map(|view| (view, self.view(view)))
            }
            What::Routine => {
                program(&[Kind::Function, Kind::Procedure]).map(|routine| (routine, Some(of_nobody(&routine.create))))
            }
            What::Event => {
                program(&[Kind::Event]).map(|event| (event, Some(of_nobody(&post_data::disabled(&event.create)))))
            }
        };
        let Some((program, Some(statement))) = found else {
            return Ok(false);
        };
        // A view's names without a database are of its own; what else has a text is not looked into.
        let schema = if program.kind == Kind::View { self.schema } else { self.name };
        let placed = Program { schema: schema.to_owned(), ..program.clone() };
        tracing::trace!(migration = self.mysql.name(), name = program.name, "printed by the target");
        placed.run(session, self.translation, &statement).await?;
        Ok(true)
    }

    /// The view's statement with the scratch database before its name.
    fn view(&self, view: &Program) -> Option<String> {
        let create = of_nobody(&view.create);
        let words = placed_words(&create);
        let (at, word) = *words.iter().find(|(_, word)| *word == "VIEW")?;
        let (head, tail) = create.split_at(at + word.len());
        let (first, mut rest) = name(tail.trim_start())?;
        let mut called = first;
        if let Some((second, after)) = rest.strip_prefix('.').and_then(name) {
            called = second;
            rest = after;
        }
        Some(format!("{head} {}{rest}", qualified(self.name, &called)))
    }
}

/// The statement without a definer: to name another takes a right, and the name is compared by itself.
fn of_nobody(create: &str) -> String {
    let words = placed_words(create);
    let found = words.iter().find(|(_, word)| word.starts_with("DEFINER="));
    found.map_or_else(
        || create.to_owned(),
        |(at, word)| {
            let (head, tail) = create.split_at(*at);
            format!("{head}{}", tail.strip_prefix(word).unwrap_or(tail).trim_start())
        },
    )
}
