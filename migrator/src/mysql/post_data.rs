//! Builds the rest of the schema on loaded tables.
