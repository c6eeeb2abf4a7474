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
pub const VIEWS: &[View] = &[
    View { catalogue: "pg_authid", from: "pg_catalog.pg_roles", hides: "false" },
    View {
        catalogue: "pg_user_mapping",
        from: "(SELECT m.umid AS oid, m.umuser, m.srvid AS umserver, m.umoptions, s.srvowner, m.usename
            FROM pg_catalog.pg_user_mappings m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid)",
        hides: HIDDEN_OPTIONS,
    },
];

/// A view, and what tells of a row `t` that it hides a part of it, which is otherwise not to be told from none.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The catalogue that it shows.
    pub catalogue: &'static str,
    /// Itself, in SQL.
    pub from: &'static str,
    /// SQL that is true where a part of the row is hidden.
    pub hides: &'static str,
}

/// Whether the server keeps from us what options a user mapping `t` has: as `pg_user_mappings` decides it.
pub const HIDDEN_OPTIONS: &str = "(t.umoptions IS NULL AND NOT CASE t.umuser WHEN 0 THEN pg_has_role(t.srvowner, 'USAGE')
    ELSE t.usename = current_user AND (pg_has_role(t.srvowner, 'USAGE') OR has_server_privilege(t.umserver, 'USAGE')) END)";
