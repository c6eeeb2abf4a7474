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

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(text) | Trouble::Ended(text) => Self(text),
            Trouble::Late => Self::from("no answer came in time"),
        }
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

/// Why a statement of the load has no good answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server said no, in these words: the statement did nothing, and the session goes on.
    Refused(String),
    /// The session ended; whether the statement was carried out is not known from these words.
    Ended(String),
    /// No answer came in time.
    Late,
}

/// What one statement came to.
pub(super) type Answer<T> = std::result::Result<T, Trouble>;
