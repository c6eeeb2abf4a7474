//! User variables: how they are asked for, and how they are made again with the types that they had.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use protocol::mysql::reply::Column;

use super::internal_query::Answer;
use super::internal_query::{first_row, odd, text};
use super::not_movable::NotMovable;
use super::variables;

/// A user variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserVariable {
    pub(super) name: Vec<u8>,
    pub(super) value: UserValue,
}

/// Its value, in the type that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserValue {
    Null,
    Signed(String),
    Unsigned(String),
    Decimal(String),
    Double(String),
    /// The bytes as hexadecimal digits, the character set, the collation.
    Text(String, String, String),
}

/// Asks for the values of user variables.
pub(super) fn values_query(names: &BTreeSet<Vec<u8>>) -> String {
    let mut sql = String::from("SELECT ");
    for (at, name) in names.iter().enumerate() {
        let name = quoted(name);
        let comma = if at > 0 { ", " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(sql, "{comma}@{name}, HEX(@{name}), CHARSET(@{name}), COLLATION(@{name})");
    }
    sql
}

/// A name between backticks.
pub(super) fn quoted(name: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(name).replace('`', "``"))
}

/// The numbers of the types that are no strings.
const DECIMALS: [u8; 2] = [0, 246];
const DOUBLES: [u8; 2] = [4, 5];
const INTEGERS: [u8; 5] = [1, 2, 3, 8, 9];

/// Reads the answer to [`values_query`].
pub(super) fn values_of(names: &BTreeSet<Vec<u8>>, answer: &Answer) -> Result<Vec<UserVariable>, NotMovable> {
    let row = first_row(answer)?;
    let mut out = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let at = at * 4;
        let column = answer.columns.get(at).ok_or_else(odd)?;
        let value = match text(row, at) {
            None => UserValue::Null,
            Some(value) if INTEGERS.contains(&column.kind) => {
                if column.flags & Column::UNSIGNED != 0 {
                    UserValue::Unsigned(value)
                } else {
                    UserValue::Signed(value)
                }
            }
            Some(value) if DECIMALS.contains(&column.kind) => UserValue::Decimal(value),
            Some(value) if DOUBLES.contains(&column.kind) => UserValue::Double(value),
            Some(_) => {
                let part = |at| text(row, at).ok_or(NotMovable::UserVariable);
                let charset = variables::charset(&part(at + 2)?);
                UserValue::Text(part(at + 1)?, charset, variables::charset(&part(at + 3)?))
            }
        };
        out.push(UserVariable { name: name.clone(), value });
    }
    Ok(out)
}

/// An exact number as an expression of that type: bare digits without a fraction would be an integer.
fn decimal(value: &str) -> String {
    let digits = value.bytes().filter(u8::is_ascii_digit).count().clamp(1, 65);
    let fraction = value.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    format!("CAST({value} AS DECIMAL({digits},{fraction}))")
}

impl UserVariable {
    /// The assignment that makes it; `None` where it is as if it had never been.
    pub(super) fn assignment(&self) -> Option<String> {
        let value = match &self.value {
            UserValue::Null => return None,
            UserValue::Signed(value) => format!("CAST({value} AS SIGNED)"),
            UserValue::Unsigned(value) => format!("CAST({value} AS UNSIGNED)"),
            UserValue::Decimal(value) => decimal(value),
            UserValue::Double(value) if value.contains(['e', 'E']) => value.clone(),
            UserValue::Double(value) => format!("{value}e0"),
            UserValue::Text(hex, charset, _) if charset == "binary" => format!("_binary X'{hex}'"),
            UserValue::Text(hex, charset, collation) => {
                format!("_{charset} X'{hex}' COLLATE {collation}")
            }
        };
        Some(format!("@{} = {value}", quoted(&self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_number_stays_one() {
        assert_eq!(decimal("42"), "CAST(42 AS DECIMAL(2,0))");
        assert_eq!(decimal("-0.50"), "CAST(-0.50 AS DECIMAL(3,2))");
    }
}
