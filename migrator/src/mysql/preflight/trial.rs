//! The trial: the whole schema is built without rows where it will be on the target, so that all that the target refuses
//! is found before anything is copied, and dropped again.

mod builder;
mod called;
mod remedy;
pub(crate) mod scratch;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::super::catalogue::{ask, listed};
use super::super::sql::{quote_ident, relation, title, title_of};
use super::super::{Mysql, catalogue, plan, schema};
use super::objects::Place;
use super::side::Side;
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::mysql::schema::archive::{Archive, Kind, Program};
use crate::mysql::schema::create_table::{Definition, Translation};
use crate::mysql::schema::{accounts, beside, grants, post_data};
use crate::preflight::{Findings, Level};
use builder::{Builder, Refusal, dotted};
use remedy::NAME;
use scratch::Made;

/// How long it may build.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Sessions that build tables at the same time.
const SESSIONS: usize = 4;

pub(super) async fn run(mysql: &Mysql, source: &mut Side, target: &mut Side, place: Place, findings: &mut Findings) {
    let outcome = attempt(mysql, source, target, place, findings).await;
    findings.ran(NAME, outcome);
}

async fn attempt(
    mysql: &Mysql,
    source: &mut Side,
    target: &mut Side,
    place: Place,
    findings: &mut Findings,
) -> Result<()> {
    if place == Place::Built {
        findings.ok(NAME, "this migration has built the schema on the target");
        return Ok(());
    }
    if place == Place::Taken {
        findings.warning(
            NAME,
            "it cannot be known what the target refuses of the schema: its databases are not free to try it in",
            "see target_objects, and run the precheck again",
            "",
        );
        return Ok(());
    }
    let archive = Archive::read(mysql).await?;
    let plan = plan::read(mysql).await?;
    let mut session = scratch::connect(mysql).await?;
    scratch::begin(&mut session).await?;
    let mut trial = Trial {
        mysql,
        archive: &archive,
        plan: &plan,
        translation: archive.translation(&mut session).await?,
        until: Instant::now() + TIMEOUT,
        builder: Builder::new(session),
        entered: false,
    };
    let built = trial.build(source, target).await;
    let Trial { builder, entered, .. } = trial;
    let called = match &built {
        Ok(true) if entered => called::lacking(&archive, source, target).await,
        _ => Ok(Vec::new()),
    };
    drop(builder.session);
    let removed = scratch::remove(mysql, &archive).await;
    if !built? {
        findings.warning(
            NAME,
            format!(
                "it cannot be known what the target refuses of the whole schema: building it takes longer than {} s",
                TIMEOUT.as_secs()
            ),
            "see that the target is not busy, and run the precheck again",
            "",
        );
    }
    remedy::reported(builder.refused, source, target, findings).await?;
    let called: Vec<_> = called?;
    findings.each(
        "called_functions",
        Level::Error,
        &called,
        "nothing says so when it is created, but it fails when it runs: give the target the function, or change the program on the source",
        "the target has every function that programs call",
    );
    removed
}

struct Trial<'a> {
    mysql: &'a Mysql,
    archive: &'a Archive,
    plan: &'a Plan,
    translation: Translation,
    until: Instant,
    builder: Builder,
    /// Whether its databases are there.
    entered: bool,
}

impl Trial<'_> {
    /// Builds what a migration builds, in its order. False where the time is over.
    async fn build(&mut self, source: &mut Side, target: &mut Side) -> Result<bool> {
        self.entered = self.databases().await?;
        if !self.entered {
            return Ok(true);
        }
        for sequence in &self.archive.sequences {
            self.builder.enter(&sequence.schema).await?;
            let object = format!("the sequence {}", title_of(&sequence.schema, &sequence.name));
            let name = format!("{}.{}", sequence.schema, sequence.name);
            let statement = schema::sequence_statement(sequence)?;
            self.builder.takes(&object, &name, &statement).await?;
        }
        self.accounts(source, target).await?;
        self.servers(source, target).await?;
        self.tables().await?;
        self.foreign_keys().await?;
        self.programs().await?;
        if self.is_over() {
            return Ok(false);
        }
        self.grants(source, target).await?;
        Ok(!self.is_over())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// False where one is refused: nothing else can be tried then.
    async fn databases(&mut self) -> Result<bool> {
        let query = format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({})",
            listed(self.mysql)
        );
        let rows = ask(&mut self.builder.session, &query, "cannot read the target's databases").await?;
        let there: BTreeSet<&str> = rows.iter().map(|row| row.text(0)).collect();
        for database in &self.archive.databases {
            let name = &database.name;
            let session = &mut self.builder.session;
            if there.contains(name.as_str()) {
                scratch::note(self.mysql, session, Made::Objects, name).await?;
                continue;
            }
            scratch::note(self.mysql, session, Made::Database, name).await?;
            let statement =
                format!("CREATE DATABASE {} {}", quote_ident(name), schema::defaults(database, &self.translation));
            let object = format!("the database {name}");
            let taken = self.builder.takes_but_collations(&object, name, &statement);
            if !taken.await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn tables(&mut self) -> Result<()> {
        let statements = schema::table_statements(self.plan, self.archive, &self.translation)?;
        let mut lists = vec![Vec::new(); SESSIONS];
        for (number, one) in statements.into_iter().enumerate() {
            if let Some(list) = lists.get_mut(number % SESSIONS) {
                list.push(one);
            }
        }
        let (mysql, archive, until) = (self.mysql, self.archive, self.until);
        let translation = &self.translation;
        let work = lists.into_iter().filter(|list| !list.is_empty()).map(|list| async move {
            let mut builder = Builder::new(scratch::connect(mysql).await?);
            for (table, statement) in list {
                if Instant::now() < until {
                    builder.table(table, &statement, archive, translation).await?;
                }
            }
            Ok::<_, Error>(builder.refused)
        });
        let refused: Vec<Vec<Refusal>> = try_join_all(work).await?;
        self.builder.refused.extend(refused.into_iter().flatten());
        Ok(())
    }

    async fn foreign_keys(&mut self) -> Result<()> {
        let refused: BTreeSet<String> = self.builder.refused.iter().map(|one| one.name.clone()).collect();
        for table in &self.plan.tables {
            if self.is_over() || refused.contains(&dotted(table)) {
                continue;
            }
            let Some(text) = self.archive.table(&table.schema, &table.name) else {
                continue;
            };
            let keys = Definition::parse(&text.create)?.foreign_keys;
            if !keys.is_empty() {
                self.builder.enter(&table.schema).await?;
            }
            for key in keys {
                let object = format!("the foreign key {} of {}", key.name, title(table));
                let statement = format!("ALTER TABLE {} ADD {}", relation(table), key.text);
                self.builder.takes(&object, "", &statement).await?;
            }
        }
        Ok(())
    }

    async fn programs(&mut self) -> Result<()> {
        let translation = &self.translation;
        for kind in [Kind::Library, Kind::Package, Kind::PackageBody, Kind::Function, Kind::Procedure] {
            for one in self.archive.of(kind) {
                self.builder.program(one, &one.create, translation).await?;
            }
        }
        // A view can be created once what it reads is there.
        let mut waiting: Vec<&Program> = self.archive.of(Kind::View).collect();
        while !waiting.is_empty() && Instant::now() < self.until {
            let before = self.builder.refused.len();
            let mut left = Vec::new();
            for view in &waiting {
                if !self.builder.program(view, &view.create, translation).await? {
                    left.push(*view);
                }
            }
            if left.len() == waiting.len() {
                break;
            }
            self.builder.refused.truncate(before);
            waiting = left;
        }
        for event in self.archive.of(Kind::Event) {
            if Instant::now() >= self.until {
                break;
            }
            let statement = post_data::disabled(&event.create);
            self.builder.program(event, &statement, translation).await?;
        }
        for trigger in self.archive.of(Kind::Trigger) {
            if Instant::now() >= self.until {
                break;
            }
            self.builder.program(trigger, &trigger.create, translation).await?;
        }
        Ok(())
    }

    /// The accounts that the target lacks, each locked as soon as it is there.
    async fn accounts(&mut self, source: &mut Side, target: &mut Side) -> Result<()> {
        let here: BTreeSet<_> =
            accounts::all(&mut target.session).await?.iter().map(accounts::account::Account::key).collect();
        let offered = accounts::plugins(&mut target.session).await?;
        let versions = (source.version, target.version);
        if versions.0.is_mysql_from(8, 0, 17) {
            let hex = "SET SESSION print_identified_with_as_hex = ON";
            catalogue::run(&mut source.session, hex, "cannot ask for hashes as digits").await?;
        }
        let demanded = accounts::options::read(self.mysql, &mut source.session).await?;
        for account in accounts::read(self.mysql, &mut source.session).await? {
            if here.contains(&account.key()) || self.is_over() {
                continue;
            }
            let demands = demanded.get(&account.key()).cloned().unwrap_or_default();
            let reported =
                accounts::statement(self.mysql, (&account, &demands), &mut source.session, versions, &offered).await?;
            let Some(statement) = reported.0 else {
                continue;
            };
            let quoted = account.quoted();
            scratch::note(self.mysql, &mut self.builder.session, Made::Account, &quoted).await?;
            let object = format!("the account {quoted}");
            let taken = self.builder.takes(&object, &quoted, &statement).await?;
            // Its statement holds what proves it.
            if let Some(last) = self.builder.refused.last_mut().filter(|_| !taken) {
                last.statement = format!("CREATE USER {quoted} …");
            }
            if taken && !account.is_role {
                let lock = format!("ALTER USER {quoted} ACCOUNT LOCK");
                catalogue::run(&mut self.builder.session, &lock, "cannot lock an account of the trial").await?;
            }
        }
        Ok(())
    }

    /// The servers that the target lacks, under names of the trial's own: nobody shall use them meanwhile.
    async fn servers(&mut self, source: &mut Side, target: &mut Side) -> Result<()> {
        for server in beside::missing_servers(&mut source.session, &mut target.session).await {
            let name = format!("headgate_trial_{:08x}", rand::random::<u32>());
            scratch::note(self.mysql, &mut self.builder.session, Made::Server, &name).await?;
            let object = format!("the server {}", server.name);
            let create = server.create(&name);
            let taken = self.builder.takes(&object, "", &create);
            if taken.await? {
                let drop = format!("DROP SERVER IF EXISTS {}", quote_ident(&name));
                catalogue::run(&mut self.builder.session, &drop, "cannot drop a server of the trial").await?;
            } else if let Some(last) = self.builder.refused.last_mut() {
                // Its statement holds a password.
                last.statement = format!("CREATE SERVER {} …", quote_ident(&server.name));
            }
        }
        Ok(())
    }

    /// Whoever is granted something, here it is an account of the trial's own.
    async fn grants(&mut self, source: &mut Side, target: &mut Side) -> Result<()> {
        let grantee = format!("`headgate_trial_{:08x}`@`localhost`", rand::random::<u32>());
        scratch::note(self.mysql, &mut self.builder.session, Made::Grantee, &grantee).await?;
        let create = format!("CREATE USER {grantee} ACCOUNT LOCK");
        if !self.builder.takes("an account for the trial of grants", "", &create).await? {
            return Ok(());
        }
        let all = accounts::read(self.mysql, &mut source.session).await?;
        let versions = (source.version, target.version);
        let statements = grants::read(self.mysql, &mut source.session, &all, versions).await?;
        let mut tried = BTreeSet::new();
        for statement in &statements {
            let Some((theirs, ours)) = grants::to_another(statement, &grantee) else {
                continue;
            };
            if !tried.insert(ours.clone()) || self.builder.session.query_drop(&ours).await.is_ok() {
                continue;
            }
            let mut single = grants::one_by_one(&ours);
            if single.is_empty() {
                single.push(ours);
            }
            let granted = statement.starts_with("GRANT ");
            let what = if granted { format!("a grant to {theirs}") } else { format!("the default role of {theirs}") };
            for one in single {
                if self.builder.takes(&what, "", &one).await? {
                    continue;
                }
                let Some(mut refusal) = self.builder.refused.pop() else {
                    continue;
                };
                // A role that could not be granted is told by its grant.
                if granted || grants::is_about_rights(&refusal.statement, refusal.code) {
                    refusal.statement = refusal.statement.replace(&grantee, &theirs);
                    self.builder.refused.push(refusal);
                }
            }
        }
        Ok(())
    }
}
