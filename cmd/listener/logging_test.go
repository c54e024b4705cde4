package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestLogFormats(t *testing.T) {
	for _, tt := range []struct {
		format logFormat
		want   string // as a pattern
	}{
		{logJSON, `^\{"time":"[^"]+","level":"WARN","msg":"hello","took_ms":1.5,"next_ms":2000,"key":"\*\*\*","error":"why\\nnot"\}\n$`},
		{logAuto, `^\{"time":"[^"]+","level":"WARN","msg":"hello",`}, // no terminal
		{logText, `^time=\S+ level=WARN msg=hello took=1.5ms next=2s key=\*\*\* error="why\\nnot"\n$`},
		{logTint, `^\d\d:\d\d:\d\d\.\d{3} WRN hello took=1.5ms next=2s key=\*\*\* error="?why not"?\n$`}, // no colour without a terminal
	} {
		t.Run(string(tt.format), func(t *testing.T) {
			var b bytes.Buffer
			log := newLogger(&b, tt.format, slog.LevelInfo, nil)
			log.Warn("hello", "took", 1500*time.Microsecond, "next", 2*time.Second, "key", dispatch.Secret("canary"), "error", errors.New("why\nnot"))
			log.Debug("too fine")
			if !regexp.MustCompile(tt.want).MatchString(b.String()) {
				t.Errorf("%s", b.String())
			}
		})
	}
}

// TestNoForgedLines: what comes from outside stays within its line, and gives
// no orders to a terminal.
func TestNoForgedLines(t *testing.T) {
	const evil = "a\nlevel=ERROR msg=forged\r\x1b[2J\u009b2J\u202e\u2028b"
	for _, format := range []logFormat{logJSON, logText, logTint} {
		var b bytes.Buffer
		log := newLogger(&b, format, slog.LevelInfo, nil)
		log.Info(evil, "type", evil, "error", errors.New(evil), slog.Group("g", "x", evil), "any", []string{evil})
		if text := b.String(); strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\r\x1b") {
			t.Errorf("%s: %q", format, text)
		}
	}
}

func TestJournalLines(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(newJournalHandler(&b, slog.LevelDebug)).With("a", 1).WithGroup("g")
	log.Debug("one", "x", 1)
	log.Info("two\nlines")
	log.Warn("three")
	log.Error("four")
	want := "<7>msg=one a=1 g.x=1\n<6>msg=\"two\\nlines\" a=1\n<4>msg=three a=1\n<3>msg=four a=1\n"
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}

// TestInheritedJournal: JOURNAL_STREAM names another stream than ours.
func TestInheritedJournal(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	newLogger(f, logAuto, slog.LevelInfo, map[string]string{"JOURNAL_STREAM": "9:123456"}).Info("hello")
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(text) {
		t.Errorf("%s", text)
	}
}
