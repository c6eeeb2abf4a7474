//! Digests of rows, computed inside of the databases: only a few bytes per range travel.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Row};

use super::catalogue::Described;
use crate::check::Range;
use crate::check::{Both, Digest, Named, SnapshotPair};
use crate::error::{Error, Result};
use crate::postgres::client::failed;
use crate::postgres::sql::{quote_ident, quote_literal};

/// How long one range may take; a table without a number as its key is one range.
const RANGE_TIMEOUT: Duration = Duration::from_hours(6);

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

/// Both sides' sessions of one worker.
pub(crate) struct Pair {
    pub(crate) source: Client,
    pub(crate) target: Client,
    pub(crate) hash: Hash,
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
    let whole = list(table.columns.keys());
    let key = match table.key.as_slice() {
        [] => "''::text".to_owned(),
        key => format!("ROW({})::text", list(key.iter())),
    };
    format!(
        "(SELECT ROW({whole})::text COLLATE \"C\" AS whole, {key} COLLATE \"C\" AS key FROM ONLY {} WHERE {}) AS r",
        table.relation, range.condition
    )
}

fn list<'n>(names: impl Iterator<Item = &'n String>) -> String {
    names.map(|name| quote_ident(name)).collect::<Vec<_>>().join(", ")
}

impl SnapshotPair for Pair {
    type Column = (String, String);

    fn quoted(name: &str) -> String {
        quote_ident(name)
    }

    fn number(value: i128) -> String {
        format!("{}::int8", quote_literal(&value.to_string()))
    }

    async fn bounds(&mut self, table: &Described, column: &str) -> Result<Option<(i128, i128)>> {
        let name = quote_ident(column);
        let query = format!("SELECT min({name})::int8, max({name})::int8 FROM ONLY {}", table.relation);
        let cannot = |error| failed(&format!("cannot read the key's bounds of {}", table.title), error);
        let row = self.source.query_one(&query, &[]).await.map_err(cannot)?;
        let bound = |index| row.try_get::<_, Option<i64>>(index).map_err(cannot);
        Ok(bound(0)?.zip(bound(1)?).map(|(low, high)| (low.into(), high.into())))
    }

    async fn digests(&mut self, (table, _): &Both<Self::Column>, range: &Range) -> Result<(Digest, Digest)> {
        // Neither is left in the middle of an answer where the other fails: its session is still needed.
        let (here, there) = tokio::join!(
            digest(&self.source, "source", table, range, self.hash),
            digest(&self.target, "target", table, range, self.hash)
        );
        Ok((here?, there?))
    }

    fn by_bucket(&self, table: &Described, range: &Range, buckets: u64) -> String {
        let (bucket, _) = names(table, self.hash);
        let (sums, from) = (sums(self.hash), rows_of(table, range));
        format!("SELECT ({bucket} % {buckets})::text AS bucket, {sums} FROM {from} GROUP BY 1")
    }

    fn by_key(&self, table: &Described, range: &Range, buckets: u64, number: i64) -> String {
        let (bucket, shown) = names(table, self.hash);
        let (sums, from) = (sums(self.hash), rows_of(table, range));
        format!("SELECT {shown} AS key, {sums} FROM {from} WHERE {bucket} % {buckets} = {number} GROUP BY 1")
    }

    async fn named(&mut self, table: &Described, query: &str) -> Result<(Named, Named)> {
        let (here, there) =
            tokio::join!(named(&self.source, "source", table, query), named(&self.target, "target", table, query));
        Ok((here?, there?))
    }
}

/// The number by which rows come into buckets, and what names a row.
fn names(table: &Described, hash: Hash) -> (String, &'static str) {
    let (name, shown) =
        if table.key.is_empty() { ("r.whole", "'row ' || pg_catalog.md5(r.whole)") } else { ("r.key", "r.key") };
    let [bucket, _] = hash.halves(name);
    (bucket, shown)
}

fn sums(hash: Hash) -> String {
    let [high, low] = hash.halves("r.whole");
    format!("pg_catalog.sum({high})::text || ':' || pg_catalog.sum({low})::text || ':' || pg_catalog.count(*)::text")
}

/// Count and digest of a range on one side. The digest is a sum, so that rows may come in any order and a row that is
/// there twice counts twice.
async fn digest(client: &Client, side: &str, table: &Described, range: &Range, hash: Hash) -> Result<Digest> {
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

async fn named(client: &Client, side: &str, table: &Described, query: &str) -> Result<Named> {
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
