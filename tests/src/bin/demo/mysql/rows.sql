-- The shop's rows from before the demo, made inside the server: about 560,000.

SET SESSION foreign_key_checks = 0, unique_checks = 0, sql_log_bin = 0;

CREATE TABLE number (n int PRIMARY KEY);
INSERT INTO number
WITH digit AS (SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
               UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)
SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d
FROM digit a, digit b, digit c, digit d, digit e, (SELECT 0 AS d UNION ALL SELECT 1) f
WHERE 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d <= 120000;

INSERT INTO warehouse (name, place, founded, doors)
SELECT concat('warehouse ', n), ST_GeomFromText(concat('POINT(', n, ' ', -n, ')')), 1900 + n, n * 37
FROM number WHERE n <= 5 ORDER BY n;

INSERT INTO category (parent_id, name, retired_on)
SELECT CASE WHEN n > 8 THEN 1 + n % 8 END, concat('Größe ', n), CASE WHEN n % 7 = 0 THEN '2023-02-31' ELSE '0000-00-00' END
FROM number WHERE n <= 60 ORDER BY n;

INSERT INTO product (sku, name, category_id, price, stock, stock_opening, flags, attributes, weight, exact_weight, picture)
SELECT concat('SKU-', lpad(n, 6, '0')), concat('Thing № ', n, ' 🧀'), 1 + n % 60, 99 + n * 7 % 9900, 1000000, 1000000,
       n % 16, CASE WHEN n % 11 > 0 THEN json_object('colour', elt(1 + n % 3, 'red', 'blue', 'green'), 'size', n % 50,
       'ratio', n / 8, 'null', NULL, 'text', 'a "quoted" \\ one') END,
       CASE WHEN n % 7 > 0 THEN n / 3 END, 1e-7 / n, CASE WHEN n % 5 = 0 THEN unhex(concat('00FF5C27', sha2(n, 224), '0A')) END
FROM number WHERE n <= 5000 ORDER BY n;

INSERT INTO customer (email, name, title, address, phones, preferences, born, created_at)
SELECT concat('customer', n, '@example.org'), concat('Customer ', n), elt(1 + n % 4, 'Ms', 'Mr', 'Dr, h.c.', ''),
       CASE WHEN n % 9 > 0 THEN concat('Road ', n % 100, '\nCity "', n % 50, '"') END, concat('+00 ', n, ' ä'),
       json_object('newsletter', n % 2 = 0, 'language', 'en'), '1940-01-01' + INTERVAL n % 25000 DAY,
       now(6) - INTERVAL n MINUTE
FROM number WHERE n <= 50000 ORDER BY n;

INSERT INTO orders (placed_at, customer_id, state, note)
SELECT now(6) - INTERVAL 2 * n MINUTE, 1 + n * 31 % 50000, 1 + n % 5,
       CASE WHEN n % 10 = 0 THEN concat('leave at the door\t\\ ring twice\n', n) END
FROM number WHERE n <= 100000 ORDER BY n;

INSERT INTO order_line (order_id, line, product_id, quantity, price)
SELECT o.id, l.n, p.id, 1 + (o.id + l.n) % 4, p.price
FROM orders o JOIN number l ON l.n <= 2 JOIN product p ON p.id = 1 + (o.id * 13 + l.n * 7) % 5000
ORDER BY o.id, l.n;

UPDATE orders o JOIN (SELECT order_id, sum(amount) AS amount FROM order_line GROUP BY order_id) l ON l.order_id = o.id
SET o.total = l.amount;

UPDATE product p JOIN (SELECT product_id, sum(quantity) AS quantity FROM order_line GROUP BY product_id) l
    ON l.product_id = p.id
SET p.stock = p.stock - l.quantity;

INSERT INTO stock_move (product_id, quantity)
SELECT product_id, -sum(quantity) FROM order_line GROUP BY product_id;

INSERT INTO payment (customer_id, amount, method, reference)
SELECT 1 + n * 17 % 50000, n % 100000, elt(1 + n % 3, 'card', 'bank', 'voucher'), unhex(left(sha2(n, 256), 32))
FROM number WHERE n <= 40000 ORDER BY n;

INSERT INTO review (product_id, stars, body)
SELECT 1 + n % 5000, 1 + n % 5, repeat(concat(sha2(n, 256), ' '), 44) FROM number WHERE n <= 3000 ORDER BY n;

INSERT INTO page_view (path, seen_at, visitor, agent)
SELECT concat('/product/', n % 5000), now(3) - INTERVAL n SECOND, inet6_aton(concat('10.0.', n % 250, '.', n % 240)),
       CASE WHEN n % 3 > 0 THEN '{"browser": "any", "mobile": true}' END
FROM number ORDER BY n;

INSERT INTO shelf_count (warehouse_id, shelf) SELECT 1 + n % 5, n FROM number WHERE n <= 200 ORDER BY n;

DROP TABLE number;
SET SESSION foreign_key_checks = 1, unique_checks = 1, sql_log_bin = 1;
