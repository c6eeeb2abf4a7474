//! The stream of changes: pgoutput's messages (protocol versions 1 to 4) and the replication frames around them.
//!
//! Texts, tuples and values are slices of the message. <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>
