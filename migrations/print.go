package migrations

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// PrintOptions of Print. The zero value prints everything for a database in
// which no events wait.
type PrintOptions struct {
	Backlog Backlog // what becomes of events that wait already; without it the script stops when there are any
	After   int     // leaves out what a database at this version has already
}

// part is a piece of the printed script: one transaction, or one statement
// that cannot be in one.
type part struct {
	title string
	note  string // a comment of one or more lines, without the dashes
	body  string
	tx    bool
}

const printHead = `-- Outbox Listener: the SQL that ` + "`listener migrate`" + ` runs, for schema version %d.
--
-- Run it as the owner of public.outbox_events, or as whoever is to own it:
--   psql -v ON_ERROR_STOP=1 -f this-file
-- A part that fails on its lock_timeout has changed nothing; run it again and
-- go on from there. ` + "`listener migrate status`" + ` says whether all is done, and
-- ` + "`listener migrate`" + ` does what is missing.
`

// Print writes the SQL of a migration, to be read or run by hand. It needs
// no database. What it leaves behind is what Up leaves behind.
func Print(w io.Writer, opt PrintOptions) error {
	all, err := load()
	if err != nil {
		return err
	}
	if opt.After > all.latest() || opt.After < 0 {
		return fmt.Errorf("there is no schema version %d, this binary knows 1 to %d", opt.After, all.latest())
	}
	var b strings.Builder
	fmt.Fprintf(&b, printHead, all.latest())
	for _, p := range parts(all, opt) {
		fmt.Fprintf(&b, "\n-- ==== %s\n", p.title)
		if p.note != "" {
			fmt.Fprintf(&b, "-- %s\n", strings.ReplaceAll(p.note, "\n", "\n-- "))
		}
		b.WriteString("\n")
		body := strings.TrimSpace(p.body) + "\n"
		if p.tx {
			body = "begin isolation level read committed read write;\n\n" + body + "\ncommit;\n"
		}
		b.WriteString(body)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func parts(all scripts, opt PrintOptions) []part {
	var ps []part
	if opt.After == 0 {
		body := bootstrap
		if opt.Backlog.Choice == "" {
			body = printGuard + "\n" + body
		}
		ps = append(ps, part{title: "the history of this schema", body: body, tx: true})
	}
	for _, f := range all.migrations[opt.After:] {
		ps = append(ps, printFile(f, opt.Backlog)...)
	}
	for _, f := range all.triggers {
		ps = append(ps, printFile(f, opt.Backlog)...)
	}
	if opt.After < adoption {
		ps = append(ps, part{title: "the events that waited already", tx: true, body: printPlaces,
			note: "In one transaction. Where there are very many, leave this out and run\n`listener migrate`, which takes 1,000 at a time."})
	}
	return ps
}

// printGuard stops the script where somebody has to decide first.
const printGuard = `do $$
begin
    if to_regclass('public.outbox_events') is not null then
        if exists (select from public.outbox_events where processed_at is null) then
            raise exception 'events wait in public.outbox_events: print this again with --backlog deliver, skip or a time';
        end if;
    end if;
end
$$;
`

const printPlaces = `with places as materialized (
    select id, nextval('public.outbox_events_seq_seq') as seq
    from (` + candidates + `) as ordered
)
update public.outbox_events as e set seq = p.seq
from places as p
where e.id = p.id and e.seq is null and e.processed_at is null;

update outbox.state set backlog_done_at = clock_timestamp(), backlog_seen = null;
select pg_notify('outbox_events', '');`

func printFile(f file, b Backlog) []part {
	record := fmt.Sprintf("insert into outbox.schema_history (name, kind, version, checksum)\nvalues ('%s', '%s', %s, '%s')",
		f.name, f.kind, map[bool]string{true: "null", false: fmt.Sprint(f.version)}[f.version == 0], f.checksum)
	if !f.tx {
		done := fmt.Sprintf("from pg_catalog.pg_index where indexrelid = '%s'::regclass and indisvalid", f.index)
		if f.index.drop {
			done = fmt.Sprintf("where to_regclass('%s') is null", f.index)
		}
		return []part{
			{title: f.name, body: f.sql},
			{title: f.name + ", for the record", body: fmt.Sprintf(
				"insert into outbox.schema_history (name, kind, version, checksum)\nselect '%s', '%s', %d, '%s'\n%s;",
				f.name, f.kind, f.version, f.checksum, done)},
		}
	}
	if f.kind == kindTrigger {
		record += "\non conflict (name) do update set checksum = excluded.checksum, applied_at = excluded.applied_at"
	}
	body := strings.TrimSpace(f.sql) + "\n\n" + record + ";"
	if f.kind == kindMigration && f.version == adoption {
		body = printDecision(b) + "\n\n" + body
	}
	if table := f.alters(); table != "" {
		body = "-- what an autovacuum yields to, and writers do not notice\n" +
			"set local lock_timeout = '3s';\nlock table " + table + " in share update exclusive mode;\n\n" +
			"-- how long writers may be held up\nset local lock_timeout = '" + milliseconds(defaultLockTimeout) + "';\n\n" + body
	}
	return []part{{title: f.name, body: body, tx: true}}
}

// printDecision is recordBacklog in SQL. Where nobody has decided there was
// nothing to decide about, and what is there by now is new.
func printDecision(b Backlog) string {
	choice, since, seen := b.Choice, "clock_timestamp()", `array(
        select id from public.outbox_events
        where processed_at is null and created_at >= clock_timestamp() - interval '`+recent+`')`
	switch b.Choice {
	case "":
		choice, seen = ChoiceSince, "'{}'"
	case ChoiceDeliver:
		since = "'-infinity'"
	case ChoiceSince:
		since = "'" + b.Since.UTC().Format(time.RFC3339Nano) + "'"
	}
	return fmt.Sprintf(`update outbox.state set
    backlog          = '%s',
    backlog_since    = %s,
    backlog_asked_at = clock_timestamp(),
    backlog_seen     = %s;`, choice, since, seen)
}
