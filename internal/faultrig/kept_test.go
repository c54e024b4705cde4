//go:build unix

package faultrig

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// TestKept: what a receiver has taken and a listener could not record when it was
// told to stop, since the database was away, is on record after the next start,
// whichever of the two dies on the way. It is not sent again.
func TestKept(t *testing.T) {
	t.Parallel()
	all := newWorlds(t)
	w := all.get(t)
	t.Cleanup(func() { all.put(w) })
	for _, tt := range []struct{ name, keeps, records string }{
		{"nobody dies", "", ""},
		{"killed once it is kept", "K20a=kill", ""},
		{"killed before the file is gone", "", "K20b=kill"},
		{"panics before the file is gone", "", "K20b=panic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLane(t, w, laneConfig{lease: 20 * time.Second, poll: 200 * time.Millisecond, grace: 3 * time.Second})
			d := l.add(t)
			l.start(t, d, tt.keeps)
			l.hook.took = 500 * time.Millisecond // so that the database is away before the answer is there
			taken := l.hook.expect(false)
			if _, err := l.insert(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			l.await(t, taken, "webhook")
			l.proxy.Refuse(true)
			if name, died, _ := d.terminate(); name == "" || died != (tt.keeps != "") || len(d.crashes) > 0 {
				t.Errorf("%q ended, by a failpoint: %v; %v", name, died, d.crashes)
			}
			files := func() []string {
				list, err := filepath.Glob(filepath.Join(l.dir, "outcomes-*"))
				if err != nil {
					t.Error(err)
				}
				return list
			}
			if got := files(); len(got) != 1 {
				t.Errorf("kept: %v", got)
			}
			l.proxy.Refuse(false)
			gone := l.lines.next(`"msg":"outcomes of an earlier stop are on record"`)
			d.next(tt.records)
			l.await(t, gone, "record of what was kept")
			if err := l.processed(t.Context()); err != nil {
				t.Error(err)
			}
			if got := files(); len(got) != 0 || l.hook.count() != 1 {
				t.Errorf("left: %v; sent %d times", got, l.hook.count())
			}
			var states string
			if err := l.pool.QueryRow(t.Context(), `select string_agg(state || ' ' || attempts, ', ') from outbox.deliveries where event_type = 'webhook.send'`).Scan(&states); err != nil || states != "delivered 1" {
				t.Error(fmt.Sprint(states, err))
			}
		})
	}
}
