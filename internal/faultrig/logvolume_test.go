//go:build unix

package faultrig

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLogVolume: while the database is away, or a provider, a listener with much to
// do writes no more than a line a second for each thing that it has to say.
func TestLogVolume(t *testing.T) {
	t.Parallel()
	all := newWorlds(t)
	w := all.get(t)
	t.Cleanup(func() { all.put(w) })
	const outage, events = 5 * time.Second, 500
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + free.Addr().String() + "/hook" // refuses connections once it is closed
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		url     string // of the webhooks; "" is that of a receiver
		on, off func(*lane)
		says    string // in at least one line
	}{
		{"the database refuses connections", "", refuseAll(true), refuseAll(false), "outcomes not recorded"},
		{"the database does not answer", "", swallowAll(true), swallowAll(false), "LISTEN connection is silent"},
		{"a receiver refuses connections", nobody, func(*lane) {}, func(*lane) {}, "attempt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLane(t, w, laneConfig{daemons: 1, lease: 3 * time.Second, poll: 200 * time.Millisecond, grace: time.Second})
			l.hook.took = 5 * time.Millisecond
			arrived := l.hook.expect(false)
			if tt.url != "" {
				l.hook.url = tt.url
			}
			from := time.Now()
			said := l.lines.next(tt.says)
			if _, err := l.insert(t.Context(), events); err != nil {
				t.Fatal(err)
			}
			if tt.url == "" {
				l.await(t, arrived, "webhook")
			}
			tt.on(l)
			l.await(t, said, "word of it: "+tt.says)
			sleep(t.Context(), outage-time.Since(from))
			tt.off(l)
			if tt.url == "" {
				if err := l.processed(t.Context()); err != nil {
					t.Error(err)
				}
			}
			took := time.Since(from)
			for what, n := range l.said(t) {
				if most := int(took/time.Second) + 2; n > most {
					t.Errorf("%d lines in %s of %q, want %d at most", n, took.Round(time.Second), what, most)
				}
			}
		})
	}
}

func refuseAll(on bool) func(*lane) {
	return func(l *lane) {
		l.proxy.Refuse(on)
		l.listen.Refuse(on)
	}
}

func swallowAll(on bool) func(*lane) {
	return func(l *lane) {
		l.proxy.Swallow(on)
		l.listen.Swallow(on)
	}
}

// said counts the lines of the listeners by what they say; what was delivered is not
// about an outage.
func (l *lane) said(t *testing.T) map[string]int {
	t.Helper()
	file, err := os.Open(filepath.Join(l.dir, "log.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := map[string]int{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		_, text, found := strings.Cut(lines.Text(), "{")
		var line struct {
			Msg, Outcome      string
			Processed, Errors int
		}
		if !found {
			out["not JSON: "+lines.Text()]++
			continue
		}
		if err := json.Unmarshal([]byte("{"+text), &line); err != nil {
			t.Errorf("%v: %s", err, lines.Text())
		}
		if line.Outcome == "delivered" || line.Processed > 0 && line.Errors == 0 {
			continue
		}
		out[line.Msg]++
	}
	return out
}
