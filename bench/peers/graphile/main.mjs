// Drives Graphile Worker for the benchmark: see ../README.md.

import { readFileSync } from 'node:fs'
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import pg from 'pg'
import { Agent } from 'undici'
import { batches, event, main, paced, poster, Tally, timed } from '../common.mjs'

// The settings, and what else was tried, are explained in ../README.md.
const concurrency = 24
const postConcurrency = 100 // in drain
const preset = {
  worker: {
    connectionString: process.env.DATABASE_URL,
    maxPoolSize: 25,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger: new Logger(() => (level, message) => {
      if (level === 'error') console.error(message)
    })
  }
}
const insertBatch = 10_000
const inserters = 8

await main('graphile', {
  version() {
    const file = new URL('node_modules/graphile-worker/package.json', import.meta.url)
    console.log('graphile-worker', JSON.parse(readFileSync(file)).version)
  },

  setup: () => utils(utils => utils.migrate()),

  fill: ({ count, size, url }) => utils(async utils => {
    for (const batch of batches(count, insertBatch, size, url)) {
      await utils.addJobs(batch.map(payload => ({ identifier: 'event', payload })))
    }
    await utils.withPgClient(client => client.query('vacuum analyze graphile_worker._private_jobs'))
  }),

  async drain({ post, count, url }) {
    const tally = new Tally(count)
    const client = new pg.Client(process.env.DATABASE_URL)
    await client.connect()
    await timed(count, tally, () => work(tally, post, url, post ? postConcurrency : concurrency), async () => {
      // A finished job leaves the table.
      const { rows } = await client.query('select exists (select from graphile_worker._private_jobs) as left')
      return rows[0].left
    })
    await client.end()
  },

  async latency({ post, rate, count, url }) {
    const tally = new Tally(count)
    const stop = await work(tally, post, url, concurrency)
    const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: inserters })
    await paced(pool, rate, count, tally, (client, n) => client.query({
      name: 'add',
      text: "select graphile_worker.add_job('event', $1::json)",
      values: [JSON.stringify(event(n, 250))]
    }))
    await pool.end()
    await stop()
  }
})

// utils gives use Graphile's tools for a program that only inserts.
async function utils(use) {
  const utils = await makeWorkerUtils({ preset })
  try {
    await use(utils)
  } finally {
    await utils.release()
  }
}

// work starts a worker and returns what stops it.
async function work(tally, post, url, concurrentJobs) {
  const agent = new Agent({ connections: concurrentJobs })
  const send = poster(agent, url)
  const handle = async payload => {
    tally.begin(payload.n)
    if (post) await send(payload)
    tally.done(payload.n)
  }
  const runner = await run({
    preset: { worker: { ...preset.worker, concurrentJobs } },
    taskList: { event: handle },
    parsedCronItems: []
  })
  return async () => {
    await runner.stop()
    await agent.close()
  }
}
