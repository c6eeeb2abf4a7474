//! Why a session cannot be moved to another cluster.

use super::server_login::Refused;

/// Why a session cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum NotMovable {
    /// It has temporary tables.
    #[error("it has temporary tables")]
    TemporaryTable,
    /// It has a cursor that outlives its transaction.
    #[error("it has a held cursor")]
    HeldCursor,
    /// It holds session-level advisory locks.
    #[error("it holds advisory locks")]
    AdvisoryLock,
    /// It has settings of its own whose names were never told.
    #[error("it has settings of its own whose names no statement told")]
    CustomSetting,
    /// It streams replication.
    #[error("it is a replication session")]
    Replication,
    /// A prepared statement cannot be taken along: its text is not one statement, or it is too large.
    #[error("a prepared statement cannot be taken along")]
    PreparedStatement,
    /// The old server session broke before it told its state.
    #[error("its old server session is gone: {0}")]
    SourceGone(#[source] Refused),
    /// The new cluster cannot be reached, or refused the login.
    #[error("the new cluster did not let it in: {0}")]
    TargetRefused(#[source] Refused),
    /// The new server did not accept, or did not show, the same state.
    #[error("its state could not be rebuilt: {0}")]
    State(String),
    /// It took longer than the cluster's connect timeout.
    #[error("the handover took too long")]
    Late,
}

impl NotMovable {
    /// The reason by which such sessions are counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TemporaryTable => "temporary table",
            Self::HeldCursor => "held cursor",
            Self::AdvisoryLock => "advisory lock",
            Self::CustomSetting => "custom setting",
            Self::Replication => "replication",
            Self::PreparedStatement => "prepared statement",
            Self::SourceGone(_) => "old server session gone",
            Self::TargetRefused(_) => "login on the new cluster",
            Self::State(_) => "state not rebuilt",
            Self::Late => "handover timeout",
        }
    }
}
