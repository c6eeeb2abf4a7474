//! Values on their way to the target, in the text form in which the stream brought them.

use bytes::{BufMut, BytesMut};
use protocol::postgres::change::Value;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// A parameter in text form, whatever its type: the server's own input function reads it.
#[derive(Clone, Debug)]
pub(crate) enum Literal {
    /// No value.
    Null,
    /// A value's text.
    Text(bytes::Bytes),
}

impl From<&Value> for Literal {
    fn from(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.clone()),
            // The stream is asked for text, and rows with unchanged values never get here.
            Value::Null | Value::UnchangedToast | Value::Binary(_) => Self::Null,
        }
    }
}

impl ToSql for Literal {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Text(text) => {
                out.put_slice(text);
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// An array constant with one element per row; `delimiter` is the element type's.
pub(crate) fn array<'a>(values: impl Iterator<Item = &'a Value>, delimiter: u8) -> Literal {
    let mut out = Vec::with_capacity(values.size_hint().0 * 12 + 2);
    out.push(b'{');
    for value in values {
        if out.len() > 1 {
            out.push(delimiter);
        }
        match value {
            Value::Text(text) => element(text, &mut out),
            Value::Null | Value::UnchangedToast | Value::Binary(_) => {
                out.extend_from_slice(b"NULL");
            }
        }
    }
    out.push(b'}');
    Literal::Text(out.into())
}

fn element(text: &[u8], out: &mut Vec<u8>) {
    let number = !text.is_empty()
        && text.len() < 24
        && text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    if number {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        out.push(b'\\');
        out.extend_from_slice(&special[..1]);
        rest = &special[1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
