// What the two Node programs share. What each command does and prints is the
// contract in README.md.

const usage = name => `usage: ${name} version
       ${name} setup
       ${name} fill N BYTES [URL]
       ${name} drain noop|post N [URL]
       ${name} latency noop|post RATE COUNT [URL]`

// main runs the command that the command line names. Each of the commands
// gets what it needs as one object.
export async function main(name, commands) {
  const [command, ...args] = process.argv.slice(2)
  const known = {
    version: [0, 0, () => ({})],
    setup: [0, 0, () => ({})],
    fill: [2, 3, ([count, size, url]) => ({ count: number(count), size: number(size), url })],
    drain: [2, 3, ([mode, count, url]) => ({ post: mode === 'post', count: number(count), url })],
    latency: [3, 4, ([mode, rate, count, url]) =>
      ({ post: mode === 'post', rate: number(rate), count: number(count), url })]
  }
  try {
    const [least, most, parse] = known[command] ?? fail('unknown command')
    if (args.length < least || args.length > most) fail('wrong number of arguments')
    await commands[command](parse(args))
  } catch (error) {
    console.error(`${name}: ${error.stack ?? error}\n${error.usage ? usage(name) : ''}`)
    process.exitCode = 1
  }
}

function number(text) {
  return /^\d+$/.test(text) ? Number(text) : fail(`${text} is not a count`)
}

function fail(message) {
  throw Object.assign(new Error(message), { usage: true })
}

// event is a job's payload: its number, where to post it when the command
// line does not say, and filling up to about size bytes of JSON.
export function event(n, size, url) {
  const bare = { n, url, pad: '' }
  return { ...bare, pad: 'x'.repeat(Math.max(0, size - JSON.stringify(bare).length)) }
}

// batches yields the events 1 to count in arrays of up to length.
export function * batches(count, length, size, url) {
  for (let done = 0; done < count;) {
    const batch = Array.from({ length: Math.min(length, count - done) }, (_, i) => event(done + i + 1, size, url))
    done += batch.length
    yield batch
  }
}

// now is the wall clock in nanoseconds, exact to about a microsecond.
export function now() {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n
}

// poster returns a function that posts an event and throws unless the reply
// is a 2xx. agent is undici's; url, when given, stands for each event's own.
export function poster(agent, url) {
  let target
  return async ({ n, url: own, pad }) => {
    if (target?.href !== (url ?? own)) {
      const { origin, pathname, search } = new URL(url ?? own)
      target = { href: url ?? own, origin, path: pathname + search }
    }
    const reply = await agent.request({
      origin: target.origin,
      path: target.path,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ n, pad })
    })
    await reply.body.dump()
    if (reply.statusCode < 200 || reply.statusCode > 299) throw new Error(`status ${reply.statusCode}`)
  }
}

// Tally counts the jobs that were handled.
export class Tally {
  constructor(count) {
    this.left = count
    this.began = [] // when each job's handler began
    this.waiting = new Map()
    this.all = new Promise(resolve => { this.resolve = resolve })
  }

  begin(n) {
    this.began[n] = now()
  }

  // done says that job n was handled.
  done(n) {
    this.waiting.get(n)?.()
    if (--this.left === 0) this.resolve()
  }

  // handled waits for job n; ask before it is inserted.
  handled(n) {
    return new Promise(resolve => this.waiting.set(n, resolve))
  }
}

// timed starts a worker, waits until count jobs are handled and recorded, and
// prints how long that took. left says whether the database still holds a job
// to finish; it is asked only once the last handler has returned.
export async function timed(count, tally, start, left) {
  const began = performance.now()
  const stop = await start()
  await tally.all
  while (await left()) await sleep(2)
  const seconds = (performance.now() - began) / 1000
  await stop()
  console.log(JSON.stringify({ jobs: count, seconds }))
}

// paced inserts jobs 1 to count through a pool of connections, each in a
// transaction of its own: rate a second, or, when rate is 0, each after the
// one before it was handled. Then it prints when each was committed and when
// its handler began. insert(client, n) inserts job n in the transaction that
// client, a node-postgres client, is in.
export async function paced(pool, rate, count, tally, insert) {
  const clients = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()))
  for (const client of clients) client.release()
  await sleep(1000) // the worker listens, the connections are open

  const commits = []
  const one = async n => {
    const client = await pool.connect()
    try {
      await client.query('begin')
      await insert(client, n)
      await client.query('commit')
      commits[n] = now()
    } finally {
      client.release()
    }
  }
  if (rate === 0) {
    for (let n = 1; n <= count; n++) {
      const handled = tally.handled(n)
      await one(n)
      await handled
    }
  } else {
    const inserts = []
    const start = performance.now()
    while (inserts.length < count) {
      const due = Math.min(count, 1 + Math.floor((performance.now() - start) * rate / 1000))
      while (inserts.length < due) inserts.push(one(inserts.length + 1))
      await sleep(1)
    }
    await Promise.all(inserts)
    await tally.all
  }
  const lines = commits.map((commit, n) => `{"n":${n},"commit":${commit},"began":${tally.began[n]}}\n`)
  process.stdout.write(lines.join(''))
}

function sleep(ms) {
  return new Promise(resolve => setTimeout(resolve, ms))
}
