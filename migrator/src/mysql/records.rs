//! Reads and writes the target’s records: what of the schema was built, what of the rows was loaded.
