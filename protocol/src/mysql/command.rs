//! The client's commands, by their first byte, and the shape of what the server answers to each.

/// Ends the session.
pub const QUIT: u8 = 0x01;
/// Chooses the default database.
pub const INIT_DB: u8 = 0x02;
/// Statements as text.
pub const QUERY: u8 = 0x03;
/// The columns of a table.
pub const FIELD_LIST: u8 = 0x04;
/// Creates a database; gone since MySQL 5.7.
pub const CREATE_DB: u8 = 0x05;
/// Drops a database; gone since MySQL 5.7.
pub const DROP_DB: u8 = 0x06;
/// Flushes caches; gone since MySQL 8.4.
pub const REFRESH: u8 = 0x07;
/// A line about the server.
pub const STATISTICS: u8 = 0x09;
/// The list of sessions; gone since MySQL 8.4.
pub const PROCESS_INFO: u8 = 0x0A;
/// Ends another session; gone since MySQL 8.4.
pub const PROCESS_KILL: u8 = 0x0C;
/// Lets the server write to its log.
pub const DEBUG: u8 = 0x0D;
/// Nothing; answered with OK.
pub const PING: u8 = 0x0E;
/// Logs in anew on the same connection.
pub const CHANGE_USER: u8 = 0x11;
/// Becomes a replica.
pub const BINLOG_DUMP: u8 = 0x12;
/// Sends a table, long ago.
pub const TABLE_DUMP: u8 = 0x13;
/// Registers as a replica.
pub const REGISTER_REPLICA: u8 = 0x15;
/// Prepares a statement.
pub const STMT_PREPARE: u8 = 0x16;
/// Executes a prepared statement.
pub const STMT_EXECUTE: u8 = 0x17;
/// Sends a piece of a parameter; answered with nothing.
pub const STMT_SEND_LONG_DATA: u8 = 0x18;
/// Forgets a prepared statement; answered with nothing.
pub const STMT_CLOSE: u8 = 0x19;
/// Resets a prepared statement.
pub const STMT_RESET: u8 = 0x1A;
/// Turns several statements in one text on or off.
pub const SET_OPTION: u8 = 0x1B;
/// Rows of an open cursor.
pub const STMT_FETCH: u8 = 0x1C;
/// Becomes a replica by GTID.
pub const BINLOG_DUMP_GTID: u8 = 0x1E;
/// Makes the session as it was behind its login.
pub const RESET_CONNECTION: u8 = 0x1F;
/// Executes a prepared statement for many rows of parameters; MariaDB only.
pub const STMT_BULK_EXECUTE: u8 = 0xFA;

/// The statement id by which a MariaDB client means the one that it prepared last.
pub const LAST_PREPARED: u32 = u32::MAX;

/// What the server answers to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Nothing,
    /// One packet, whatever it says.
    One,
    /// OK, ERR, result sets, or the request for a local file.
    Results,
    /// The statement's id, then the definitions of its parameters and of its columns.
    Prepared,
    /// Rows without definitions.
    Rows,
    /// Definitions without a count before them.
    Definitions,
}

/// The shape of the answer; `None` where Headgate does not know it or does not carry the command.
#[inline]
pub const fn shape(command: u8) -> Option<Shape> {
    match command {
        QUIT | STMT_SEND_LONG_DATA | STMT_CLOSE => Some(Shape::Nothing),
        INIT_DB | CREATE_DB | DROP_DB | REFRESH | STATISTICS | PROCESS_KILL | DEBUG | PING | STMT_RESET
        | SET_OPTION | RESET_CONNECTION => Some(Shape::One),
        QUERY | PROCESS_INFO | STMT_EXECUTE | STMT_BULK_EXECUTE => Some(Shape::Results),
        STMT_PREPARE => Some(Shape::Prepared),
        STMT_FETCH => Some(Shape::Rows),
        FIELD_LIST => Some(Shape::Definitions),
        _ => None,
    }
}

/// Whether the command may begin a transaction or read data, so that it must pass the gate.
#[inline]
pub const fn begins(command: u8) -> bool {
    !matches!(
        command,
        QUIT | STATISTICS
            | PROCESS_INFO
            | PROCESS_KILL
            | DEBUG
            | PING
            | STMT_SEND_LONG_DATA
            | STMT_CLOSE
            | STMT_RESET
            | SET_OPTION
    )
}

/// Whether the command makes a replication session of it.
#[inline]
pub const fn replicates(command: u8) -> bool {
    matches!(command, BINLOG_DUMP | BINLOG_DUMP_GTID | TABLE_DUMP | REGISTER_REPLICA)
}
