//! Accounts that are locked on the target only as long as the refusal of an earlier leg stands there.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use crate::error::{Error, Result};
use crate::mysql::Mysql;
use crate::mysql::client::failed;

const NO_TABLE: [u16; 2] = [1049, 1146];

/// Reads them: user and host of each. There are none before the second leg.
pub(crate) async fn read(mysql: &Mysql, target: &mut Conn) -> Result<BTreeSet<(String, String)>> {
    let mut all = BTreeSet::new();
    let Some(before) = mysql.leg().before() else {
        return Ok(all);
    };
    let of_fence = "SELECT accounts FROM headgate.fence WHERE migration = ?";
    let of_completion = "SELECT accounts FROM headgate.fence_durable WHERE switch_of = ?";
    for (query, of) in [(of_fence, before.key(mysql.name())), (of_completion, mysql.name().to_owned())] {
        let found: std::result::Result<Option<Option<String>>, Failure> = target.exec_first(query, (of,)).await;
        let text = match found {
            Ok(text) => text.flatten(),
            Err(Failure::Server(reported)) if NO_TABLE.contains(&reported.code) => None,
            Err(error) => return Err(failed("cannot read which accounts the target's fence has locked", error)),
        };
        let some: Option<Vec<(String, String)>> = text
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| Error::fatal("the records of the target's fence name no accounts").because(error))?;
        all.extend(some.into_iter().flatten());
    }
    Ok(all)
}
