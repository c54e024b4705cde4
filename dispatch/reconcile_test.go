package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	alike := func(ids ...string) dispatch.Found {
		var f dispatch.Found
		for _, id := range ids {
			f.Alike = append(f.Alike, dispatch.Receipt{ProviderID: id})
		}
		return f
	}
	doubtful := func(f dispatch.Found) dispatch.Found { f.Doubt = "its words are hidden"; return f }
	other := func(s dispatch.State, attempts int) dispatch.Claimant {
		return dispatch.Claimant{State: s, Attempts: attempts}
	}
	bound := func(id string) dispatch.Claimant {
		return dispatch.Claimant{State: dispatch.Delivered, Attempts: 1, ProviderID: id}
	}
	for _, tt := range []struct {
		name   string
		found  dispatch.Found
		own    int
		others []dispatch.Claimant
		want   dispatch.Verdict
		id     string
	}{
		{"nothing", alike(), 1, nil, dispatch.VerdictNotThere, ""},
		{"one", alike("a"), 1, nil, dispatch.VerdictFound, "a"},
		{"nothing but a doubt", doubtful(alike()), 1, nil, dispatch.VerdictInconclusive, ""},
		{"one, and a doubt", doubtful(alike("a")), 1, nil, dispatch.VerdictFound, "a"},
		{"that of another delivery", alike("a"), 1, []dispatch.Claimant{bound("a")}, dispatch.VerdictNotThere, ""},
		{"that of another delivery, and a doubt", doubtful(alike("a")), 1, []dispatch.Claimant{bound("a")}, dispatch.VerdictInconclusive, ""},
		{"that of another delivery, and one", alike("a", "b"), 1, []dispatch.Claimant{bound("a")}, dispatch.VerdictFound, "b"},
		{"two after one attempt", alike("a", "b"), 1, nil, dispatch.VerdictInconclusive, ""},
		{"two after two attempts", alike("a", "b"), 2, nil, dispatch.VerdictFound, "a"},
		{"two, and a twin of unknown outcome", alike("a", "b"), 1, []dispatch.Claimant{other(dispatch.Uncertain, 1)}, dispatch.VerdictFound, "a"},
		{"one, and a twin that is held", alike("a"), 1, []dispatch.Claimant{other(dispatch.Held, 1)}, dispatch.VerdictFound, "a"},
		{"one, and a twin whose answer may come", alike("a"), 1, []dispatch.Claimant{other(dispatch.Sending, 1)}, dispatch.VerdictInconclusive, ""},
		{"none, and a twin whose answer may come", alike(), 1, []dispatch.Claimant{other(dispatch.Sending, 1)}, dispatch.VerdictNotThere, ""},
		{"three, and a twin that was not begun", alike("a", "b", "c"), 2, []dispatch.Claimant{other(dispatch.Ready, 0)}, dispatch.VerdictInconclusive, ""},
		{"a twin that was not begun", alike("a"), 1, []dispatch.Claimant{other(dispatch.Ready, 0)}, dispatch.VerdictFound, "a"},
		{"one without a name", alike(""), 1, nil, dispatch.VerdictNotThere, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, r, why := dispatch.Judge(tt.found, tt.own, tt.others)
			if v != tt.want || r.ProviderID != tt.id || (why != "") != (v == dispatch.VerdictInconclusive) {
				t.Errorf("Judge = %s, %q, %q; want %s, %q", v, r.ProviderID, why, tt.want, tt.id)
			}
		})
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	hold := dispatch.Policy{OnUnknown: dispatch.Reconcile}
	resend := dispatch.Policy{OnUnknown: dispatch.Reconcile, IfNotFound: dispatch.Resend}
	for _, tt := range []struct {
		name    string
		policy  dispatch.Policy
		n       int
		expired bool
		verdict dispatch.Verdict
		want    dispatch.State
	}{
		{"found", hold, 1, false, dispatch.VerdictFound, dispatch.Delivered},
		{"found after its deadline", resend, 12, true, dispatch.VerdictFound, dispatch.Delivered},
		{"not there", hold, 1, false, dispatch.VerdictNotThere, dispatch.Held},
		{"not there, to be sent again", resend, 1, false, dispatch.VerdictNotThere, dispatch.Retry},
		{"not there at the last attempt", resend, 12, false, dispatch.VerdictNotThere, dispatch.Dead},
		{"not there, and its deadline has passed", resend, 1, true, dispatch.VerdictNotThere, dispatch.Expired},
		{"inconclusive", resend, 1, false, dispatch.VerdictInconclusive, dispatch.Held},
		{"never answered", resend, 1, true, dispatch.VerdictFailed, dispatch.Held},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := dispatch.Settle(tt.policy, tt.n, 12, tt.expired, tt.verdict, dispatch.Receipt{ProviderID: "a"}, "")
			if o.State != tt.want || o.Attempts != tt.n || o.Reason == "" || (o.Receipt.ProviderID != "") != (tt.want == dispatch.Delivered) {
				t.Errorf("Settle = %+v, want %s", o, tt.want)
			}
		})
	}
}

// memory is a Reconciler that has what it is told to have.
type memory struct {
	senderFunc
	find func() (dispatch.Found, error)
	like string
}

func (m memory) Find(context.Context, *dispatch.Delivery, time.Time) (dispatch.Found, error) {
	return m.find()
}
func (m memory) Likeness(*dispatch.Delivery) string { return m.like }

func TestFind(t *testing.T) {
	t.Parallel()
	d := dispatch.New()
	panics := memory{find: func() (dispatch.Found, error) { panic("boom") }, like: "a"}
	d.Register("odd", panics, dispatch.Policy{OnUnknown: dispatch.Reconcile})
	d.Register("deaf", senderFunc(nil), dispatch.Policy{})
	d.Register("bare", memory{}, dispatch.Policy{OnUnknown: dispatch.Reconcile})
	for _, ch := range []dispatch.Channel{"odd", "deaf", "nowhere"} {
		del := &dispatch.Delivery{Message: dispatch.Message{Channel: ch}}
		if _, err := d.Find(t.Context(), del, time.Now()); err == nil || err.Channel != ch {
			t.Errorf("%s: %v", ch, err)
		}
		hash, ok := d.Likeness(del)
		if ok != (ch == "odd") || hash < 0 || hash >= 1<<20 || d.Reconcilable(ch) != ok {
			t.Errorf("%s: likeness %d, %t", ch, hash, ok)
		}
	}
	if _, ok := d.Likeness(&dispatch.Delivery{Message: dispatch.Message{Channel: "bare"}}); ok {
		t.Error("nothing to compare is alike")
	}
	defer func() {
		if r, _ := recover().(string); !strings.Contains(r, "cannot be asked") {
			t.Errorf("Register panicked with %q", r)
		}
	}()
	d.Register("mute", senderFunc(nil), dispatch.Policy{OnUnknown: dispatch.Reconcile})
}
