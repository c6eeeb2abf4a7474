//! What failed, what happens next, and what the operator can do.

use std::error::Error as StdError;
use std::fmt;

use transport::Password;
use zeroize::Zeroizing;

/// What a failure means for the work that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection or server was lost: the same work may succeed when tried again.
    Transient,
    /// The operator asked for something that is not possible now; nothing was done.
    Refused,
    /// The migration cannot go on until the operator acts.
    Fatal,
}

/// A failure of the control plane, told for the operator. Never holds row contents or secrets.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    remedy: Option<String>,
    fix: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// What to do about a server that takes no writes.
pub(crate) const READER_REMEDY: &str =
    "let the cluster's host lead to the server that takes the writes; Headgate tries again by itself";

/// What to do where a connection is not what it must be.
pub(crate) const TLS_REMEDY: &str = "look at the cluster's tls and tls_ca: verify-ca and verify-full ask for a certificate of an authority that is trusted, \
     verify-full for one with the host's name";

/// The password of an account of ours, as it is now; `whose` is told where there is none.
pub(crate) async fn read_password(
    password: Option<&Password>,
    whose: &impl fmt::Debug,
) -> Result<Option<Zeroizing<String>>> {
    let Some(password) = password else {
        return Ok(None);
    };
    password.read().await.map(Some).map_err(|error| {
        Error::transient(format!("cannot connect to {whose:?}: {error}"))
            .remedy("look at the cluster's password or password_command; Headgate tries again by itself")
    })
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that a retry may mend.
    pub fn transient(what: impl Into<String>) -> Self {
        Self::new(Kind::Transient, what)
    }

    /// A request that is not possible now; nothing was done.
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Kind::Refused, what)
    }

    /// A failure that only the operator can mend.
    pub fn fatal(what: impl Into<String>) -> Self {
        Self::new(Kind::Fatal, what)
    }

    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), remedy: None, fix: None, cause: None }
    }

    /// Adds what the operator can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the statement that mends it as it stands.
    #[must_use]
    pub fn fix(mut self, statement: impl Into<String>) -> Self {
        self.fix = Some(statement.into());
        self
    }

    /// Adds the failure underneath, reachable through `source()`.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What it means for the work.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the operator can do, where there is something.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// A statement that mends it as it stands, where there is one.
    pub fn fix_text(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// The failure and its causes on one line, without the remedy.
    pub fn full_text(&self) -> String {
        let mut text = self.what.clone();
        let mut cause: Option<&(dyn StdError + 'static)> =
            self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static));
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full_text())?;
        if let Some(remedy) = &self.remedy {
            write!(formatter, "; {remedy}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
