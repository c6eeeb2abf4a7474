//! Every table of `information_schema` and `mysql`, of MySQL from 5.6 on and MariaDB from 10.11 on, and what is done about
//! its rows.

use super::{Among, CLASS, Class, On, Part, Treatment};

const NEVER: (super::Number, super::Number) = ((u16::MAX, 0, 0), (0, 0, 0));
const ALWAYS: (super::Number, super::Number) = ((0, 0, 0), (u16::MAX, 0, 0));
const EVERY: On = on(ALWAYS, ALWAYS);
const MYSQL: On = on(ALWAYS, NEVER);
pub(in crate::mysql) const MARIADB: On = on(NEVER, ALWAYS);
const MYSQL_8: On = on(((8, 0, 0), ALWAYS.1), NEVER);
const MYSQL_9: On = on(((9, 0, 0), ALWAYS.1), NEVER);
/// As long as MySQL kept its dictionary in files, and MariaDB still.
pub(in crate::mysql) const OLD: On = on(((0, 0, 0), (8, 0, 0)), ALWAYS);
pub(in crate::mysql) const OLD_MYSQL: On = on(((0, 0, 0), (8, 0, 0)), NEVER);
/// MariaDB's servers whose view of accounts leaves out what the table behind it has.
const WITH_LOCKS: On = on(NEVER, ((10, 4, 2), ALWAYS.1));
const BUT_OLD_MYSQL: On = on(((8, 0, 0), ALWAYS.1), ALWAYS);

const fn on(mysql: (super::Number, super::Number), mariadb: (super::Number, super::Number)) -> On {
    On { mysql, mariadb }
}

/// Of a table; the columns are those by which it is found and named.
const fn of_relation(
    called: &'static str,
    schema: &'static str,
    relation: &'static str,
    named_by: &'static [&'static str],
) -> Class {
    Class { called, among: Among::Databases(schema), named_by, part: Part::Relation(schema, relation), ..CLASS }
}

const fn of_account(called: &'static str, named_by: &'static [&'static str]) -> Class {
    Class { called, named_by, of_accounts: true, ..CLASS }
}

#[expect(clippy::large_types_passed_by_value, reason = "while it is compiled only")]
const fn compared(class: Class) -> Treatment {
    Treatment::Compared(class)
}

const STATISTIC: &str = "a number that changes with the rows";
const WHEN: &str = "when it was made or changed on this server";
const DERIVED: &str = "derived from other columns";
const CATALOG: &str = "always def";
const PASSWORD: &str = "logins are proved account by account (accounts)";
const OF_SESSION: &str = "what the asking session has";
const OF_GRANTS: &str = "made from the tables of grants, which are compared";
const OF_COLUMNS: &str = "made from COLUMNS, which is compared";
const OF_VIEWS: &str = "made from the view's text, which is compared";
const AT_WORK: &str = "what the server does at this moment";
const STORAGE: &str = "how the engine keeps what TABLES, COLUMNS and STATISTICS tell";
const OF_RELEASE: &str = "the same for everybody who has this release";
const LOG: &str = "a log of this server";
const REPLICATION: &str = "source_replica";
const SETTINGS: &str = "client_settings";
const WHO_GRANTED: (&str, &str) = ("Grantor", "who restores a grant is its grantor");
const GRANTED_WHEN: (&str, &str) = ("Timestamp", WHEN);

/// Every table with the servers that have it and what is done about it.
#[rustfmt::skip]
pub const INVENTORY: &[(&str, On, Treatment)] = &[
    ("information_schema.ADMINISTRABLE_ROLE_AUTHORIZATIONS", MYSQL_8, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.ALL_PLUGINS", MARIADB, Treatment::Reported("plugins")),
    ("information_schema.APPLICABLE_ROLES", BUT_OLD_MYSQL, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.CHARACTER_SETS", EVERY, Treatment::Reported("collations")),
    ("information_schema.CHECK_CONSTRAINTS", BUT_OLD_MYSQL, compared(Class {
        without: &[("CONSTRAINT_CATALOG", CATALOG), ("LEVEL", "whether it was written beside its column")],
        derived: &[("TABLE_NAME", MYSQL_8, "(SELECT t.TABLE_NAME FROM information_schema.TABLE_CONSTRAINTS t
            WHERE t.CONSTRAINT_SCHEMA = c.CONSTRAINT_SCHEMA AND t.CONSTRAINT_NAME = c.CONSTRAINT_NAME
              AND t.CONSTRAINT_TYPE = 'CHECK')")],
        ..of_relation("check", "CONSTRAINT_SCHEMA", "TABLE_NAME", &["CONSTRAINT_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"])
    })),
    ("information_schema.CLIENT_STATISTICS", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.COLLATIONS", EVERY, Treatment::Reported("collations")),
    ("information_schema.COLLATION_CHARACTER_SET_APPLICABILITY", EVERY, Treatment::Reported("collations")),
    ("information_schema.COLUMNS", EVERY, compared(Class {
        without: &[
            ("TABLE_CATALOG", CATALOG),
            ("PRIVILEGES", OF_SESSION),
            ("COLUMN_KEY", "derived from STATISTICS"),
        ],
        ..of_relation("column", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME"])
    })),
    ("information_schema.COLUMNS_EXTENSIONS", MYSQL_8, compared(Class {
        without: &[("TABLE_CATALOG", CATALOG)],
        ..of_relation("column", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME"])
    })),
    ("information_schema.COLUMN_PRIVILEGES", EVERY, Treatment::Meaningless(OF_GRANTS)),
    ("information_schema.COLUMN_STATISTICS", MYSQL_8, compared(Class {
        called: "histogram",
        among: Among::Databases("SCHEMA_NAME"),
        named_by: &["SCHEMA_NAME", "TABLE_NAME", "COLUMN_NAME"],
        without: &[("HISTOGRAM", "its buckets tell of the rows; how it was asked for is compared")],
        derived: &[
            ("BUCKETS", MYSQL_8, "JSON_EXTRACT(c.HISTOGRAM, '$.\"number-of-buckets-specified\"')"),
            ("AUTO_UPDATE", MYSQL_8, "JSON_EXTRACT(c.HISTOGRAM, '$.\"auto-update\"')"),
        ],
        ..CLASS
    })),
    ("information_schema.ENABLED_ROLES", BUT_OLD_MYSQL, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.ENGINES", EVERY, Treatment::Reported("engines")),
    ("information_schema.EVENTS", EVERY, compared(Class {
        called: "event",
        among: Among::Databases("EVENT_SCHEMA"),
        named_by: &["EVENT_SCHEMA", "EVENT_NAME"],
        part: Part::Event("EVENT_SCHEMA", "EVENT_NAME"),
        without: &[
            ("EVENT_CATALOG", CATALOG),
            ("CREATED", WHEN),
            ("LAST_ALTERED", WHEN),
            ("LAST_EXECUTED", "it runs on the source"),
            ("ORIGINATOR", "the server that it was made on"),
        ],
        apart: &[("STATUS", "events run on the target after the switch only")],
        shown_to: "EVENT",
        ..CLASS
    })),
    ("information_schema.FILES", EVERY, Treatment::Reported("tablespaces")),
    ("information_schema.GEOMETRY_COLUMNS", MARIADB, compared(Class {
        without: &[
            ("F_TABLE_CATALOG", CATALOG),
            ("G_TABLE_CATALOG", CATALOG),
            ("G_TABLE_SCHEMA", DERIVED),
            ("G_TABLE_NAME", DERIVED),
            ("G_GEOMETRY_COLUMN", DERIVED),
        ],
        alone: "MySQL has it as SRS_ID in COLUMNS; the precheck names those that it lacks",
        ..of_relation("column", "F_TABLE_SCHEMA", "F_TABLE_NAME", &["F_TABLE_SCHEMA", "F_TABLE_NAME", "F_GEOMETRY_COLUMN"])
    })),
    ("information_schema.GLOBAL_STATUS", OLD, Treatment::Meaningless(AT_WORK)),
    ("information_schema.GLOBAL_VARIABLES", OLD, Treatment::Reported(SETTINGS)),
    ("information_schema.INDEX_STATISTICS", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_BUFFER_PAGE", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_BUFFER_PAGE_LRU", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_BUFFER_POOL_STATS", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_CACHED_INDEXES", MYSQL_8, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_CMP", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_CMPMEM", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_CMPMEM_RESET", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_CMP_PER_INDEX", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_CMP_PER_INDEX_RESET", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_CMP_RESET", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_COLUMNS", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_DATAFILES", MYSQL_8, Treatment::Reported("tablespaces")),
    ("information_schema.INNODB_FIELDS", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_FOREIGN", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_FOREIGN_COLS", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_FT_BEING_DELETED", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_FT_CONFIG", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_FT_DEFAULT_STOPWORD", EVERY, Treatment::Meaningless(OF_RELEASE)),
    ("information_schema.INNODB_FT_DELETED", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_FT_INDEX_CACHE", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_FT_INDEX_TABLE", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_INDEXES", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_LOCKS", OLD, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_LOCK_WAITS", OLD, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_METRICS", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_SESSION_TEMP_TABLESPACES", MYSQL_8, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_SYS_COLUMNS", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_DATAFILES", OLD_MYSQL, Treatment::Reported("tablespaces")),
    ("information_schema.INNODB_SYS_FIELDS", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_FOREIGN", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_FOREIGN_COLS", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_INDEXES", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_TABLES", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_TABLESPACES", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_TABLESTATS", OLD, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_SYS_VIRTUAL", MARIADB, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_TABLES", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_TABLESPACES", MYSQL_8, Treatment::Reported("tablespaces")),
    ("information_schema.INNODB_TABLESPACES_BRIEF", MYSQL_8, Treatment::Reported("tablespaces")),
    ("information_schema.INNODB_TABLESPACES_ENCRYPTION", MARIADB, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_TABLESTATS", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.INNODB_TEMP_TABLE_INFO", MYSQL_8, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_TRX", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.INNODB_VIRTUAL", MYSQL_8, Treatment::Meaningless(STORAGE)),
    ("information_schema.JSON_DUALITY_VIEWS", MYSQL_9, Treatment::Meaningless(OF_VIEWS)),
    ("information_schema.JSON_DUALITY_VIEW_COLUMNS", MYSQL_9, Treatment::Meaningless(OF_VIEWS)),
    ("information_schema.JSON_DUALITY_VIEW_LINKS", MYSQL_9, Treatment::Meaningless(OF_VIEWS)),
    ("information_schema.JSON_DUALITY_VIEW_TABLES", MYSQL_9, Treatment::Meaningless(OF_VIEWS)),
    ("information_schema.KEYWORDS", BUT_OLD_MYSQL, Treatment::Reported("reserved_words")),
    ("information_schema.KEY_CACHES", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.KEY_COLUMN_USAGE", EVERY, compared(Class {
        without: &[("CONSTRAINT_CATALOG", CATALOG), ("TABLE_CATALOG", CATALOG), ("CONSTRAINT_SCHEMA", "the table's")],
        ..of_relation("constraint", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"])
    })),
    ("information_schema.LIBRARIES", MYSQL_9, compared(Class {
        called: "library",
        among: Among::Databases("LIBRARY_SCHEMA"),
        named_by: &["LIBRARY_SCHEMA", "LIBRARY_NAME"],
        without: &[("LIBRARY_CATALOG", CATALOG), ("CREATED", WHEN), ("LAST_ALTERED", WHEN), ("CREATOR", "who restores it is its creator")],
        shown_to: "SHOW_ROUTINE",
        ..CLASS
    })),
    ("information_schema.OPTIMIZER_TRACE", EVERY, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.PARAMETERS", EVERY, compared(Class {
        called: "routine",
        among: Among::Databases("SPECIFIC_SCHEMA"),
        named_by: &["SPECIFIC_SCHEMA", "SPECIFIC_NAME"],
        part: Part::Routine("SPECIFIC_SCHEMA", "SPECIFIC_NAME"),
        without: &[("SPECIFIC_CATALOG", CATALOG)],
        ..CLASS
    })),
    ("information_schema.PARTITIONS", EVERY, compared(Class {
        without: &[
            ("TABLE_CATALOG", CATALOG),
            ("TABLE_ROWS", STATISTIC),
            ("AVG_ROW_LENGTH", STATISTIC),
            ("DATA_LENGTH", STATISTIC),
            ("MAX_DATA_LENGTH", STATISTIC),
            ("INDEX_LENGTH", STATISTIC),
            ("DATA_FREE", STATISTIC),
            ("CREATE_TIME", WHEN),
            ("UPDATE_TIME", WHEN),
            ("CHECK_TIME", WHEN),
            ("CHECKSUM", STATISTIC),
            ("TABLESPACE_NAME", "everything goes to files of its own; the precheck says so (tablespaces)"),
        ],
        only: "PARTITION_NAME IS NOT NULL",
        ..of_relation("partition", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME", "PARTITION_NAME"])
    })),
    ("information_schema.PLUGINS", EVERY, Treatment::Reported("plugins")),
    ("information_schema.PROCESSLIST", EVERY, Treatment::Meaningless(AT_WORK)),
    ("information_schema.PROFILING", EVERY, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.REFERENTIAL_CONSTRAINTS", EVERY, compared(Class {
        without: &[
            ("CONSTRAINT_CATALOG", CATALOG),
            ("UNIQUE_CONSTRAINT_CATALOG", CATALOG),
            ("UNIQUE_CONSTRAINT_SCHEMA", "KEY_COLUMN_USAGE has it"),
            ("UNIQUE_CONSTRAINT_NAME", DERIVED),
        ],
        ..of_relation("foreign key", "CONSTRAINT_SCHEMA", "TABLE_NAME", &["CONSTRAINT_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"])
    })),
    ("information_schema.RESOURCE_GROUPS", MYSQL_8, Treatment::Reported("resource_groups")),
    ("information_schema.ROLE_COLUMN_GRANTS", MYSQL_8, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.ROLE_ROUTINE_GRANTS", MYSQL_8, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.ROLE_TABLE_GRANTS", MYSQL_8, Treatment::Meaningless(OF_SESSION)),
    ("information_schema.ROUTINES", EVERY, compared(Class {
        called: "routine",
        among: Among::Databases("ROUTINE_SCHEMA"),
        named_by: &["ROUTINE_SCHEMA", "ROUTINE_NAME"],
        part: Part::Routine("ROUTINE_SCHEMA", "ROUTINE_NAME"),
        without: &[
            ("ROUTINE_CATALOG", CATALOG),
            ("SPECIFIC_NAME", "the same as its name"),
            ("CREATED", WHEN),
            ("LAST_ALTERED", WHEN),
        ],
        shown_to: "SHOW_ROUTINE",
        ..CLASS
    })),
    ("information_schema.ROUTINE_LIBRARIES", MYSQL_9, compared(Class {
        called: "routine",
        among: Among::Databases("ROUTINE_SCHEMA"),
        named_by: &["ROUTINE_SCHEMA", "ROUTINE_NAME"],
        part: Part::Routine("ROUTINE_SCHEMA", "ROUTINE_NAME"),
        without: &[("ROUTINE_CATALOG", CATALOG), ("LIBRARY_CATALOG", CATALOG)],
        ..CLASS
    })),
    ("information_schema.SCHEMATA", EVERY, compared(Class {
        called: "database",
        among: Among::Databases("SCHEMA_NAME"),
        named_by: &["SCHEMA_NAME"],
        without: &[("CATALOG_NAME", CATALOG)],
        apart: &[("DEFAULT_ENCRYPTION", "a decision about the target's disks, not about what is on them")],
        ..CLASS
    })),
    ("information_schema.SCHEMATA_EXTENSIONS", MYSQL_8, compared(Class {
        called: "database",
        among: Among::Databases("SCHEMA_NAME"),
        only: "OPTIONS <> ''",
        named_by: &["SCHEMA_NAME"],
        without: &[("CATALOG_NAME", CATALOG)],
        apart: &[("OPTIONS", "a database that is read only cannot be filled; the precheck names it (read_only_databases)")],
        ..CLASS
    })),
    ("information_schema.SCHEMA_PRIVILEGES", EVERY, Treatment::Meaningless(OF_GRANTS)),
    ("information_schema.SESSION_STATUS", OLD, Treatment::Meaningless(AT_WORK)),
    ("information_schema.SESSION_VARIABLES", OLD, Treatment::Reported(SETTINGS)),
    ("information_schema.SPATIAL_REF_SYS", MARIADB, Treatment::Meaningless(OF_RELEASE)),
    ("information_schema.SQL_FUNCTIONS", MARIADB, Treatment::Meaningless(OF_RELEASE)),
    ("information_schema.STATISTICS", EVERY, compared(Class {
        without: &[
            ("TABLE_CATALOG", CATALOG),
            ("CARDINALITY", STATISTIC),
            ("COMMENT", "whether MyISAM has it switched off"),
            ("INDEX_SCHEMA", "the table's"),
            ("PACKED", "how MyISAM keeps it"),
        ],
        ..of_relation("index", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME", "INDEX_NAME"])
    })),
    ("information_schema.ST_GEOMETRY_COLUMNS", MYSQL_8, Treatment::Meaningless(OF_COLUMNS)),
    ("information_schema.ST_SPATIAL_REFERENCE_SYSTEMS", MYSQL_8, compared(Class {
        called: "spatial reference system",
        // The numbers of the EPSG and of MySQL itself are reserved, and come with the release.
        only: "SRS_ID NOT BETWEEN 0 AND 32767 AND SRS_ID NOT BETWEEN 60000000 AND 69999999",
        named_by: &["SRS_ID"],
        more_on_target: "what nobody names harms nobody",
        ..CLASS
    })),
    ("information_schema.ST_UNITS_OF_MEASURE", MYSQL_8, Treatment::Meaningless(OF_RELEASE)),
    ("information_schema.SYSTEM_VARIABLES", MARIADB, Treatment::Reported(SETTINGS)),
    ("information_schema.TABLES", EVERY, compared(Class {
        without: &[
            ("TABLE_CATALOG", CATALOG),
            ("VERSION", "how the file is written"),
            ("TABLE_ROWS", STATISTIC),
            ("AVG_ROW_LENGTH", STATISTIC),
            ("DATA_LENGTH", STATISTIC),
            ("MAX_DATA_LENGTH", STATISTIC),
            ("INDEX_LENGTH", STATISTIC),
            ("MAX_INDEX_LENGTH", STATISTIC),
            ("DATA_FREE", STATISTIC),
            ("AUTO_INCREMENT", "a counter, which is set past the source's at the switch"),
            ("CREATE_TIME", WHEN),
            ("UPDATE_TIME", WHEN),
            ("CHECK_TIME", WHEN),
            ("CHECKSUM", STATISTIC),
            ("TEMPORARY", "of the asking session"),
        ],
        ..of_relation("table", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME"])
    })),
    ("information_schema.TABLESPACES", OLD, Treatment::Reported("tablespaces")),
    ("information_schema.TABLESPACES_EXTENSIONS", MYSQL_8, Treatment::Reported("tablespaces")),
    ("information_schema.TABLES_EXTENSIONS", MYSQL_8, compared(Class {
        without: &[("TABLE_CATALOG", CATALOG)],
        ..of_relation("table", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME"])
    })),
    ("information_schema.TABLE_CONSTRAINTS", EVERY, compared(Class {
        without: &[("CONSTRAINT_CATALOG", CATALOG), ("CONSTRAINT_SCHEMA", "the table's")],
        ..of_relation("constraint", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"])
    })),
    ("information_schema.TABLE_CONSTRAINTS_EXTENSIONS", MYSQL_8, compared(Class {
        without: &[("CONSTRAINT_CATALOG", CATALOG)],
        ..of_relation("constraint", "CONSTRAINT_SCHEMA", "TABLE_NAME", &["CONSTRAINT_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME"])
    })),
    ("information_schema.TABLE_PRIVILEGES", EVERY, Treatment::Meaningless(OF_GRANTS)),
    ("information_schema.TABLE_STATISTICS", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.THREAD_POOL_GROUPS", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.THREAD_POOL_QUEUES", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.THREAD_POOL_STATS", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.THREAD_POOL_WAITS", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.TRIGGERS", EVERY, compared(Class {
        called: "trigger",
        among: Among::Databases("TRIGGER_SCHEMA"),
        named_by: &["TRIGGER_SCHEMA", "TRIGGER_NAME"],
        without: &[("TRIGGER_CATALOG", CATALOG), ("EVENT_OBJECT_CATALOG", CATALOG), ("CREATED", WHEN)],
        shown_to: "TRIGGER",
        later: "triggers come with the switch, and are created and dropped once after the load",
        ..CLASS
    })),
    ("information_schema.USER_ATTRIBUTES", MYSQL_8, Treatment::Meaningless("mysql.user has it")),
    ("information_schema.USER_PRIVILEGES", EVERY, Treatment::Meaningless(OF_GRANTS)),
    ("information_schema.USER_STATISTICS", MARIADB, Treatment::Meaningless(AT_WORK)),
    ("information_schema.VIEWS", EVERY, compared(Class {
        without: &[("TABLE_CATALOG", CATALOG), ("IS_UPDATABLE", DERIVED)],
        shown_to: "SHOW VIEW",
        ..of_relation("view", "TABLE_SCHEMA", "TABLE_NAME", &["TABLE_SCHEMA", "TABLE_NAME"])
    })),
    ("information_schema.VIEW_ROUTINE_USAGE", MYSQL_8, Treatment::Meaningless(OF_VIEWS)),
    ("information_schema.VIEW_TABLE_USAGE", MYSQL_8, Treatment::Meaningless(OF_VIEWS)),
    ("information_schema.user_variables", MARIADB, Treatment::Meaningless(OF_SESSION)),
    ("mysql.column_stats", MARIADB, Treatment::Reported("table_statistics")),
    ("mysql.columns_priv", EVERY, compared(Class {
        among: Among::Databases("Db"),
        without: &[GRANTED_WHEN],
        ..of_account("grants of", &["User", "Host"])
    })),
    ("mysql.component", MYSQL_8, Treatment::Reported("plugins")),
    ("mysql.db", EVERY, compared(Class {
        among: Among::Patterns("Db"),
        ..of_account("grants of", &["User", "Host"])
    })),
    ("mysql.default_roles", MYSQL_8, compared(Class {
        alone: "MariaDB has it as default_role of mysql.user",
        ..of_account("default roles of", &["USER", "HOST"])
    })),
    ("mysql.engine_cost", MYSQL_8, Treatment::Reported("optimizer_costs")),
    ("mysql.event", OLD, Treatment::Meaningless("EVENTS shows it")),
    ("mysql.func", EVERY, Treatment::Reported("plugins")),
    ("mysql.general_log", EVERY, Treatment::Meaningless(LOG)),
    ("mysql.global_grants", MYSQL_8, compared(Class {
        alone: "MariaDB has none of these privileges",
        ..of_account("grants of", &["USER", "HOST"])
    })),
    ("mysql.global_priv", MARIADB, compared(Class {
        without: &[
            ("Priv.password_last_changed", WHEN),
            ("Priv.version_id", "the release that wrote it"),
        ],
        apart: &[
            ("Priv.auth_or", PASSWORD),
            ("Priv.authentication_string", PASSWORD),
            ("Priv.plugin", PASSWORD),
        ],
        alone: "MySQL has it in mysql.user",
        ..of_account("account", &["User", "Host"])
    })),
    ("mysql.gtid_executed", MYSQL_8, Treatment::Meaningless("the position that is followed")),
    ("mysql.gtid_slave_pos", MARIADB, Treatment::Reported(REPLICATION)),
    ("mysql.help_category", EVERY, Treatment::Meaningless(OF_RELEASE)),
    ("mysql.help_keyword", EVERY, Treatment::Meaningless(OF_RELEASE)),
    ("mysql.help_relation", EVERY, Treatment::Meaningless(OF_RELEASE)),
    ("mysql.help_topic", EVERY, Treatment::Meaningless(OF_RELEASE)),
    ("mysql.index_stats", MARIADB, Treatment::Reported("table_statistics")),
    ("mysql.innodb_index_stats", EVERY, Treatment::Meaningless("made anew by ANALYZE after the load")),
    ("mysql.innodb_table_stats", EVERY, Treatment::Meaningless("made anew by ANALYZE after the load")),
    ("mysql.ndb_binlog_index", MYSQL, Treatment::Meaningless("NDB Cluster's, which is not moved (engines)")),
    ("mysql.password_history", MYSQL_8, Treatment::Reported("password_history")),
    ("mysql.plugin", EVERY, Treatment::Reported("plugins")),
    ("mysql.proc", OLD, Treatment::Meaningless("ROUTINES and PARAMETERS show it")),
    ("mysql.procs_priv", EVERY, compared(Class {
        among: Among::Databases("Db"),
        without: &[GRANTED_WHEN, WHO_GRANTED],
        ..of_account("grants of", &["User", "Host"])
    })),
    ("mysql.proxies_priv", EVERY, compared(Class {
        without: &[GRANTED_WHEN, WHO_GRANTED],
        ..of_account("proxies of", &["User", "Host"])
    })),
    ("mysql.replication_asynchronous_connection_failover", MYSQL_8, Treatment::Reported(REPLICATION)),
    ("mysql.replication_asynchronous_connection_failover_managed", MYSQL_8, Treatment::Reported(REPLICATION)),
    ("mysql.replication_group_configuration_version", MYSQL_8, Treatment::Reported(REPLICATION)),
    ("mysql.replication_group_member_actions", MYSQL_8, Treatment::Reported(REPLICATION)),
    ("mysql.role_edges", MYSQL_8, compared(of_account("roles of", &["TO_USER", "TO_HOST"]))),
    ("mysql.roles_mapping", MARIADB, compared(Class {
        renamed: &[("Role", "FROM_USER"), ("Admin_option", "WITH_ADMIN_OPTION")],
        counterpart: "mysql.role_edges",
        ..of_account("roles of", &["User", "Host"])
    })),
    ("mysql.server_cost", MYSQL_8, Treatment::Reported("optimizer_costs")),
    ("mysql.servers", EVERY, compared(Class {
        called: "server",
        named_by: &["Server_name"],
        more_on_target: "what nobody names harms nobody",
        ..CLASS
    })),
    ("mysql.slave_master_info", MYSQL, Treatment::Reported(REPLICATION)),
    ("mysql.slave_relay_log_info", MYSQL, Treatment::Reported(REPLICATION)),
    ("mysql.slave_worker_info", MYSQL, Treatment::Reported(REPLICATION)),
    ("mysql.slow_log", EVERY, Treatment::Meaningless(LOG)),
    ("mysql.table_stats", MARIADB, Treatment::Reported("table_statistics")),
    ("mysql.tables_priv", EVERY, compared(Class {
        among: Among::Databases("Db"),
        without: &[GRANTED_WHEN, WHO_GRANTED],
        ..of_account("grants of", &["User", "Host"])
    })),
    ("mysql.time_zone", EVERY, Treatment::Reported("time_zones")),
    ("mysql.time_zone_leap_second", EVERY, Treatment::Reported("time_zones")),
    ("mysql.time_zone_name", EVERY, Treatment::Reported("time_zones")),
    ("mysql.time_zone_transition", EVERY, Treatment::Reported("time_zones")),
    ("mysql.time_zone_transition_type", EVERY, Treatment::Reported("time_zones")),
    ("mysql.transaction_registry", MARIADB, Treatment::Reported("system_versioned")),
    ("mysql.user", EVERY, compared(Class {
        without: &[("password_last_changed", WHEN)],
        apart: &[
            ("plugin", PASSWORD),
            ("authentication_string", PASSWORD),
            ("Password", PASSWORD),
            ("User_attributes.additional_password", PASSWORD),
        ],
        derived: &[
            ("default_role", MYSQL_8, "COALESCE((SELECT GROUP_CONCAT(d.DEFAULT_ROLE_USER ORDER BY 1)
                FROM mysql.default_roles d WHERE d.USER = c.User AND d.HOST = c.Host), '')"),
            ("account_locked", WITH_LOCKS, "(SELECT IF(JSON_VALUE(g.Priv, '$.account_locked') IN ('1', 'true'), 'Y', 'N')
                FROM mysql.global_priv g WHERE g.User = c.User AND g.Host = c.Host)"),
            ("password_lifetime", WITH_LOCKS, "(SELECT NULLIF(JSON_VALUE(g.Priv, '$.password_lifetime'), -1)
                FROM mysql.global_priv g WHERE g.User = c.User AND g.Host = c.Host)"),
        ],
        ..of_account("account", &["User", "Host"])
    })),
];
