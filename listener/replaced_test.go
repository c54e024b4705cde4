package listener_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/internal/pgtest"
	"github.com/outbox-listener/outbox-listener/listener"
	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// post is a carrier that refuses whom it is told to, and answers with whom it has.
type post struct {
	mu     sync.Mutex
	closed map[string]bool // recipients, or items
}

func (p *post) close(who ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = map[string]bool{}
	for _, w := range who {
		p.closed[w] = true
	}
}

func (p *post) Send(_ context.Context, d *dispatch.Delivery) (dispatch.Receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var words struct {
		To string `json:"to"`
	}
	if err := json.Unmarshal(d.Content, &words); err != nil {
		return dispatch.Receipt{}, err
	}
	if p.closed[words.To] {
		return dispatch.Receipt{}, &dispatch.Error{Kind: dispatch.Rejected}
	}
	answer, err := json.Marshal(words.To)
	return dispatch.Receipt{ProviderID: "taken-" + d.ID.String()[:18], Answer: answer}, err
}

// each are messages of the step "each", one for each name. Names that begin alike have
// one address.
func each(names ...string) (out []dispatch.Message) {
	for _, name := range names {
		m := step("each", dispatch.Terms{})
		m.Item, m.Recipient, m.Content = name, "at "+name[:1], json.RawMessage(fmt.Sprintf(`{"to": %q}`, name))
		out = append(out, m)
	}
	if len(names) == 0 {
		m := step("each", dispatch.Terms{})
		m.Recipient, m.Content, m.Skip = "", nil, "nobody to send to"
		out = append(out, m)
	}
	return out
}

// TestStepsThatCount: what a step came to, for the one that waits for it, is what came of
// the deliveries that count: of each the newest, and none that an earlier plan left
// behind.
func TestStepsThatCount(t *testing.T) {
	t.Parallel()
	type world struct {
		t    *testing.T
		db   *pgtest.DB
		post *post
	}
	plan := func(w *world, names string) { // a payload is mended, and its event opened again
		pgtest.Exec(w.t, w.db, `update outbox_events set payload = $1, processed_at = null`, names)
		processed(w.t, w.db, 10*time.Second)
	}
	replay := func(w *world, name string) {
		id := pgtest.QueryVal[uuid.UUID](w.t, w.db, `select id from outbox.deliveries where content ->> 'to' = $1 order by generation desc limit 1`, name)
		res, err := operate.New(w.db.Pool).Do(w.t.Context(), operate.Request{Action: operate.Replay, Filter: operate.Filter{IDs: []uuid.UUID{id}}, By: operate.By{Who: "a test", Via: "command"}})
		if err != nil || res.Done != 1 {
			w.t.Fatalf("%+v, %v", res, err)
		}
		pgtest.Eventually(w.t, 10*time.Second, func() (bool, string) {
			n := pgtest.QueryVal[int](w.t, w.db, `select count(*) from outbox.deliveries where step = 'each' and finished_at is null`)
			return n == 0, "the replay is not over"
		})
	}
	for _, tt := range []struct {
		name   string
		first  string // the names of the first plan, as JSON
		closed []string
		then   func(w *world)
		want   string // what becomes of the step that waits, and the answer that it saw
	}{
		{"as planned", `["a"]`, nil, nil, `delivered "a"`},
		{"refused", `["a"]`, []string{"a"}, nil, `skipped `},
		{"one of two refused", `["a", "b"]`, []string{"a"}, nil, `skipped `},
		{"opened again", `["a"]`, []string{"a"}, func(w *world) { w.post.close(); plan(w, `["a"]`) }, `delivered "a"`},
		{"opened again in vain", `["a"]`, []string{"a"}, func(w *world) { plan(w, `["a"]`) }, `skipped `},
		{"for somebody else since", `["a"]`, []string{"a"}, func(w *world) { plan(w, `["b"]`) }, `delivered "b"`},
		{"for somebody else since, after an attempt in vain", `["a"]`, []string{"a"}, func(w *world) { plan(w, `["a"]`); plan(w, `["b"]`) }, `delivered "b"`},
		{"for somebody else since, in vain", `["a"]`, []string{"b"}, func(w *world) { plan(w, `["b"]`) }, `skipped `},
		{"for somebody else and back", `["a"]`, []string{"a", "b"}, func(w *world) { plan(w, `["b"]`); w.post.close("b"); plan(w, `["a"]`) }, `delivered "a"`},
		{"for somebody else since, though it had arrived", `["a"]`, nil, func(w *world) { plan(w, `["b"]`) }, `delivered "b"`},
		{"for one less", `["a", "b"]`, []string{"b"}, func(w *world) { plan(w, `["a"]`) }, `delivered "a"`},
		{"for nobody, and then for one", `[]`, nil, func(w *world) { plan(w, `["a"]`) }, `delivered "a"`},
		{"one of two replayed", `["a", "b"]`, []string{"a", "b"}, func(w *world) { w.post.close("b"); replay(w, "a") }, `skipped `},
		{"one of two to one number replayed", `["a", "aa"]`, []string{"a", "aa"}, func(w *world) { w.post.close("aa"); replay(w, "a") }, `skipped `},
		{"both replayed", `["a", "aa"]`, []string{"a", "aa"}, func(w *world) { w.post.close(); replay(w, "a"); replay(w, "aa") }, `delivered "a`},
		{"replayed twice", `["a"]`, []string{"a"}, func(w *world) { replay(w, "a"); w.post.close(); replay(w, "a") }, `delivered "a"`},
		{"replayed, and opened again", `["a", "b"]`, []string{"a", "b"}, func(w *world) { w.post.close("b"); replay(w, "a"); plan(w, `["a", "b"]`) }, `skipped `},
		{"opened again, and refused is what had waited", `["a"]`, []string{"a"}, func(w *world) { w.post.close("later"); plan(w, `["a"]`) }, `skipped `},
		{"opened again, and replayed", `["a", "b"]`, []string{"a", "b"}, func(w *world) {
			w.post.close("b")
			plan(w, `["a", "b"]`)
			w.post.close()
			replay(w, "b")
		}, `delivered "b"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, db: pgtest.New(t), post: &post{}}
			w.post.close(tt.closed...)
			var saw atomic.Value
			r := router{
				plan: func(ev dispatch.Event) ([]dispatch.Message, error) {
					var names []string
					if err := json.Unmarshal(ev.Payload, &names); err != nil {
						return nil, err
					}
					later := step("later", dispatch.Terms{At: time.Now().Add(time.Hour), Optional: true})
					later.Content = json.RawMessage(`{"to": "later"}`)
					return append(each(names...), later, waitsFor("then", dispatch.Terms{Optional: true}, "each", "later")), nil
				},
				render: func(m dispatch.Message, steps map[string]dispatch.StepResult) (dispatch.Message, error) {
					for name, s := range steps {
						if s.State != dispatch.Delivered {
							m.Skip = fmt.Sprintf("%s is %s", name, s.State)
						}
					}
					m.Content = json.RawMessage(`{"to": "then"}`)
					saw.Store(string(steps["each"].Answer))
					return m, nil
				},
			}
			start(t, newListener(t, w.db, routed(w.post, plain, r), func(c *listener.Config) { c.PollInterval = 200 * time.Millisecond }))
			insert(t, w.db, "e", tt.first)
			processed(t, w.db, 10*time.Second)
			if tt.then != nil {
				tt.then(w)
			}
			pgtest.Exec(t, w.db, `update outbox.deliveries set due_at = now() where step = 'later' and state = 'scheduled'`)
			var got []string
			pgtest.Eventually(t, 10*time.Second, func() (bool, string) {
				got = pgtest.QueryVals[string](t, w.db, `select state || ' ' || coalesce(last_error, '') from outbox.deliveries where step = 'then'`)
				return len(got) == 1 && !strings.HasPrefix(got[0], "ready"), fmt.Sprint(got)
			})
			if state, _, _ := strings.Cut(got[0], " "); !strings.HasPrefix(fmt.Sprintf("%s %s", state, saw.Load()), tt.want) {
				t.Errorf("the step that waits is %q and saw %s, want %q", got, saw.Load(), tt.want)
			}
		})
	}
}
