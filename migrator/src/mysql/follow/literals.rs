//! What values and documents have in common as SQL writes them.

use std::io::Write as _;

use protocol::mysql::change::DIGIT_BYTES;

/// The value makes no sense for its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidValue;

pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) -> Result<(), InvalidValue> {
    out.write_fmt(text).map_err(|_| InvalidValue)
}

/// Bytes as a string constant.
pub(crate) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'\'');
    for &byte in bytes {
        if byte == b'\'' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'\'');
}

/// Writes a decimal; `meta` has its precision in the low and its scale in the high byte.
pub(crate) fn decimal(out: &mut Vec<u8>, value: &[u8], meta: u16) -> Result<(), InvalidValue> {
    let (precision, scale) = (usize::from(meta & 0xFF), usize::from(meta >> 8));
    let whole = precision.checked_sub(scale).ok_or(InvalidValue)?;
    let mut bytes = value.to_vec();
    let first = bytes.first_mut().ok_or(InvalidValue)?;
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        for byte in &mut bytes {
            *byte = !*byte;
        }
        out.push(b'-');
    }
    let mut rest = &bytes[..];
    let mut take = |digits: usize| -> Result<u64, InvalidValue> {
        let length = if digits == 9 { 4 } else { DIGIT_BYTES[digits] };
        let (part, after) = rest.split_at_checked(length).ok_or(InvalidValue)?;
        rest = after;
        Ok(big(part))
    };
    let begin = out.len();
    if whole % 9 > 0 {
        put(out, format_args!("{}", take(whole % 9)?))?;
    }
    for _ in 0..whole / 9 {
        let group = take(9)?;
        put(out, format_args!("{group:09}"))?;
    }
    let zeros = out[begin..].iter().take_while(|&&digit| digit == b'0').count();
    out.drain(begin..begin + zeros);
    if out.len() == begin {
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        for _ in 0..scale / 9 {
            let group = take(9)?;
            put(out, format_args!("{group:09}"))?;
        }
        let digits = scale % 9;
        if digits > 0 {
            let group = take(digits)?;
            put(out, format_args!("{group:0digits$}"))?;
        }
    }
    Ok(())
}

/// A number of up to eight bytes, the highest first.
pub(crate) fn big(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
