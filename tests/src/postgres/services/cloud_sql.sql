-- What Google Cloud SQL adds: its roles; the administrator is a member of cloudsqlsuperuser, which may mark what it applies.
create role cloudsqladmin superuser login password 'nobody knows it';
create role cloudsqlagent createrole createdb;
create role cloudsqliamuser;
create role cloudsqlreplica replication;
create role cloudsqlimportexport;
create role cloudsqlsuperuser createrole createdb;
grant pg_monitor, pg_read_all_stats to cloudsqlsuperuser with admin option;
grant execute on function pg_catalog.pg_replication_origin_create(text), pg_catalog.pg_replication_origin_oid(text),
    pg_catalog.pg_replication_origin_session_setup(text), pg_catalog.pg_replication_origin_drop(text),
    pg_catalog.pg_show_replication_origin_status() to cloudsqlsuperuser;
grant select on pg_catalog.pg_replication_origin_status to cloudsqlsuperuser;
grant set on parameter session_replication_role to cloudsqlsuperuser;
create role admin login createrole createdb replication password 'admin';
grant cloudsqlsuperuser to admin;
create database cloudsqladmin owner cloudsqladmin;
revoke connect on database cloudsqladmin from public;
