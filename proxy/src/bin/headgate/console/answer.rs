//! What a statement answers: columns with real types, rows, a tag; or an error with its SQLSTATE and remedy.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use migrator::error::{Error, Kind};

use crate::statement::Mistake;

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `text`
    Text,
    /// `int8`
    Int,
    /// `float8`
    Float,
    /// `bool`
    Bool,
    /// `timestamptz`
    Time,
}

/// One column of an answer.
pub(crate) type Column = (&'static str, Type);

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Nothing is known.
    Null,
    /// `text`
    Text(String),
    /// `int8`
    Int(i64),
    /// `float8`
    Float(f64),
    /// `bool`
    Bool(bool),
    /// `timestamptz`
    Time(SystemTime),
}

/// What a statement that succeeded says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// The rows, as wide as the statement's columns.
    pub rows: Vec<Vec<Value>>,
    /// The command tag; for rows their count is added.
    pub tag: String,
    /// A notice to send before the tag.
    pub notice: Option<String>,
}

impl Answer {
    /// Rows.
    pub(crate) fn rows(rows: Vec<Vec<Value>>) -> Self {
        Self { rows, tag: "SELECT".to_owned(), notice: None }
    }

    /// No rows.
    pub(crate) fn done(tag: &str) -> Self {
        Self { tag: tag.to_owned(), ..Self::default() }
    }
}

/// What a statement that failed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The SQLSTATE.
    pub code: &'static str,
    /// What is wrong.
    pub text: String,
    /// What the operator can do; empty where there is nothing to do.
    pub hint: String,
    /// Where in the statement, in characters from 1; 0 where no place is meant.
    pub position: usize,
}

impl Refusal {
    /// A refusal without a place.
    pub(crate) fn new(code: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: hint.into(), position: 0 }
    }
}

impl From<Mistake> for Refusal {
    fn from(mistake: Mistake) -> Self {
        let Mistake { code, text, hint, position } = mistake;
        Self { code, text, hint, position }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            Kind::Refused => "55000",
            Kind::Transient => "57P03",
            Kind::Fatal => "58000",
        };
        Self::new(code, error.full_text(), error.remedy_text().unwrap_or_default())
    }
}

/// A time in UTC, to the millisecond.
pub(crate) fn time_text(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil_day(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

/// The Gregorian date of a day counted from 1970-01-01, by counting years from a March so that leap days come last.
fn civil_day(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    let shifted = days + 719_468;
    let day_of_era = shifted % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + shifted / DAYS_PER_ERA * 400 + u64::from(month <= 2);
    (year, month, day)
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<SystemTime> for Value {
    fn from(value: SystemTime) -> Self {
        Self::Time(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A duration in milliseconds, with their fractions down to the microsecond.
pub(crate) fn millis(duration: Duration) -> Value {
    Value::Float((duration.as_secs_f64() * 1e6).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_400, "2000-02-29 00:00:00.000"),
            (951_868_799, "2000-02-29 23:59:59.000"),
            (1_709_164_800, "2024-02-29 00:00:00.000"),
            (4_107_542_400, "2100-03-01 00:00:00.000"),
            (1_767_225_599, "2025-12-31 23:59:59.000"),
        ] {
            assert_eq!(time_text(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
