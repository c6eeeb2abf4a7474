//! What the proxy says itself when it cannot go on: ERR packets, ready to be sent.

use bytes::BytesMut;

use crate::mysql::frame;
use crate::mysql::reply::Error;

/// Appends an ERR packet and counts `sequence` on.
pub fn error(out: &mut BytesMut, sequence: &mut u8, code: u16, state: &str, message: &str) {
    let mut payload = BytesMut::new();
    Error { code, state: state.as_bytes(), message: message.as_bytes() }.encode(&mut payload);
    frame::put(out, sequence, &payload);
}

/// The statement was cancelled before it was sent anywhere.
pub fn query_interrupted(out: &mut BytesMut, sequence: &mut u8) {
    let message = "Query execution was interrupted";
    error(out, sequence, 1317, "70100", message);
}

/// The statement was held for as long as the limits allow; drivers know this code as one to try again.
pub fn held_too_long(out: &mut BytesMut, sequence: &mut u8) {
    let message = "Lock wait timeout exceeded; the database did not become available in time, and the statement was \
                   not executed; try restarting transaction";
    error(out, sequence, 1205, "HY000", message);
}

/// The session ends because an operator wants it or because it cannot move; clients may connect again.
pub fn terminating(out: &mut BytesMut, sequence: &mut u8) {
    error(out, sequence, 1053, "08S01", "Server shutdown in progress");
}

/// The client came without TLS, and has to come with it.
pub fn insecure(out: &mut BytesMut, sequence: &mut u8) {
    let message = "Connections using insecure transport are prohibited while --require_secure_transport=ON.";
    error(out, sequence, 3159, "HY000", message);
}

/// The client broke the protocol, or the server did.
pub fn malformed(out: &mut BytesMut, sequence: &mut u8) {
    error(out, sequence, 1835, "HY000", "Malformed communication packet.");
}

/// The command is not carried.
pub fn unknown_command(out: &mut BytesMut, sequence: &mut u8) {
    error(out, sequence, 1047, "08S01", "Unknown command");
}

/// Replicas connect to the server itself.
pub fn replication(out: &mut BytesMut, sequence: &mut u8) {
    let message = "Headgate does not carry replication; connect the replica to the server itself";
    error(out, sequence, 1235, "42000", message);
}

/// The client names a prepared statement that is not there.
pub fn unknown_statement(out: &mut BytesMut, sequence: &mut u8) {
    let message = "Unknown prepared statement handler given to mysqld_stmt_execute";
    error(out, sequence, 1243, "HY000", message);
}

/// The client names a session that is not there.
pub fn unknown_thread(out: &mut BytesMut, sequence: &mut u8, thread: u64) {
    let message = format!("Unknown thread id: {thread}");
    error(out, sequence, 1094, "HY000", &message);
}
