//! Why the demo could not go on, in words for the person who watches it.

use std::fmt;

/// One text that says what failed.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

/// The result of the demo's steps.
pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(said(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What a server or the connection to it said.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    let Some(reply) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        return text;
    };
    let mut text = format!(
        "{} {}: {}",
        reply.severity(),
        reply.code().code(),
        reply.message()
    );
    for more in [reply.detail(), reply.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}
