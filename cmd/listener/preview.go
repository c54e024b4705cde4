package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/dispatch/preview"
	"github.com/outbox-listener/outbox-listener/dispatch/query"
	"github.com/outbox-listener/outbox-listener/dispatch/routes"
	"github.com/outbox-listener/outbox-listener/listener"
)

// previewCmd is `listener preview`.
type previewCmd struct {
	Event string `arg:"" optional:"" name:"event-id" help:"An event in the database. It is read, and neither claimed nor changed."`

	Type    string `placeholder:"TYPE" help:"In place of an event in the database: an event of this type, with --payload."`
	Payload string `placeholder:"FILE" help:"The payload of that event, as JSON; - reads stdin."`
	Now     string `placeholder:"TIME" help:"What time it is for the routes: 2026-12-01T09:00:00Z, or, from now on, +36h (and --now=-2h). SQL's own now() stays as it is."`
	Answers string `placeholder:"FILE" help:"What steps answer that others wait for: a JSON object, step to answer; - reads stdin."`
	WithAI  bool   `name:"with-ai" help:"Ask the model for copy, as a delivery would. Without it all words are those of the templates."`
	HTML    bool   `name:"html" help:"Show the HTML of e-mails too."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Help is printed by kong.
func (previewCmd) Help() string {
	return `Nothing is sent or written: lookups run in a READ ONLY transaction, and a model is asked only with --with-ai.
Recipients are shown in full, and so is what they would get.

Exit codes: 0 done, 1 could not run, 2 wrong command line, 3 a delivery is refused.`
}

// Validate is called by kong.
func (c previewCmd) Validate() error {
	switch {
	case c.Event == "" && c.Type == "":
		return errors.New("an event is needed: its id, or --type and --payload")
	case c.Event != "" && (c.Type != "" || c.Payload != ""):
		return errors.New("an event in the database has a type and a payload already: leave out its id, or --type and --payload")
	case c.Type != "" && c.Payload == "":
		return errors.New("--type goes with --payload; {} in a file is an empty one")
	case c.Payload == "-" && c.Answers == "-":
		return errors.New("only one of --payload and --answers can be stdin")
	}
	if c.Event != "" {
		if _, err := parseID(c.Event); err != nil {
			return err
		}
	}
	_, err := c.now(time.Time{})
	return err
}

func parseID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return uuid.Nil, fmt.Errorf("%q is no id of an event, which is a uuid", short100(printable(s)))
	}
	return id, nil
}

// now is the time that --now says, zero where it says nothing. from is the real
// one.
func (c previewCmd) now(from time.Time) (time.Time, error) {
	if c.Now == "" {
		return time.Time{}, nil
	}
	if strings.HasPrefix(c.Now, "+") || strings.HasPrefix(c.Now, "-") {
		if d, err := time.ParseDuration(c.Now); err == nil {
			return from.Add(d), nil
		}
	} else if t, err := time.Parse(time.RFC3339, c.Now); err == nil {
		return t, nil
	}
	return time.Time{}, errors.New("--now has to be a time such as 2026-12-01T09:00:00Z, or a distance from now such as +36h")
}

// previewedID is the id of an event that is in no database: the same each time.
var previewedID = uuid.MustParse("00000000-0000-4000-8000-000000000001")

// runPreview says what an event becomes. It exits 3 where a delivery of it is
// refused.
func runPreview(ctx context.Context, cmd *previewCmd, s settings, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintf(stderr, "listener: %s\n", oneLine(s.scrub(err.Error())))
		return exitCannot
	}
	cfg, problems := readConfig(s)
	senders, more := newChannels(cfg, newLogger(io.Discard, logJSON, 0, nil))
	defer senders.Close()
	problems = append(problems, more...)
	if cmd.Event == "" { // routes without lookups, and direct events, need no database
		problems = slices.DeleteFunc(problems, func(p problem) bool { return p.name == "DATABASE_URL" && p.value == "" })
	}
	if len(problems) > 0 {
		return complain(stderr, problems)
	}
	var rules *routes.Routes
	if path := routesPath(cfg); path != "" {
		var err error
		if rules, err = loadRoutes(path, s); err != nil {
			complainRoutes(stderr, err)
			return exitCannot
		}
	}
	p, err := cmd.preview(ctx, cfg, senders, rules)
	if err != nil {
		return fail(err)
	}
	for _, name := range p.Unused() {
		fmt.Fprintf(stderr, "warning: an answer is given for %s, which no step waits for\n", printable(name))
	}
	if cmd.JSON {
		var out []byte
		if out, err = p.JSON(); err == nil {
			_, err = stdout.Write(out)
		}
	} else {
		err = p.Print(stdout, cmd.HTML)
	}
	switch {
	case err != nil:
		return fail(err)
	case p.Refused() > 0:
		return exitFailures
	}
	return exitOK
}

func (c *previewCmd) preview(ctx context.Context, cfg *config, senders *channels, rules *routes.Routes) (*preview.Preview, error) {
	clock := &preview.Clock{Facts: noDatabase{}}
	var err error
	if clock.At, err = c.now(time.Now()); err != nil {
		return nil, err
	}
	o := preview.Options{Redirect: cfg.Redirect}
	if c.Answers != "" {
		raw, err := readInput(c.Answers)
		if err != nil {
			return nil, fmt.Errorf("--answers %s: %w", c.Answers, err)
		}
		if o.Answers, err = preview.Answers(raw); err != nil {
			return nil, fmt.Errorf("--answers %s: %w", c.Answers, err)
		}
	}
	var events *previewDatabase
	if cfg.DatabaseURL != "" {
		pool, err := newLookupPool(ctx, cfg)
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		events = &previewDatabase{pool}
		reader := &query.Reader{Pool: pool}
		if rules != nil {
			reader.Role, reader.Timeout = rules.LookupRole()
		}
		clock.Facts = routes.Database(reader)
	}
	if rules != nil {
		var writer routes.Writer = preview.NoWriter{}
		if c.WithAI {
			writer = senders.openai
		}
		senders.Use(routes.NewRouter(rules, clock, writer))
	}

	ev := dispatch.Event{ID: previewedID, Type: c.Type, CreatedAt: cmp.Or(clock.At, time.Now()).Truncate(time.Microsecond)}
	var known preview.Event
	most := cmp.Or(cfg.MaxPayload, listener.DefaultMaxPayload)
	size := 0
	if c.Event != "" {
		id, err := parseID(c.Event)
		if err != nil {
			return nil, err
		}
		if ev, known, size, err = events.read(ctx, id, most); err != nil {
			return nil, err
		}
	} else {
		if ev.Payload, err = readPayload(c.Payload); err != nil {
			return nil, fmt.Errorf("--payload %s: %w", c.Payload, err)
		}
		size = len(ev.Payload)
	}
	var p *preview.Preview
	if size > most {
		p = preview.Refuse(ev, fmt.Sprintf("payload of %d bytes is larger than OUTBOX_MAX_PAYLOAD_BYTES=%d", size, most))
	} else if p, err = preview.Of(ctx, senders.Dispatcher, ev, o); err != nil {
		return nil, err
	}
	p.Now = clock.Saw
	p.Event.ProcessedAt, p.Event.OnRecord = known.ProcessedAt, known.OnRecord
	return p, nil
}

// noDatabase is the facts of whoever has not said where they are.
type noDatabase struct{}

// Read implements routes.Facts.
func (noDatabase) Read(context.Context, func(routes.Moment) error) error {
	return errors.New("the routes for this event ask the database, and DATABASE_URL is not set")
}

// readInput reads a file, or stdin where the path is "-".
func readInput(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, lastError(err)
	}
	return bytes.TrimPrefix(b, []byte("\ufeff")), nil
}

// readPayload reads a payload, which is any JSON, as an insert takes it.
func readPayload(path string) (json.RawMessage, error) {
	raw, err := readInput(path)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	return b.Bytes(), nil
}
