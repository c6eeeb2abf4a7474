// What an application does with mysql2 on Node, told line by line, with one pause in the middle; see dbapi.py.
//
//     mysql2.mjs HOST PORT USER PASSWORD DATABASE FILE, with NODE_PATH's folder of modules as HEADGATE_NODE_MODULES
import { createReadStream } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const modules = createRequire(`${process.env.HEADGATE_NODE_MODULES}/`);
const mysql = modules('mysql2/promise');
const [host, port, user, password, database, file] = process.argv.slice(2);
const login = { host, port: Number(port), user, password, database };
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const tell = (what, rows) => console.log(what, JSON.stringify(rows));
const connect = () =>
  mysql.createConnection({
    ...login,
    multipleStatements: true,
    rowsAsArray: true,
    decimalNumbers: false,
    infileStreamFactory: (path) => createReadStream(path),
  });

function told([rows]) {
  return Array.isArray(rows) ? rows : [rows.affectedRows, rows.insertId];
}

async function ask(connection, what, sql, values) {
  tell(what, told(await connection.query(sql, values)));
}

async function bound(connection, what, sql, values) {
  tell(what, told(await connection.execute(sql, values)));
}

// Ends a long statement from another connection, and tells how it ended.
async function killAQuery(connection) {
  const other = await connect();
  let ended;
  const running = connection.query('SELECT SLEEP(20) FROM drv_many WHERE id < 20').then(
    ([rows]) => (ended = ['rows', rows.length]),
    (error) => (ended = ['error', error.errno]),
  );
  const begin = Date.now();
  // The statement must be under way before it can be ended; killing a session that is idle does nothing.
  while (!ended && Date.now() - begin < 15000) {
    await other.query(`KILL QUERY ${connection.connection.threadId}`);
    await Promise.race([running, new Promise((resolve) => setTimeout(resolve, 50))]);
  }
  await running;
  await other.end();
  tell('killed', ended);
  // What was pending may hit the next statement of the same session.
  for (let round = 0; round < 3; round += 1) {
    await connection.query('SELECT 1').catch((error) => {
      if (error.errno !== 1317) throw error;
    });
  }
}

async function half(auto, manual, number) {
  await ask(auto, 'text', "SELECT ? + 1, 'é', NULL, CAST(1.50 AS DECIMAL(6,2))", [number]);
  await bound(auto, 'insert', 'INSERT INTO drv_rows (half, note) VALUES (?, ?)', [number, 'one']);
  await ask(auto, 'id', 'SELECT LAST_INSERT_ID() > 0');
  for (const value of [1, 2]) {
    await bound(auto, 'prepared', 'SELECT half, note FROM drv_rows WHERE half <= ? ORDER BY id', [number]);
    await bound(auto, 'bound', 'SELECT ? + 0, ?', [value, 'zwölf']);
  }
  const [results] = await auto.query('CALL drv_two_results()');
  tell('results', results);
  const [several] = await auto.query('SELECT 1; SELECT 2, 3; DO 0');
  tell('several', several.slice(0, 2));
  await bound(manual, 'inside', "INSERT INTO drv_rows (half, note) VALUES (?, 'kept')", [number]);
  await bound(manual, 'seen', 'SELECT COUNT(*) FROM drv_rows WHERE half = ?', [number]);
  await manual.commit();
  await ask(manual, 'undone', "INSERT INTO drv_rows (half, note) VALUES (?, 'lost')", [number]);
  await manual.rollback();
  await ask(auto, 'loaded', `LOAD DATA LOCAL INFILE '${file}' INTO TABLE drv_loaded (half, text)`);
  await ask(auto, 'counted', 'SELECT COUNT(*), SUM(half), MAX(text) FROM drv_loaded');
  await killAQuery(auto);
}

const auto = await connect();
const manual = await connect();
await manual.query('SET autocommit = 0');
await ask(auto, 'state', "SET @mine = 'remembered', SESSION group_concat_max_len = 4711");
await half(auto, manual, 1);
await ask(manual, 'ended', 'COMMIT');
console.log('PAUSE');
await lines.next();
await ask(auto, 'kept', 'SELECT @mine, @@group_concat_max_len, DATABASE()');
await half(auto, manual, 2);
await auto.changeUser({ user, password, database });
await ask(auto, 'changed', "SELECT @mine, DATABASE(), SUBSTRING_INDEX(CURRENT_USER(), '@', 1)");
await ask(auto, 'all', 'SELECT half, note FROM drv_rows ORDER BY half, note');
await auto.end();
await manual.end();
console.log('END');
process.exit(0);
