-- MariaDB only: numbers that are no table's own.

CREATE SEQUENCE voucher_number START WITH 7000 INCREMENT BY 3 CACHE 20;
