package migrations

import (
	"context"
	"fmt"
)

// checkSeen says whether row level security hides every event from the role of db, or
// keeps it from changing any: then it would find nothing for ever, without an error. What a
// policy shows of the events is not looked at.
func checkSeen(ctx context.Context, db Querier, role string) error {
	var hidden bool
	err := db.QueryRow(ctx, `
		select pg_catalog.row_security_active('public.outbox_events'::regclass) and exists (
			select from unnest(array['r', 'w']) as needed (command)
			where not exists (
				select from pg_catalog.pg_policy as p
				where p.polrelid = 'public.outbox_events'::regclass and p.polpermissive and p.polcmd::text in ('*', needed.command)
				  and exists (select from unnest(p.polroles) as r (oid)
				              where case when r.oid = 0 then true else pg_catalog.pg_has_role(r.oid, 'USAGE') end)))`).Scan(&hidden)
	switch {
	case err != nil:
		return fmt.Errorf("checking the policies of public.outbox_events: %w", err)
	case hidden:
		return fmt.Errorf("row level security keeps all events from role %q: create a policy for it (docs/migrate.md has one)", role)
	}
	return nil
}
