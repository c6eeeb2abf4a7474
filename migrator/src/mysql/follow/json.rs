//! Documents in MySQL's binary form, written so that the target builds the very same document.

use std::fmt::Write as _;

use protocol::mysql::change::little;

use super::literals::{InvalidValue, decimal, quoted};

/// The server refuses documents that are deeper.
const DEPTH_MAX: usize = 110;
/// More than the largest document; ends what refers to itself.
const NODES_MAX: usize = 1 << 26;

/// A double is shown without an exponent up to here.
const PLACES_MAX: i32 = 15;

/// What a document holds.
#[derive(Debug, PartialEq)]
enum Node<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Double(f64),
    Text(&'a [u8]),
    /// A value of a type that documents do not write, by that type's number.
    Opaque(u8, &'a [u8]),
    Array(Vec<Node<'a>>),
    Object(Vec<(&'a [u8], Node<'a>)>),
}

/// Writes the document as an SQL value for a column of documents.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &[u8]) -> Result<(), InvalidValue> {
    let node = read(value)?;
    if is_plain(&node) {
        let mut text = String::new();
        put_text(&mut text, &node)?;
        out.extend_from_slice(b"_utf8mb4");
        quoted(out, text.as_bytes());
        return Ok(());
    }
    put_expression(out, &node)
}

/// The document as text.
pub(crate) fn text(value: &[u8]) -> Result<String, InvalidValue> {
    let mut text = String::new();
    put_text(&mut text, &read(value)?)?;
    Ok(text)
}

fn read(value: &[u8]) -> Result<Node<'_>, InvalidValue> {
    // A server that was told to ignore errors may have stored nothing at all, which it reads as null.
    let Some((&kind, body)) = value.split_first() else {
        return Ok(Node::Null);
    };
    let mut left = NODES_MAX;
    node(kind, body, 0, &mut left)
}

fn node<'a>(kind: u8, body: &'a [u8], depth: usize, left: &mut usize) -> Result<Node<'a>, InvalidValue> {
    *left = left.checked_sub(1).ok_or(InvalidValue)?;
    if depth > DEPTH_MAX {
        return Err(InvalidValue);
    }
    let fixed = |length: usize| body.get(..length).map(little).ok_or(InvalidValue);
    let signed = |length: usize| {
        let shift = 64 - length * 8;
        fixed(length).map(|number| (number << shift).cast_signed() >> shift)
    };
    Ok(match kind {
        0 | 1 => container(body, kind == 1, true, depth, left)?,
        2 | 3 => container(body, kind == 3, false, depth, left)?,
        4 => literal(fixed(1)?)?,
        5 => Node::Signed(signed(2)?),
        6 => Node::Unsigned(fixed(2)?),
        7 => Node::Signed(signed(4)?),
        8 => Node::Unsigned(fixed(4)?),
        9 => Node::Signed(signed(8)?),
        10 => Node::Unsigned(fixed(8)?),
        11 => Node::Double(f64::from_bits(fixed(8)?)),
        12 => Node::Text(counted(body)?),
        15 => {
            let (&of, rest) = body.split_first().ok_or(InvalidValue)?;
            Node::Opaque(of, counted(rest)?)
        }
        _ => return Err(InvalidValue),
    })
}

fn literal(number: u64) -> Result<Node<'static>, InvalidValue> {
    match number {
        0 => Ok(Node::Null),
        1 => Ok(Node::Bool(true)),
        2 => Ok(Node::Bool(false)),
        _ => Err(InvalidValue),
    }
}

/// Bytes with their number before them, seven bits at a time.
fn counted(body: &[u8]) -> Result<&[u8], InvalidValue> {
    let mut length = 0_usize;
    for (index, byte) in body.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let rest = body.get(index + 1..).ok_or(InvalidValue)?;
            return rest.get(..length).ok_or(InvalidValue);
        }
    }
    Err(InvalidValue)
}

fn container<'a>(
    body: &'a [u8],
    large: bool,
    object: bool,
    depth: usize,
    left: &mut usize,
) -> Result<Node<'a>, InvalidValue> {
    let size = if large { 4 } else { 2 };
    let number = |at: usize, length: usize| -> Result<usize, InvalidValue> {
        let bytes = body.get(at..at + length).ok_or(InvalidValue)?;
        usize::try_from(little(bytes)).map_err(|_| InvalidValue)
    };
    let count = number(0, size)?;
    let key_entry = size + 2;
    let value_entry = size + 1;
    let keys = if object { count.checked_mul(key_entry).ok_or(InvalidValue)? } else { 0 };
    let values_at = 2 * size + keys;
    let entries = count.checked_mul(value_entry).ok_or(InvalidValue)?;
    if body.len() < values_at.checked_add(entries).ok_or(InvalidValue)? {
        return Err(InvalidValue);
    }
    let value = |index: usize, left: &mut usize| {
        let at = values_at + index * value_entry;
        let kind = *body.get(at).ok_or(InvalidValue)?;
        // Small values stand in the entry itself.
        let inline = matches!(kind, 4..=6) || large && matches!(kind, 7 | 8);
        let from = if inline { at + 1 } else { number(at + 1, size)? };
        node(kind, body.get(from..).ok_or(InvalidValue)?, depth + 1, left)
    };
    if !object {
        let nodes = (0..count).map(|index| value(index, left)).collect::<Result<_, _>>()?;
        return Ok(Node::Array(nodes));
    }
    let mut members = Vec::with_capacity(count);
    for index in 0..count {
        let at = 2 * size + index * key_entry;
        let from = number(at, size)?;
        let length = number(at + size, 2)?;
        let key = body.get(from..from + length).ok_or(InvalidValue)?;
        members.push((key, value(index, left)?));
    }
    Ok(Node::Object(members))
}

/// Whether the server reads the document's text back as the same types.
fn is_plain(node: &Node<'_>) -> bool {
    match node {
        Node::Null | Node::Bool(_) | Node::Double(_) | Node::Text(_) => true,
        Node::Signed(number) => *number <= i64::from(u32::MAX),
        Node::Unsigned(number) => *number > u64::from(u32::MAX),
        Node::Opaque(..) => false,
        Node::Array(nodes) => nodes.iter().all(is_plain),
        Node::Object(members) => members.iter().all(|(_, node)| is_plain(node)),
    }
}

fn put_string(out: &mut String, bytes: &[u8]) -> Result<(), InvalidValue> {
    let text = std::str::from_utf8(bytes).map_err(|_| InvalidValue)?;
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter < ' ' => {
                write!(out, "\\u{:04x}", u32::from(letter)).map_err(|_| InvalidValue)?;
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    Ok(())
}

fn put_text(out: &mut String, node: &Node<'_>) -> Result<(), InvalidValue> {
    match node {
        Node::Null => out.push_str("null"),
        Node::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Node::Signed(number) => write!(out, "{number}").map_err(|_| InvalidValue)?,
        Node::Unsigned(number) => write!(out, "{number}").map_err(|_| InvalidValue)?,
        Node::Double(number) if number.is_finite() => out.push_str(&double(*number)),
        Node::Double(_) => return Err(InvalidValue),
        Node::Text(text) => put_string(out, text)?,
        Node::Opaque(kind, value) => {
            let mut written = Vec::new();
            opaque_text(&mut written, *kind, value)?;
            let text = String::from_utf8(written).map_err(|_| InvalidValue)?;
            if *kind == 246 {
                out.push_str(&text);
            } else {
                put_string(out, text.as_bytes())?;
            }
        }
        Node::Array(nodes) => {
            out.push('[');
            for (index, node) in nodes.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                put_text(out, node)?;
            }
            out.push(']');
        }
        Node::Object(members) => {
            out.push('{');
            for (index, (key, node)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                put_string(out, key)?;
                out.push_str(": ");
                put_text(out, node)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// A number as a server shows a double: the fewest digits that mean this number, and an exponent only where it is far
/// from 1. A target without binary documents keeps the text, and the load brought the source's.
pub(crate) fn double(number: f64) -> String {
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let unsigned = digits.trim_start_matches('-');
    let count = unsigned.len() - usize::from(unsigned.contains('.'));
    let places = exponent.parse::<i32>().unwrap_or(0) + 1;
    let whole = usize::try_from(places).is_ok_and(|places| places >= count);
    if places <= -PLACES_MAX || places > PLACES_MAX && whole {
        return shortest;
    }
    let mut plain = format!("{number}");
    if whole {
        plain.push_str(".0");
    }
    plain
}

/// An expression whose value has the same type as the node, down to each part.
fn put_expression(out: &mut Vec<u8>, node: &Node<'_>) -> Result<(), InvalidValue> {
    let cast = |out: &mut Vec<u8>, value: &str, as_type: &str| {
        out.extend_from_slice(format!("CAST(CAST({value} AS {as_type}) AS JSON)").as_bytes());
    };
    match node {
        Node::Signed(number) => cast(out, &number.to_string(), "SIGNED"),
        Node::Unsigned(number) => cast(out, &number.to_string(), "UNSIGNED"),
        Node::Opaque(kind, value) => {
            let mut text = Vec::new();
            if matches!(kind, 246 | 7 | 10 | 11 | 12) {
                opaque_text(&mut text, *kind, value)?;
            }
            let text = String::from_utf8(text).map_err(|_| InvalidValue)?;
            match kind {
                246 => {
                    let precision = value.first().ok_or(InvalidValue)?;
                    let scale = value.get(1).ok_or(InvalidValue)?;
                    cast(out, &text, &format!("DECIMAL({precision},{scale})"));
                }
                10 => cast(out, &format!("'{text}'"), "DATE"),
                11 => cast(out, &format!("'{text}'"), "TIME(6)"),
                7 | 12 => cast(out, &format!("'{text}'"), "DATETIME(6)"),
                _ => {
                    out.extend_from_slice(b"CAST(_binary");
                    quoted(out, value);
                    out.extend_from_slice(b" AS JSON)");
                }
            }
        }
        Node::Array(nodes) => {
            out.extend_from_slice(b"JSON_ARRAY(");
            for (index, node) in nodes.iter().enumerate() {
                out.extend_from_slice(if index == 0 { b"" } else { b"," });
                put_expression(out, node)?;
            }
            out.push(b')');
        }
        Node::Object(members) => {
            out.extend_from_slice(b"JSON_OBJECT(");
            for (index, (key, node)) in members.iter().enumerate() {
                out.extend_from_slice(if index == 0 { b"" } else { b"," });
                out.extend_from_slice(b"_utf8mb4");
                quoted(out, key);
                out.push(b',');
                put_expression(out, node)?;
            }
            out.push(b')');
        }
        plain => {
            let mut text = String::new();
            put_text(&mut text, plain)?;
            out.extend_from_slice(b"CAST(_utf8mb4");
            quoted(out, text.as_bytes());
            out.extend_from_slice(b" AS JSON)");
        }
    }
    Ok(())
}

fn opaque_text(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), InvalidValue> {
    if kind == 246 {
        let (meta, digits) = value.split_at_checked(2).ok_or(InvalidValue)?;
        return decimal(out, digits, u16::from(meta[0]) | u16::from(meta[1]) << 8);
    }
    if !matches!(kind, 7 | 10 | 11 | 12) {
        // The server writes other types in base 64, which needs their number too.
        return Err(InvalidValue);
    }
    let packed = little(value.get(..8).ok_or(InvalidValue)?).cast_signed();
    let sign = if packed < 0 { "-" } else { "" };
    let packed = packed.unsigned_abs();
    let (whole, micros) = (packed >> 24, packed & 0xFF_FFFF);
    let (date, time) = (whole >> 17, whole & 0x1_FFFF);
    let months = date >> 5;
    let text = match kind {
        10 => format!("{:04}-{:02}-{:02}", months / 13, months % 13, date & 31),
        11 => format!("{sign}{:02}:{:02}:{:02}.{micros:06}", whole >> 12 & 0x3FF, whole >> 6 & 63, whole & 63),
        _ => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{micros:06}",
            months / 13,
            months % 13,
            date & 31,
            time >> 12,
            time >> 6 & 63,
            time & 63
        ),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{double, read, text, write_value};

    #[test]
    fn a_double_is_written_as_the_servers_write_it() {
        // Each as MySQL 9.7 answers it for CAST(… AS JSON).
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-12.5, "-12.5"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (1_234_567_890_123_456.8, "1234567890123456.8"),
            (1.234_567_890_123_456_8e20, "1.2345678901234568e20"),
            (1e22, "1e22"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (1.234e-15, "0.000000000000001234"),
            (-1.234_567_890_123_456_7e-100, "-1.2345678901234567e-100"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(double(number), text);
        }
    }

    #[test]
    fn an_object_is_read_with_its_keys_and_inline_values() {
        // {"a": 1, "bc": [true, "x"]}
        let value = [
            0, 2, 0, 34, 0, 18, 0, 1, 0, 19, 0, 2, 0, 5, 1, 0, 2, 21, 0, b'a', b'b', b'c', 2, 0, 13, 0, 4, 1, 0, 12,
            10, 0, 1, b'x',
        ];
        let reported = text(&value[..]);
        assert_eq!(reported.as_deref().ok(), Some("{\"a\": 1, \"bc\": [true, \"x\"]}"));
    }

    #[test]
    fn a_number_that_its_text_would_make_another_type_is_cast() {
        let mut out = Vec::new();
        write_value(&mut out, &[6, 7, 0]).expect("written");
        assert_eq!(out, b"CAST(CAST(7 AS UNSIGNED) AS JSON)");
        out.clear();
        write_value(&mut out, &[5, 7, 0]).expect("written");
        assert_eq!(out, b"_utf8mb4'7'");
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_document_end_in_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if read(&bytes).is_ok() {
                let _ = write_value(&mut Vec::new(), &bytes);
            }
        }
    }
}
