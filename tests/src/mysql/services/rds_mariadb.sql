-- What Amazon RDS adds to MariaDB: its administrator has its rights by itself, and cannot set variables of the server, name
-- other definers or end sessions of others. What ends a session and what keeps the log is a procedure of the service's.
CREATE USER rdsadmin@localhost IDENTIFIED BY 'nobody knows it';
GRANT ALL ON *.* TO rdsadmin@localhost WITH GRANT OPTION;
CREATE TABLE mysql.rds_configuration (name VARCHAR(100) PRIMARY KEY, value VARCHAR(100), description VARCHAR(300));
INSERT INTO mysql.rds_configuration VALUES ('binlog retention hours', NULL, 'how long the log is kept');
CREATE DEFINER = rdsadmin@localhost PROCEDURE mysql.rds_kill(IN thread BIGINT) KILL CONNECTION thread;
CREATE DEFINER = rdsadmin@localhost PROCEDURE mysql.rds_show_configuration() SELECT * FROM mysql.rds_configuration;
CREATE DEFINER = rdsadmin@localhost PROCEDURE mysql.rds_set_configuration(IN setting VARCHAR(30), IN number INT)
    UPDATE mysql.rds_configuration SET value = number WHERE name = setting;
CREATE USER admin@'%' IDENTIFIED BY 'admin' REQUIRE SSL;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES,
    CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, BINLOG MONITOR, REPLICA MONITOR, CREATE VIEW, SHOW VIEW,
    CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, DELETE HISTORY ON *.* TO admin@'%' WITH GRANT OPTION;
