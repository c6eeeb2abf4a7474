//! Tells ahead of a switch what keeps an idle session where it is, without its client noticing.
//!
//! The session itself is not asked: no question could be taken back out of `ROW_COUNT()`, `FOUND_ROWS()` and the
//! warnings. What counts is what its statements told, and what its cluster's own account sees of it.

use super::introspection::SessionInfo;
use super::not_movable::NotMovable;
use super::state::refuse_statements;
use super::wire::MysqlWire;
use crate::registry::Movable;

/// What the statements of a session told.
#[derive(Debug)]
pub(super) struct Ahead {
    refused: Option<&'static str>,
    made_temporary: bool,
    other_engine: bool,
    user_lock: bool,
}

impl Ahead {
    /// As of now.
    pub(super) fn of(wire: &MysqlWire) -> Self {
        let learned = &wire.learned;
        let refused = if wire.statements.has_lost_pieces() {
            Err(NotMovable::PreparedStatement)
        } else if learned.is_pending_unknown() {
            Err(NotMovable::Characteristics)
        } else {
            refuse_statements(learned, &wire.statements)
        };
        Self {
            refused: refused.err().map(|why| why.reason()),
            made_temporary: learned.marks.temporary > 0,
            other_engine: learned.blind.other_engine,
            user_lock: learned.user_lock,
        }
    }

    /// Whether the session could move, with what its cluster's own account sees of it.
    pub(super) fn movable(&self, reported: &SessionInfo) -> Movable {
        if let Some(reason) = self.refused {
            return Movable::No(reason);
        }
        let has_temporary = match reported.temporary {
            Some(1..) => true,
            // The list is InnoDB's.
            Some(0) => self.made_temporary && self.other_engine,
            None => self.made_temporary,
        };
        if has_temporary {
            return Movable::No(NotMovable::TemporaryTable.reason());
        }
        if self.user_lock {
            return Movable::NotKnown("it may hold a lock of GET_LOCK");
        }
        Movable::Yes
    }
}
