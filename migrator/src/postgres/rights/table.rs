//! Every right that the migrator's roles need on PostgreSQL, with the versions that have it so.

use std::ops::RangeInclusive;

use crate::rights::{Need, Side};

/// How it is found out whether the session's role has a right.
#[derive(Clone, Copy)]
pub(super) enum Held {
    /// This SQL is true.
    Sql(&'static str),
    /// It is done: servers of services give some rights otherwise than their catalogues tell.
    Tried(Deed),
}

/// What is tried, and undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A replication connection is opened.
    Replicate,
    /// A parameter is set to a value.
    Set(&'static str, &'static str),
}

/// Who can grant a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Who owns the database and may create roles.
    Anybody,
    /// On a service, its own statement for replication.
    Replication,
    /// On a service, its own statement for `session_replication_role`.
    ReplicaRole,
    /// On a service, its own statement for replication origins.
    Origins,
    /// A superuser: on a service, nobody.
    Superuser,
}

/// One right of one side.
pub(super) struct Right {
    pub(super) side: Side,
    pub(super) check: &'static str,
    pub(super) what: &'static str,
    pub(super) without: &'static str,
    pub(super) need: Need,
    pub(super) held: Held,
    /// Who can grant it.
    pub(super) by: By,
    /// The major versions of servers that have it in this form.
    pub(super) versions: RangeInclusive<i32>,
    /// What grants it; `{user}`, `{user_text}` and `{database}` are replaced.
    pub(super) statement: &'static str,
}

const ALL: RangeInclusive<i32> = 0..=i32::MAX;
/// Until this version only superusers may set some parameters.
const OLD: RangeInclusive<i32> = 0..=14;
/// From this version on a role can be granted the right to set a parameter.
pub(super) const NEW: RangeInclusive<i32> = 15..=i32::MAX;
pub(super) const RIGHTS: &[Right] = &[
    Right {
        side: Side::Source,
        check: "source_reachable",
        what: "connect to the database",
        without: "the precheck cannot look at the source",
        need: Need::Where("not everybody may connect, nor a role that owns a table"),
        held: Held::Sql("has_database_privilege(current_database(), 'CONNECT')"),
        by: By::Anybody,
        versions: ALL,
        statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
    },
    Right {
        side: Side::Source,
        check: "source_rights",
        what: "read the change stream",
        without: "no migration starts",
        need: Need::Always,
        held: Held::Tried(Deed::Replicate),
        by: By::Replication,
        versions: ALL,
        statement: "ALTER ROLE {user} REPLICATION",
    },
    Right {
        side: Side::Source,
        check: "source_rights",
        what: "create the publication, and the schema headgate with the function that refuses writes",
        without: "no migration starts",
        need: Need::Always,
        held: Held::Sql("has_database_privilege(current_database(), 'CREATE')"),
        by: By::Anybody,
        versions: ALL,
        statement: "GRANT CREATE ON DATABASE {database} TO {user}",
    },
    Right {
        side: Side::Source,
        check: "source_rights",
        what: "read, publish and fence the tables as a member of the roles that own them",
        without: "no migration starts",
        need: Need::Always,
        held: Held::Sql(
            "NOT EXISTS (SELECT FROM {moving} AND c.relkind IN ('r', 'p') AND NOT pg_has_role(c.relowner, 'USAGE'))",
        ),
        by: By::Anybody,
        versions: ALL,
        statement: "DO $headgate$ DECLARE name text; BEGIN
    FOR name IN SELECT DISTINCT o.rolname FROM {moving} AND c.relkind IN ('r', 'p') AND NOT o.rolsuper
    LOOP EXECUTE format('GRANT %I TO %s', name, {user_text}); END LOOP;
END $headgate$",
    },
    Right {
        side: Side::Source,
        check: "source_rights",
        what: "find what is in the schemas",
        without: "no migration starts",
        need: Need::Always,
        held: Held::Sql(
            "NOT EXISTS (SELECT FROM {moving} AND c.relkind IN ('r', 'p', 'S') AND NOT has_schema_privilege(n.oid, 'USAGE'))",
        ),
        by: By::Anybody,
        versions: ALL,
        statement: "DO $headgate$ DECLARE name text; BEGIN
    FOR name IN SELECT DISTINCT n.nspname FROM {moving} AND c.relkind IN ('r', 'p', 'S')
        AND NOT has_schema_privilege({name}, n.oid, 'USAGE')
    LOOP EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', name, {user_text}); END LOOP;
END $headgate$",
    },
    Right {
        side: Side::Source,
        check: "source_rights",
        what: "read sequences that other roles own",
        without: "no migration starts",
        need: Need::Always,
        held: Held::Sql(
            "NOT EXISTS (SELECT FROM {moving} AND c.relkind = 'S' AND NOT has_table_privilege(c.oid, 'SELECT'))",
        ),
        by: By::Anybody,
        versions: ALL,
        statement: "DO $headgate$ DECLARE name text; BEGIN
    FOR name IN SELECT format('%I.%I', n.nspname, c.relname) FROM {moving} AND c.relkind = 'S'
        AND NOT has_table_privilege({name}, c.oid, 'SELECT')
    LOOP EXECUTE format('GRANT SELECT ON SEQUENCE %s TO %s', name, {user_text}); END LOOP;
END $headgate$",
    },
    Right {
        side: Side::Source,
        check: "source_sessions",
        what: "see what other sessions do",
        without: "it cannot be known who writes around Headgate or past the fence, and no migration starts",
        need: Need::Always,
        held: Held::Sql("pg_has_role('pg_read_all_stats', 'USAGE')"),
        by: By::Anybody,
        versions: ALL,
        statement: "GRANT pg_read_all_stats TO {user}",
    },
    Right {
        side: Side::Source,
        check: "source_passwords",
        what: "read the verifiers of passwords",
        without: "every role whose password Headgate does not know from its configuration is unproven, which blocks the cutover",
        need: Need::Helpful,
        held: Held::Sql("has_table_privilege('pg_catalog.pg_authid', 'SELECT')"),
        by: By::Superuser,
        versions: ALL,
        statement: "GRANT SELECT ON pg_catalog.pg_authid TO {user}",
    },
    Right {
        side: Side::Source,
        check: "source_user_mappings",
        what: "read the options of user mappings",
        without: "it cannot be known whether they arrive, which no check passes unless it is waived",
        need: Need::Where("other roles have user mappings"),
        held: Held::Sql(
            "has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT') OR NOT EXISTS (
            SELECT FROM (SELECT m.umuser, m.umoptions, m.usename, s.srvowner, s.oid AS umserver
                FROM pg_catalog.pg_user_mappings m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid) t
            WHERE {hidden_options})",
        ),
        by: By::Superuser,
        versions: ALL,
        statement: "GRANT SELECT ON pg_catalog.pg_user_mapping TO {user}",
    },
    Right {
        side: Side::Source,
        check: "source_origins",
        what: "see whether other replication writes to the source",
        without: "this cannot be known; such writes pass the fence",
        need: Need::Helpful,
        held: Held::Sql("has_table_privilege('pg_catalog.pg_replication_origin_status', 'SELECT')"),
        by: By::Superuser,
        versions: ALL,
        statement: "GRANT SELECT ON pg_catalog.pg_replication_origin_status TO {user}",
    },
    Right {
        side: Side::Source,
        check: "source_origins",
        what: "call what shows it",
        without: "this cannot be known; such writes pass the fence",
        need: Need::Helpful,
        held: Held::Sql("has_function_privilege('pg_catalog.pg_show_replication_origin_status()', 'EXECUTE')"),
        by: By::Superuser,
        versions: ALL,
        statement: "GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status() TO {user}",
    },
    Right {
        side: Side::Source,
        check: "deadlock_timeout",
        what: "make autovacuum give way to the fence at once",
        without: "the fence may wait a second where autovacuum works on a table",
        need: Need::Helpful,
        held: Held::Tried(Deed::Set("deadlock_timeout", "5ms")),
        by: By::Superuser,
        versions: NEW,
        statement: "GRANT SET ON PARAMETER deadlock_timeout TO {user}",
    },
    Right {
        side: Side::Source,
        check: "row_security",
        what: "read every row",
        without: "no migration starts",
        need: Need::Where("a table has FORCE ROW LEVEL SECURITY"),
        held: Held::Sql("(SELECT rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user)"),
        by: By::Superuser,
        versions: ALL,
        statement: "ALTER ROLE {user} BYPASSRLS",
    },
    Right {
        side: Side::Source,
        check: "source_way_back",
        what: "apply what comes back without firing triggers",
        without: "the source's triggers are disabled and its foreign keys dropped after the switch, until one goes back",
        need: Need::Helpful,
        held: Held::Tried(Deed::Set("session_replication_role", "replica")),
        by: By::ReplicaRole,
        versions: ALL,
        statement: "GRANT SET ON PARAMETER session_replication_role TO {user}",
    },
    Right {
        side: Side::Target,
        check: "target_rights",
        what: "create everything in the database, and give it the settings, privileges and owner that the source's has",
        without: "no migration starts",
        need: Need::Always,
        held: Held::Sql("has_database_privilege(current_database(), 'CREATE')"),
        by: By::Anybody,
        versions: NEW,
        statement: "ALTER DATABASE {database} OWNER TO {user}",
    },
    Right {
        side: Side::Target,
        check: "target_roles",
        what: "create the roles that are missing, and carry over their memberships and settings",
        without: "no migration starts where a role is missing",
        need: Need::Always,
        held: Held::Sql("(SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user)"),
        by: By::Anybody,
        versions: NEW,
        statement: "ALTER ROLE {user} CREATEROLE",
    },
    Right {
        side: Side::Target,
        check: "schema_trial",
        what: "try the schema in a database of its own, and give the target's database its owner",
        without: "what the target refuses of the schema cannot be known, and no migration starts where the owner is another",
        need: Need::Helpful,
        held: Held::Sql("(SELECT rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user)"),
        by: By::Anybody,
        versions: NEW,
        statement: "ALTER ROLE {user} CREATEDB",
    },
    Right {
        side: Side::Target,
        check: "target_triggers",
        what: "apply changes without firing triggers",
        without: "the target's triggers are disabled and its foreign keys dropped until the switch",
        need: Need::Helpful,
        held: Held::Tried(Deed::Set("session_replication_role", "replica")),
        by: By::ReplicaRole,
        versions: NEW,
        statement: "GRANT SET ON PARAMETER session_replication_role TO {user}",
    },
    Right {
        side: Side::Target,
        check: "target_way_back",
        what: "read the change stream of the way back",
        without: "a cutover has no way back",
        need: Need::Helpful,
        held: Held::Tried(Deed::Replicate),
        by: By::Replication,
        versions: NEW,
        statement: "ALTER ROLE {user} REPLICATION",
    },
    Right {
        side: Side::Target,
        check: "target_way_back",
        what: "see what other sessions do when one goes back",
        without: "a cutover has no way back",
        need: Need::Helpful,
        held: Held::Sql("pg_has_role('pg_read_all_stats', 'USAGE')"),
        by: By::Anybody,
        versions: NEW,
        statement: "GRANT pg_read_all_stats TO {user}",
    },
    Right {
        side: Side::Target,
        check: "target_origins",
        what: "mark what it applies as not the target's own",
        without: "who replicates from the target with origin = none gets what is applied there, too",
        need: Need::Helpful,
        held: Held::Sql(
            "(has_function_privilege('pg_catalog.pg_replication_origin_create(text)', 'EXECUTE')
              AND has_function_privilege('pg_catalog.pg_replication_origin_oid(text)', 'EXECUTE')
              AND has_function_privilege('pg_catalog.pg_replication_origin_session_setup(text)', 'EXECUTE')
              AND has_function_privilege('pg_catalog.pg_replication_origin_drop(text)', 'EXECUTE'))",
        ),
        by: By::Origins,
        versions: NEW,
        statement: "GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_create(text) TO {user};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_oid(text) TO {user};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_session_setup(text) TO {user};
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_drop(text) TO {user}",
    },
    Right {
        side: Side::Target,
        check: "target_passwords",
        what: "compare the verifiers of passwords",
        without: "every role whose password Headgate does not know from its configuration is unproven, which blocks the cutover",
        need: Need::Helpful,
        held: Held::Sql("has_table_privilege('pg_catalog.pg_authid', 'SELECT')"),
        by: By::Superuser,
        versions: NEW,
        statement: "GRANT SELECT ON pg_catalog.pg_authid TO {user}",
    },
    Right {
        side: Side::Target,
        check: "target_user_mappings",
        what: "read the options of user mappings",
        without: "it cannot be known whether they arrive, which no check passes unless it is waived",
        need: Need::Where("other roles have user mappings"),
        held: Held::Sql("has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')"),
        by: By::Superuser,
        versions: NEW,
        statement: "GRANT SELECT ON pg_catalog.pg_user_mapping TO {user}",
    },
    Right {
        side: Side::Target,
        check: "target_row_security",
        what: "write every row",
        without: "no migration starts",
        need: Need::Where("a table has FORCE ROW LEVEL SECURITY"),
        held: Held::Sql("(SELECT rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user)"),
        by: By::Superuser,
        versions: NEW,
        statement: "ALTER ROLE {user} BYPASSRLS",
    },
    Right {
        side: Side::Target,
        check: "target_rights",
        what: "apply changes without firing triggers, which in this version nobody else may be allowed",
        without: "no migration starts",
        need: Need::Always,
        held: Held::Tried(Deed::Set("session_replication_role", "replica")),
        by: By::ReplicaRole,
        versions: OLD,
        statement: "ALTER ROLE {user} SUPERUSER",
    },
];
