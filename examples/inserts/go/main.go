// Command go books a visit and says so, in one transaction.
//
//	DATABASE_URL=postgres://… go run ./examples/inserts/go
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	id, err := book(ctx, conn, "Ann", "+12025550123")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("booked", id)
}

// book inserts a booking and the event that it was made. Where it returns an
// error, neither is there.
func book(ctx context.Context, conn *pgx.Conn, customer, phone string) (id int64, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `insert into bookings (customer, phone, starts_at)
			values ($1, $2, now() + interval '1 day') returning id`, customer, phone).Scan(&id)
		if err != nil {
			return err
		}
		// The payload is any value that encodes as JSON.
		_, err = tx.Exec(ctx, `insert into outbox_events (type, payload) values ($1, $2)`,
			"booking.created", map[string]any{"bookingId": id})
		return err
	})
	return id, err
}
