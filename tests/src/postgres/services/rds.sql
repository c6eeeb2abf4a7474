-- What Amazon RDS adds, as far as a server of one's own can show it: the service's roles, and an administrator that is none
-- of them. On RDS itself the membership of rds_replication opens replication connections; here an attribute must.
create role rdsadmin superuser login password 'nobody knows it';
create role rds_superuser;
create role rds_replication;
create role rds_password;
create role rds_iam;
create role rds_ad;
create role rds_extension;
create role rds_reserved;
create role rdstopmgr login password 'nobody knows it';
create role rdsrepladmin replication;
grant rds_replication, rds_password, rds_iam, rds_ad to rds_superuser with admin option;
grant pg_monitor, pg_read_all_stats, pg_signal_backend to rds_superuser with admin option;
grant pg_monitor, pg_checkpoint to rdstopmgr;
grant execute on function pg_catalog.pg_ls_waldir() to rds_superuser;
grant set on parameter session_replication_role to rds_superuser;
create role admin login createrole createdb replication password 'admin';
grant rds_superuser to admin with admin option;
create database rdsadmin owner rdsadmin;
revoke connect on database rdsadmin from public;
