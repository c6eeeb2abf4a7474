-- What Amazon RDS adds to MySQL 9: its administrator, who has everything by a role that no login activates, cannot set
-- variables of the server or end sessions of others, and reads the database mysql without writing to it. What ends a session
-- and what keeps the log is a procedure of the service's. FLUSH TABLES WITH READ LOCK, which RDS refuses, is refused here
-- because RELOAD is not granted.
SET GLOBAL partial_revokes = ON;
CREATE USER rdsadmin@localhost IDENTIFIED BY 'nobody knows it';
GRANT ALL ON *.* TO rdsadmin@localhost WITH GRANT OPTION;
CREATE USER rdsrepladmin@'%' IDENTIFIED BY 'nobody knows it' ACCOUNT LOCK;
CREATE TABLE mysql.rds_configuration (name VARCHAR(100) PRIMARY KEY, value VARCHAR(100), description VARCHAR(300));
INSERT INTO mysql.rds_configuration VALUES ('binlog retention hours', NULL, 'how long the log is kept');
CREATE DEFINER = rdsadmin@localhost PROCEDURE mysql.rds_kill(IN thread BIGINT) KILL CONNECTION thread;
CREATE DEFINER = rdsadmin@localhost PROCEDURE mysql.rds_show_configuration() SELECT * FROM mysql.rds_configuration;
CREATE DEFINER = rdsadmin@localhost PROCEDURE mysql.rds_set_configuration(IN setting VARCHAR(30), IN number INT)
    UPDATE mysql.rds_configuration SET value = number WHERE name = setting;
CREATE ROLE rds_superuser_role;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES,
    CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW,
    CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, CREATE ROLE, DROP ROLE ON *.* TO rds_superuser_role
    WITH GRANT OPTION;
GRANT APPLICATION_PASSWORD_ADMIN, FLUSH_STATUS, FLUSH_USER_RESOURCES, ROLE_ADMIN, SESSION_VARIABLES_ADMIN,
    SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER, SHOW_ROUTINE, XA_RECOVER_ADMIN ON *.* TO rds_superuser_role
    WITH GRANT OPTION;
REVOKE INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, TRIGGER ON mysql.* FROM rds_superuser_role;
CREATE USER admin@'%' IDENTIFIED BY 'admin' REQUIRE SSL;
GRANT rds_superuser_role TO admin@'%' WITH ADMIN OPTION;
