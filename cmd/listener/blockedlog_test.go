//go:build unix

package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestBlockedLog: a log that nobody reads holds up no delivery, and no end; who reads
// again hears how many lines are missing.
func TestBlockedLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["OUTBOX_LOG_LEVEL"] = "debug"
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p := newProc(t, t.TempDir(), w.env)
	p.cmd.Stdout = out // nobody reads in
	p.start()
	out.Close()

	// Some 300 bytes a line, in a pipe of 64 KiB and a queue of 4 MiB.
	const events = 20_000
	pgtest.Exec(t, w.db, `insert into outbox_events (type, payload) select 'log.send', '{}' from generate_series(1, $1::integer)`, events-1)
	pgtest.Exec(t, w.db, fmt.Sprintf(`insert into outbox_events (type, payload) values ('webhook.send', '{"url": "%s", "body": {}}')`, w.webhook.URL()))
	pgtest.Drains(t, 20*time.Second, "events are not processed", func() int { return open(t, w.db) })
	if n := len(w.webhook.Received()); n != 1 {
		t.Errorf("%d webhooks, want 1", n)
	}

	lines, missing := 0, 0
	read := bufio.NewScanner(in)
	for missing == 0 && read.Scan() {
		lines++
		if at := strings.Index(read.Text(), `"msg":"log lines dropped`); at >= 0 {
			_, count, _ := strings.Cut(read.Text(), `"count":`)
			_, _ = fmt.Sscan(strings.TrimRight(count, "}"), &missing)
		}
	}
	if missing == 0 || lines+missing < events {
		t.Errorf("%d lines, and %d missing, of %d events: %v", lines, missing, events, read.Err())
	}
	p.signal(syscall.SIGTERM) // nobody reads now, either
	if code := p.exit(20 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
