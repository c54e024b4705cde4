package migrations

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Installed is what a database has, compared with what this binary knows.
type Installed struct {
	Version  int       `json:"version"`    // 0 when nothing is installed
	Latest   int       `json:"latest"`     // what this binary knows
	UpToDate bool      `json:"up_to_date"` // a run of Up would find nothing to do
	Files    []File    `json:"files"`      // migrations, then trigger scripts
	Triggers []Trigger `json:"triggers"`

	AdoptedAt    time.Time `json:"adopted_at,omitzero"`    // since when new events have a place
	Backlog      string    `json:"backlog,omitempty"`      // deliver, skip or since; "" before the adoption
	BacklogSince time.Time `json:"backlog_since,omitzero"` // waiting events created before it are left alone; zero with "deliver"
	BacklogDone  bool      `json:"backlog_done"`           // those to be delivered have their places

	Problems []string `json:"problems,omitempty"` // why Up would stop, or what deserves a look
}

// File is one file of this binary or of the history.
type File struct {
	Name      string    `json:"name"`
	State     FileState `json:"state"`
	AppliedAt time.Time `json:"applied_at,omitzero"`
}

// FileState says whether a file was applied.
type FileState string

// The states of a file.
const (
	FileApplied FileState = "applied"
	FilePending FileState = "pending" // Up will apply it
	FileChanged FileState = "changed" // applied with another content; Up applies a trigger script again and refuses a migration
	FileUnknown FileState = "unknown" // applied by a newer binary
)

// Trigger is one of our triggers on the events table.
type Trigger struct {
	Name  string       `json:"name"`
	State TriggerState `json:"state"`
}

// TriggerState says whether a trigger fires.
type TriggerState string

// The states of a trigger.
const (
	TriggerOn       TriggerState = "enabled"
	TriggerDisabled TriggerState = "disabled" // somebody's choice, which Up respects
	TriggerReplica  TriggerState = "replica"  // fires under session_replication_role = replica only
	TriggerAlways   TriggerState = "always"   // fires under session_replication_role = replica, too
	TriggerMissing  TriggerState = "missing"  // Up will create it
)

var triggerStates = map[string]TriggerState{
	"": TriggerMissing, "O": TriggerOn, "D": TriggerDisabled, "R": TriggerReplica, "A": TriggerAlways,
}

// Status says what was applied to a database. It changes nothing and waits
// for nobody; conn's session is altered as by Up.
func Status(ctx context.Context, conn *pgx.Conn) (Installed, error) {
	var st Installed
	all, err := load()
	if err != nil {
		return st, err
	}
	if err := prepare(ctx, conn); err != nil {
		return st, err
	}
	h, err := readHistory(ctx, conn)
	if err != nil {
		return st, err
	}
	st.Version, st.Latest = h.version(), all.latest()
	if err := h.verify(all); err != nil {
		st.Problems = append(st.Problems, err.Error())
	}
	st.Files = filesOf(all, h)
	for _, f := range all.triggers {
		mode, err := triggerMode(ctx, conn, f.trigger)
		if err != nil {
			return st, err
		}
		st.Triggers = append(st.Triggers, Trigger{f.trigger, triggerStates[mode]})
		if mode == "D" || mode == "R" {
			st.Problems = append(st.Problems, "trigger "+f.trigger+" is "+string(triggerStates[mode])+
				": alter table public.outbox_events enable trigger "+f.trigger)
		}
	}
	if st.Version > 0 {
		if err := st.readState(ctx, conn, all, h); err != nil {
			return st, err
		}
	}
	s := session{conn: conn}
	todo, err := s.plan(ctx, all, h)
	st.UpToDate = st.Version == st.Latest && len(todo) == 0 && st.BacklogDone && h.verify(all) == nil
	return st, err
}

func filesOf(all scripts, h history) []File {
	var files []File
	for i, f := range all.migrations {
		file := File{Name: f.name, State: FilePending}
		if i < len(h.migrations) {
			file.State, file.AppliedAt = FileApplied, h.migrations[i].appliedAt
			if h.migrations[i].checksum != f.checksum {
				file.State = FileChanged
			}
		}
		files = append(files, file)
	}
	for _, r := range h.migrations[min(len(h.migrations), len(all.migrations)):] {
		files = append(files, File{Name: r.name, State: FileUnknown, AppliedAt: r.appliedAt})
	}
	for _, f := range all.triggers {
		file := File{Name: f.name, State: FilePending}
		if r, ok := h.triggers[f.name]; ok {
			file.State, file.AppliedAt = FileApplied, r.appliedAt
			if r.checksum != f.checksum {
				file.State = FileChanged
			}
		}
		files = append(files, file)
	}
	return files
}

func (st *Installed) readState(ctx context.Context, conn *pgx.Conn, all scripts, h history) error {
	err := conn.QueryRow(ctx, `
		select coalesce(adopted_at, '-infinity'), coalesce(backlog, ''), coalesce(backlog_since, '-infinity'), backlog_done_at is not null
		from outbox.state`).Scan(finite{&st.AdoptedAt}, &st.Backlog, finite{&st.BacklogSince}, &st.BacklogDone)
	if err != nil || h.version() < adoption {
		return err
	}
	for _, f := range all.migrations {
		if f.tx || f.index.drop || f.version > h.version() {
			continue
		}
		state, err := indexState(ctx, conn, f.index)
		if err != nil {
			return err
		}
		if state != indexValid {
			st.Problems = append(st.Problems, "index "+f.index.name+" is "+state+": run `listener migrate`")
		}
	}
	columns, err := readColumns(ctx, conn)
	if err != nil {
		return err
	}
	for _, o := range own {
		if columns[o.name].typ != o.typ {
			st.Problems = append(st.Problems, lostColumns)
			break
		}
	}
	return nil
}

const lostColumns = "public.outbox_events is not the table that was migrated (our columns are gone): run `listener migrate uninstall`, then `listener migrate`"
