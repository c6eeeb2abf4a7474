-- What Azure Database adds to MySQL: its administrator has its rights by itself, cannot set variables of the server or of
-- sessions, name other definers or end sessions of others but by the service's procedure. Tables without a primary key get one
-- that the server makes up.
CREATE USER azure_superuser@localhost IDENTIFIED BY 'nobody knows it';
GRANT ALL ON *.* TO azure_superuser@localhost WITH GRANT OPTION;
CREATE DEFINER = azure_superuser@localhost PROCEDURE mysql.az_kill(IN id BIGINT) KILL CONNECTION id;
SET GLOBAL sql_generate_invisible_primary_key = ON;
CREATE USER admin@'%' IDENTIFIED BY 'admin' REQUIRE SSL;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES,
    CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW,
    CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, CREATE ROLE, DROP ROLE ON *.* TO admin@'%'
    WITH GRANT OPTION;
GRANT APPLICATION_PASSWORD_ADMIN, FLUSH_STATUS, FLUSH_USER_RESOURCES, ROLE_ADMIN, SHOW_ROUTINE, XA_RECOVER_ADMIN
    ON *.* TO admin@'%' WITH GRANT OPTION;
