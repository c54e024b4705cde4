package listener_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener"
)

// A program of its own that does in Go what events of one type ask for. The
// database has been migrated by "listener migrate".
func Example() {
	url, drop := exampleDatabase() // a program has os.Getenv("DATABASE_URL") here
	defer drop()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	d := dispatch.New()
	d.Handle("invoice.paid", dispatch.HandlerFunc(func(_ context.Context, ev dispatch.Event) error {
		fmt.Printf("%s %s\n", ev.Type, ev.Payload)
		stop() // a program goes on until somebody interrupts it
		return nil
	}))
	l, err := listener.New(listener.Config{Pool: pool, Dispatcher: d})
	if err != nil {
		log.Fatal(err)
	}

	// Anybody may insert events, in any language; here it is the program itself.
	_, err = pool.Exec(ctx, `insert into outbox_events (type, payload) values ('invoice.paid', '{"number": 1042}')`)
	if err != nil {
		log.Fatal(err)
	}
	if err := l.Run(ctx); err != nil {
		log.Fatal(err)
	}
	var processed bool
	err = pool.QueryRow(context.Background(), `select processed_at is not null from outbox_events`).Scan(&processed)
	fmt.Println("processed:", processed, err)
	// Output:
	// invoice.paid {"number": 1042}
	// processed: true <nil>
}
