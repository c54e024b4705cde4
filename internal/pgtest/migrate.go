package pgtest

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/migrations"
)

// migrate brings the database at url to the current schema. Tests of package
// migrations that use pgtest must be of package migrations_test, since this
// imports it.
func migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = migrations.Up(ctx, conn, migrations.Options{})
	return errors.Join(err, conn.Close(ctx))
}
