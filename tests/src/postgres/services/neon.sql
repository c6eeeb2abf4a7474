-- What Neon adds: roles that come from its console have the attributes of neon_superuser; nobody sets
-- session_replication_role, and nobody marks what it applies.
create role cloud_admin superuser login password 'nobody knows it';
create role neon_superuser createrole createdb replication bypassrls;
create role neon_service login password 'nobody knows it';
grant pg_read_all_data, pg_write_all_data, pg_monitor, pg_read_all_stats to neon_superuser with admin option;
create role admin login createrole createdb replication bypassrls password 'admin';
grant neon_superuser to admin;
