//! Values of the binary protocol: those that a client binds, and those that a prepared statement answers.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::mysql::lenenc::put_string;

use crate::console::answer::{Refusal, Type, Value, time_text};

/// `MYSQL_TYPE_…`, as far as values are bound or answered.
mod kind {
    pub(super) const TINY: u8 = 0x01;
    pub(super) const SHORT: u8 = 0x02;
    pub(super) const LONG: u8 = 0x03;
    pub(super) const FLOAT: u8 = 0x04;
    pub(super) const DOUBLE: u8 = 0x05;
    pub(super) const NULL: u8 = 0x06;
    pub(super) const TIMESTAMP: u8 = 0x07;
    pub(super) const LONGLONG: u8 = 0x08;
    pub(super) const INT24: u8 = 0x09;
    pub(super) const DATE: u8 = 0x0A;
    pub(super) const TIME: u8 = 0x0B;
    pub(super) const DATETIME: u8 = 0x0C;
    pub(super) const YEAR: u8 = 0x0D;
    pub(super) const VAR_STRING: u8 = 0xFD;
}

/// A bound parameter's type, as COM_STMT_EXECUTE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    kind: u8,
    unsigned: bool,
}

/// More parameters than any statement of the console has places.
const PARAMETERS_MAX: usize = 64;

/// How a client names parameters: with query attributes each has a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming {
    /// Whether query attributes were agreed on.
    pub attributes: bool,
}

fn malformed() -> Refusal {
    Refusal::new("08S01", "a malformed message", "")
}

/// Reads `count` parameters: the bitmap of NULLs, their types where they come anew, and their values. `known` are the
/// types of the last execution.
pub(super) fn read(
    body: &mut Bytes,
    count: usize,
    known: &mut Vec<Bound>,
    naming: Naming,
) -> Result<Vec<Option<String>>, Refusal> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let bitmap = count.div_ceil(8);
    if count > PARAMETERS_MAX || body.len() <= bitmap {
        return Err(malformed());
    }
    let nulls = body.split_to(bitmap);
    if body.get_u8() == 1 {
        known.clear();
        for _ in 0..count {
            let kind = body.try_get_u8().map_err(|_| malformed())?;
            let unsigned = body.try_get_u8().map_err(|_| malformed())? & 0x80 != 0;
            if naming.attributes {
                lenenc_bytes(body).ok_or_else(malformed)?;
            }
            known.push(Bound { kind, unsigned });
        }
    }
    if known.len() != count {
        return Err(Refusal::new("HY000", "parameters were sent without their types", ""));
    }
    let values = known.iter().enumerate().map(|(at, bound)| {
        let null = nulls.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0);
        if null || bound.kind == kind::NULL {
            return Ok(None);
        }
        value(body, *bound).map(Some)
    });
    values.collect()
}

fn value(body: &mut Bytes, bound: Bound) -> Result<String, Refusal> {
    let short = |_| malformed();
    let text = match (bound.kind, bound.unsigned) {
        (kind::TINY, false) => body.try_get_i8().map_err(short)?.to_string(),
        (kind::TINY, true) => body.try_get_u8().map_err(short)?.to_string(),
        (kind::SHORT | kind::YEAR, false) => body.try_get_i16_le().map_err(short)?.to_string(),
        (kind::SHORT | kind::YEAR, true) => body.try_get_u16_le().map_err(short)?.to_string(),
        (kind::LONG | kind::INT24, false) => body.try_get_i32_le().map_err(short)?.to_string(),
        (kind::LONG | kind::INT24, true) => body.try_get_u32_le().map_err(short)?.to_string(),
        (kind::LONGLONG, false) => body.try_get_i64_le().map_err(short)?.to_string(),
        (kind::LONGLONG, true) => body.try_get_u64_le().map_err(short)?.to_string(),
        (kind::FLOAT, _) => body.try_get_f32_le().map_err(short)?.to_string(),
        (kind::DOUBLE, _) => body.try_get_f64_le().map_err(short)?.to_string(),
        (kind::TIMESTAMP | kind::DATE | kind::TIME | kind::DATETIME, _) => {
            return Err(Refusal::new(
                "0A000",
                "a date or time was bound, and no statement here takes one",
                "bind a text",
            ));
        }
        // All other types come as strings.
        _ => {
            let bytes = lenenc_bytes(body).ok_or_else(malformed)?;
            String::from_utf8(bytes.to_vec())
                .map_err(|_| Refusal::new("22021", "a parameter is not UTF-8", "bind a text in UTF-8"))?
        }
    };
    Ok(text)
}

/// Reads what stands before the text of a COM_QUERY where query attributes were agreed on, and drops it: the console
/// has no use for attributes.
pub(super) fn skip_attributes(body: &mut Bytes) -> Result<(), Refusal> {
    let count = lenenc_int(body).ok_or_else(malformed)?;
    let count = usize::try_from(count).map_err(|_| malformed())?;
    lenenc_int(body).ok_or_else(malformed)?;
    read(body, count, &mut Vec::new(), Naming { attributes: true }).map(drop)
}

/// How a column is described: its type, its length in bytes, its character set and its decimals.
pub(super) fn described(of: Type) -> (u8, u32, u16, u8) {
    const BINARY: u16 = 63;
    const UTF8MB4_GENERAL_CI: u16 = 45;
    match of {
        Type::Text => (kind::VAR_STRING, 65_532, UTF8MB4_GENERAL_CI, 0),
        Type::Int => (kind::LONGLONG, 20, BINARY, 0),
        Type::Float => (kind::DOUBLE, 22, BINARY, 31),
        Type::Bool => (kind::TINY, 1, BINARY, 0),
        Type::Time => (kind::DATETIME, 23, BINARY, 3),
    }
}

/// The value as text; `None` where it is NULL.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => number.is_finite().then(|| number.to_string()),
        Value::Bool(truth) => Some(u8::from(*truth).to_string()),
        Value::Time(time) => Some(time_text(*time)),
    }
}

/// Appends a row of the binary protocol.
pub(super) fn put_binary_row(out: &mut BytesMut, row: &[Value]) {
    out.put_u8(0);
    let start = out.len();
    // The bitmap of a row begins with two bits that mean nothing.
    out.put_bytes(0, (row.len() + 2).div_ceil(8));
    for (at, value) in row.iter().enumerate() {
        match value {
            Value::Int(number) => out.put_i64_le(*number),
            Value::Float(number) if number.is_finite() => out.put_f64_le(*number),
            Value::Bool(truth) => out.put_u8(u8::from(*truth)),
            Value::Text(text) => put_string(out, text.as_bytes()),
            Value::Time(_) => put_time(out, &text(value).unwrap_or_default()),
            Value::Null | Value::Float(_) => {
                if let Some(byte) = out.get_mut(start + (at + 2) / 8) {
                    *byte |= 1 << ((at + 2) % 8);
                }
            }
        }
    }
}

/// A time of the form `2000-02-29 23:59:59.000`, in the eleven bytes of the binary protocol.
fn put_time(out: &mut BytesMut, text: &str) {
    let mut parts = text.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let narrow = |number: u32| u8::try_from(number).unwrap_or(0);
    out.put_u8(11);
    out.put_u16_le(u16::try_from(next()).unwrap_or(0));
    for _ in 0..5 {
        out.put_u8(narrow(next()));
    }
    out.put_u32_le(next() * 1_000);
}

/// Reads a length-encoded integer; `None` where it is cut off or none.
pub(super) fn lenenc_int(body: &mut Bytes) -> Option<u64> {
    let width = match body.try_get_u8().ok()? {
        small @ 0..=250 => return Some(u64::from(small)),
        0xFC => 2,
        0xFD => 3,
        0xFE => 8,
        _ => return None,
    };
    (body.len() >= width).then(|| body.get_uint_le(width))
}

/// Reads bytes with their length before them; `None` where they are cut off.
pub(super) fn lenenc_bytes(body: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(lenenc_int(body)?).ok()?;
    (length <= body.len()).then(|| body.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_numbers_and_texts_are_read_and_their_types_remembered() {
        let mut known = Vec::new();
        let mut body = BytesMut::new();
        body.put_slice(&[0b10, 1, kind::LONG, 0, kind::NULL, 0, kind::VAR_STRING, 0]);
        body.put_i32_le(-7);
        put_string(&mut body, "m".as_bytes());
        let naming = Naming { attributes: false };
        let values = read(&mut body.freeze(), 3, &mut known, naming).expect("whole");
        assert_eq!(values, [Some("-7".to_owned()), None, Some("m".to_owned())]);
        let mut again = BytesMut::new();
        again.put_slice(&[0b10, 0]);
        again.put_i32_le(8);
        put_string(&mut again, b"n");
        let values = read(&mut again.freeze(), 3, &mut known, naming).expect("whole");
        assert_eq!(values, [Some("8".to_owned()), None, Some("n".to_owned())]);
    }

    #[test]
    fn a_parameter_that_is_cut_off_is_refused() {
        let naming = Naming { attributes: false };
        for length in 0..11 {
            let whole = [0, 1, kind::LONGLONG, 0, 1, 2, 3, 4, 5, 6, 7];
            let mut body = Bytes::copy_from_slice(&whole[..length]);
            assert!(read(&mut body, 1, &mut Vec::new(), naming).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_binary_row_marks_its_nulls_from_the_third_bit() {
        let mut out = BytesMut::new();
        put_binary_row(&mut out, &[Value::Null, Value::Bool(true), Value::Null]);
        assert_eq!(&out[..], [0, 0b1_0100, 1]);
    }

    #[test]
    fn a_time_is_eleven_bytes() {
        let mut out = BytesMut::new();
        put_time(&mut out, "2024-02-29 23:59:58.123");
        assert_eq!(&out[..], [11, 0xE8, 0x07, 2, 29, 23, 59, 58, 0x78, 0xE0, 1, 0]);
    }
}
