//! The definitions, as they were, of what is set aside on a server: the comparison takes them for what will be there again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::postgres::client::failed;
use crate::postgres::schema::database::absent;

/// Where it is written down.
pub(super) const TABLE: &str = "headgate.set_aside";
/// The name of the row that has the definitions.
pub(super) const DEFINITIONS: &str = "";

/// An object's definition as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// Its columns in the catalogue, as JSON.
    pub(crate) columns: String,
    /// What the server prints of it.
    pub(crate) text: Option<String>,
    /// What it is a part of.
    pub(crate) part_of: Vec<String>,
}

/// Reads them; finds nothing where nothing is set aside.
pub(crate) async fn definitions(session: &Client) -> Result<BTreeMap<String, Definition>> {
    if !absent(session, &[TABLE.to_owned()]).await?.is_empty() {
        return Ok(BTreeMap::new());
    }
    let query = format!("SELECT back FROM {TABLE} WHERE name = '{DEFINITIONS}'");
    let mut all = BTreeMap::new();
    for row in session.query(&query, &[]).await.map_err(cannot)? {
        let text: String = row.try_get(0).map_err(cannot)?;
        let some: BTreeMap<String, Definition> = serde_json::from_str(&text)
            .map_err(|error| Error::fatal(format!("{TABLE} does not hold definitions")).because(error))?;
        all.extend(some);
    }
    Ok(all)
}

fn cannot(error: tokio_postgres::Error) -> Error {
    failed("cannot read what is set aside on a server", error)
}
