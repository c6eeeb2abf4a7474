//! What the proof asks the database: contents of rows, sums, and the rules of the shop.

use crate::ledger::{Sum, Table};

/// What must hold in the shop whatever happens; each query counts the rows that break the rule.
pub(super) const RULES: [(&str, &str); 9] = [
    (
        "every order's total is the sum of its lines",
        "SELECT count(*) FROM (
             SELECT o.id FROM orders o LEFT JOIN order_line l ON l.order_id = o.id
             GROUP BY o.id, o.total HAVING o.total <> coalesce(sum(l.amount), 0)) broken",
    ),
    (
        "every product's stock is its opening stock and its moves",
        "SELECT count(*) FROM product p
         LEFT JOIN (SELECT product_id, sum(quantity) AS moved FROM stock_move GROUP BY product_id) m
             ON m.product_id = p.id
         WHERE p.stock <> p.stock_opening + coalesce(m.moved, 0)",
    ),
    (
        "what was sold left the stock, piece by piece",
        "SELECT abs((SELECT sum(quantity) FROM order_line) + (SELECT sum(quantity) FROM stock_move))",
    ),
    (
        "every payment is booked exactly once",
        "SELECT count(*) FROM (
             SELECT y.id FROM payment y LEFT JOIN posting b ON b.payment_id = y.id
             GROUP BY y.id, y.amount HAVING count(b.id) <> 1 OR sum(b.amount) <> y.amount / 100) broken",
    ),
    (
        "no number was given twice",
        "SELECT count(*) FROM (SELECT id FROM page_view GROUP BY id HAVING count(*) > 1) broken",
    ),
    (
        "generated columns are what they are generated from",
        "SELECT (SELECT count(*) FROM order_line WHERE amount <> quantity * price)
              + (SELECT count(*) FROM product
                 WHERE searched <> lower(concat(sku, ' ', name)) OR taxed <> price * 1.19)",
    ),
    (
        "every line has its order, every order its customer",
        "SELECT (SELECT count(*) FROM order_line l
                 WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = l.order_id))
              + (SELECT count(*) FROM orders o WHERE NOT EXISTS (SELECT 1 FROM customer c WHERE c.id = o.customer_id))",
    ),
    (
        "every page view lies in the partition of its time",
        "SELECT (SELECT count(*) FROM page_view PARTITION (future))
              + (SELECT count(*) FROM page_view PARTITION (past) WHERE seen_at >= '2026-01-01')",
    ),
    (
        "all triggers, routines, views and foreign keys are there, and the event runs here",
        "SELECT (SELECT abs(count(*) - 3) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = database())
              + (SELECT abs(count(*) - 2) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = database())
              + (SELECT abs(count(*) - 2) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = database())
              + (SELECT abs(count(*) - 10) FROM information_schema.REFERENTIAL_CONSTRAINTS
                 WHERE CONSTRAINT_SCHEMA = database())
              + (SELECT abs(count(*) - 1) FROM information_schema.EVENTS
                 WHERE EVENT_SCHEMA = database() AND STATUS = 'ENABLED')
              + (SELECT count(*) = 0 FROM tick WHERE port = @@port)",
    ),
];

/// The same where only MySQL tells; its other views of these numbers may be a day old.
pub(super) const RULES_OF_MYSQL: [(&str, &str); 1] = [(
    "every counter is past the numbers in use",
    "SELECT count(*) FROM (
         SELECT 'orders' AS name, max(id) AS used FROM orders
         UNION ALL SELECT 'payment', max(id) FROM payment
         UNION ALL SELECT 'posting', max(id) FROM posting
         UNION ALL SELECT 'review', max(id) FROM review
         UNION ALL SELECT 'stock_move', max(id) FROM stock_move
         UNION ALL SELECT 'order_audit', max(id) FROM order_audit) s
     LEFT JOIN information_schema.INNODB_TABLESTATS t ON t.NAME = concat(database(), '/', s.name)
     WHERE coalesce(t.AUTOINC, 0) <= s.used",
)];

/// The same where only MariaDB tells, and for what only MariaDB has.
pub(super) const RULES_OF_MARIADB: [(&str, &str); 3] = [
    (
        "every counter is past the numbers in use",
        "SELECT count(*) FROM (
             SELECT 'orders' AS name, max(id) AS used FROM orders
             UNION ALL SELECT 'payment', max(id) FROM payment
             UNION ALL SELECT 'posting', max(id) FROM posting
             UNION ALL SELECT 'review', max(id) FROM review
             UNION ALL SELECT 'stock_move', max(id) FROM stock_move
             UNION ALL SELECT 'order_audit', max(id) FROM order_audit
             UNION ALL SELECT 'page_view', max(id) FROM page_view) s
         LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = database() AND t.TABLE_NAME = s.name
         WHERE coalesce(t.AUTO_INCREMENT, 0) <= s.used",
    ),
    (
        "no voucher was given twice",
        "SELECT count(*) FROM (SELECT voucher FROM orders WHERE voucher IS NOT NULL
         GROUP BY voucher HAVING count(*) > 1) broken",
    ),
    (
        "the sequence is past the vouchers in use",
        "SELECT count(*) FROM voucher_number WHERE next_not_cached_value <= (SELECT max(voucher) FROM orders)",
    ),
];

/// The expression, as text, by which a row is recognised beside its stamp.
pub(super) fn evidence(table: Table) -> &'static str {
    match table {
        Table::Orders => "concat(customer_id, '/', total)",
        Table::OrderLine => "concat(product_id, '/', amount)",
        Table::StockMove => "concat(product_id, '/', quantity)",
        Table::Payment => "concat(customer_id, '/', amount)",
        Table::Review => "concat(product_id, '/', body)",
        Table::PageView => "path",
        Table::OrderAudit => "concat(order_id, '/', `change`)",
    }
}

/// The query of a sum's keys, values and proofs.
pub(super) fn sums(sum: Sum) -> &'static str {
    match sum {
        Sum::Stock => "SELECT id, stock, 0 FROM product",
        Sum::Points => "SELECT id, points, points_proof FROM customer",
        Sum::Helpful => "SELECT id, helpful, helpful_proof FROM review",
        Sum::Counted => "SELECT shelf, counted, counted_proof FROM shelf_count",
    }
}
