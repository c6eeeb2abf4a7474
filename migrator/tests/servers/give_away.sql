-- Gives what the superuser "postgres" made in this database to an owner who is none, as an application's is: what is
-- printed for the migrator lets it become that owner. Only superusers may own what stays with the server's first one.
DO $$ DECLARE statement text; BEGIN
    IF to_regrole('suite_owner') IS NULL THEN CREATE ROLE suite_owner; END IF;
    FOR statement IN
        SELECT format('ALTER EVENT TRIGGER %I OWNER TO first', evtname) FROM pg_event_trigger WHERE evtowner <> 10
        UNION ALL SELECT format('ALTER FOREIGN DATA WRAPPER %I OWNER TO first', fdwname)
            FROM pg_foreign_data_wrapper WHERE fdwowner <> 10
        UNION ALL SELECT format('ALTER SUBSCRIPTION %I OWNER TO first', subname) FROM pg_subscription
            WHERE subowner <> 10 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        -- Up to version 14 the schema public is a superuser's, whom nobody else can give it to on the target.
        UNION ALL SELECT 'ALTER SCHEMA public OWNER TO suite_owner' FROM pg_namespace
            WHERE nspname = 'public' AND nspowner = 10
    LOOP EXECUTE statement; END LOOP;
    REASSIGN OWNED BY postgres TO suite_owner;
    -- Who owns something in a schema may create there, as superusers always may.
    FOR statement IN SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO suite_owner', nspname) FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'headgate')
          AND NOT has_schema_privilege('suite_owner', oid, 'USAGE, CREATE')
    LOOP EXECUTE statement; END LOOP;
END $$
