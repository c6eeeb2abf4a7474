// mysql2 with statements that the server prepares; see staying.py.
import { createRequire } from 'node:module';
import { COLUMNS, encryption, mode, same, sameRows, stay, values } from './staying.mjs';

const mysql = createRequire(`${process.env.HEADGATE_NODE_MODULES}/`)('mysql2/promise');
const INSERT = `INSERT INTO taken (${COLUMNS}) VALUES (${Array(10).fill('?').join(', ')})`;
const LAST = 'SELECT amount, body, moment FROM taken WHERE driver = ? AND session = ? AND number = ?';

await stay(async (at) => {
  const { tls, name, ...login } = mode;
  const ssl = encryption();
  const verified = ssl?.rejectUnauthorized ? { verifyIdentity: true } : {};
  const client = await mysql.createConnection({ ...login, timezone: 'Z', ...(ssl ? { ssl: { ...ssl, ...verified } } : {}) });
  const work = async (number) => {
    const row = values(at, number);
    await client.beginTransaction();
    await client.execute(INSERT, row);
    await client.execute(INSERT, row).then(
      () => Promise.reject(new Error('the same row twice')),
      (error) => error.errno === 1062 || Promise.reject(error),
    );
    sameRows((await client.execute('SELECT id, body FROM many WHERE id > ? ORDER BY id', [0]))[0]);
    const [mine] = await client.execute('SELECT COUNT(*) AS mine FROM taken WHERE driver = ? AND session = ?', row.slice(0, 2));
    same('counted', mine, [{ mine: number }]);
    const [last] = await client.execute(LAST, row.slice(0, 3));
    same('the last one', last, [{ amount: row[3], body: row[6], moment: row[8] }]);
    await client.commit();
  };
  return { work, close: () => client.end() };
});
