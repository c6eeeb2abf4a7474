//! What the proof asks the database: contents of rows, sums, and the rules of the shop.

use crate::ledger::{Sum, Table};

/// What must hold in the shop whatever happens; each query counts the rows that break the rule.
pub(super) const RULES: [(&str, &str); 11] = [
    (
        "every order's total is the sum of its lines",
        "SELECT count(*) FROM (
             SELECT o.id FROM orders o LEFT JOIN order_line l ON l.order_id = o.id AND l.placed_at = o.placed_at
             GROUP BY o.id, o.placed_at, o.total HAVING o.total <> coalesce(sum(l.amount), 0)) broken",
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
        "SELECT abs((SELECT sum(quantity) FROM order_line) + (SELECT sum(quantity) FROM stock_move))::bigint",
    ),
    (
        "every payment is booked exactly once",
        "SELECT count(*) FROM (
             SELECT y.id FROM payment y LEFT JOIN accounting.posting b ON b.payment_id = y.id
             GROUP BY y.id, y.amount HAVING count(b.id) <> 1 OR sum(b.amount) <> y.amount / 100.0) broken",
    ),
    (
        "no order number was given twice",
        "SELECT count(*) FROM (SELECT id FROM orders GROUP BY id HAVING count(*) > 1) broken",
    ),
    (
        "no other number was given twice",
        "SELECT count(*) FROM (
             SELECT id FROM payment GROUP BY id HAVING count(*) > 1
             UNION ALL SELECT id FROM page_view GROUP BY id HAVING count(*) > 1
             UNION ALL SELECT id FROM order_audit GROUP BY id HAVING count(*) > 1
             UNION ALL SELECT id FROM stock_move GROUP BY id HAVING count(*) > 1) broken",
    ),
    (
        "every sequence is past the numbers in use",
        "SELECT count(*) FROM (VALUES
             ((SELECT last_value FROM order_number), (SELECT max(id) FROM orders)),
             ((SELECT last_value FROM accounting.posting_number), (SELECT max(id) FROM accounting.posting)),
             ((SELECT last_value FROM payment_id_seq), (SELECT max(id) FROM payment)),
             ((SELECT last_value FROM review_id_seq), (SELECT max(id) FROM review)),
             ((SELECT last_value FROM stock_move_id_seq), (SELECT max(id) FROM stock_move)),
             ((SELECT last_value FROM page_view_id_seq), (SELECT max(id) FROM page_view))) AS s (last, used)
         WHERE last < used",
    ),
    (
        "generated columns are what they are generated from",
        "SELECT (SELECT count(*) FROM order_line WHERE amount <> quantity * price)
              + (SELECT count(*) FROM product WHERE searched <> lower(sku || ' ' || name))",
    ),
    (
        "every line has its order, every order its customer",
        "SELECT (SELECT count(*) FROM order_line l
                 WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = l.order_id AND o.placed_at = l.placed_at))
              + (SELECT count(*) FROM orders o WHERE NOT EXISTS (SELECT FROM customer c WHERE c.id = o.customer_id))",
    ),
    ("every order lies in the partition of its month", "SELECT count(*) FROM orders_other"),
    (
        "all constraints are valid, all triggers are on",
        "SELECT (SELECT count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
                 WHERE n.nspname IN ('public', 'accounting') AND NOT c.convalidated)
              + (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname IN ('public', 'accounting') AND t.tgenabled <> 'O')
              + (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname IN ('public', 'accounting') AND NOT (i.indisvalid AND i.indisready))",
    ),
];

/// The expression, as text, by which a row is recognised beside its stamp.
pub(super) fn evidence(table: Table) -> &'static str {
    match table {
        Table::Orders => "customer_id || '/' || total",
        Table::OrderLine => "product_id || '/' || amount",
        Table::StockMove => "product_id || '/' || quantity",
        Table::Payment => "customer_id || '/' || amount",
        Table::Review => "product_id || '/' || body",
        Table::PageView => "path",
        Table::OrderAudit => "order_id || '/' || change",
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
