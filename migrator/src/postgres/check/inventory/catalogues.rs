//! Every table of `pg_catalog`, on every version from 14 on, and what is done about its rows.

use super::{Among, Class, Name, Treatment};

const CLASS: Class = Class {
    name: Name::Identified,
    among: Among::Users,
    only: "",
    text: "",
    more: "",
    without: &[],
    privileges: ("", ""),
    more_on_target: "",
    part_of: "",
};

const NAMED: &str = "the name has it";
const DERIVED: &str = "derived from other columns";
const IN_TEXT: &str = "the text has it";
const PRECHECK: &str = "the precheck compares it (encoding, collation)";
const OF_SERVER: &str = "the whole server's: other databases may need more";
const SEPARATE: &str = "what stands by itself on the target harms nothing; the precheck counts it (target_others)";

/// The numbers of what users made in a catalogue, in schemas that move: the catalogue, and the column that names the
/// schema.
macro_rules! made_by_users {
    ($catalogue:literal, $schema:literal) => {
        concat!(
            "(SELECT y.oid FROM pg_catalog.",
            $catalogue,
            " y JOIN pg_catalog.pg_namespace n ON n.oid = y.",
            $schema,
            " WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'headgate')
              AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]))
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.",
            $catalogue,
            "'::regclass AND d.objid = y.oid AND d.deptype = 'e'))"
        )
    };
}

const fn compared(class: Class) -> Treatment {
    Treatment::Compared(class)
}

const fn users_in(column: &'static str) -> Treatment {
    compared(Class { among: Among::UsersIn(column), more_on_target: SEPARATE, ..CLASS })
}

/// Comments and labels of what moves: of a relation, of what belongs to one, or of what is in a schema that moves.
const ABOUT_OURS: &str = "NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = t.classoid AND d.objid = t.objoid AND d.deptype = 'e')
    AND CASE t.classoid
        WHEN 'pg_catalog.pg_class'::regclass THEN t.objoid IN (SELECT oid FROM ours)
        WHEN 'pg_catalog.pg_constraint'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_constraint x
            WHERE x.oid = t.objoid AND x.contype <> 'n' AND (x.conrelid IN (SELECT oid FROM ours) OR x.contypid >= 16384))
        WHEN 'pg_catalog.pg_trigger'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_trigger x
            WHERE x.oid = t.objoid AND x.tgrelid IN (SELECT oid FROM ours))
        WHEN 'pg_catalog.pg_policy'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_policy x
            WHERE x.oid = t.objoid AND x.polrelid IN (SELECT oid FROM ours))
        WHEN 'pg_catalog.pg_rewrite'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_rewrite x
            WHERE x.oid = t.objoid AND x.ev_class IN (SELECT oid FROM ours))
        WHEN 'pg_catalog.pg_largeobject'::regclass THEN true
        WHEN 'pg_catalog.pg_namespace'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_namespace n
            WHERE n.oid = t.objoid AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'headgate')
              AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[])))
        ELSE t.objoid >= 16384 AND t.classoid NOT IN ('pg_catalog.pg_publication'::regclass,
                'pg_catalog.pg_subscription'::regclass, 'pg_catalog.pg_extension'::regclass)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_identify_object(t.classoid, t.objoid, t.objsubid) i
            WHERE i.schema ~ '^(pg_|headgate$)'
               OR cardinality($1::text[]) > 0 AND i.schema IS NOT NULL AND i.schema <> ALL ($1::text[])) END";
const ABOUT_COLUMNS: &[(&str, &str)] = &[("objoid", NAMED), ("objsubid", NAMED), ("classoid", NAMED)];
/// Comments and labels of this database and of the roles that are compared.
const ABOUT_SHARED: &str = "t.classoid = 'pg_catalog.pg_database'::regclass AND t.objoid = (SELECT oid
        FROM pg_catalog.pg_database WHERE datname = current_database())
    OR t.classoid = 'pg_catalog.pg_authid'::regclass AND t.objoid IN (SELECT oid FROM pg_catalog.pg_roles
        WHERE rolname !~ '^pg_' AND oid <> 10 AND rolname <> ALL ($2::text[]))";

/// Every table of `pg_catalog`, on every version from 14 on.
pub const INVENTORY: &[(&str, Treatment)] = &[
    ("pg_aggregate", compared(Class {
        name: Name::Sql("'aggregate ' || t.aggfnoid::regprocedure::text"),
        among: Among::Sql(concat!("t.aggfnoid IN ", made_by_users!("pg_proc", "pronamespace"))),
        more_on_target: SEPARATE,
        ..CLASS
    })),
    ("pg_am", compared(CLASS)),
    ("pg_amop", compared(CLASS)),
    ("pg_amproc", compared(CLASS)),
    ("pg_attrdef", compared(Class {
        name: Name::Sql("'default of ' || t.adrelid::regclass::text || '.' || (SELECT quote_ident(a.attname)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.adrelid AND a.attnum = t.adnum)"),
        among: Among::Ours("adrelid"),
        text: "pg_catalog.pg_get_expr(t.adbin, t.adrelid)",
        without: &[("adnum", NAMED)],
        ..CLASS
    })),
    ("pg_attribute", compared(Class {
        name: Name::Sql("'column ' || t.attrelid::regclass::text || '.' || quote_ident(t.attname)"),
        among: Among::Sql("t.attrelid IN (SELECT oid FROM ours WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c'))"),
        only: "t.attnum > 0 AND NOT t.attisdropped",
        part_of: "ARRAY[t.attrelid::regclass::text]",
        more: "'type', pg_catalog.format_type(t.atttypid, t.atttypmod), 'statistics', nullif(t.attstattarget, -1),
            'position', (SELECT count(*) FROM pg_catalog.pg_attribute b WHERE b.attrelid = t.attrelid
                AND b.attnum > 0 AND b.attnum <= t.attnum AND NOT b.attisdropped)",
        without: &[
            ("attnum", "it counts dropped columns; the position does not"),
            ("attlen", "the type has it"),
            ("attbyval", "the type has it"),
            ("attalign", "the type has it"),
            ("atttypmod", "the type's name has it"),
            ("attndims", "a remark that no dump keeps and the server never looks at"),
            ("attcacheoff", "always -1 in the catalogue"),
            ("atthasdef", DERIVED),
            ("atthasmissing", "how the rows are stored"),
            ("attislocal", "a partition's differs by how it was made"),
            ("attinhcount", DERIVED),
            ("attstattarget", "unset is -1 in some versions and NULL in others; compared as one"),
        ],
        ..CLASS
    })),
    ("pg_auth_members", compared(Class {
        name: Name::Sql("'membership of ' || quote_ident(pg_catalog.pg_get_userbyid(t.member)) || ' in '
            || quote_ident(pg_catalog.pg_get_userbyid(t.roleid))"),
        among: Among::Sql("t.member NOT IN (SELECT oid FROM pg_catalog.pg_roles WHERE rolname ~ '^pg_' OR oid = 10
            OR rolname = ANY ($2::text[])) AND t.roleid NOT IN (SELECT oid FROM pg_catalog.pg_roles
            WHERE rolname = ANY ($2::text[]))"),
        without: &[("grantor", "who restores a grant is its grantor")],
        more_on_target: OF_SERVER,
        ..CLASS
    })),
    ("pg_authid", compared(Class {
        name: Name::Sql("'role ' || quote_ident(t.rolname)"),
        among: Among::Sql("t.rolname !~ '^pg_' AND t.oid <> 10 AND t.rolname <> ALL ($2::text[])"),
        without: &[("rolpassword", "compared account by account")],
        more_on_target: OF_SERVER,
        ..CLASS
    })),
    ("pg_cast", compared(CLASS)),
    ("pg_class", compared(Class {
        name: Name::Sql("CASE t.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' WHEN 'S' THEN 'sequence'
            ELSE 'composite type' END || ' ' || t.oid::regclass::text"),
        among: Among::Ours("oid"),
        only: "t.relkind NOT IN ('i', 'I', 't')",
        text: "pg_catalog.pg_get_expr(t.relpartbound, t.oid)",
        more: "'toast', (SELECT x.reloptions FROM pg_catalog.pg_class x WHERE x.oid = t.reltoastrelid)",
        without: &[
            ("relname", NAMED),
            ("reltype", "the type of the same name"),
            ("relfilenode", "a file of this server"),
            ("reltablespace", "everything goes to the default one; the precheck says so (tablespaces)"),
            ("relpages", "an estimate"),
            ("reltuples", "an estimate"),
            ("relallvisible", "an estimate"),
            ("relallfrozen", "an estimate"),
            ("reltoastrelid", "how the rows are stored"),
            ("relhasindex", DERIVED),
            ("relnatts", "it counts dropped columns"),
            ("relchecks", DERIVED),
            ("relhasrules", DERIVED),
            ("relhastriggers", DERIVED),
            ("relhassubclass", DERIVED),
            ("relrewrite", "only while a table is rewritten"),
        ],
        privileges: ("CASE t.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\"", "relowner"),
        more_on_target: SEPARATE,
        part_of: "",
    })),
    ("pg_collation", compared(Class {
        among: Among::UsersIn("collnamespace"),
        without: &[("collversion", PRECHECK), ("collencoding", PRECHECK)],
        more_on_target: SEPARATE,
        ..CLASS
    })),
    ("pg_constraint", compared(Class {
        name: Name::Sql("'constraint ' || quote_ident(t.conname) || ' of ' || CASE WHEN t.conrelid <> 0
            THEN t.conrelid::regclass::text ELSE pg_catalog.format_type(t.contypid, NULL) END"),
        among: Among::Sql(concat!("t.conrelid IN (SELECT oid FROM ours) OR t.contypid IN ",
            made_by_users!("pg_type", "typnamespace"))),
        only: "t.contype NOT IN ('n', 't') AND t.conparentid = 0",
        // A foreign key of another table to one that moves is a part of both.
        part_of: "array_remove(ARRAY[CASE WHEN t.conrelid <> 0 THEN t.conrelid::regclass::text
            ELSE pg_catalog.format_type(t.contypid, NULL) END,
            CASE WHEN t.confrelid <> 0 THEN t.confrelid::regclass::text END], NULL)",
        text: "pg_catalog.pg_get_constraintdef(t.oid)",
        without: &[
            ("conindid", "the index of the same name"),
            ("conislocal", "a partition's differs by how it was made"),
            ("coninhcount", DERIVED),
            ("conpfeqop", DERIVED),
            ("conppeqop", DERIVED),
            ("conffeqop", DERIVED),
            ("confdelsetcols", IN_TEXT),
        ],
        ..CLASS
    })),
    ("pg_conversion", users_in("connamespace")),
    ("pg_database", compared(Class {
        name: Name::Sql("'this database'"),
        among: Among::Sql("t.datname = current_database()"),
        without: &[
            ("datname", "the route's name on both sides"),
            ("encoding", PRECHECK),
            ("datlocprovider", PRECHECK),
            ("datcollate", PRECHECK),
            ("datctype", PRECHECK),
            ("datlocale", PRECHECK),
            ("daticulocale", PRECHECK),
            ("daticurules", PRECHECK),
            ("datcollversion", PRECHECK),
            ("datlastsysoid", "a number on this server"),
            ("dattablespace", "everything goes to the default one; the precheck says so (tablespaces)"),
            ("dathasloginevt", DERIVED),
        ],
        privileges: ("'d'", "datdba"),
        ..CLASS
    })),
    ("pg_db_role_setting", compared(Class {
        name: Name::Sql("'settings of ' || CASE t.setrole WHEN 0 THEN 'all roles'
            ELSE 'role ' || quote_ident(pg_catalog.pg_get_userbyid(t.setrole)) END
            || CASE t.setdatabase WHEN 0 THEN '' ELSE ' in this database' END"),
        among: Among::Sql("(t.setdatabase = 0 OR t.setdatabase = (SELECT oid FROM pg_catalog.pg_database
            WHERE datname = current_database())) AND t.setrole NOT IN (SELECT oid FROM pg_catalog.pg_roles
            WHERE oid = 10 OR rolname = ANY ($2::text[]))"),
        more: "'settings', (SELECT jsonb_agg(s ORDER BY s) FROM unnest(t.setconfig) s)",
        without: &[("setconfig", "compared in one order"), ("setdatabase", NAMED)],
        more_on_target: OF_SERVER,
        ..CLASS
    })),
    ("pg_default_acl", compared(Class {
        name: Name::Sql("'default privileges of ' || quote_ident(pg_catalog.pg_get_userbyid(t.defaclrole)) || ' for '
            || t.defaclobjtype::text || CASE t.defaclnamespace WHEN 0 THEN ''
            ELSE ' in ' || t.defaclnamespace::regnamespace::text END"),
        among: Among::Sql("t.defaclrole <> 10 AND (cardinality($1::text[]) = 0 OR t.defaclnamespace IN (SELECT oid
            FROM pg_catalog.pg_namespace WHERE nspname = ANY ($1::text[])))"),
        ..CLASS
    })),
    ("pg_depend", Treatment::Meaningless("the definitions say it; a sequence's owner is compared with the sequence")),
    ("pg_description", compared(Class {
        name: Name::Sql("(SELECT 'comment on ' || i.type || ' ' || i.identity
            FROM pg_catalog.pg_identify_object(t.classoid, t.objoid, t.objsubid) i)"),
        among: Among::Sql(ABOUT_OURS),
        without: ABOUT_COLUMNS,
        more_on_target: "a comment changes nothing",
        ..CLASS
    })),
    ("pg_enum", compared(Class {
        name: Name::Sql("'label ' || quote_literal(t.enumlabel) || ' of ' || pg_catalog.format_type(t.enumtypid, NULL)"),
        among: Among::Sql(concat!("t.enumtypid IN ", made_by_users!("pg_type", "typnamespace"))),
        part_of: "ARRAY[pg_catalog.format_type(t.enumtypid, NULL)]",
        more: "'position', (SELECT count(*) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.enumtypid
            AND e.enumsortorder <= t.enumsortorder)",
        without: &[("enumsortorder", "it has gaps; the position has none")],
        ..CLASS
    })),
    ("pg_event_trigger", compared(CLASS)),
    ("pg_extension", compared(Class {
        only: "t.extname <> 'plpgsql'",
        without: &[
            ("extowner", "who creates an extension owns it; no dump keeps that"),
            ("extversion", "the target's own; the precheck names them (extensions)"),
            ("extrelocatable", "the extension's script has it"),
            ("extconfig", "the extension's script has it; the rows are carried"),
            ("extcondition", "the extension's script has it"),
        ],
        more_on_target: SEPARATE,
        ..CLASS
    })),
    ("pg_foreign_data_wrapper", compared(Class { privileges: ("'F'", "fdwowner"), more_on_target: SEPARATE, ..CLASS })),
    ("pg_foreign_server", compared(Class { privileges: ("'S'", "srvowner"), more_on_target: SEPARATE, ..CLASS })),
    ("pg_foreign_table", compared(Class {
        name: Name::Sql("'server of foreign table ' || t.ftrelid::regclass::text"),
        among: Among::Ours("ftrelid"),
        ..CLASS
    })),
    ("pg_index", compared(Class {
        name: Name::Sql("'index ' || t.indexrelid::regclass::text || ' of ' || t.indrelid::regclass::text"),
        among: Among::Ours("indrelid"),
        // An index that is not valid is not moved, and of no use.
        only: "t.indisvalid",
        text: "pg_catalog.pg_get_indexdef(t.indexrelid)",
        without: &[
            ("indnatts", IN_TEXT),
            ("indcheckxmin", "how far this server has built it"),
            ("indisready", "how far this server has built it"),
            ("indislive", "how far this server has built it"),
        ],
        ..CLASS
    })),
    ("pg_inherits", compared(Class {
        name: Name::Sql("'inheritance of ' || t.inhrelid::regclass::text || ' from ' || t.inhparent::regclass::text"),
        among: Among::Sql("t.inhrelid IN (SELECT oid FROM ours WHERE relkind IN ('r', 'p', 'f'))"),
        part_of: "ARRAY[t.inhrelid::regclass::text, t.inhparent::regclass::text]",
        ..CLASS
    })),
    ("pg_init_privs", Treatment::Meaningless("what privileges were before anybody changed them")),
    ("pg_language", compared(Class { privileges: ("'l'", "lanowner"), more_on_target: SEPARATE, ..CLASS })),
    ("pg_largeobject", Treatment::Reported("large_objects")),
    ("pg_largeobject_metadata", compared(Class {
        name: Name::Sql("'large object ' || t.oid::text"),
        among: Among::Sql("true"),
        privileges: ("'L'", "lomowner"),
        more_on_target: SEPARATE,
        ..CLASS
    })),
    ("pg_namespace", compared(Class {
        name: Name::Sql("'schema ' || quote_ident(t.nspname)"),
        among: Among::Sql("t.nspname !~ '^pg_' AND t.nspname NOT IN ('information_schema', 'headgate')
            AND (cardinality($1::text[]) = 0 OR t.nspname = ANY ($1::text[]))
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::regclass
                AND d.objid = t.oid AND d.deptype = 'e')"),
        privileges: ("'n'", "nspowner"),
        more_on_target: SEPARATE,
        ..CLASS
    })),
    ("pg_opclass", users_in("opcnamespace")),
    ("pg_operator", users_in("oprnamespace")),
    ("pg_opfamily", users_in("opfnamespace")),
    ("pg_parameter_acl", compared(Class {
        name: Name::Sql("'privileges on parameter ' || t.parname"),
        among: Among::Sql("EXISTS (SELECT FROM pg_catalog.aclexplode(t.paracl) p WHERE p.grantee <> 10
            AND (p.grantee = 0 OR pg_catalog.pg_get_userbyid(p.grantee) <> ALL ($2::text[])))"),
        more_on_target: OF_SERVER,
        ..CLASS
    })),
    ("pg_partitioned_table", compared(Class {
        name: Name::Sql("'partition key of ' || t.partrelid::regclass::text"),
        among: Among::Ours("partrelid"),
        text: "pg_catalog.pg_get_partkeydef(t.partrelid)",
        ..CLASS
    })),
    ("pg_policy", compared(Class {
        name: Name::Sql("'policy ' || quote_ident(t.polname) || ' of ' || t.polrelid::regclass::text"),
        among: Among::Ours("polrelid"),
        text: "concat_ws(' WITH CHECK ', pg_catalog.pg_get_expr(t.polqual, t.polrelid),
            pg_catalog.pg_get_expr(t.polwithcheck, t.polrelid))",
        ..CLASS
    })),
    ("pg_proc", compared(Class {
        among: Among::UsersIn("pronamespace"),
        text: "pg_catalog.pg_get_function_arguments(t.oid) || coalesce(pg_catalog.pg_get_function_sqlbody(t.oid), '')",
        privileges: ("'f'", "proowner"),
        more_on_target: SEPARATE,
        ..CLASS
    })),
    ("pg_publication", Treatment::Reported("publications")),
    ("pg_publication_namespace", Treatment::Reported("publications")),
    ("pg_publication_rel", Treatment::Reported("publications")),
    ("pg_range", compared(Class {
        name: Name::Sql("'range ' || pg_catalog.format_type(t.rngtypid, NULL)"),
        among: Among::Sql(concat!("t.rngtypid IN ", made_by_users!("pg_type", "typnamespace"))),
        part_of: "ARRAY[pg_catalog.format_type(t.rngtypid, NULL)]",
        ..CLASS
    })),
    ("pg_replication_origin", Treatment::Meaningless("progress of replication on this server")),
    ("pg_rewrite", compared(Class {
        name: Name::Sql("CASE t.rulename WHEN '_RETURN' THEN 'query of view '
            ELSE 'rule ' || quote_ident(t.rulename) || ' of ' END || t.ev_class::regclass::text"),
        among: Among::Ours("ev_class"),
        text: "CASE t.rulename WHEN '_RETURN' THEN pg_catalog.pg_get_viewdef(t.ev_class)
            ELSE pg_catalog.pg_get_ruledef(t.oid) END",
        ..CLASS
    })),
    ("pg_seclabel", compared(Class {
        name: Name::Sql("(SELECT 'security label of ' || t.provider || ' on ' || i.type || ' ' || i.identity
            FROM pg_catalog.pg_identify_object(t.classoid, t.objoid, t.objsubid) i)"),
        among: Among::Sql(ABOUT_OURS),
        without: ABOUT_COLUMNS,
        ..CLASS
    })),
    ("pg_sequence", compared(Class {
        name: Name::Sql("'parameters of sequence ' || t.seqrelid::regclass::text"),
        among: Among::Ours("seqrelid"),
        more: "'owner', (SELECT d.deptype::text || ' ' || d.refobjid::regclass::text || '.' || quote_ident(a.attname)
            FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = t.seqrelid AND d.objsubid = 0
              AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1)",
        ..CLASS
    })),
    ("pg_shdepend", Treatment::Meaningless("the definitions say it")),
    ("pg_shdescription", compared(Class {
        name: Name::Sql("'comment on ' || CASE t.classoid WHEN 'pg_catalog.pg_database'::regclass THEN 'this database'
            ELSE 'role ' || quote_ident(pg_catalog.pg_get_userbyid(t.objoid)) END"),
        among: Among::Sql(ABOUT_SHARED),
        without: &[("objoid", NAMED), ("classoid", NAMED)],
        more_on_target: "a comment changes nothing",
        ..CLASS
    })),
    ("pg_shseclabel", compared(Class {
        name: Name::Sql("'security label of ' || t.provider || ' on '
            || CASE t.classoid WHEN 'pg_catalog.pg_database'::regclass THEN 'this database'
            ELSE 'role ' || quote_ident(pg_catalog.pg_get_userbyid(t.objoid)) END"),
        among: Among::Sql(ABOUT_SHARED),
        without: &[("objoid", NAMED), ("classoid", NAMED)],
        more_on_target: OF_SERVER,
        ..CLASS
    })),
    ("pg_statistic", Treatment::Meaningless("gathered anew on the target")),
    ("pg_statistic_ext", compared(Class {
        among: Among::Ours("stxrelid"),
        text: "pg_catalog.pg_get_statisticsobjdef(t.oid)",
        more: "'statistics', nullif(t.stxstattarget, -1)",
        without: &[("stxstattarget", "unset is -1 in some versions and NULL in others; compared as one")],
        ..CLASS
    })),
    ("pg_statistic_ext_data", Treatment::Meaningless("gathered anew on the target")),
    ("pg_subscription", Treatment::Reported("publications")),
    ("pg_subscription_rel", Treatment::Reported("publications")),
    ("pg_tablespace", Treatment::Reported("tablespaces")),
    ("pg_transform", compared(CLASS)),
    ("pg_trigger", compared(Class {
        name: Name::Sql("'trigger ' || quote_ident(t.tgname) || ' of ' || t.tgrelid::regclass::text"),
        among: Among::Ours("tgrelid"),
        only: "NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname NOT IN ('headgate_fence', 'headgate_guard')",
        text: "pg_catalog.pg_get_triggerdef(t.oid)",
        without: &[
            ("tgconstraint", "the constraint of the same name"),
            ("tgconstrindid", "the index of the constraint"),
        ],
        ..CLASS
    })),
    ("pg_ts_config", compared(Class {
        among: Among::UsersIn("cfgnamespace"),
        more_on_target: SEPARATE,
        part_of: "ARRAY['text search configuration ' || t.oid::regconfig::text]",
        ..CLASS
    })),
    ("pg_ts_config_map", compared(Class {
        name: Name::Sql("'mapping of text search configuration ' || t.mapcfg::regconfig::text || ' ' || t.maptokentype
            || ' ' || t.mapseqno"),
        among: Among::Sql(concat!("t.mapcfg IN ", made_by_users!("pg_ts_config", "cfgnamespace"))),
        part_of: "ARRAY['text search configuration ' || t.mapcfg::regconfig::text]",
        ..CLASS
    })),
    ("pg_ts_dict", users_in("dictnamespace")),
    ("pg_ts_parser", users_in("prsnamespace")),
    ("pg_ts_template", users_in("tmplnamespace")),
    ("pg_type", compared(Class {
        name: Name::Sql("'type ' || pg_catalog.format_type(t.oid, NULL)"),
        among: Among::UsersIn("typnamespace"),
        part_of: "ARRAY[pg_catalog.format_type(t.oid, NULL)]",
        // Row types of tables and types of arrays come with what they are of.
        only: "t.typtype <> 'p' AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')",
        text: "pg_catalog.pg_get_expr(t.typdefaultbin, 0)",
        without: &[
            ("typrelid", "the relation of the same name"),
            ("typarray", "the array of the same name"),
            ("typdefault", IN_TEXT),
            ("typndims", "a remark that no dump keeps and the server never looks at"),
        ],
        privileges: ("'T'", "typowner"),
        more_on_target: SEPARATE,
        ..CLASS
    })),
    ("pg_user_mapping", compared(Class {
        name: Name::Sql("'user mapping of ' || CASE t.umuser WHEN 0 THEN 'public'
            ELSE quote_ident(pg_catalog.pg_get_userbyid(t.umuser)) END || ' for server ' || (SELECT quote_ident(s.srvname)
            FROM pg_catalog.pg_foreign_server s WHERE s.oid = t.umserver)"),
        among: Among::Users,
        more_on_target: SEPARATE,
        ..CLASS
    })),
];
