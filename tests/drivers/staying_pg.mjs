// node-postgres, with statements that have names and rows that come in parts; see staying.py.
import { createRequire } from 'node:module';
import { COLUMNS, encryption, mode, same, sameRows, stay, values } from './staying.mjs';

const { Client } = createRequire(`${process.env.HEADGATE_NODE_MODULES}/`)('pg');
const places = Array.from({ length: 10 }, (_, at) => `$${at + 1}`).join(', ');
const INSERT = `insert into taken (${COLUMNS}) values (${places})`;
const LAST = 'select amount, body, moment from taken where driver = $1 and session = $2 and number = $3';

await stay(async (at) => {
  const { tls, name, ...login } = mode;
  const negotiation = tls === 'direct' ? { sslnegotiation: 'direct' } : {};
  const client = new Client({ ...login, ssl: encryption() ?? false, enableChannelBinding: tls === 'bound', ...negotiation });
  await client.connect();
  const work = async (number) => {
    const row = values(at, number);
    await client.query('begin');
    await client.query({ name: 'put', text: INSERT, values: row });
    await client.query('savepoint twice');
    await client.query({ name: 'put', text: INSERT, values: row }).then(
      () => Promise.reject(new Error('the same row twice')),
      (error) => error.code === '23505' || Promise.reject(error),
    );
    await client.query('rollback to savepoint twice');
    const many = { text: 'select id, body from many where id > $1 order by id', values: [0], rows: 60 };
    sameRows((await client.query(many)).rows);
    const mine = { name: 'mine', text: 'select count(*)::int as mine from taken where driver = $1 and session = $2', values: row.slice(0, 2) };
    same('counted', (await client.query(mine)).rows, [{ mine: number }]);
    const last = await client.query({ name: 'last', text: LAST, values: row.slice(0, 3) });
    same('the last one', last.rows, [{ amount: row[3], body: row[6], moment: row[8] }]);
    await client.query('commit');
  };
  return { work, close: () => client.end() };
});
