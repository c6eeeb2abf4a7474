-- The shop's rows from before the demo, made inside the server: about 560,000.

SET session_replication_role = replica;
SET synchronous_commit = off;
SELECT setseed(0.42);

INSERT INTO warehouse (name, place, doors)
SELECT 'warehouse ' || n, point(n, -n), ARRAY[make_interval(hours => n), NULL] FROM generate_series(1, 5) n;

INSERT INTO category (parent_id, name)
SELECT CASE WHEN n > 8 THEN 1 + n % 8 END, 'category ' || n FROM generate_series(1, 60) n;

INSERT INTO product (sku, name, category_id, price, stock, stock_opening, tags, attributes, weight, "Sold In")
SELECT 'SKU-' || lpad(n::text, 6, '0'), 'Thing №' || n, 1 + n % 60, 99 + n * 7 % 9900, 1000000, 1000000,
       ARRAY['tag' || n % 10, 'with "quotes", commas', NULL],
       jsonb_build_object('colour', (ARRAY['red', 'blue', 'green'])[1 + n % 3], 'size', n % 50, 'null', NULL),
       CASE n % 7 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' ELSE n / 3.0 END, daterange('2020-01-01', NULL)
FROM generate_series(1, 5000) n;

INSERT INTO customer (email, name, address, phones, preferences, born, created_at)
SELECT 'customer' || n || '@example.org', 'Customer ' || n,
       CASE WHEN n % 9 > 0 THEN ROW('Road ' || n % 100, 'City "' || n % 50 || '"', NULL)::postal_address END,
       ARRAY['+00 ' || n], jsonb_build_object('newsletter', n % 2 = 0, 'language', 'en'),
       date '1940-01-01' + n % 25000, now() - interval '1 minute' * n
FROM generate_series(1, 50000) n;

INSERT INTO orders (placed_at, customer_id, state, note)
SELECT now() - interval '2 minutes' * n, 1 + n * 31 % 50000, (enum_range(NULL::order_state))[1 + n % 5],
       CASE WHEN n % 10 = 0 THEN E'leave at the door\t\\ ring twice\n' || n END
FROM generate_series(1, 100000) n;

INSERT INTO order_line (order_id, placed_at, line, product_id, quantity, price)
SELECT o.id, o.placed_at, line, p.id, 1 + (o.id + line) % 4, p.price
FROM orders o CROSS JOIN generate_series(1, 2) line JOIN product p ON p.id = 1 + (o.id * 13 + line * 7) % 5000;

UPDATE orders o SET total = l.amount
FROM (SELECT order_id, sum(amount)::bigint AS amount FROM order_line GROUP BY order_id) l WHERE l.order_id = o.id;

UPDATE product p SET stock = stock - l.quantity
FROM (SELECT product_id, sum(quantity) AS quantity FROM order_line GROUP BY product_id) l WHERE l.product_id = p.id;

INSERT INTO stock_move (product_id, quantity)
SELECT product_id, -sum(quantity) FROM order_line GROUP BY product_id;

INSERT INTO payment (customer_id, amount, method, reference)
SELECT 1 + n * 17 % 50000, n % 100000, (ARRAY['card', 'bank', 'voucher'])[1 + n % 3], decode(md5(n::text), 'hex')
FROM generate_series(1, 40000) n;

INSERT INTO accounting.posting (account, amount, payment_id) SELECT method, amount / 100.0, id FROM payment;

INSERT INTO review (product_id, stars, body)
SELECT 1 + n % 5000, 1 + n % 5, (SELECT string_agg(md5(n * 1000 + part || ''), '') FROM generate_series(1, 90) part)
FROM generate_series(1, 3000) n;

INSERT INTO page_view (path, seen_at, visitor, agent)
SELECT '/product/' || n % 5000, now() - interval '1 second' * n, '10.0.0.0'::inet + n % 65000,
       CASE WHEN n % 3 > 0 THEN '{"browser": "any", "mobile": true}'::jsonb END
FROM generate_series(1, 120000) n;

INSERT INTO shelf_count (warehouse_id, shelf) SELECT 1 + n % 5, n FROM generate_series(1, 200) n;

REFRESH MATERIALIZED VIEW sales_by_category;
RESET synchronous_commit;
RESET session_replication_role;
