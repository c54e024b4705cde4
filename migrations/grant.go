package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-listener/outbox-listener/sql"
)

// Grant gives role what the daemon needs and no more: see sql/grants.sql. It
// may be repeated. The role must exist, and the database must be migrated.
func Grant(ctx context.Context, conn *pgx.Conn, role string) error {
	return grant(ctx, conn, role, sql.Grants)
}

// GrantOperator gives role what people need who operate, and no more: see
// sql/grants_operator.sql. Otherwise it is as Grant.
func GrantOperator(ctx context.Context, conn *pgx.Conn, role string) error {
	return grant(ctx, conn, role, sql.OperatorGrants)
}

func grant(ctx context.Context, conn *pgx.Conn, role string, statements func(quotedRole string) string) error {
	s, err := open(ctx, conn, Options{})
	if err != nil {
		return err
	}
	defer s.close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1::text)`, role).Scan(&exists); err != nil {
		return err
	}
	quoted := pgx.Identifier{role}.Sanitize()
	if !exists {
		return fmt.Errorf("there is no role %q: create role %s login", role, quoted)
	}
	err = s.tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, statements(quoted))
		return err
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "3F000", "42P01", "42703", "42883": // no such schema, table, column, function
			return fmt.Errorf("there is nothing to grant rights on yet (%s): run `listener migrate`", pg.Message)
		}
	}
	if err != nil {
		return fmt.Errorf("granting rights to role %q: %w", role, err)
	}
	return nil
}
