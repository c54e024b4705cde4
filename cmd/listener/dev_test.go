package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// devTestTimeout bounds each wait for something that dev prints.
const devTestTimeout = 60 * time.Second

// devOutput is what a command has printed so far.
type devOutput struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newDevOutput() *devOutput { return &devOutput{more: make(chan struct{})} }

func (o *devOutput) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.buf.Write(b)
}

func (o *devOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await returns the match of pattern once it was printed.
func (o *devOutput) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	patience := time.NewTimer(devTestTimeout)
	defer patience.Stop()
	for {
		o.mu.Lock()
		match, more := re.FindStringSubmatch(o.buf.String()), o.more
		o.mu.Unlock()
		if match != nil {
			return match
		}
		select {
		case <-more:
		case <-patience.C:
			t.Fatalf("no %q in\n%s", pattern, o)
		}
	}
}

// devFolder returns an empty folder that the server's account can enter; the
// parent of t.TempDir is closed to it when root runs the tests.
func devFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "outbox-dev-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// temporaryHere makes a folder the place of all temporary ones and checks in
// the end that nothing was left in it.
func temporaryHere(t *testing.T) {
	t.Helper()
	dir := devFolder(t)
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // on Windows
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the folder for temporary files: %v, %v", left, err)
		}
	})
}

// devRun is a dev run that goes on until it is stopped.
type devRun struct {
	out, err *devOutput
	stop     func() int
}

func startDev(t *testing.T, cmd devCmd) *devRun {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	b := &devRun{out: newDevOutput(), err: newDevOutput()}
	code := make(chan int, 1)
	go func() { code <- runDev(ctx, cmd, b.out, b.err) }()
	b.stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *devRun) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	url := b.out.await(t, `postgres://[^"\s]+`)[0]
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

const (
	devReadyLine = `Ctrl-C stops everything`
	devDelivered = `select count(*) from outbox.deliveries where state = 'delivered'`
)

func TestDevOnce(t *testing.T) {
	temporaryHere(t)
	out, errs := newDevOutput(), newDevOutput()
	if code := runDev(t.Context(), devCmd{Once: true}, out, errs); code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
	}
	wantWords(t, out.String(), "ok: 6 of 6 samples arrived exactly once and are delivered")
	for _, line := range []string{
		`sms\.send +sms +\+1\*{7}01 +delivered +1 +<?\d+\.\d ms +SM[0-9a-f]{32}`,
		`email\.send +email +b\*{3}@example\.com +delivered +1 +<?\d+\.\d ms +\S`,
		`webhook\.send +webhook +http://127\.0\.0\.1:\d+ +delivered +1 +<?\d+\.\d ms +-`,
	} {
		if !regexp.MustCompile(line).MatchString(out.String()) {
			t.Errorf("no line %s in\n%s", line, out)
		}
	}
	if errs.String() != "" {
		t.Errorf("on stderr: %s", errs)
	}
}

// What other programs insert shows up too, also what no stand-in receives,
// and in the end nothing is left.
func TestDevShows(t *testing.T) {
	temporaryHere(t)
	b := startDev(t, devCmd{})
	b.out.await(t, devReadyLine)
	samples := b.out.String()
	if n := strings.Count(samples, " ms  "); n != 6 {
		t.Errorf("%d samples are shown:\n%s", n, samples)
	}
	conn := b.connect(t)
	var folder string
	if err := conn.QueryRow(t.Context(), `show data_directory`).Scan(&folder); err != nil {
		t.Fatal(err)
	}

	// The INSERT that it prints is one to paste.
	insert := b.out.await(t, `(?s)insert into .*?;`)[0]
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(insert)
	b.out.await(t, `\d ms  sms      \+12025550123      Hello from psql  `)
	b.out.await(t, `\d ms  webhook  /hooks/mine       {"hello": "world"}  `)

	// The time counts from COMMIT, however long the transaction was open.
	exec(`begin`)
	exec(`insert into outbox_events (type, payload) values ('email.send', $1)`,
		`{"to": "Ann <ann@example.com>", "subject": "Grüße", "text": "x"}`)
	exec(`insert into outbox_events (type, payload) values ('sms.sent', '{}'), ('log.send', '{}')`)
	var opened time.Duration
	for began := time.Now(); opened < 500*time.Millisecond; opened = time.Since(began) {
		exec(`select pg_sleep(0.05)`)
	}
	exec(`commit`)
	took := b.out.await(t, `(?m)^ +(\S+) ms  email    ann@example.com   Grüße  `)
	var ms float64
	if _, err := fmt.Sscan(strings.TrimPrefix(took[1], "<"), &ms); err != nil || ms >= float64(opened.Milliseconds()) {
		t.Errorf("shown is a latency of %s ms, %v; the transaction was open for %s", took[1], err, opened)
	}
	b.out.await(t, `skipped .* no route for event type "sms.sent"`)
	b.out.await(t, `delivered  log .*log\.send`)

	// Ended connections do not end it.
	exec(`select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and application_name like 'outbox-listener%'`)
	exec(`insert into outbox_events (type, payload) values ('sms.send', '{"to": "+12025550188", "body": "still there"}')`)
	b.out.await(t, `ms  sms      \+12025550188`)

	if code := b.stop(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, b.err)
	}
	wantWords(t, b.out.String(), "the database is removed")
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", folder, err)
	}
	if err := conn.Ping(context.Background()); err == nil {
		t.Error("Postgres still answers")
	}
}

// TestDevChild is no test: TestDevKilled runs it to have something to kill.
func TestDevChild(t *testing.T) {
	dir := os.Getenv("OUTBOX_DEV_TEST_DIR")
	if dir == "" {
		t.Skip("is run by TestDevKilled")
	}
	os.Exit(runDev(t.Context(), devCmd{DataDir: dir}, os.Stdout, os.Stderr))
}

func TestDevKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux does Postgres die with a parent that is killed")
	}
	dir := devFolder(t) + "/data"
	child := exec.Command(os.Args[0], "-test.run=^TestDevChild$")
	child.Env = append(os.Environ(), "OUTBOX_DEV_TEST_DIR="+dir)
	out := newDevOutput()
	child.Stdout, child.Stderr = out, out
	child.WaitDelay = time.Second
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	out.await(t, devReadyLine)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()

	b := startDev(t, devCmd{DataDir: dir})
	b.out.await(t, devReadyLine)
	var n int
	if err := b.connect(t).QueryRow(t.Context(), devDelivered).Scan(&n); err != nil || n != 12 {
		t.Errorf("%d deliveries after two runs, %v; want 12", n, err)
	}
	if code := b.stop(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, b.err)
	}
	wantWords(t, b.out.String(), "the database is kept in "+dir)

	errs := newDevOutput()
	if code := runDev(t.Context(), devCmd{DataDir: dir, Once: true}, io.Discard, errs); code != exitOK {
		t.Errorf("exit code %d of a third run\n%s", code, errs)
	}
}

func TestDevCannot(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		name string
		cmd  devCmd
		bin  string
		want string
	}{
		{"no Postgres", devCmd{Once: true}, devFolder(t), "OUTBOX_DEV_PG_BIN"},
		{"a taken port", devCmd{Port: port}, "", fmt.Sprintf("port %d on 127.0.0.1 cannot be used", port)},
		{"a taken admin port", devCmd{AdminAddr: taken.Addr().String()}, "", "cannot serve the admin endpoint: listen tcp " + taken.Addr().String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			temporaryHere(t)
			if tt.bin != "" {
				t.Setenv("OUTBOX_DEV_PG_BIN", tt.bin)
			}
			errs := newDevOutput()
			if code := runDev(t.Context(), tt.cmd, io.Discard, errs); code != exitCannot {
				t.Errorf("exit code %d", code)
			}
			got := errs.String()
			if !strings.HasPrefix(got, "listener dev: ") || !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("it says %q, want one line with %q", got, tt.want)
			}
		})
	}
}

// Whenever it is stopped, it cleans up.
func TestDevStoppedEarly(t *testing.T) {
	temporaryHere(t)
	for _, tt := range []struct {
		once bool
		code int
		says string
	}{
		{false, exitOK, ""},
		{true, exitCannot, "stopped before the samples were through"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		out, errs := newDevOutput(), newDevOutput()
		code := make(chan int, 1)
		go func() { code <- runDev(ctx, devCmd{Once: tt.once}, out, errs) }()
		out.await(t, "starting Postgres")
		cancel()
		if got := <-code; got != tt.code || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("once=%t: exit code %d, %q", tt.once, got, errs)
		}
	}
}

func TestDevFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want string // of the error; "" for none
	}{
		{"", ""},
		{"--once --verbose --port=5433 --admin-addr=127.0.0.1:3001 --data-dir=x", ""},
		{"--port=70000", "--port 70000 is not between 1 and 65535"},
		{"--admin-addr=3001", `--admin-addr "3001" is not an address`},
		{"--admin-addr=:x", `--admin-addr ":x" is not an address`},
	} {
		var line struct {
			Dev devCmd `cmd:""`
		}
		parser, err := kong.New(&line)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parser.Parse(append([]string{"dev"}, strings.Fields(tt.args)...))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v; want %q", tt.args, err, tt.want)
		}
	}
}

func TestDevJudges(t *testing.T) {
	t.Parallel()
	committed := time.Now()
	sample := func() (*devSample, devRow, standin.Received) {
		s := &devSample{id: uuid.New(), typ: "sms.send", channel: dispatch.ChannelSMS, recipient: "+12025550101", ref: "REF", committed: committed}
		row := devRow{EventID: s.id, ID: uuid.New(), Channel: "sms", State: "delivered", Attempts: 1, ProviderID: "SM1", Processed: true}
		return s, row, standin.Received{Channel: s.channel, ID: "SM1", Recipient: s.recipient, Body: "a REF", At: committed}
	}
	for _, tt := range []struct {
		name   string
		change func(*devRow, *standin.Received)
		rows   int
		times  int
		want   string // "" for no problem
	}{
		{"as it should be", nil, 1, 1, ""},
		{"it is nowhere", nil, 0, 0, "arrived 0 times; has 0 deliveries in the ledger"},
		{"it did not arrive", nil, 1, 0, "arrived 0 times"},
		{"it arrived twice", nil, 1, 2, "arrived 2 times"},
		{"there are two deliveries", nil, 2, 1, "has 2 deliveries in the ledger"},
		{"it is held", func(r *devRow, _ *standin.Received) { r.State, r.LastError = "held", "no\nanswer" }, 1, 1,
			"is held in the ledger after 1 attempts: no answer"},
		{"it went elsewhere", func(_ *devRow, m *standin.Received) { m.Recipient = "+1" }, 1, 1, "arrived at +1"},
		{"it has another id", func(_ *devRow, m *standin.Received) { m.ID = "SM2" }, 1, 1, "arrived under an id that the ledger does not have"},
		{"it came through another channel", func(_ *devRow, m *standin.Received) { m.Channel = "email" }, 1, 1, "arrived 0 times"},
		{"the event is not processed", func(r *devRow, _ *standin.Received) { r.Processed = false }, 1, 1, "was delivered, and its event is not processed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, row, m := sample()
			if tt.change != nil {
				tt.change(&row, &m)
			}
			var rows []devRow
			for range tt.rows {
				rows = append(rows, row)
			}
			var got []standin.Received
			for range tt.times {
				got = append(got, m)
			}
			problems := judge([]*devSample{s}, rows, got)
			text := strings.ReplaceAll(strings.Join(problems, "; "), "sms.send to +12025550101: ", "")
			if text != tt.want {
				t.Errorf("judged %q, want %q", text, tt.want)
			}

			// Both are printed whatever there is.
			out := newDevOutput()
			screen := newScreen(out)
			screen.table([]*devSample{s}, rows, got)
			screen.verdict([]*devSample{s}, got, problems)
			if strings.Contains(out.String(), "ok:") != (tt.want == "") {
				t.Errorf("printed\n%s", out)
			}
		})
	}
}

func TestDevLine(t *testing.T) {
	t.Parallel()
	out := newDevOutput()
	s := &screen{w: out, content: 12, id: 13}
	s.arrival(standin.Received{Channel: dispatch.ChannelSMS, ID: "SM0123456789abcdef", Recipient: "+1", Body: "é\x1b[2Jtwo\nlines and more"}, "1.0 ms")
	s.arrival(standin.Received{Channel: dispatch.ChannelEmail, ID: "short@x", Recipient: "a@b", Body: "Subject: =?utf-8?q?h=C3=A9?=\r\n\r\n"}, "")
	want := "" +
		"      1.0 ms  sms      +1                é [2Jtwo li…  …456789abcdef\n" +
		"           ?  email    a@b               hé            short\n"
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out, want)
	}
}
