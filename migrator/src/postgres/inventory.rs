//! The inventory of PostgreSQL's catalogues: what of a database is compared, what is reported, what has no meaning for a
//! migration. A catalogue that is missing here fails a test; a column that is not left out by name is compared.

mod catalogues;

pub use catalogues::INVENTORY;

/// What is done about a class of objects.
#[derive(Clone, Copy, Debug)]
pub enum Treatment {
    /// Its objects are carried, and both sides are compared, column by column.
    Compared(Class),
    /// A check of the precheck reports it: the check's name.
    Reported(&'static str),
    /// It has no meaning for a migration: the reason.
    Meaningless(&'static str),
}

/// How an object is called, the same on both sides.
#[derive(Clone, Copy, Debug)]
pub enum Name {
    /// As the server identifies it.
    Identified,
    /// As this SQL says; `t` is the row.
    Sql(&'static str),
}

/// Which rows belong to what moves.
#[derive(Clone, Copy, Debug)]
pub enum Among {
    /// What users made, and no extension.
    Users,
    /// The same, in a schema that moves; the column that names the schema.
    UsersIn(&'static str),
    /// What belongs to a relation that moves; the column that names the relation.
    Ours(&'static str),
    /// What this SQL says; `t` is the row, `ours` the relations that move, `$1` the schemas asked for, `$2` Headgate's
    /// own roles.
    Sql(&'static str),
}

/// How the rows of a catalogue are compared.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// How an object is called.
    pub name: Name,
    /// Which rows belong to what moves.
    pub among: Among,
    /// A further condition; empty where there is none.
    pub only: &'static str,
    /// SQL of what the server prints of the definition, where columns hold a parsed form; empty where none does.
    pub text: &'static str,
    /// SQL of more values, as arguments of `jsonb_build_object`.
    pub more: &'static str,
    /// Columns that are left out, with the reason; those of the types in [`SKIPPED_TYPES`] are left out anyway.
    pub without: &'static [(&'static str, &'static str)],
    /// What the default privileges are those of, as the first argument of `acldefault`, and the owner's column; empty
    /// where no privileges mean none.
    pub privileges: (&'static str, &'static str),
    /// Why the target may have more of them; empty where it may not.
    pub more_on_target: &'static str,
    /// SQL of the names of what it is a part of, as a `text[]`; a whole is a part of itself. Where the source has none of
    /// them the target may have the part. Empty where nothing is to be said beyond [`Among::Ours`].
    pub part_of: &'static str,
}

/// Types whose values mean nothing on another server, or that the text of the definition has.
pub const SKIPPED_TYPES: &[(&str, &str)] = &[
    ("pg_node_tree", "a parsed form; the text has it"),
    ("xid", "a transaction's number on this server"),
    ("pg_lsn", "a place in this server's log"),
    ("anyarray", "a value that the rows have"),
];

/// What shows everybody the rest of a catalogue that not everybody may read.
pub const VIEWS: &[(&str, &str)] = &[
    ("pg_authid", "pg_catalog.pg_roles"),
    (
        "pg_user_mapping",
        "(SELECT umid AS oid, umuser, srvid AS umserver, umoptions FROM pg_catalog.pg_user_mappings)",
    ),
];
