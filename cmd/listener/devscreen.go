package main

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/standin"
)

// screen is where dev writes for people.
type screen struct {
	w       io.Writer
	colour  bool
	content int // width of the columns that give way on a narrow terminal
	id      int
}

// Widths of a line about an arrival.
const (
	latencyWidth   = 10
	channelWidth   = 7
	recipientWidth = 16
	fixedWidth     = latencyWidth + channelWidth + recipientWidth + 5*2 // two blanks before each column
	idWidth        = 36
)

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, content: 40, id: idWidth}
	if !isTerminal(w) {
		return s
	}
	s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" &&
		(runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != "")
	if width, _, err := term.GetSize(int(w.(*os.File).Fd())); err == nil {
		const least, most = 24, 60
		s.id = min(max(width-fixedWidth-least, 13), idWidth)
		s.content = min(max(width-fixedWidth-s.id, least), most)
	}
	return s
}

func (s *screen) printf(format string, args ...any) { fmt.Fprintf(s.w, format, args...) }

func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) bold(text string) string  { return s.paint("1", text) }
func (s *screen) dim(text string) string   { return s.paint("2", text) }
func (s *screen) red(text string) string   { return s.paint("1;31", text) }
func (s *screen) green(text string) string { return s.paint("1;32", text) }

// header says what runs where.
func (s *screen) header(d *dev) {
	kept := "temporary"
	if d.cmd.DataDir != "" {
		kept = "in " + d.cmd.DataDir
	}
	s.printf("\n")
	for _, line := range [][2]string{
		{"Postgres", fmt.Sprintf("127.0.0.1:%d (version %d, %s)", d.server.Port(), d.server.Version(), kept)},
		{"Twilio", d.standins.twilio.URL() + " (stand-in)"},
		{"SMTP", fmt.Sprintf("%s:%d (stand-in)", d.standins.smtp.Host(), d.standins.smtp.Port())},
		{"webhooks", d.standins.webhook.URL() + " (stand-in)"},
		{"OpenAI", d.standins.openai.URL() + " (stand-in)"},
		{"requests", d.standins.api.URL() + " (stand-in)"},
		{"admin", "http://" + d.admin + ", ADMIN_API_KEY " + d.key},
		{"routes", d.routes},
	} {
		if line[1] == "" {
			continue
		}
		s.printf("  %s  %s\n", s.dim(pad(line[0], 8)), line[1])
	}
	s.printf("\n")
}

// columns is the line above the arrivals.
func (s *screen) columns() {
	s.printf("The stand-ins received (with the time from COMMIT to acceptance):\n\n")
}

// arrival prints one line about a message.
func (s *screen) arrival(m standin.Received, latency string) {
	if latency == "" {
		latency = "?"
	}
	s.line(s.green(fmt.Sprintf("%*s", latencyWidth, latency)), string(m.Channel), m.Recipient, shown(m), arrivalID(m))
}

// ending prints one line about a delivery that no stand-in received.
func (s *screen) ending(e ending) {
	text := e.Type
	if e.Reason != "" {
		text = e.Reason
	}
	s.line(s.bold(fmt.Sprintf("%*s", latencyWidth, e.State)), e.Channel, e.Recipient, text, e.ID.String())
}

func (s *screen) line(first, channel, recipient, content, id string) {
	if r := []rune(oneLine(id)); len(r) > s.id {
		id = "…" + string(r[len(r)-s.id+1:]) // ids begin alike
	}
	s.printf("  %s  %s  %s  %s  %s\n", first, pad(channel, channelWidth), pad(recipient, recipientWidth), pad(content, s.content), s.dim(oneLine(id)))
}

// shown is what a line tells of a message: of an e-mail its subject.
func shown(m standin.Received) string {
	if m.Channel != dispatch.ChannelEmail {
		return m.Body
	}
	parsed, err := mail.ReadMessage(bytes.NewReader([]byte(m.Body)))
	if err != nil {
		return m.Body
	}
	subject := parsed.Header.Get("Subject")
	if decoded, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		return decoded
	}
	return subject
}

// invitation says how to go on. Whoever has Postgres by a download of ours
// may have no psql.
func (s *screen) invitation(d *dev, psql bool) {
	url := d.server.URL(devDatabase)
	s.printf("\n%s\n\n", s.bold("Now insert your own."))
	if psql {
		s.printf("  psql \"%s\"\n\n", url)
	} else {
		s.printf("  With any SQL client (psql is not installed here):\n  %s\n\n", url)
	}
	s.printf(`  insert into outbox_events (type, payload) values
    ('sms.send', '{"to": "+12025550123", "body": "Hello from psql"}'),
    ('webhook.send', '{"url": "%s/hooks/mine", "body": {"hello": "world"}}');

  select * from outbox.deliveries order by created_at;

%s
`, d.standins.webhook.URL(), s.dim("Ctrl-C stops everything. What arrives is shown here:"))
	s.printf("\n")
}

// table prints what became of the samples.
func (s *screen) table(samples []*devSample, rows []devRow, got []standin.Received) {
	t := tabwriter.NewWriter(s.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  event type\tchannel\trecipient\tstate\tattempts\tCOMMIT→accepted\tprovider id")
	for _, sample := range samples {
		latency := "-"
		for _, m := range got {
			if sample.isArrivalOf(m) {
				latency = inMs(m.At.Sub(sample.committed))
				break
			}
		}
		found := false
		for _, r := range rows {
			if r.EventID != sample.id {
				continue
			}
			found = true
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%8d\t%15s\t%s\n", sample.typ, r.Channel, r.Recipient, r.State, r.Attempts, latency, orDash(oneLine(r.ProviderID)))
		}
		if !found {
			fmt.Fprintf(t, "  %s\t%s\t-\t-\t%8s\t%15s\t-\n", sample.typ, sample.channel, "-", latency)
		}
	}
	_ = t.Flush() // as any other line of ours
}

// verdict prints whether all is well, and else why not.
func (s *screen) verdict(samples []*devSample, got []standin.Received, problems []string) {
	if len(problems) > 0 {
		s.printf("\n%s\n", s.red(fmt.Sprintf("FAILED: of %d samples not every one arrived exactly once and is delivered", len(samples))))
		for _, p := range problems {
			s.printf("  %s\n", p)
		}
		return
	}
	var took []time.Duration
	for _, sample := range samples {
		for _, m := range got {
			if sample.isArrivalOf(m) {
				took = append(took, m.At.Sub(sample.committed))
			}
		}
	}
	s.printf("\n%s\n", s.green(fmt.Sprintf("ok: %d of %d samples arrived exactly once and are delivered, %s to %s after their COMMIT",
		len(samples), len(samples), inMs(slices.Min(took)), inMs(slices.Max(took)))))
}

// inMs is d for people. A webhook may well be there before the answer to
// COMMIT is, which makes d negative.
func inMs(d time.Duration) string {
	if d < 50*time.Microsecond {
		return "<0.1 ms"
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// pad makes text a single line of exactly n letters.
func pad(text string, n int) string {
	text = oneLine(text)
	if count := utf8.RuneCountInString(text); count <= n {
		return text + strings.Repeat(" ", n-count)
	}
	return string([]rune(text)[:n-1]) + "…"
}
