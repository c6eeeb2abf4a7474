-- What Azure Database adds: its roles and its database.
create role azuresu superuser login password 'nobody knows it';
create role azure_superuser superuser;
create role azure_pg_admin createrole createdb;
grant pg_monitor, pg_read_all_stats, pg_read_all_settings, pg_signal_backend to azure_pg_admin with admin option;
grant execute on function pg_catalog.pg_replication_origin_create(text), pg_catalog.pg_replication_origin_oid(text),
    pg_catalog.pg_replication_origin_session_setup(text), pg_catalog.pg_replication_origin_drop(text) to azure_pg_admin;
grant set on parameter session_replication_role to azure_pg_admin;
create role admin login createrole createdb replication bypassrls password 'admin';
grant azure_pg_admin to admin;
create database azure_maintenance owner azuresu;
create database azure_sys owner azuresu;
revoke connect on database azure_maintenance, azure_sys from public;
