package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// logFormat is how log lines look.
type logFormat string

// The formats. logAuto chooses by where the lines go.
const (
	logAuto logFormat = "auto"
	logTint logFormat = "tint" // for people: colour, unless NO_COLOR is set
	logText logFormat = "text" // key=value
	logJSON logFormat = "json"
)

// newLogger returns a logger that writes to w. env tells about the terminal
// and the journal.
func newLogger(w io.Writer, format logFormat, level slog.Level, env map[string]string) *slog.Logger {
	to := behind(w)
	journal := inJournal(to, env["JOURNAL_STREAM"])
	if format == logAuto || format == "" {
		switch {
		case isTerminal(to) && env["TERM"] != "dumb":
			format = logTint
		case journal:
			format = logText
		default:
			format = logJSON
		}
	}
	switch {
	case format == logTint:
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level:       level,
			TimeFormat:  "15:04:05.000",
			NoColor:     env["NO_COLOR"] != "" || env["TERM"] == "dumb" || !isTerminal(to),
			ReplaceAttr: printableAttr,
		}))
	case format == logText && journal:
		return slog.New(newJournalHandler(w, level))
	case format == logText:
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: inMilliseconds}))
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printable takes out of s what could make a second line of one, or move a
// terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// printableAttr is for tint, which writes texts as they are. The handlers of
// log/slog quote them.
func printableAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(printable(v.String()))
	case slog.KindAny:
		if _, ok := v.Any().(slog.Level); !ok {
			a.Value = slog.StringValue(printable(v.String()))
		}
	}
	return a
}

// inMilliseconds gives durations a unit, for programs that read the lines.
func inMilliseconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_ms", float64(a.Value.Duration().Microseconds())/1000)
	}
	return a
}

// journalHandler writes lines for the systemd journal, which adds the time
// itself and takes the priority from a prefix.
type journalHandler struct {
	byPriority [4]slog.Handler // err, warning, info, debug
}

func newJournalHandler(w io.Writer, level slog.Level) journalHandler {
	var h journalHandler
	var mu sync.Mutex
	for i, prefix := range []string{"<3>", "<4>", "<6>", "<7>"} {
		h.byPriority[i] = slog.NewTextHandler(prefixed{w, prefix, &mu}, &slog.HandlerOptions{
			Level: level,
			ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
				if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
					return slog.Attr{}
				}
				return a
			},
		})
	}
	return h
}

func (h journalHandler) at(level slog.Level) slog.Handler {
	switch {
	case level >= slog.LevelError:
		return h.byPriority[0]
	case level >= slog.LevelWarn:
		return h.byPriority[1]
	case level >= slog.LevelInfo:
		return h.byPriority[2]
	}
	return h.byPriority[3]
}

// Enabled implements slog.Handler.
func (h journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.at(level).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Time = time.Time{}
	return h.at(r.Level).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for i := range h.byPriority {
		h.byPriority[i] = h.byPriority[i].WithAttrs(attrs)
	}
	return h
}

// WithGroup implements slog.Handler.
func (h journalHandler) WithGroup(name string) slog.Handler {
	for i := range h.byPriority {
		h.byPriority[i] = h.byPriority[i].WithGroup(name)
	}
	return h
}

// prefixed puts a prefix before each write, which is a line.
type prefixed struct {
	w      io.Writer
	prefix string
	mu     *sync.Mutex // shared by all that write to w
}

func (p prefixed) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.w.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
