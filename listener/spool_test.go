package listener

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

const thisDatabase = "7436285941053112345/16384"

// someSpooled are records with everything that one may have.
func someSpooled() []spooled {
	text := func(s string) *string { return &s }
	status, due := 503, 4.5
	return []spooled{
		{Claim: uuid.UUID{1}, Seq: 17, Event: uuid.UUID{2}, Type: "sms.send", CreatedAt: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Deliveries: []spooledRow{
			{ID: uuid.UUID{3}, Route: "direct", Step: "sms", Channel: "sms", Recipient: "+15…06", State: dispatch.Delivered, Attempts: 1, ProviderID: text("SM1")},
			{ID: uuid.UUID{4}, State: dispatch.Retry, Attempts: 2, Generation: 1, LastError: text("sms: down"), DueIn: &due, Content: text(`{"to":"+15005550006"}`),
				Tried: &spooledTry{Attempt: 2, Took: 0.25, State: dispatch.Retry, Kind: dispatch.Down, Status: &status, Error: "sms: down <503>"}},
			{ID: uuid.UUID{5}, State: dispatch.Sending, Attempts: 1, Open: true},
		}},
		{Claim: uuid.UUID{6}, Seq: 0, Event: uuid.UUID{7}, Delivery: &spooledRow{ID: uuid.UUID{8}, State: dispatch.Delivered, Attempts: 1, Answer: text(`{"a":1}`)}},
		{Pause: &spooledWish{Destination: "twilio AC1", Reason: "sms: throttled", Seconds: 2.5}},
	}
}

func spoolOf(t testing.TB, records []spooled) string {
	t.Helper()
	var b bytes.Buffer
	if err := writeSpool(&b, thisDatabase, records); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSpoolIsReadAsWritten: what is written is read, all of it and nothing else.
func TestSpoolIsReadAsWritten(t *testing.T) {
	for _, want := range [][]spooled{nil, someSpooled()} {
		got, refused, err := readSpool(strings.NewReader(spoolOf(t, want)), thisDatabase)
		if err != nil || len(refused) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v was read as %+v, %v, %v", want, got, refused, err)
		}
	}
}

// TestSpoolRefused: what is torn, changed, or somebody else's is refused by its
// line, and costs no other line.
func TestSpoolRefused(t *testing.T) {
	good := spoolOf(t, someSpooled()[:2])
	wish := spoolOf(t, someSpooled()[2:])
	lines := strings.SplitAfter(good, "\n") // the last one is empty
	for _, tt := range []struct {
		name string
		text string
		kept int
		want string // in what is refused, or the error
	}{
		{"empty", "", 0, "line 1: it is no spool"},
		{"something else", "hello\n", 0, "line 1: it is no spool"},
		{"a later version", strings.Replace(good, `"outbox_spool":1`, `"outbox_spool":2`, 1), 0, "line 1: it is no spool of this version"},
		{"another database", strings.Replace(good, thisDatabase, "1/2", 1), 0, `line 1: it is of another database: "1/2"`},
		{"torn before the end", strings.Join(lines[:3], ""), 2, "line 4: its last line is missing"},
		{"torn within a line", strings.Join(lines[:2], "") + lines[2][:40], 1, "line 3: "},
		{"torn before a line end", strings.Join(lines[:2], "") + strings.TrimSuffix(lines[2], "\n"), 1, "line 3: it has no end"},
		{"torn before the last line end", strings.TrimSuffix(good, "\n"), 2, ""},
		{"a line is gone", lines[0] + lines[1] + lines[3], 1, "line 3: there should be 2 records, and there are 1"},
		{"a line is no JSON", lines[0] + lines[1] + "}\n" + lines[2] + `{"end":3}` + "\n", 2, "line 3: it is no JSON"},
		{"an unknown field", strings.Replace(good, `"event_seq":17`, `"event_no":17`, 1), 1, "line 2: it has a field that is not known"},
		{"no claim", strings.Replace(good, uuid.UUID{1}.String(), uuid.Nil.String(), 1), 1, "line 2: it names no claim"},
		{"one that is open, on its own", strings.Replace(good, `"delivery":{`, `"delivery":{"open":true,`, 1), 1, "a delivery that is on its own has no outcome"},
		{"no state", strings.Replace(good, `"state":"retry"`, `"state":"tried"`, 1), 1, `line 2: "tried" is no state`},
		{"due never", strings.Replace(good, `"due_in":4.5`, `"due_in":4.5e300`, 1), 1, "line 2: it is due at a time"},
		{"a content that is none", strings.Replace(good, `"content":"{`, `"content":"`, 1), 1, "line 2: a content"},
		{"attempts", strings.Replace(good, `"attempts":2`, `"attempts":-2`, 1), 1, "line 2: a number of attempts"},
		{"a text for a number", strings.Replace(good, `"event_seq":17`, `"event_seq":"17"`, 1), 1, `line 2: "event_seq" is no int64`},
		{"two values", lines[0] + strings.TrimSuffix(lines[1], "\n") + "{}\n" + lines[2] + lines[3], 1, "line 2: it has more than one value"},
		{"a pause for nowhere", strings.Replace(wish, `twilio AC1`, ``, 1), 0, "line 2: a pause names no destination"},
		{"a pause beyond all measure", strings.Replace(wish, `2.5`, `86401`, 1), 0, "line 2: a pause is as long as none can be"},
		{"a pause that is over before", strings.Replace(wish, `2.5`, `-1`, 1), 0, "line 2: a pause is as long as none can be"},
		{"a pause with a claim", strings.Replace(wish, `{"pause"`, `{"claim":"`+uuid.UUID{1}.String()+`","pause"`, 1), 0, "line 2: a pause is a record of its own"},
		{"more after the end", good + lines[1], 2, "line 5: it stands behind the last one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, refused, err := readSpool(strings.NewReader(tt.text), thisDatabase)
			said := []error{err}
			for _, r := range refused {
				said = append(said, r)
			}
			all := ""
			if e := errors.Join(said...); e != nil {
				all = e.Error()
			}
			if len(got) != tt.kept || !strings.Contains(all, tt.want) || (all == "") != (tt.want == "") {
				t.Errorf("%d records, %q; want %d, %q", len(got), all, tt.kept, tt.want)
			}
			if strings.Contains(all, "5550006") {
				t.Errorf("the error shows what is in it: %s", all)
			}
		})
	}
}

// TestSpoolDir: files have names and rights of their own; what others may write,
// and what is no file, is not read.
func TestSpoolDir(t *testing.T) {
	dir := spoolDir(filepath.Join(t.TempDir(), "[odd]*"))
	if runtime.GOOS == "windows" {
		dir = spoolDir(t.TempDir())
	}
	if _, err := dir.list(); err == nil {
		if runtime.GOOS != "windows" {
			t.Error("a directory that is not there was listed")
		}
	}
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for range 2 {
		p, err := dir.write(thisDatabase, someSpooled())
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	if listed, err := dir.list(); err != nil || dir.probe() != nil || len(listed) != 2 {
		t.Fatalf("listed %v, %v, %v", listed, err, dir.probe())
	}
	if err := spoolDir(filepath.Join(string(dir), "not there")).probe(); err == nil {
		t.Error("a directory that is not there can be written to")
	}
	if left, _ := filepath.Glob(filepath.Join(quoteGlob(string(dir)), "*.tmp")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if records, refused, err := dir.read(paths[0], thisDatabase); err != nil || len(refused) > 0 || len(records) != 3 {
		t.Errorf("read %d, %v, %v", len(records), refused, err)
	}
	if runtime.GOOS != "windows" {
		info, err := os.Stat(paths[0])
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if err := os.Chmod(paths[0], 0o640); err != nil {
			t.Fatal(err)
		}
		if _, _, err := dir.read(paths[0], thisDatabase); err == nil || !strings.Contains(err.Error(), "0640") {
			t.Errorf("one that others may read: %v", err)
		}
		link := filepath.Join(string(dir), "outcomes-link.jsonl")
		if err := os.Symlink(paths[1], link); err != nil {
			t.Fatal(err)
		}
		if _, _, err := dir.read(link, thisDatabase); err == nil {
			t.Error("a link was read")
		}
		if err := dir.remove(link); err != nil {
			t.Error(err)
		}
	}
	if _, err := dir.setAside(paths[0]); err != nil {
		t.Error(err)
	}
	if err := errors.Join(dir.remove(paths[1]), dir.remove(paths[1])); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	if listed, err := dir.list(); err != nil || len(listed) != 0 {
		t.Errorf("listed %v, %v", listed, err)
	}
}

// FuzzReadSpool: whatever a file has, it is read or refused, and what is read is
// the same when it is written and read again.
func FuzzReadSpool(f *testing.F) {
	good := spoolOf(f, someSpooled())
	for _, s := range []string{good, spoolOf(f, nil), good[:len(good)/2], strings.ReplaceAll(good, "\n", "\r\n"), "", "{}\n{}\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		records, refused, err := readSpool(bytes.NewReader(text), thisDatabase)
		if err != nil && len(records)+len(refused) > 0 {
			t.Fatalf("records beside an error: %v", err)
		}
		for i := range records {
			if err := records[i].check(); err != nil {
				t.Fatalf("taken, though %v", err)
			}
			_ = records[i].entry()
		}
		again, refused, err := readSpool(strings.NewReader(spoolOf(t, records)), thisDatabase)
		if err != nil || len(refused) > 0 || len(again) != len(records) || len(records) > 0 && !reflect.DeepEqual(again, records) {
			t.Fatalf("%+v is %+v when it is written and read again: %v, %v", records, again, refused, err)
		}
	})
}
