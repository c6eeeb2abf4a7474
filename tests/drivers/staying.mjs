// What the scripts of Node's drivers that stay connected share; see staying.py, which does the same.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const SESSIONS = 3;
const READY = 7;
const MANY = 500;
const THINKS = 300;

const [name, host, port, user, password, database, tls, authority, certificate, key] = process.argv.slice(2);
export const mode = { name, host, port: Number(port), user, password, database, tls };

/** What Node's own TLS is told, or nothing. */
export function encryption() {
  if (tls === 'disable') return undefined;
  if (tls === 'require') return { rejectUnauthorized: false };
  const shown = tls === 'certificate' ? { cert: readFileSync(certificate), key: readFileSync(key) } : {};
  return { ca: readFileSync(authority), rejectUnauthorized: true, ...shown };
}

export const COLUMNS = 'driver, session, number, amount, ratio, even, body, note, moment, absent';

export function values(session, number) {
  const body = Buffer.alloc(4);
  body.writeInt32BE(number);
  const moment = new Date(Date.UTC(2024, 1, 29, 12, 0, number));
  const amount = (number * 1.25).toFixed(2);
  return [name, session, number, amount, number / 4, number % 2 === 0, body, `zwölf ${number}`, moment, null];
}

export function same(what, is, wanted) {
  const [one, other] = [is, wanted].map((value) => JSON.stringify(value));
  if (one !== other) throw new Error(`${what}: ${one} and not ${other}`);
}

export function sameRows(rows) {
  same('rows', rows.map((row) => row.id), Array.from({ length: MANY }, (_, at) => at + 1));
}

/** `open` makes a session from its number; its `work` is one transaction. */
export async function stay(open) {
  const counts = Array(SESSIONS).fill(0);
  let errors = 0;
  let stopped = false;
  let target = { counts: counts.map(() => READY), word: 'ready' };

  async function live(at) {
    const session = await open(at);
    while (!stopped) {
      await session.work(counts[at] + 1);
      counts[at] += 1;
      if (target && counts.every((count, one) => count >= target.counts[one])) {
        console.log(target.word);
        target = undefined;
      }
      await new Promise((resolve) => setTimeout(resolve, THINKS));
    }
    await session.close();
  }
  const failed = (at) => (error) => {
    errors += 1;
    console.log(`error in transaction ${counts[at] + 1} of session ${at}: ${error.stack.replaceAll('\n', ' ')}`);
  };
  const lives = counts.map((_, at) => live(at).catch(failed(at)));
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'stop') break;
    // The one that is under way may have begun before.
    target = { counts: counts.map((count) => count + 2), word: 'progress' };
  }
  stopped = true;
  await Promise.all(lives);
  console.log(`acknowledged ${counts.reduce((sum, count) => sum + count)}, errors ${errors}`);
  process.exit(0);
}
