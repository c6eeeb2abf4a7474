//! How a table is cut: ranges of its key, in order, that meet without a gap and cover whatever keys there are.

use std::collections::VecDeque;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use crate::error::{Error, Result};
use crate::model::plan::{Plan, Settings, Table};
use crate::mysql::client::failed;
use crate::mysql::limits::TransactionLimit;
use crate::mysql::records::ChunkRecord;
use crate::mysql::sql::{quote_ident, quote_literal, relation, title};

/// A big table is cut into at least this many chunks per worker, so that none waits long for the last one.
const CHUNKS_PER_WORKER: u64 = 4;
const CHUNK_BYTES_MIN: u64 = 4 << 20;
const CHUNK_ROWS_MIN: u64 = 1000;
/// A table is not cut finer than this, whatever its statistics say.
const CHUNKS_MAX: u64 = 1 << 20;

/// How the values of a key's column are written in SQL, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    /// As they are.
    Number,
    /// In quotes.
    Quoted,
    /// Their bytes, in this character set; without one, as bytes.
    Bytes(Option<String>),
}

impl Literal {
    /// `None` where a value cannot be written so that it compares as the column does.
    fn of(kind: &str) -> Option<Self> {
        let (data_type, charset) = kind.split_once(' ').unwrap_or((kind, ""));
        match data_type {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" | "decimal" => Some(Self::Number),
            "date" | "datetime" | "timestamp" | "time" => Some(Self::Quoted),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" if !charset.is_empty() => {
                Some(Self::Bytes(Some(charset.to_owned())))
            }
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Some(Self::Bytes(None)),
            _ => None,
        }
    }

    fn selected(&self, column: &str) -> String {
        match self {
            Self::Number | Self::Quoted => quote_ident(column),
            Self::Bytes(_) => format!("HEX({})", quote_ident(column)),
        }
    }

    fn written(&self, reported: &str) -> Option<String> {
        match self {
            Self::Number => reported
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
                .then(|| reported.to_owned()),
            Self::Quoted => Some(quote_literal(reported)),
            Self::Bytes(charset) => {
                let introducer = charset.as_ref().map(|name| format!("_{name} "));
                reported
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit())
                    .then(|| format!("{}x'{reported}'", introducer.unwrap_or_default()))
            }
        }
    }
}

/// Whether these records, in order, are of all keys there can be, and the rows of each are there.
pub(crate) fn cover(recorded: &[ChunkRecord]) -> bool {
    let (Some(first), Some(last)) = (recorded.first(), recorded.last()) else {
        return false;
    };
    let meet = recorded.iter().zip(recorded.iter().skip(1)).all(|(one, next)| one.hi.is_some() && one.hi == next.lo);
    first.lo.is_none() && last.hi.is_none() && meet && recorded.iter().all(|chunk| chunk.loaded)
}

/// The columns of a table's key by which it can be cut: as many of the first ones as have an exact literal.
fn cutting(table: &Table) -> Vec<(String, Literal)> {
    table
        .key
        .iter()
        .map_while(|name| {
            let column = table.columns.iter().find(|column| column.name == *name)?;
            Some((name.clone(), Literal::of(&column.kind)?))
        })
        .collect()
}

/// The condition of a chunk's rows: above `lo`, up to and with `hi`.
pub fn condition(table: &Table, chunk: &ChunkRecord) -> String {
    let columns = cutting(table);
    let bound = |values: &Option<Vec<String>>, sign| {
        values.as_ref().map(|values| {
            let pairs: Vec<(String, &String)> = columns.iter().map(|(name, _)| quote_ident(name)).zip(values).collect();
            compared(&pairs, sign)
        })
    };
    let bounds: Vec<String> = [bound(&chunk.lo, ">"), bound(&chunk.hi, "<=")].into_iter().flatten().collect();
    if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) }
}

/// `(a, b) > (1, 2)` written out, since old servers find no index for a comparison of rows.
fn compared(pairs: &[(String, &String)], sign: &str) -> String {
    let strict = sign.trim_end_matches('=');
    match pairs {
        [] => "TRUE".to_owned(),
        [(name, value)] => format!("{name} {sign} {value}"),
        [(name, value), rest @ ..] => format!(
            "{name} {strict}= {value} AND ({name} {strict} {value} OR ({name} = {value} AND {}))",
            compared(rest, sign)
        ),
    }
}

/// Cuts one table, chunk after chunk.
pub struct Cutter<'a> {
    table: &'a Table,
    columns: Vec<(String, Literal)>,
    next: u64,
    lo: Option<Vec<String>>,
    finished: bool,
    /// About so many rows to a chunk.
    rows: u64,
    /// Ranges of an integer key that are still to be cut, the lowest first, with an estimate of their rows.
    ranges: Option<VecDeque<(i128, i128, u64)>>,
}

impl<'a> Cutter<'a> {
    /// Goes on after the chunks that are recorded.
    pub fn new(table: &'a Table, recorded: &[ChunkRecord], settings: &Settings) -> Self {
        let last = recorded.last();
        Self {
            table,
            columns: cutting(table),
            next: last.map_or(0, |chunk| chunk.number + 1),
            lo: last.and_then(|chunk| chunk.hi.clone()),
            finished: last.is_some_and(|chunk| chunk.hi.is_none()),
            rows: rows_per_chunk(table, settings),
            ranges: None,
        }
    }

    /// Keeps chunks below what the target takes in a transaction.
    pub(crate) fn within(mut self, limit: TransactionLimit, settings: &Settings) -> Self {
        if limit.is_low() {
            // What is estimated must not lead to a chunk that the target refuses.
            let each = (self.table.bytes / self.table.rows_estimated.max(1)).max(1);
            let bytes = limit.batch_bytes(settings.copy_chunk_bytes);
            self.rows = self.rows.min(limit.batch_rows((bytes / each).max(1)));
        }
        self
    }

    /// The next chunk; `None` after the last, whose upper end is open.
    pub async fn next(&mut self, source: &mut Conn) -> Result<Option<ChunkRecord>> {
        if self.finished {
            return Ok(None);
        }
        let hi = if self.columns.is_empty() || self.rows == u64::MAX || self.next >= CHUNKS_MAX {
            None
        } else if let Some(name) = self.integer() {
            self.split(source, &name).await?.map(|value| vec![value.to_string()])
        } else {
            self.walk(source).await?
        };
        self.finished = hi.is_none();
        let chunk =
            ChunkRecord { number: self.next, lo: std::mem::replace(&mut self.lo, hi.clone()), hi, loaded: false };
        self.next += 1;
        Ok(Some(chunk))
    }

    /// The key's column where it is a single integer.
    fn integer(&self) -> Option<String> {
        let [name] = self.table.key.as_slice() else {
            return None;
        };
        let column = self.table.columns.iter().find(|one| one.name == *name)?;
        let whole = ["tinyint", "smallint", "mediumint", "int", "bigint"];
        whole.contains(&column.kind.as_str()).then(|| quote_ident(name))
    }

    /// The next upper end of an integer key: the range of all values is halved until the server expects no more rows
    /// in a part than belong in a chunk, and poor parts are put together. No row is read.
    async fn split(&mut self, source: &mut Conn, name: &str) -> Result<Option<i128>> {
        let mut ranges = match self.ranges.take() {
            Some(ranges) => ranges,
            None => self.whole_range(source, name).await?,
        };
        let mut gathered = 0_u64;
        let mut hi = None;
        while let Some((above, upto, rows)) = ranges.pop_front() {
            if rows > self.rows.saturating_add(self.rows / 2) && upto - above > 1 {
                let middle = above + (upto - above) / 2;
                let low = self.estimate(source, name, above, middle).await?;
                let high = self.estimate(source, name, middle, upto).await?;
                ranges.push_front((middle, upto, high));
                ranges.push_front((above, middle, low));
                continue;
            }
            if gathered > 0 && gathered.saturating_add(rows) > self.rows {
                ranges.push_front((above, upto, rows));
                break;
            }
            gathered = gathered.saturating_add(rows.max(1));
            hi = Some(upto);
        }
        // Nothing is known to be left above: the last chunk is open.
        let last = ranges.is_empty();
        self.ranges = Some(ranges);
        Ok(hi.filter(|_| !last))
    }

    async fn whole_range(&self, source: &mut Conn, name: &str) -> Result<VecDeque<(i128, i128, u64)>> {
        let query = format!("SELECT MIN({name}), MAX({name}) FROM {}", relation(self.table));
        let ends = first(source, &query, self.table).await?;
        let [Some(min), Some(max)] = ends.as_slice() else {
            return Ok(VecDeque::new());
        };
        let number = |text: &String| text.parse::<i128>().map_err(|_| unreadable(self.table));
        let (mut above, upto) = (number(min)? - 1, number(max)?);
        if let Some(lo) = self.lo.as_ref().and_then(|lo| lo.first()) {
            above = above.max(number(lo)?);
        }
        if above >= upto {
            return Ok(VecDeque::new());
        }
        // What the server expects of a very wide range is poor; halving it once is cheap.
        Ok([(above, upto, u64::MAX)].into())
    }

    async fn estimate(&self, source: &mut Conn, name: &str, above: i128, upto: i128) -> Result<u64> {
        let query = format!(
            "EXPLAIN FORMAT=TRADITIONAL SELECT {name} FROM {} WHERE {name} > {above} AND {name} <= {upto}",
            relation(self.table)
        );
        let row: Option<Row> = source
            .query_first(query)
            .await
            .map_err(|error| failed(&format!("cannot cut {} for the copy", title(self.table)), error))?;
        let reported = row.and_then(|row| {
            let at = row.columns_ref().iter().position(|column| column.name_str().eq_ignore_ascii_case("rows"))?;
            text(row.as_ref(at)?)?.parse().ok()
        });
        Ok(reported.unwrap_or(0))
    }

    /// The next upper end of any other key: the server walks so many keys on.
    async fn walk(&self, source: &mut Conn) -> Result<Option<Vec<String>>> {
        let selected: Vec<String> = self.columns.iter().map(|(name, literal)| literal.selected(name)).collect();
        let order: Vec<String> = self.columns.iter().map(|(name, _)| quote_ident(name)).collect();
        let from_here = ChunkRecord { number: self.next, lo: self.lo.clone(), hi: None, loaded: false };
        let query = format!(
            "SELECT {} FROM {}{} ORDER BY {} LIMIT {}, 1",
            selected.join(", "),
            relation(self.table),
            condition(self.table, &from_here),
            order.join(", "),
            self.rows - 1
        );
        let row = first(source, &query, self.table).await?;
        if row.is_empty() {
            return Ok(None);
        }
        let values: Option<Vec<String>> = row
            .iter()
            .zip(&self.columns)
            .map(|(reported, (_, literal))| literal.written(reported.as_deref()?))
            .collect();
        values.map(Some).ok_or_else(|| unreadable(self.table))
    }
}

/// The values of the first row, as text; nothing where there is no row.
async fn first(source: &mut Conn, query: &str, table: &Table) -> Result<Vec<Option<String>>> {
    let row: Option<Row> = source
        .query_first(query)
        .await
        .map_err(|error| failed(&format!("cannot cut {} for the copy", title(table)), error))?;
    let values = row.map(Row::unwrap).unwrap_or_default();
    Ok(values.iter().map(text).collect())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bytes(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        _ => None,
    }
}

fn unreadable(table: &Table) -> Error {
    Error::fatal(format!("a key of {} cannot be read", title(table)))
}

/// How many rows make a chunk of about the right size; all of them where the table is small.
fn rows_per_chunk(table: &Table, settings: &Settings) -> u64 {
    let workers = settings.copy_workers.clamp(1, 64) as u64;
    let even = table.bytes / (workers * CHUNKS_PER_WORKER);
    let bytes = even.clamp(CHUNK_BYTES_MIN, settings.copy_chunk_bytes.max(CHUNK_BYTES_MIN));
    if table.bytes <= bytes {
        return u64::MAX;
    }
    let rows = u128::from(table.rows_estimated) * u128::from(bytes) / u128::from(table.bytes);
    u64::try_from(rows).unwrap_or(u64::MAX).max(CHUNK_ROWS_MIN)
}

/// Whether the plan's table is copied by ranges of a key.
pub fn is_keyed(table: &Table) -> bool {
    !table.key.is_empty()
}

/// The tables of a plan with a key, and those without.
pub fn by_key(plan: &Plan) -> (Vec<Table>, Vec<Table>) {
    plan.tables.iter().cloned().partition(is_keyed)
}
