package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Excess says in one line what the role of db may do to a whole server, which no
// listener needs; "" when there is nothing of the kind. It only reads.
func Excess(ctx context.Context, db Querier) (string, error) {
	var role string
	var has []string
	err := db.QueryRow(ctx, `
		select rolname::text, array_remove(array[
			case when rolsuper then 'superuser' end, case when rolcreaterole then 'createrole' end,
			case when rolcreatedb then 'createdb' end, case when rolreplication then 'replication' end,
			case when rolbypassrls then 'bypassrls' end], null)
		from pg_catalog.pg_roles where rolname = current_user`).Scan(&role, &has)
	switch {
	case err == pgx.ErrNoRows:
		return "", nil
	case err != nil:
		return "", fmt.Errorf("checking the rights of the role: %w", err)
	case len(has) == 0:
		return "", nil
	}
	return fmt.Sprintf("role %q has %s, which a listener does not need: make one that has nothing of the kind, and run `listener migrate --grant ROLE` for it",
		role, strings.Join(has, ", ")), nil
}
