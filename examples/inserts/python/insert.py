"""Books a visit and says so, in one transaction.

    pip install "psycopg[binary]"
    DATABASE_URL=postgres://... python insert.py
"""

import os

import psycopg
from psycopg.types.json import Jsonb


def book(conn: psycopg.Connection, customer: str, phone: str) -> int:
    """Insert a booking and the event that it was made. Where it raises, neither is there."""
    with conn.transaction():
        (booking_id,) = conn.execute(
            "insert into bookings (customer, phone, starts_at) values (%s, %s, now() + interval '1 day') returning id",
            (customer, phone),
        ).fetchone()
        conn.execute(
            "insert into outbox_events (type, payload) values (%s, %s)",
            ("booking.created", Jsonb({"bookingId": booking_id})),
        )
    return booking_id


if __name__ == "__main__":
    with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
        print("booked", book(conn, "Ann", "+12025550123"))
