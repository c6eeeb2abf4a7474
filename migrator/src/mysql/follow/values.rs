//! Values as the binary log has them, written into SQL so that exactly the same value lands.
//!
//! The session that runs it has `SET NAMES binary` and the time zone UTC: a plain string constant is bytes, which land
//! in a column of any character set unchanged.

use protocol::mysql::change::{self, Cell, little};

use super::json;
use super::literals::{InvalidValue, big, decimal, put, quoted};

#[expect(clippy::struct_excessive_bools, reason = "independent facts of the catalogue")]
/// What the target says of a column, as far as values depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Numbers are without sign.
    pub(crate) unsigned: bool,
    /// The column's character set on the target; none where it holds bytes, numbers or dates.
    pub(crate) charset: Option<String>,
    /// The character set of the source's values, where it is another.
    pub(crate) converted_from: Option<String>,
    /// A value is filled up with zero bytes to this length, which the log leaves out.
    pub(crate) padded_to: usize,
    /// The target's column is a document.
    pub(crate) is_json: bool,
    /// MariaDB's type with 16 bytes in an order of its own.
    pub(crate) is_uuid: bool,
    /// The type cannot be compared with bytes.
    pub(crate) is_vector: bool,
}

/// What the value is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be stored.
    Store,
    /// To find a row through the column's index.
    Find,
    /// As [`Purpose::Find`], for a session with `SET NAMES utf8mb4`.
    Name,
}

/// Writes one value.
pub(crate) fn write(
    out: &mut Vec<u8>,
    cell: &Cell,
    wire: change::Column,
    traits: &Traits,
    purpose: Purpose,
) -> Result<(), InvalidValue> {
    let value = match cell {
        Cell::Absent => return Err(InvalidValue),
        Cell::Null => {
            out.extend_from_slice(b"NULL");
            return Ok(());
        }
        Cell::Value(value) => &value[..],
    };
    let fraction = u32::from(wire.meta);
    match wire.kind {
        1 | 2 | 3 | 8 | 9 => integer(out, value, traits.unsigned),
        4 => {
            let bytes = value.try_into().map_err(|_| InvalidValue)?;
            // Written as the double that it is, so that it is equal to itself.
            float(out, f64::from(f32::from_le_bytes(bytes)))
        }
        5 => float(out, f64::from_le_bytes(value.try_into().map_err(|_| InvalidValue)?)),
        7 => timestamp(out, little(value), 0, 0),
        10 | 14 => date(out, little(value)),
        11 => old_time(out, value),
        12 => old_datetime(out, little(value)),
        13 => {
            let year = match little(value) {
                0 => 0,
                year => year + 1900,
            };
            put(out, format_args!("{year}"))
        }
        16 => put(out, format_args!("{}", big(value))),
        17 => {
            let seconds = big(value.get(..4).ok_or(InvalidValue)?);
            timestamp(out, seconds, micros(&value[4..], fraction), fraction)
        }
        18 => datetime(out, value, fraction),
        19 => time(out, value, fraction),
        246 => decimal(out, value, wire.meta),
        247 | 248 => put(out, format_args!("{}", little(value))),
        245 if traits.is_json => json::write_value(out, value),
        245 => {
            let text = json::text(value)?;
            quoted(out, text.as_bytes());
            Ok(())
        }
        15 | 242 | 249..=255 => {
            text(out, value, traits, purpose);
            Ok(())
        }
        _ => Err(InvalidValue),
    }
}

fn text(out: &mut Vec<u8>, value: &[u8], traits: &Traits, purpose: Purpose) {
    if traits.is_uuid
        && let Ok(bytes) = <&[u8; 16]>::try_from(value)
    {
        quoted(out, &canonical_uuid(bytes));
        return;
    }
    let introducer = if traits.is_json {
        Some("utf8mb4")
    } else if let Some(from) = &traits.converted_from {
        Some(from.as_str())
    } else if purpose != Purpose::Store {
        // A comparison with bare bytes could not use the index.
        traits.charset.as_deref()
    } else {
        None
    };
    if let Some(charset) = introducer {
        out.push(b'_');
        out.extend_from_slice(charset.as_bytes());
    }
    let constant = if purpose == Purpose::Name { quoted_or_hex } else { quoted };
    if value.len() < traits.padded_to {
        let mut padded = value.to_vec();
        padded.resize(traits.padded_to, 0);
        constant(out, &padded);
    } else {
        constant(out, value);
    }
}

/// Bytes as a string constant that is the same whatever the character set of the statement.
fn quoted_or_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'\\');
    if bytes.iter().all(plain) {
        quoted(out, bytes);
        return;
    }
    // The blank ends an introducer.
    out.extend_from_slice(b" X'");
    for byte in bytes {
        out.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    }
    out.push(b'\'');
}

/// MariaDB keeps the node first and the time from its slowest to its fastest part, except for kinds whose own order
/// sorts by time already.
fn canonical_uuid(kept: &[u8; 16]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid[..4].copy_from_slice(&kept[12..]);
    uuid[4..6].copy_from_slice(&kept[10..12]);
    uuid[6..8].copy_from_slice(&kept[8..10]);
    uuid[8..10].copy_from_slice(&kept[6..8]);
    uuid[10..].copy_from_slice(&kept[..6]);
    let swapped = uuid[6] >> 4 > 0 && uuid[6] >> 4 < 6 && uuid[8] & 0x80 != 0;
    if swapped { uuid } else { *kept }
}

fn integer(out: &mut Vec<u8>, value: &[u8], unsigned: bool) -> Result<(), InvalidValue> {
    let number = little(value);
    if unsigned {
        return put(out, format_args!("{number}"));
    }
    let shift = 64_usize.checked_sub(value.len() * 8).filter(|&shift| shift < 64);
    let shift = shift.ok_or(InvalidValue)?;
    put(out, format_args!("{}", (number << shift).cast_signed() >> shift))
}

fn float(out: &mut Vec<u8>, number: f64) -> Result<(), InvalidValue> {
    if !number.is_finite() {
        return Err(InvalidValue);
    }
    put(out, format_args!("{number:e}"))
}

/// The fraction of a second in microseconds.
fn micros(bytes: &[u8], digits: u32) -> u64 {
    let unit = match digits {
        0 => return 0,
        1 | 2 => 10_000,
        3 | 4 => 100,
        _ => 1,
    };
    big(bytes) * unit
}

fn put_fraction(out: &mut Vec<u8>, micros: u64, digits: u32) -> Result<(), InvalidValue> {
    if digits == 0 {
        return Ok(());
    }
    let digits = digits.min(6);
    let text = format!("{micros:06}");
    put(out, format_args!(".{}", text.get(..digits as usize).ok_or(InvalidValue)?))
}

fn timestamp(out: &mut Vec<u8>, seconds: u64, micros: u64, digits: u32) -> Result<(), InvalidValue> {
    if seconds == 0 {
        return {
            out.extend_from_slice(b"'0000-00-00 00:00:00");
            put_fraction(out, micros, digits)?;
            out.push(b'\'');
            Ok(())
        };
    }
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    put(
        out,
        format_args!("'{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
    )?;
    put_fraction(out, micros, digits)?;
    out.push(b'\'');
    Ok(())
}

/// Year, month and day of a number of days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from the first of March of year 0, so that a leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

fn date(out: &mut Vec<u8>, packed: u64) -> Result<(), InvalidValue> {
    put(out, format_args!("'{:04}-{:02}-{:02}'", packed >> 9, packed >> 5 & 15, packed & 31))
}

fn old_time(out: &mut Vec<u8>, value: &[u8]) -> Result<(), InvalidValue> {
    let number = (little(value) << 40).cast_signed() >> 40;
    let sign = if number < 0 { "-" } else { "" };
    let number = number.unsigned_abs();
    put(out, format_args!("'{sign}{:02}:{:02}:{:02}'", number / 10_000, number / 100 % 100, number % 100))
}

fn old_datetime(out: &mut Vec<u8>, number: u64) -> Result<(), InvalidValue> {
    let (date, time) = (number / 1_000_000, number % 1_000_000);
    put(
        out,
        format_args!(
            "'{:04}-{:02}-{:02} {:02}:{:02}:{:02}'",
            date / 10_000,
            date / 100 % 100,
            date % 100,
            time / 10_000,
            time / 100 % 100,
            time % 100
        ),
    )
}

fn datetime(out: &mut Vec<u8>, value: &[u8], digits: u32) -> Result<(), InvalidValue> {
    let (whole, fraction) = value.split_at_checked(5).ok_or(InvalidValue)?;
    let packed = big(whole).checked_sub(0x80_0000_0000).ok_or(InvalidValue)?;
    let (date, time) = (packed >> 17, packed & 0x1_FFFF);
    let months = date >> 5;
    put(
        out,
        format_args!(
            "'{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            months / 13,
            months % 13,
            date & 31,
            time >> 12,
            time >> 6 & 63,
            time & 63
        ),
    )?;
    put_fraction(out, micros(fraction, digits), digits)?;
    out.push(b'\'');
    Ok(())
}

fn time(out: &mut Vec<u8>, value: &[u8], digits: u32) -> Result<(), InvalidValue> {
    let bits = u32::try_from(value.len() * 8).map_err(|_| InvalidValue)?;
    if !(24..=48).contains(&bits) {
        return Err(InvalidValue);
    }
    // The sign is in the distance to the middle, fraction and all.
    let distance = big(value).cast_signed() - (1_i64 << (bits - 1));
    let sign = if distance < 0 { "-" } else { "" };
    let distance = distance.unsigned_abs();
    let (time, fraction) = (distance >> (bits - 24), distance & ((1 << (bits - 24)) - 1));
    put(out, format_args!("'{sign}{:02}:{:02}:{:02}", time >> 12 & 0x3FF, time >> 6 & 63, time & 63))?;
    put_fraction(out, micros(&fraction.to_be_bytes(), digits), digits)?;
    out.push(b'\'');
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::mysql::change::{Cell, Column};

    use super::{Purpose, Traits, civil, write};

    fn sql(kind: u8, meta: u16, value: &[u8], traits: &Traits, purpose: Purpose) -> String {
        let mut out = Vec::new();
        let cell = Cell::Value(Bytes::copy_from_slice(value));
        write(&mut out, &cell, Column { kind, meta }, traits, purpose).expect("written");
        String::from_utf8_lossy(&out).into_owned()
    }

    fn plain(kind: u8, meta: u16, value: &[u8]) -> String {
        sql(kind, meta, value, &Traits::default(), Purpose::Store)
    }

    #[test]
    fn a_number_without_sign_is_not_read_as_a_negative_one() {
        let unsigned = Traits { unsigned: true, ..Traits::default() };
        assert_eq!(plain(9, 0, &[0xFF, 0xFF, 0xFF]), "-1");
        assert_eq!(sql(9, 0, &[0xFF; 3], &unsigned, Purpose::Store), "16777215");
        assert_eq!(sql(8, 0, &[0xFF; 8], &unsigned, Purpose::Store), u64::MAX.to_string());
    }

    #[test]
    fn a_float_is_written_as_the_double_that_it_is() {
        assert_eq!(plain(4, 4, &0.1_f32.to_le_bytes()), "1.0000000149011612e-1");
        assert_eq!(plain(5, 8, &1e300_f64.to_le_bytes()), "1e300");
    }

    #[test]
    fn a_negative_time_keeps_its_fraction() {
        // What the server writes for -00:00:01.1: one less than the whole seconds, and the fraction counted from above.
        assert_eq!(plain(19, 1, &[0x7F, 0xFF, 0xFE, 0xF6]), "'-00:00:01.1'");
        assert_eq!(plain(19, 0, &[0x80, 0x10, 0x83]), "'01:02:03'");
    }

    #[test]
    fn decimals_of_both_signs_are_read() {
        assert_eq!(plain(246, 0x040E, &[0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2]), "1234567890.1234");
        assert_eq!(plain(246, 0x040E, &[0x7E, 0xF2, 0x04, 0xC7, 0x2D, 0xFB, 0x2D]), "-1234567890.1234");
        assert_eq!(plain(246, 0x0202, &[0x80 | 5]), "0.05");
    }

    #[test]
    fn a_key_of_text_names_its_character_set_and_one_of_bytes_is_filled_up() {
        let latin = Traits { charset: Some("latin1".to_owned()), ..Traits::default() };
        assert_eq!(sql(15, 20, b"it's", &latin, Purpose::Find), r"_latin1'it\'s'");
        assert_eq!(sql(15, 20, b"a\\", &latin, Purpose::Store), r"'a\\'");
        let binary = Traits { padded_to: 3, ..Traits::default() };
        assert_eq!(sql(254, 3, b"a", &binary, Purpose::Find), "'a\0\0'");
    }

    #[test]
    fn days_are_counted_across_leap_years() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(49_710), (2106, 2, 7));
        assert_eq!(plain(17, 6, &[0, 0, 0, 1, 0, 0, 7]), "'1970-01-01 00:00:01.000007'");
        assert_eq!(plain(7, 0, &[0; 4]), "'0000-00-00 00:00:00'");
    }
}
