//! What the events of a binary log say: which kind each is, and the rows that changed, still as the server wrote them.

mod xid;

use bytes::{Buf, Bytes};

use crate::error::Malformed;
pub use xid::{Xid, xa_prepare};

/// How a row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is new.
    Insert,
    /// It was another before.
    Update,
    /// It is gone.
    Delete,
}

/// What an event is for. Whatever is not listed here is [`Kind::Unknown`] and must not be passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A statement, or `BEGIN` and `COMMIT`.
    Query,
    /// The log goes on in another file.
    Rotate,
    /// The end of a transaction.
    Xid,
    /// What the next rows' columns are.
    TableMap,
    /// Rows that changed; the second version of the format has more before them.
    Rows(Verb, bool),
    /// The begin of a transaction of MySQL.
    Gtid,
    /// The same, with a tag.
    GtidTagged,
    /// The same, on a server that numbers none.
    GtidAnonymous,
    /// The begin of a transaction of MariaDB.
    GtidMariadb,
    /// A distributed transaction is prepared, or committed in one phase.
    XaPrepare,
    /// A compressed transaction; its events follow.
    Payload,
    /// The server lost changes.
    Incident,
    /// Rows whose documents are told as differences.
    PartialRows,
    /// A file for LOAD DATA, as a statement.
    StatementLoad,
    /// A compressed event of MariaDB.
    CompressedMariadb,
    /// Tells nothing about rows.
    Ignorable,
    /// Nobody knows what it says.
    Unknown,
}

impl Kind {
    /// The kind of the event with this number.
    pub fn of(number: u8) -> Self {
        match number {
            2 => Self::Query,
            4 => Self::Rotate,
            // Stop, numbers and variables for statements, format, heartbeats, the statement behind rows, earlier
            // GTIDs, group replication's contexts; MariaDB's annotations, checkpoints, lists of GTIDs, encryption.
            3 | 5 | 13..=15 | 27..=29 | 35..=37 | 41 | 160 | 161 | 163 | 164 => Self::Ignorable,
            6..=12 | 17 | 18 => Self::StatementLoad,
            16 => Self::Xid,
            19 => Self::TableMap,
            23 => Self::Rows(Verb::Insert, false),
            24 => Self::Rows(Verb::Update, false),
            25 => Self::Rows(Verb::Delete, false),
            26 => Self::Incident,
            30 => Self::Rows(Verb::Insert, true),
            31 => Self::Rows(Verb::Update, true),
            32 => Self::Rows(Verb::Delete, true),
            33 => Self::Gtid,
            34 => Self::GtidAnonymous,
            38 => Self::XaPrepare,
            39 => Self::PartialRows,
            40 => Self::Payload,
            42 => Self::GtidTagged,
            162 => Self::GtidMariadb,
            165..=171 => Self::CompressedMariadb,
            _ => Self::Unknown,
        }
    }
}

/// Reads little-endian numbers off an event's body, never past its end.
struct Body {
    what: &'static str,
    rest: Bytes,
    whole: usize,
}

impl Body {
    fn new(what: &'static str, rest: Bytes) -> Self {
        let whole = rest.len();
        Self { what, rest, whole }
    }

    #[cold]
    fn malformed(&self) -> Malformed {
        Malformed { what: self.what, at: self.whole.saturating_sub(self.rest.len()), limit: self.whole }
    }

    fn number(&mut self, bytes: usize) -> Result<u64, Malformed> {
        let taken = self.slice(bytes)?;
        Ok(little(&taken))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Malformed> {
        let number = self.number(bytes)?;
        usize::try_from(number).map_err(|_| self.malformed())
    }

    fn slice(&mut self, bytes: usize) -> Result<Bytes, Malformed> {
        if bytes > self.rest.len() {
            return Err(self.malformed());
        }
        Ok(self.rest.split_to(bytes))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Malformed> {
        if bytes > self.rest.len() {
            return Err(self.malformed());
        }
        self.rest.advance(bytes);
        Ok(())
    }

    /// A number of the form that has one to nine bytes.
    fn compact(&mut self) -> Result<usize, Malformed> {
        let first = self.number(1)?;
        match first {
            0..=250 => usize::try_from(first).map_err(|_| self.malformed()),
            252 => self.length(2),
            253 => self.length(3),
            254 => self.length(8),
            _ => Err(self.malformed()),
        }
    }
}

/// A number of up to eight bytes, the lowest first.
pub fn little(bytes: &[u8]) -> u64 {
    let mut whole = [0_u8; 8];
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(whole)
}

fn bits(count: usize) -> usize {
    count.div_ceil(8)
}

fn bit(bitmap: &[u8], index: usize) -> bool {
    let byte = bitmap.get(index >> 3).copied().unwrap_or(0);
    byte >> (index & 7) & 1 == 1
}

/// A statement of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The database that names without one mean.
    pub database: Bytes,
    /// Its text.
    pub text: Bytes,
}

/// Reads a statement.
pub fn query(body: Bytes) -> Result<Query, Malformed> {
    let mut body = Body::new("query event", body);
    body.skip(8)?;
    let database = body.length(1)?;
    body.skip(2)?;
    let variables = body.length(2)?;
    body.skip(variables)?;
    let database = body.slice(database)?;
    body.skip(1)?;
    Ok(Query { database, text: body.rest })
}

/// Reads where the log goes on: the offset and the file.
pub fn rotate(body: Bytes) -> Result<(u64, Bytes), Malformed> {
    let mut body = Body::new("rotate event", body);
    let offset = body.number(8)?;
    Ok((offset, body.rest))
}

/// Reads the `server_uuid` and the number of a transaction of MySQL without a tag.
pub fn gtid(body: Bytes) -> Result<([u8; 16], u64), Malformed> {
    let mut body = Body::new("GTID event", body);
    body.skip(1)?;
    let uuid = body.slice(16)?;
    let number = body.number(8)?;
    let uuid: [u8; 16] = uuid.as_ref().try_into().map_err(|_| body.malformed())?;
    Ok((uuid, number))
}

/// The begin of a transaction of MariaDB; the server's number is in the event's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MariadbGtid {
    /// Its number.
    pub number: u64,
    /// Its domain.
    pub domain: u32,
    /// It has no end of its own: one statement is all.
    pub standalone: bool,
    /// It prepares a distributed transaction.
    pub prepared: bool,
    /// It ends a distributed transaction.
    pub completed: bool,
}

/// Reads the begin of a transaction of MariaDB.
pub fn mariadb_gtid(body: Bytes) -> Result<MariadbGtid, Malformed> {
    let mut body = Body::new("GTID event", body);
    let number = body.number(8)?;
    let domain = u32::try_from(body.number(4)?).map_err(|_| body.malformed())?;
    let flags = body.number(1)?;
    Ok(MariadbGtid {
        number,
        domain,
        standalone: flags & 1 != 0,
        prepared: flags & 64 != 0,
        completed: flags & 128 != 0,
    })
}

/// A column as the log describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The type's number; for enums, sets and texts of fixed length the real one.
    pub kind: u8,
    /// What belongs to the type: lengths, or precision in the low and scale in the high byte.
    pub meta: u16,
}

/// What the rows of one table look like from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// The number by which rows refer to it.
    pub number: u64,
    /// The database.
    pub database: Bytes,
    /// The table.
    pub table: Bytes,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// Their names, where the server tells them.
    pub names: Option<Vec<Bytes>>,
}

const COLUMNS_MAX: usize = 8192;
const NAMES: u64 = 4;

/// Reads only the number by which rows refer to a table.
pub fn table_number(body: &[u8]) -> u64 {
    little(body.get(..6).unwrap_or_default())
}

/// Reads the description of a table.
pub fn table_map(body: Bytes) -> Result<TableMap, Malformed> {
    let mut body = Body::new("table map event", body);
    let number = body.number(6)?;
    body.skip(2)?;
    let length = body.length(1)?;
    let database = body.slice(length)?;
    body.skip(1)?;
    let length = body.length(1)?;
    let table = body.slice(length)?;
    body.skip(1)?;
    let count = body.compact()?;
    if count > COLUMNS_MAX {
        return Err(body.malformed());
    }
    let kinds = body.slice(count)?;
    let length = body.compact()?;
    let mut metas = Body::new("metadata of a table map event", body.slice(length)?);
    let mut columns = Vec::with_capacity(count);
    for &kind in &kinds {
        columns.push(column(kind, &mut metas)?);
    }
    body.skip(bits(count))?;
    let mut names = None;
    while !body.rest.is_empty() {
        let field = body.number(1)?;
        let length = body.compact()?;
        let value = body.slice(length)?;
        if field == NAMES {
            let mut list = Body::new("column names of a table map event", value);
            let mut found = Vec::with_capacity(count);
            while !list.rest.is_empty() {
                let length = list.compact()?;
                found.push(list.slice(length)?);
            }
            if found.len() != count {
                return Err(body.malformed());
            }
            names = Some(found);
        }
    }
    Ok(TableMap { number, database, table, columns, names })
}

fn column(kind: u8, metas: &mut Body) -> Result<Column, Malformed> {
    let meta = match kind {
        // Floats, blobs in all their forms, and what has a fraction of a second.
        4 | 5 | 17..=19 | 140 | 242 | 245 | 249..=252 | 255 => metas.number(1)?,
        15 | 16 | 141 | 246 | 253 => metas.number(2)?,
        247 | 248 | 254 => {
            let real = metas.number(1)?;
            let length = metas.number(1)?;
            // Two bits of the type's number belong to the length, where that has more than eight bits.
            let (real, length) =
                if real & 0x30 == 0x30 { (real, length) } else { (real | 0x30, length | ((real & 0x30) ^ 0x30) << 4) };
            let kind = u8::try_from(real).map_err(|_| metas.malformed())?;
            let meta = u16::try_from(length).map_err(|_| metas.malformed())?;
            return Ok(Column { kind, meta });
        }
        // The type of an element, and what belongs to it.
        20 => return Err(metas.malformed()),
        _ => 0,
    };
    let meta = u16::try_from(meta).map_err(|_| metas.malformed())?;
    Ok(Column { kind, meta })
}

/// One column of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    /// The log does not hold it.
    #[default]
    Absent,
    /// It is NULL.
    Null,
    /// The value as the server wrote it; of a text or blob without the length before it.
    Value(Bytes),
}

/// One row of an event.
pub type Image = Vec<Cell>;

/// The rows of one event.
pub struct Rows {
    body: Body,
    verb: Verb,
    before: Bytes,
    after: Bytes,
    columns: usize,
}

/// The row before a change and the row after it, as far as there was one.
pub type Change = (Option<Image>, Option<Image>);

/// Begins to read the rows of an event.
pub fn rows(body: Bytes, verb: Verb, second: bool) -> Result<Rows, Malformed> {
    let mut body = Body::new("rows event", body);
    body.skip(8)?;
    if second {
        let more = body.length(2)?;
        body.skip(more.saturating_sub(2))?;
    }
    let columns = body.compact()?;
    if columns > COLUMNS_MAX {
        return Err(body.malformed());
    }
    let before = body.slice(bits(columns))?;
    let after = if verb == Verb::Update { body.slice(bits(columns))? } else { before.clone() };
    Ok(Rows { body, verb, before, after, columns })
}

impl Rows {
    /// How the rows changed.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The next change: the row before it and the row after it, as far as there was one.
    pub fn next(&mut self, columns: &[Column]) -> Result<Option<Change>, Malformed> {
        if self.body.rest.is_empty() {
            return Ok(None);
        }
        if columns.len() != self.columns {
            return Err(self.body.malformed());
        }
        let before = self.body.rest.len();
        let (from, to) = (self.before.clone(), self.after.clone());
        let change = match self.verb {
            Verb::Insert => (None, Some(self.image(columns, &to)?)),
            Verb::Delete => (Some(self.image(columns, &from)?), None),
            Verb::Update => {
                let old = self.image(columns, &from)?;
                (Some(old), Some(self.image(columns, &to)?))
            }
        };
        // A row without a byte would come again and again.
        if self.body.rest.len() == before {
            return Err(self.body.malformed());
        }
        Ok(Some(change))
    }

    fn image(&mut self, columns: &[Column], present: &[u8]) -> Result<Image, Malformed> {
        let count = (0..columns.len()).filter(|&at| bit(present, at)).count();
        let nulls = self.body.slice(bits(count))?;
        let mut image = Vec::with_capacity(columns.len());
        let mut seen = 0_usize;
        for (at, column) in columns.iter().enumerate() {
            if !bit(present, at) {
                image.push(Cell::Absent);
                continue;
            }
            let is_null = bit(&nulls, seen);
            seen = seen.saturating_add(1);
            image.push(if is_null { Cell::Null } else { Cell::Value(self.value(*column)?) });
        }
        Ok(image)
    }

    fn value(&mut self, column: Column) -> Result<Bytes, Malformed> {
        let meta = usize::from(column.meta);
        let length = match column.kind {
            1 | 13 => 1,
            2 => 2,
            3 | 4 | 7 => 4,
            5 | 8 | 12 => 8,
            9..=11 | 14 => 3,
            15 | 141 | 253 | 254 => self.body.length(if meta > 255 { 2 } else { 1 })?,
            16 => (meta >> 8).saturating_add(usize::from(meta & 0xFF > 0)),
            17 => 4_usize.saturating_add(meta.div_ceil(2)),
            18 => 5_usize.saturating_add(meta.div_ceil(2)),
            19 => 3_usize.saturating_add(meta.div_ceil(2)),
            140 | 242 | 245 | 249..=252 | 255 => self.body.length(meta.min(8))?,
            246 => decimal_bytes(meta & 0xFF, meta >> 8),
            247 | 248 => meta,
            _ => return Err(self.body.malformed()),
        };
        self.body.slice(length)
    }
}

/// How many bytes the digits of a group of less than nine take.
pub const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// How many bytes a decimal of this precision and scale takes.
pub fn decimal_bytes(precision: usize, scale: usize) -> usize {
    let part = |digits: usize| {
        let groups = (digits / 9).saturating_mul(4);
        groups.saturating_add(DIGIT_BYTES.get(digits % 9).copied().unwrap_or(0))
    };
    part(precision.saturating_sub(scale)).saturating_add(part(scale))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Cell, Column, Kind, Verb, decimal_bytes, rows, table_map};

    #[test]
    fn an_event_that_is_not_listed_is_unknown() {
        for number in [0_u8, 1, 20, 21, 22, 43, 60, 159, 172, 255] {
            assert_eq!(Kind::of(number), Kind::Unknown, "{number}");
        }
        for number in 165..=171 {
            assert_eq!(Kind::of(number), Kind::CompressedMariadb);
        }
    }

    #[test]
    fn a_row_is_cut_into_its_columns() {
        let body = [
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0b111, // header, three columns, all there
            0b010, 7, 0, 0, 0, 2, b'h', b'i',
        ];
        let columns = [Column { kind: 3, meta: 0 }, Column { kind: 8, meta: 0 }, Column { kind: 15, meta: 20 }];
        let mut read = rows(Bytes::copy_from_slice(&body), Verb::Insert, true).ok();
        let row = read.as_mut().and_then(|rows| rows.next(&columns).ok().flatten());
        let expected =
            vec![Cell::Value(Bytes::from_static(&[7, 0, 0, 0])), Cell::Null, Cell::Value(Bytes::from_static(b"hi"))];
        assert_eq!(row, Some((None, Some(expected))));
        assert_eq!(read.map(|mut rows| rows.next(&columns).ok()), Some(Some(None)));
    }

    #[test]
    fn a_decimal_takes_four_bytes_for_nine_digits() {
        assert_eq!(decimal_bytes(14, 4), 7);
        assert_eq!(decimal_bytes(65, 30), 30);
    }

    proptest! {
        #[test]
        fn bytes_that_make_no_sense_end_in_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(bytes);
            if let Ok(map) = table_map(body.clone()) {
                for verb in [Verb::Insert, Verb::Update, Verb::Delete] {
                    if let Ok(mut rows) = rows(body.clone(), verb, true) {
                        while let Ok(Some(_)) = rows.next(&map.columns) {}
                    }
                }
            }
            let columns = [Column { kind: 15, meta: 9 }, Column { kind: 246, meta: 0x040A }];
            if let Ok(mut rows) = rows(body, Verb::Update, false) {
                while let Ok(Some(_)) = rows.next(&columns) {}
            }
        }
    }
}
