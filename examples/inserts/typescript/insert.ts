// Books a visit and says so, in one transaction.
//
//     npm install pg
//     DATABASE_URL=postgres://… node insert.ts      (Node 22.18 or later; or: npx tsx insert.ts)
import pg from "pg";

// book inserts a booking and the event that it was made. Where it throws, neither
// is there.
async function book(client: pg.Client, customer: string, phone: string): Promise<string> {
  await client.query("begin");
  try {
    const booked = await client.query<{ id: string }>(
      "insert into bookings (customer, phone, starts_at) values ($1, $2, now() + interval '1 day') returning id",
      [customer, phone],
    );
    const id = booked.rows[0].id;
    // An object becomes JSON by itself.
    await client.query("insert into outbox_events (type, payload) values ($1, $2)", [
      "booking.created",
      { bookingId: id },
    ]);
    await client.query("commit");
    return id;
  } catch (err) {
    await client.query("rollback");
    throw err;
  }
}

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
try {
  console.log("booked", await book(client, "Ann", "+12025550123"));
} finally {
  await client.end();
}
