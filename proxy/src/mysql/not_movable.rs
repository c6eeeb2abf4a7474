//! Why a session cannot be moved to another cluster.

use super::server_login::Refused;

/// Why a session cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum NotMovable {
    /// It has temporary tables.
    #[error("it has temporary tables")]
    TemporaryTable,
    /// It holds user-level locks.
    #[error("it holds locks of GET_LOCK")]
    UserLock,
    /// It has an open HANDLER.
    #[error("it has an open HANDLER")]
    Handler,
    /// It has an open cursor.
    #[error("it has an open cursor")]
    Cursor,
    /// What it set for its next transaction is not known for certain.
    #[error("it may have set characteristics of its next transaction, and other statements came behind")]
    Characteristics,
    /// It writes past the binary log, or under a chosen GTID.
    #[error("its writes are not in the binary log as others are: {0}")]
    BinaryLog(&'static str),
    /// It has user variables whose names or values cannot be learned.
    #[error("it has user variables that cannot be read")]
    UserVariable,
    /// It has statements that were prepared by SQL, and no server tells their texts.
    #[error("it has statements that were prepared by SQL, whose texts are not known")]
    SqlPrepared,
    /// Its server does not tell all of it, nor did the texts of its statements.
    #[error("its server does not tell its whole state, and {0}")]
    Untold(&'static str),
    /// A prepared statement cannot be taken along: its text or its parameters are too large.
    #[error("a prepared statement cannot be taken along: it is too large, or was prepared in another default database")]
    PreparedStatement,
    /// It chose databases of several routes, and they are no longer on one cluster.
    #[error("it uses databases of several routes, and they are no longer on one cluster")]
    SeveralRoutes,
    /// It changed a variable that the new server does not have.
    #[error("it has changed the variable {0}, which the new server does not have")]
    Variable(String),
    /// The old server session broke before it told its state.
    #[error("its old server session is gone: {0}")]
    SourceGone(#[source] Refused),
    /// The new cluster cannot be reached, or refused the login.
    #[error("the new cluster did not let it in: {0}")]
    TargetRefused(#[source] Refused),
    /// The new server did not accept, or did not show, the same state.
    #[error("its state could not be rebuilt: {0}")]
    State(String),
    /// It took too long.
    #[error("the handover took too long")]
    Late,
}

impl NotMovable {
    /// The reason by which such sessions are counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TemporaryTable => "temporary table",
            Self::UserLock => "user lock",
            Self::Handler => "handler",
            Self::Cursor => "open cursor",
            Self::SeveralRoutes => "databases of several routes",
            Self::Characteristics => "transaction characteristics",
            Self::BinaryLog(_) => "binary log",
            Self::UserVariable => "user variable",
            Self::SqlPrepared | Self::PreparedStatement => "prepared statement",
            Self::Variable(_) => "session variable",
            Self::Untold(_) => "state not told",
            Self::SourceGone(_) => "old server session gone",
            Self::TargetRefused(_) => "login on the new cluster",
            Self::State(_) => "state not rebuilt",
            Self::Late => "handover timeout",
        }
    }
}
