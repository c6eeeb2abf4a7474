//! Creates the target: its database, the roles, the schema without indexes, and the publication on the source.

pub mod archive;
pub mod database;
pub(crate) mod made;
pub mod post_data;
pub mod properties;
pub mod roles;
pub(crate) mod set_aside;
pub mod tools;

use tokio_postgres::Client;

use super::Postgres;
use super::client::failed;
use super::sql::{quote_ident, relation};
use crate::error::{Error, Result};
use crate::model::plan::Plan;
use crate::postgres::follow::tables::start_anew;
use crate::postgres::records;
use crate::postgres::records::Part;
use crate::postgres::schema::archive::{Archive, Entry};
use database::{absent, connect_maintenance, create_database};

const PRE_DATA: &str = "pre_data";
/// Does all of it, and finds nothing to do where it is done.
pub async fn prepare(postgres: &Postgres, plan: &Plan) -> Result<()> {
    let source = postgres.connect_source("prepare").await?;
    let before = made::before(postgres).await?;
    let target = connect_or_create(postgres, &source).await?;
    records::install_records(&target).await?;
    made::record(postgres, &source, &target, &before).await?;
    roles::create_missing(postgres, &source, &target).await?;
    properties::give_database(postgres, &source, &target).await?;
    restore_pre_data(postgres, plan, &source, &target).await?;
    properties::carry_properties(postgres, &source, &target).await?;
    publish(postgres, plan, &source).await
}

/// Whether the schema was restored.
pub(super) async fn is_there(postgres: &Postgres) -> Result<bool> {
    let target = match postgres.connect_target("prepare").await {
        Ok(target) => target,
        Err(error) if error.full_text().contains("(SQLSTATE 3D000)") => return Ok(false),
        Err(error) => return Err(error),
    };
    let records = ["headgate.migrations".to_owned()];
    Ok(absent(&target, &records).await?.is_empty() && records::part(postgres, &target, PRE_DATA).await? == Part::Done)
}

async fn connect_or_create(postgres: &Postgres, source: &Client) -> Result<Client> {
    let server = connect_maintenance(postgres, postgres.target()).await;
    let Ok(server) = server else {
        // Where only the migration's own database may be connected to, it must be there.
        return postgres.connect_target("prepare").await;
    };
    let there = server
        .query_opt("SELECT FROM pg_catalog.pg_database WHERE datname = $1", &[&postgres.target().database])
        .await
        .map_err(|error| failed("cannot read the target's databases", error))?;
    if there.is_none() {
        roles::create_missing(postgres, source, &server).await?;
        let name = &postgres.target().database;
        let owner = database::owner_of_database(source).await?;
        create_database(name, Some(&owner), source, &server).await?;
    }
    postgres.connect_target("prepare").await
}

async fn restore_pre_data(postgres: &Postgres, plan: &Plan, source: &Client, target: &Client) -> Result<()> {
    archive::end_orphans(postgres, target).await?;
    // A run that was killed may have left them.
    roles::dismiss(postgres, source, target).await?;
    match records::part(postgres, target, PRE_DATA).await? {
        Part::Done => return Ok(()),
        Part::Begun if !plan.tables.is_empty() && missing(plan, target).await?.is_empty() => {
            return records::set_part(postgres, target, PRE_DATA, Part::Done).await;
        }
        Part::Begun | Part::Waiting => {}
    }
    // Nothing was restored yet but schemas: what was mended on the source since the last attempt is in a new one.
    let archive = Archive::anew(postgres, target).await?;
    let entries = archive.pre_data(postgres, source, target).await?;
    records::set_part(postgres, target, PRE_DATA, Part::Begun).await?;
    // Only who may create in a schema can own something there, and only superusers are not asked for that.
    let (schemas, rest): (Vec<_>, Vec<_>) = entries.into_iter().partition(Entry::is_of_schema);
    roles::stand_in(source, target).await?;
    archive.restore(postgres, &schemas).await?;
    archive.restore(postgres, &rest).await?;
    roles::dismiss(postgres, source, target).await?;
    if let Some(lacking) = missing(plan, target).await?.first() {
        return Err(Error::fatal(format!("the schema was restored to the target, but {lacking} is not there"))
            .remedy(start_anew(postgres.name())));
    }
    records::set_part(postgres, target, PRE_DATA, Part::Done).await
}

/// The plan's tables that the target does not have.
async fn missing(plan: &Plan, target: &Client) -> Result<Vec<String>> {
    let names: Vec<String> = plan.tables.iter().map(relation).collect();
    absent(target, &names).await
}

/// Creates the publication, committed before the slot exists: what commits later is in the stream.
pub async fn publish(postgres: &Postgres, plan: &Plan, source: &Client) -> Result<()> {
    let unreadable = |error| failed("cannot read the source's publications", error);
    let name = postgres.publication();
    let there = source
        .query_opt("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", &[&name])
        .await
        .map_err(unreadable)?;
    if there.is_some() {
        return Ok(());
    }
    let tables: Vec<String> = plan.tables.iter().map(|table| format!("ONLY {}", relation(table))).collect();
    let list = if tables.is_empty() { String::new() } else { format!("FOR TABLE {}", tables.join(", ")) };
    let statement =
        format!("CREATE PUBLICATION {} {list} WITH (publish = 'insert, update, delete, truncate')", quote_ident(&name));
    source.batch_execute(&statement).await.map_err(|error| {
        failed("cannot publish the source's tables", error)
            .remedy("the migrator's role on the source must own the tables or be a superuser")
    })
}
