-- The invented shop's schema, with what real schemas have; whatever has a definer is the application's own.

SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,ERROR_FOR_DIVISION_BY_ZERO';

CREATE TABLE warehouse (
    id smallint unsigned AUTO_INCREMENT PRIMARY KEY,
    name varchar(60) NOT NULL UNIQUE,
    place point,
    opened date NOT NULL DEFAULT '2020-02-29',
    founded year,
    opens_at time(3) NOT NULL DEFAULT '-01:30:00.250',
    doors bit(10) NOT NULL DEFAULT b'1010101010'
) COMMENT 'not; in ''use''';

CREATE TABLE category (
    id int AUTO_INCREMENT PRIMARY KEY,
    parent_id int,
    name varchar(80) CHARACTER SET latin1 COLLATE latin1_german1_ci NOT NULL,
    -- Zero where nobody knows, as old schemas have it.
    retired_on date NOT NULL DEFAULT '0000-00-00',
    UNIQUE KEY category_name (name),
    FOREIGN KEY (parent_id) REFERENCES category (id)
) DEFAULT CHARSET latin1;

CREATE TABLE product (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    sku varchar(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
    name varchar(200) NOT NULL,
    category_id int NOT NULL,
    price bigint NOT NULL,
    stock bigint NOT NULL CHECK (stock >= 0),
    stock_opening bigint NOT NULL,
    flags set('fragile', 'heavy', 'gift', 'it''s big') NOT NULL DEFAULT '',
    attributes json,
    searched varchar(230) GENERATED ALWAYS AS (lower(concat(sku, ' ', name))) STORED,
    taxed decimal(20, 4) GENERATED ALWAYS AS (price * 1.19) VIRTUAL,
    weight float,
    exact_weight double,
    picture blob,
    `Sold In` varchar(20) NOT NULL DEFAULT 'any',
    KEY product_searched (searched),
    KEY product_name (name(20), category_id),
    KEY product_taxed (taxed),
    FOREIGN KEY (category_id) REFERENCES category (id)
);

CREATE TABLE customer (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    email varchar(190) NOT NULL,
    name varchar(120) NOT NULL,
    title enum('Ms', 'Mr', 'Dr, h.c.', '') NOT NULL DEFAULT '',
    address text,
    phones varchar(60) CHARACTER SET latin1,
    preferences json,
    points bigint NOT NULL DEFAULT 0,
    points_proof decimal(38, 0) NOT NULL DEFAULT 0,
    born date,
    created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    touched bigint unsigned NOT NULL DEFAULT 0,
    UNIQUE KEY customer_email (email)
);

CREATE TABLE orders (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    placed_at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    customer_id bigint NOT NULL,
    state enum('new', 'paid', 'packed', 'sent', 'returned') NOT NULL DEFAULT 'new',
    total bigint NOT NULL DEFAULT 0,
    note text,
    voucher bigint unsigned,
    stamp bigint,
    change_stamp bigint,
    KEY orders_customer (customer_id, placed_at),
    FOREIGN KEY (customer_id) REFERENCES customer (id)
) AUTO_INCREMENT = 1000;

CREATE TABLE order_line (
    order_id bigint unsigned NOT NULL,
    line tinyint unsigned NOT NULL,
    product_id bigint unsigned NOT NULL,
    quantity mediumint NOT NULL CHECK (quantity > 0),
    price bigint NOT NULL,
    amount bigint GENERATED ALWAYS AS (quantity * price) STORED,
    stamp bigint,
    PRIMARY KEY (order_id, line),
    KEY order_line_product (product_id),
    CONSTRAINT line_of_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT line_of_product FOREIGN KEY (product_id) REFERENCES product (id)
);

CREATE TABLE stock_move (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    product_id bigint unsigned NOT NULL,
    quantity int NOT NULL,
    moved_at datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
    stamp bigint,
    FOREIGN KEY (product_id) REFERENCES product (id)
);

CREATE TABLE payment (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    customer_id bigint NOT NULL,
    amount bigint NOT NULL,
    method varchar(10) NOT NULL CHECK (method IN ('card', 'bank', 'voucher')),
    reference varbinary(32),
    stamp bigint,
    FOREIGN KEY (customer_id) REFERENCES customer (id)
) AUTO_INCREMENT = 500;

CREATE TABLE posting (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    account varchar(40) NOT NULL,
    amount decimal(14, 2) NOT NULL,
    payment_id bigint unsigned,
    FOREIGN KEY (payment_id) REFERENCES payment (id)
);

CREATE TABLE review (
    id int unsigned AUTO_INCREMENT PRIMARY KEY,
    product_id bigint unsigned NOT NULL,
    stars tinyint NOT NULL CHECK (stars BETWEEN 1 AND 5),
    body longtext NOT NULL,
    written date NOT NULL DEFAULT '2024-00-00',
    helpful bigint NOT NULL DEFAULT 0,
    helpful_proof decimal(38, 0) NOT NULL DEFAULT 0,
    stamp bigint,
    FULLTEXT KEY review_words (body),
    FOREIGN KEY (product_id) REFERENCES product (id)
);

-- Partitioned by month; a partitioned table has no foreign keys.
CREATE TABLE page_view (
    id bigint unsigned AUTO_INCREMENT,
    path varchar(120) NOT NULL,
    seen_at datetime(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    visitor varbinary(16),
    agent json,
    stamp bigint,
    PRIMARY KEY (id, seen_at),
    KEY page_view_seen (seen_at)
) PARTITION BY RANGE COLUMNS (seen_at) (
    PARTITION past VALUES LESS THAN ('2026-01-01'),
    PARTITION present VALUES LESS THAN ('2046-01-01'),
    PARTITION future VALUES LESS THAN (MAXVALUE)
);

-- No key, and rows that change.
CREATE TABLE shelf_count (
    warehouse_id smallint unsigned NOT NULL,
    shelf int NOT NULL,
    counted bigint NOT NULL DEFAULT 0,
    counted_proof decimal(38, 0) NOT NULL DEFAULT 0,
    KEY shelf_count_shelf (shelf),
    FOREIGN KEY (warehouse_id) REFERENCES warehouse (id)
);

CREATE TABLE order_audit (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    order_id bigint unsigned NOT NULL,
    `change` varchar(40) NOT NULL,
    at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    stamp bigint
);

-- What the event writes, and on which server it ran.
CREATE TABLE tick (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    port int unsigned NOT NULL
);

CREATE DEFINER = app@`%` TRIGGER customer_touched BEFORE UPDATE ON customer FOR EACH ROW SET NEW.touched = OLD.touched + 1;
CREATE DEFINER = app@`%` TRIGGER payment_booked AFTER INSERT ON payment FOR EACH ROW
    INSERT INTO posting (account, amount, payment_id) VALUES (NEW.method, NEW.amount / 100, NEW.id);

CREATE DEFINER = app@`%` VIEW order_overview AS
    SELECT o.id, o.placed_at, c.name AS customer, o.state, o.total
    FROM orders o JOIN customer c ON c.id = o.customer_id;
CREATE DEFINER = app@`%` SQL SECURITY INVOKER VIEW sales_by_category AS
    SELECT c.id, c.name, count(*) AS `lines`, sum(l.amount) AS amount
    FROM order_line l JOIN product p ON p.id = l.product_id JOIN category c ON c.id = p.category_id
    GROUP BY c.id, c.name;

CREATE DEFINER = app@`%` FUNCTION in_euro (cents bigint) RETURNS varchar(40) CHARSET utf8mb4 DETERMINISTIC NO SQL
    RETURN concat(cents DIV 100, '.', lpad(cents MOD 100, 2, '0'), ' €');

CREATE DEFINER = app@`%` TRIGGER order_audited AFTER UPDATE ON orders FOR EACH ROW
BEGIN
    IF NEW.state <> OLD.state THEN
        INSERT INTO order_audit (order_id, `change`, stamp)
        VALUES (NEW.id, concat(OLD.state, ' -> ', NEW.state), NEW.change_stamp);
    END IF;
END;

CREATE DEFINER = app@`%` PROCEDURE take_stock (product_wanted bigint, wanted int, stamp_given bigint)
COMMENT 'one move for each piece of news'
BEGIN
    UPDATE product SET stock = stock - wanted WHERE id = product_wanted;
    INSERT INTO stock_move (product_id, quantity, stamp) VALUES (product_wanted, -wanted, stamp_given);
    SELECT stock FROM product WHERE id = product_wanted;
END;

CREATE DEFINER = app@`%` EVENT ticking ON SCHEDULE EVERY 1 SECOND DO INSERT INTO tick (port) VALUES (@@port);
