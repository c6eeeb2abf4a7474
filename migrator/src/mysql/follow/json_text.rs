//! Documents as MySQL shows them: finds the decimals in them, which their text alone would turn into doubles.

use protocol::error::Malformed;

use super::json::double;
use super::literals::quoted;

/// The server refuses documents that are deeper.
const DEPTH_MAX: usize = 110;

/// Whether the document holds a number that is read back as another one.
pub(crate) fn has_decimal(document: &[u8]) -> bool {
    let mut rest = document;
    while let Some((&first, after)) = rest.split_first() {
        match first {
            b'"' => match string(rest) {
                Some((_, after)) => rest = after,
                None => return false,
            },
            b'-' | b'0'..=b'9' => {
                let (number, after) = rest.split_at(number_length(rest));
                if is_decimal(number) {
                    return true;
                }
                rest = after;
            }
            _ => rest = after,
        }
    }
    false
}

/// Writes an expression whose value is the document, decimals and all.
pub(crate) fn put_expression(out: &mut Vec<u8>, document: &[u8]) -> Result<(), Malformed> {
    let torn = || Malformed { what: "document", at: 0, limit: document.len() };
    let rest = value(out, document, 0).ok_or_else(torn)?;
    if rest.is_empty() { Ok(()) } else { Err(torn()) }
}

/// Writes the value that stands first and gives what comes behind it.
fn value<'d>(out: &mut Vec<u8>, document: &'d [u8], depth: usize) -> Option<&'d [u8]> {
    if depth > DEPTH_MAX {
        return None;
    }
    let end = value_length(document)?;
    let (text, rest) = document.split_at(end);
    if !has_decimal(text) {
        out.extend_from_slice(b"CAST(_utf8mb4");
        quoted(out, text);
        out.extend_from_slice(b" AS JSON)");
        return Some(rest);
    }
    let (function, closing) = match text.first()? {
        b'[' => ("JSON_ARRAY", b']'),
        b'{' => ("JSON_OBJECT", b'}'),
        _ => {
            put_decimal(out, text);
            return Some(rest);
        }
    };
    out.extend_from_slice(function.as_bytes());
    out.push(b'(');
    let mut inner = &text[1..];
    loop {
        if closing == b'}' {
            let (key, after) = string(inner)?;
            out.extend_from_slice(b"JSON_UNQUOTE(_utf8mb4");
            quoted(out, key);
            out.extend_from_slice(b"),");
            inner = after.strip_prefix(b": ")?;
        }
        inner = value(out, inner, depth + 1)?;
        if inner == [closing] {
            out.push(b')');
            return Some(rest);
        }
        inner = inner.strip_prefix(b", ")?;
        out.push(b',');
    }
}

fn put_decimal(out: &mut Vec<u8>, number: &[u8]) {
    let digits = |part: &[u8]| part.iter().filter(|byte| byte.is_ascii_digit()).count();
    let scale = number.iter().position(|&byte| byte == b'.').map_or(0, |point| digits(&number[point..]));
    out.extend_from_slice(b"CAST(CAST(");
    out.extend_from_slice(number);
    let precision = digits(number);
    out.extend_from_slice(format!(" AS DECIMAL({precision},{scale})) AS JSON)").as_bytes());
}

/// How long the value is that stands first.
fn value_length(document: &[u8]) -> Option<usize> {
    let mut rest = document;
    let mut depth = 0_usize;
    loop {
        let after = match rest.first()? {
            b'"' => string(rest)?.1,
            b'[' | b'{' => {
                depth += 1;
                &rest[1..]
            }
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                &rest[1..]
            }
            b',' | b':' | b' ' if depth > 0 => &rest[1..],
            _ => {
                let length =
                    rest.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b':')).unwrap_or(rest.len());
                if length == 0 {
                    return None;
                }
                &rest[length..]
            }
        };
        rest = after;
        if depth == 0 {
            return Some(document.len() - rest.len());
        }
    }
}

/// The string constant that stands first, and what comes behind it.
fn string(document: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 1;
    loop {
        match document.get(at)? {
            b'"' => return Some(document.split_at(at + 1)),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn number_length(document: &[u8]) -> usize {
    document
        .iter()
        .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
        .unwrap_or(document.len())
}

/// Whether the number is not as a double or a whole number of 64 bits would be shown.
fn is_decimal(number: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(number) else {
        return false;
    };
    // Decimals are shown without an exponent.
    if text.contains(['e', 'E']) || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
        return false;
    }
    text.parse().is_ok_and(|number| double(number) != text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{has_decimal, put_expression};

    fn expression(document: &str) -> String {
        let mut out = Vec::new();
        put_expression(&mut out, document.as_bytes()).expect("a document");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn only_what_a_double_would_not_show_is_a_decimal() {
        for number in [
            "1.10",
            "0.00",
            "-5.0000",
            "18446744073709551616",
            "0.12345678901234567890",
            "-0.10",
            "0.00000000000000001",
        ] {
            assert!(has_decimal(number.as_bytes()), "{number}");
        }
        for number in [
            "1",
            "-1",
            "1.1",
            "3.0",
            "-0.0",
            "1e300",
            "0.00001",
            "18446744073709551615",
            "1.5e-7",
            "\"1.10\"",
            "{\"1.10\": \"\\\"1.10\"}",
            "true",
            "null",
            "",
        ] {
            assert!(!has_decimal(number.as_bytes()), "{number}");
        }
    }

    #[test]
    fn only_the_way_to_a_decimal_is_written_out() {
        assert_eq!(expression("-1.10"), "CAST(CAST(-1.10 AS DECIMAL(3,2)) AS JSON)");
        assert_eq!(
            expression(r#"{"a": [1, {"b": 2.5}], "it's": [0.50, "]"]}"#),
            r#"JSON_OBJECT(JSON_UNQUOTE(_utf8mb4'"a"'),CAST(_utf8mb4'[1, {"b": 2.5}]' AS JSON),"#.to_owned()
                + r#"JSON_UNQUOTE(_utf8mb4'"it\'s"'),"#
                + r#"JSON_ARRAY(CAST(CAST(0.50 AS DECIMAL(3,2)) AS JSON),CAST(_utf8mb4'"]"' AS JSON)))"#
        );
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_document_end_in_an_error(bytes in "[\\[\\]{}\":, 0-9.\\\\a]{0,40}") {
            let _ = put_expression(&mut Vec::new(), bytes.as_bytes());
            has_decimal(bytes.as_bytes());
        }
    }
}
