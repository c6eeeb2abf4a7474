-- What Google Cloud SQL adds to MySQL: its administrator has everything by a role that no login activates and that lets nothing
-- be granted; it cannot set variables of the server or name other definers.
CREATE USER cloudsqlimport@localhost IDENTIFIED BY 'nobody knows it';
GRANT ALL ON *.* TO cloudsqlimport@localhost WITH GRANT OPTION;
CREATE ROLE cloudsqlsuperuser;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES,
    CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW,
    CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, CREATE ROLE, DROP ROLE ON *.* TO cloudsqlsuperuser;
GRANT APPLICATION_PASSWORD_ADMIN, CONNECTION_ADMIN, ROLE_ADMIN, SESSION_VARIABLES_ADMIN, SHOW_ROUTINE, XA_RECOVER_ADMIN
    ON *.* TO cloudsqlsuperuser;
CREATE USER admin@'%' IDENTIFIED BY 'admin' REQUIRE SSL;
GRANT cloudsqlsuperuser TO admin@'%';
