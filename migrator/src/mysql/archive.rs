//! What of the schema was read from the source, kept on the target until all of it is built.
