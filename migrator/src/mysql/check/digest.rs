//! Digests of rows, computed inside of the databases: only a few bytes per range travel.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use tokio::time::timeout;

use super::catalog_tables::{Column, Described, Side};
use crate::check::Range;
use crate::check::{Both, Digest, Named, SnapshotPair};
use crate::error::{Error, Result};
use crate::mysql::catalogue::{optional, text};
use crate::mysql::client::failed;
use crate::mysql::sql::quote_ident;

/// How long one range may take; a table without a number as its key is one range.
const RANGE_TIMEOUT: Duration = Duration::from_hours(6);
/// Two to the power of 1000 and of 100: multiplying with them is exact.
const SCALE: &str = "1.0715086071862673e301";
const SCALE_MORE: &str = "1.2676506002282294e30";
/// The smallest number that the first scale brings to 1.
const SCALED_TO_ONE: &str = "9.332636185032189e-302";

/// Both sides' sessions of one worker.
pub(crate) struct Pair {
    pub(crate) source: (Conn, Side),
    pub(crate) target: (Conn, Side),
}

/// Refuses where the servers do not compute the same. MD5 is no part of MySQL any more, so it is SHA-256.
pub(crate) async fn agree(pair: &mut Pair) -> Result<()> {
    const EXPECTED: &str = "3735928559:18446744073709551615:\
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let query =
        "SELECT CONCAT(CONV('00000000deadbeef', 16, 10), ':', CAST(CONV('ffffffffffffffff', 16, 10) AS UNSIGNED),
        ':', SHA2('abc', 256))";
    for (session, side) in [&mut pair.source, &mut pair.target] {
        let reported: Option<Option<String>> = session
            .query_first(query)
            .await
            .map_err(|error| failed(&format!("cannot try the {}'s hash function", side.name), error))?;
        if reported.flatten().as_deref() != Some(EXPECTED) {
            return Err(Error::refused(format!("the {} does not compute SHA2 as the check needs it", side.name)));
        }
    }
    Ok(())
}

/// A column's value as bytes from which no other value could come, the same on every version.
fn canonical(name: &str, column: &Column, mixed: bool) -> String {
    let name = quote_ident(name);
    match column.kind.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => format!("{name} + 0"),
        "float" | "double" => number(&name, mixed),
        "bit" => format!("CAST({name} AS UNSIGNED)"),
        // The number tells apart what has the same text, such as the empty value of what was refused.
        "enum" | "set" => format!("CONCAT({name} + 0, ':', CAST({name} AS BINARY))"),
        "char" | "varchar" | "binary" | "varbinary" => format!("CAST({name} AS BINARY)"),
        "json" => format!("SHA2(CAST({name} AS CHAR CHARACTER SET utf8mb4), 256)"),
        // Of shapes too, what is stored is the same everywhere: the reference system and the points.
        "tinytext" | "text" | "mediumtext" | "longtext" | "tinyblob" | "blob" | "mediumblob" | "longblob"
        | "vector" | "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => unbounded(&name),
        _ => format!("CAST({name} AS CHAR)"),
    }
}

/// No server joins texts longer than its packets, so each long one is hashed for itself.
fn unbounded(name: &str) -> String {
    format!("SHA2({name}, 256)")
}

/// A floating point number with all its digits. Servers write at most 22 characters, too few for a sign together with
/// a long exponent, and choose by the length whether to write an exponent; scaling keeps clear of both.
fn number(name: &str, mixed: bool) -> String {
    // MariaDB shows no sign of a zero.
    let negative = if mixed { format!("{name} < 0") } else { format!("LEFT({name} * 1e0, 1) = '-'") };
    let size = format!("ABS({name} * 1e0)");
    format!(
        "CONCAT({negative}, {size} < 1, {size} < {SCALED_TO_ONE}, ':',
            {size} * IF({size} < 1, {SCALE}, 1e0) * IF({size} < {SCALED_TO_ONE}, {SCALE_MORE}, 1e0))"
    )
}

/// These columns of a row as one text from which no other row could come: each field tells its length, and a null
/// differs from an empty text.
fn joined<'t>(names: impl Iterator<Item = &'t String>, table: &Described, mixed: bool) -> String {
    let fields: Vec<String> = names
        .filter_map(|name| Some((name, table.columns.get(name)?)))
        .map(|(name, column)| {
            let value = canonical(name, column, mixed);
            // Not IFNULL: a value that the server cannot make must not pass for a null.
            format!("IF({} IS NULL, '-', CONCAT(LENGTH({value}), ':', {value}))", quote_ident(name))
        })
        .collect();
    if fields.is_empty() {
        return "''".to_owned();
    }
    format!("CONCAT({})", fields.join(", "))
}

fn hash(text: &str) -> String {
    format!("SHA2({text}, 256)")
}

/// 64 bits of a hash as a number.
fn slice(hash: &str) -> String {
    format!("CAST(CONV(LEFT({hash}, 16), 16, 10) AS UNSIGNED)")
}

/// Sums do not care for the order of rows, and a row that is there twice counts twice. Rows that could not be hashed
/// show in the fraction; to count them apart would be to hash everything twice.
fn sums(hash: &str) -> String {
    format!("CONCAT(COUNT(*), ':', IFNULL(SUM(IFNULL({}, 0.0000000001)), 0))", slice(hash))
}

fn from(table: &Described, range: &Range) -> String {
    format!("FROM {} WHERE {}", table.relation, range.condition)
}

/// Count and digest of a range on one side.
async fn digest(session: &mut Conn, side: Side, table: &Described, range: &Range) -> Result<Digest> {
    let query = format!("SELECT {} {}", sums(&whole(table, side.mixed)), from(table, range));
    let rows = ask(session, side, table, query).await?;
    let reported = rows.first().map_or(Ok(String::new()), |row| text(row, 0))?;
    let (rows, digest) = reported
        .split_once(':')
        .ok_or_else(|| Error::transient(format!("the {} gave no digest of {}", side.name, table.title)))?;
    let (digest, unhashed) = digest.split_once('.').unwrap_or((digest, ""));
    if unhashed.bytes().any(|digit| digit != b'0') {
        return Err(Error::refused(format!(
            "the {} cannot compute a digest of some rows of {}: they are longer than its max_allowed_packet",
            side.name, table.title
        ))
        .remedy("set max_allowed_packet to 64 MB or more on both servers, and check again"));
    }
    Ok(Digest { rows: rows.parse().unwrap_or(0), digest: digest.to_owned() })
}

impl SnapshotPair for Pair {
    type Column = Column;

    fn quoted(name: &str) -> String {
        quote_ident(name)
    }

    fn number(value: i128) -> String {
        value.to_string()
    }

    async fn bounds(&mut self, table: &Described, column: &str) -> Result<Option<(i128, i128)>> {
        let name = quote_ident(column);
        let query = format!("SELECT MIN({name}) + 0, MAX({name}) + 0 FROM {}", table.relation);
        let cannot = |error| failed(&format!("cannot read the key's bounds of {}", table.title), error);
        let row: Option<Row> = self.source.0.query_first(query).await.map_err(cannot)?;
        let bound = |index| -> Result<Option<i128>> {
            let text = row.as_ref().map_or(Ok(None), |row| optional(row, index))?;
            Ok(text.and_then(|text| text.parse().ok()))
        };
        Ok(bound(0)?.zip(bound(1)?))
    }

    async fn digests(&mut self, table: &Both<Column>, range: &Range) -> Result<(Digest, Digest)> {
        // Neither is left in the middle of an answer where the other fails: its session is still needed.
        let (here, there) = tokio::join!(
            digest(&mut self.source.0, self.source.1, &table.0, range),
            digest(&mut self.target.0, self.target.1, &table.1, range)
        );
        Ok((here?, there?))
    }

    fn by_bucket(&self, table: &Described, range: &Range, buckets: u64) -> String {
        let mixed = self.source.1.mixed;
        let (name, _) = names(table, mixed);
        let (bucket, sums, from) = (slice(&name), sums(&whole(table, mixed)), from(table, range));
        format!("SELECT {bucket} % {buckets} AS bucket, {sums} {from} GROUP BY 1 ORDER BY NULL")
    }

    fn by_key(&self, table: &Described, range: &Range, buckets: u64, number: i64) -> String {
        let mixed = self.source.1.mixed;
        let (name, shown) = names(table, mixed);
        let (bucket, sums, from) = (slice(&name), sums(&whole(table, mixed)), from(table, range));
        format!("SELECT MAX({shown}), {sums} {from} AND {bucket} % {buckets} = {number} GROUP BY {name} ORDER BY NULL")
    }

    async fn named(&mut self, table: &Described, query: &str) -> Result<(Named, Named)> {
        let (here, there) = tokio::join!(
            named(&mut self.source.0, self.source.1, table, query),
            named(&mut self.target.0, self.target.1, table, query)
        );
        Ok((here?, there?))
    }
}

fn whole(table: &Described, mixed: bool) -> String {
    hash(&joined(table.columns.keys(), table, mixed))
}

/// The hash by which rows are told apart, and what names a row.
fn names(table: &Described, mixed: bool) -> (String, String) {
    if table.key.is_empty() {
        let whole = whole(table, mixed);
        let shown = format!("CONCAT('row ', LEFT({whole}, 32))");
        return (whole, shown);
    }
    (hash(&joined(table.key.iter(), table, mixed)), shown(table))
}

/// A key for people, on which two keys never agree.
fn shown(table: &Described) -> String {
    let parts: Vec<String> = table
        .key
        .iter()
        .filter_map(|name| Some((quote_ident(name), table.columns.get(name)?)))
        .map(|(name, column)| match column.kind.as_str() {
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => {
                format!("QUOTE(CONVERT({name} USING utf8mb4))")
            }
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                format!("CONCAT('0x', HEX({name}))")
            }
            "bit" => format!("CAST({name} AS UNSIGNED)"),
            _ => format!("CAST({name} AS CHAR)"),
        })
        .collect();
    format!("CAST(CONCAT('(', CONCAT_WS(',', {}), ')') AS BINARY)", parts.join(", "))
}

async fn named(session: &mut Conn, side: Side, table: &Described, query: &str) -> Result<Named> {
    let rows = ask(session, side, table, query.to_owned()).await?;
    rows.iter()
        .map(|row| {
            let name = match row.as_ref(0) {
                Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                _ => String::new(),
            };
            Ok((name, text(row, 1)?))
        })
        .collect()
}

async fn ask(session: &mut Conn, side: Side, table: &Described, query: String) -> Result<Vec<Row>> {
    let answer = timeout(RANGE_TIMEOUT, session.query(query)).await.map_err(|_| {
        Error::transient(format!(
            "the {} did not compute a digest of {} within {} s",
            side.name,
            table.title,
            RANGE_TIMEOUT.as_secs()
        ))
    })?;
    answer.map_err(|error| failed(&format!("the {} cannot compute a digest of {}", side.name, table.title), error))
}
