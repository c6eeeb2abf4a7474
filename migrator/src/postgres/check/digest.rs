//! Digests of rows, computed inside of the databases: only a few bytes per range travel.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Row};

use super::catalogue::{Described, NAMED_MAX};
use super::ranges::Range;
use crate::error::{Error, Result};
use crate::postgres::client::failed;

/// How long one range may take; a table without a number as its key is one range.
const RANGE_TIMEOUT: Duration = Duration::from_hours(6);
/// Rows looked at one by one where a bucket of a range differs.
const ROWS_PER_BUCKET: u64 = 1000;
const BUCKETS_MAX: u64 = 16_384;

/// How a row's text becomes two numbers of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// The server's own hash with two seeds.
    Seeded,
    /// The two halves of MD5, where the servers' own hashes differ.
    Md5,
}

impl Hash {
    fn halves(self, text: &str) -> [String; 2] {
        match self {
            Self::Seeded => [7_046_029_254_386_353_131_i64, -2_643_881_736_870_682_267]
                .map(|seed| format!("pg_catalog.hashtextextended({text}, {seed})")),
            Self::Md5 => [1, 17]
                .map(|from| format!("('x' || pg_catalog.substr(pg_catalog.md5({text}), {from}, 16))::bit(64)::int8")),
        }
    }
}

/// What a range comes to.
pub(crate) struct Digest {
    pub(crate) rows: u64,
    pub(crate) digest: String,
}

/// The hash that both servers compute alike.
pub(crate) async fn agree(source: &Client, target: &Client) -> Result<Hash> {
    let vectors = "SELECT pg_catalog.string_agg(pg_catalog.hashtextextended(
            pg_catalog.repeat('(1,\"a\"\"é\",)', n) COLLATE \"C\", n * 7046029254386353131::numeric % 9223372036854775807)::text, ',')
        FROM pg_catalog.generate_series(0, 40) AS n";
    let vectors = vectors.replace(
        "n * 7046029254386353131::numeric % 9223372036854775807",
        "(n * 7046029254386353131::numeric % 9223372036854775807)::int8",
    );
    let cannot = |error| failed("cannot try the servers' hash functions", error);
    let ask = async |client: &Client| {
        let row = client.query_one(&vectors, &[]).await.map_err(cannot)?;
        row.try_get::<_, String>(0).map_err(cannot)
    };
    let (here, there) = tokio::try_join!(ask(source), ask(target))?;
    Ok(if here == there { Hash::Seeded } else { Hash::Md5 })
}

/// Every row of the range as a text from which no other row could come: fields are quoted where they must be, and a
/// null differs from an empty text.
fn rows_of(table: &Described, range: &Range) -> String {
    let key = if table.key.is_empty() { "''::text".to_owned() } else { format!("ROW({})::text", table.key_list()) };
    format!(
        "(SELECT ROW({})::text COLLATE \"C\" AS whole, {key} COLLATE \"C\" AS key FROM ONLY {} WHERE {}) AS r",
        table.column_list(),
        table.relation,
        range.condition
    )
}

/// Count and digest of a range on one side. The digest is a sum, so that rows may come in any order and a row that is
/// there twice counts twice.
pub(crate) async fn range(client: &Client, side: &str, table: &Described, range: &Range, hash: Hash) -> Result<Digest> {
    let [high, low] = hash.halves("r.whole");
    let query = format!(
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum({high}), 0)::text || ':' || coalesce(pg_catalog.sum({low}), 0)::text
         FROM {}",
        rows_of(table, range)
    );
    let rows = ask(client, side, table, &query).await?;
    let row = rows.first().ok_or_else(|| nothing(side, table))?;
    let (count, digest): (i64, String) = (field(row, 0, side, table)?, field(row, 1, side, table)?);
    Ok(Digest { rows: u64::try_from(count).unwrap_or(0), digest })
}

/// The keys of at most ten rows of the range that differ. Where there is no key, a fingerprint of the row.
pub(crate) async fn differing_keys(
    source: &Client,
    target: &Client,
    table: &Described,
    range: &Range,
    hash: Hash,
    rows: u64,
) -> Result<Vec<String>> {
    let name = if table.key.is_empty() { "r.whole" } else { "r.key" };
    let shown = if table.key.is_empty() { "'row ' || pg_catalog.md5(r.whole)" } else { "r.key" };
    let [high, low] = hash.halves("r.whole");
    let [bucket, _] = hash.halves(name);
    let buckets = (rows / ROWS_PER_BUCKET).clamp(1, BUCKETS_MAX);
    let from = rows_of(table, range);
    let sums = format!(
        "pg_catalog.sum({high})::text || ':' || pg_catalog.sum({low})::text || ':' || pg_catalog.count(*)::text"
    );
    let by_bucket = format!("SELECT ({bucket} % {buckets})::text AS bucket, {sums} FROM {from} GROUP BY 1");
    let mut named = Vec::new();
    for bucket_number in differing(source, target, table, &by_bucket).await? {
        let number: i64 = bucket_number.parse().unwrap_or(0);
        let by_key =
            format!("SELECT {shown} AS key, {sums} FROM {from} WHERE {bucket} % {buckets} = {number} GROUP BY 1");
        named.extend(differing(source, target, table, &by_key).await?);
        if named.len() >= NAMED_MAX {
            break;
        }
    }
    named.truncate(NAMED_MAX);
    Ok(named)
}

/// The names, of a query of names and digests, for which both sides do not answer the same.
async fn differing(source: &Client, target: &Client, table: &Described, query: &str) -> Result<Vec<String>> {
    let (here, there) = tokio::try_join!(named(source, "source", table, query), named(target, "target", table, query))?;
    let mut names: Vec<String> =
        here.iter().filter(|(name, digest)| there.get(*name) != Some(digest)).map(|(name, _)| name.clone()).collect();
    names.extend(there.keys().filter(|name| !here.contains_key(*name)).cloned());
    Ok(names)
}

async fn named(client: &Client, side: &str, table: &Described, query: &str) -> Result<BTreeMap<String, String>> {
    let rows = ask(client, side, table, query).await?;
    rows.iter().map(|row| Ok((field(row, 0, side, table)?, field(row, 1, side, table)?))).collect()
}

async fn ask(client: &Client, side: &str, table: &Described, query: &str) -> Result<Vec<Row>> {
    let answer = timeout(RANGE_TIMEOUT, client.query(query, &[])).await.map_err(|_| {
        Error::transient(format!(
            "the {side} did not compute a digest of {} within {} s",
            table.title,
            RANGE_TIMEOUT.as_secs()
        ))
    })?;
    answer.map_err(|error| failed(&format!("the {side} cannot compute a digest of {}", table.title), error))
}

fn field<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    index: usize,
    side: &str,
    table: &Described,
) -> Result<T> {
    row.try_get(index).map_err(|error| failed(&format!("the {side}'s digest of {} cannot be read", table.title), error))
}

fn nothing(side: &str, table: &Described) -> Error {
    Error::transient(format!("the {side} gave no digest of {}", table.title))
}
