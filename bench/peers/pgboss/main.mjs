// Drives pg-boss for the benchmark: see ../README.md.

import { readFileSync } from 'node:fs'
import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { Agent } from 'undici'
import { batches, event, main, paced, poster, Tally, timed } from '../common.mjs'

// The settings, and what else was tried, are explained in ../README.md.
const queue = 'event'
const noopWorker = { localConcurrency: 4, batchSize: 1000 }
const postWorker = { localConcurrency: 4, batchSize: 100 }
const latencyWorker = { localConcurrency: 2, batchSize: 100 }
const connections = 200
const insertBatch = 10_000
const inserters = 8

await main('pgboss', {
  version() {
    const file = new URL('node_modules/pg-boss/package.json', import.meta.url)
    console.log('pg-boss', JSON.parse(readFileSync(file)).version)
  },

  setup: () => started(boss => boss.createQueue(queue, { notify: true })),

  fill: ({ count, size, url }) => started(async boss => {
    for (const batch of batches(count, insertBatch, size, url)) {
      await boss.insert(queue, batch.map(data => ({ data })))
    }
    await boss.getDb().executeSql('vacuum analyze pgboss.job')
  }),

  drain: ({ post, count, url }) => started(async boss => {
    const tally = new Tally(count)
    await timed(count, tally, () => work(boss, post ? postWorker : noopWorker, tally, post, url), async () => {
      const { rows } = await boss.getDb().executeSql(`select exists (
        select from pgboss.job where name = '${queue}' and state < 'completed') as left`)
      return rows[0].left
    })
  }),

  latency: ({ post, rate, count, url }) => started(async boss => {
    const tally = new Tally(count)
    const stop = await work(boss, latencyWorker, tally, post, url)
    const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: inserters })
    await paced(pool, rate, count, tally, (client, n) => boss.send(queue, event(n, 250), {
      db: { executeSql: (text, values) => client.query(text, values) }
    }))
    await pool.end()
    await stop()
  })
})

// started gives use a pg-boss that runs, and stops it afterwards.
async function started(use) {
  const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, useListenNotify: true, schedule: false })
  boss.on('error', error => console.error(error))
  await boss.start()
  try {
    await use(boss)
  } finally {
    await boss.stop()
  }
}

// work starts the workers and returns what stops them.
async function work(boss, settings, tally, post, url) {
  const agent = new Agent({ connections })
  const send = poster(agent, url)
  const handle = async ({ id, data }) => {
    tally.begin(data.n)
    try {
      if (post) await send(data)
    } catch (error) {
      return { id, status: 'failed', output: { message: String(error) } }
    }
    tally.done(data.n)
    return { id, status: 'completed' }
  }
  const options = { ...settings, perJobResults: true, burstWhenBatchFull: true }
  await boss.work(queue, options, jobs => Promise.all(jobs.map(handle)))
  return async () => {
    await boss.offWork(queue)
    await agent.close()
  }
}
