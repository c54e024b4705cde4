package httpsend

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

func TestKindOf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		want   dispatch.Kind
	}{
		{"taken", 200, ""},
		{"taken without a body", 204, ""},
		{"not an answer to a POST", 101, dispatch.Rejected},
		{"moved", 301, dispatch.Rejected},
		{"moved, same method", 307, dispatch.Rejected},
		{"not understood", 400, dispatch.Rejected},
		{"not allowed", 401, dispatch.Rejected},
		{"not there", 404, dispatch.Rejected},
		{"gone for good", 410, dispatch.Rejected},
		{"did not arrive whole", 408, dispatch.Down},
		{"meant for another connection", 421, dispatch.Down},
		{"too early", 425, dispatch.Down},
		{"too fast", 429, dispatch.Throttled},
		{"failed there", 500, dispatch.Down},
		{"takes no POST", 501, dispatch.Rejected},
		{"nobody behind the proxy", 502, dispatch.Down},
		{"closed for now", 503, dispatch.Down},
		{"a gateway gave up waiting", 504, dispatch.Unknown},
		{"Cloudflare gave up waiting", 524, dispatch.Unknown},
		{"an unknown failure", 599, dispatch.Unknown},
		{"an unknown refusal", 499, dispatch.Rejected},
		{"beyond the numbers", 777, dispatch.Rejected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := KindOf(tt.status); got != tt.want {
				t.Errorf("KindOf(%d) = %q, want %q", tt.status, got, tt.want)
			}
		})
	}
}

func TestKindOfOnce(t *testing.T) {
	for _, wish := range []time.Duration{0, time.Second} {
		for status := 100; status < 700; status++ {
			want := KindOf(status)
			switch {
			case status == 521, status == 523, status == 525, status == 526, status == 503 && wish > 0: // nothing happened
			case want == dispatch.Down && status >= 500:
				want = dispatch.Unknown
			}
			if got := KindOfOnce(status, wish); got != want {
				t.Errorf("KindOfOnce(%d, %s) = %q, want %q", status, wish, got, want)
			}
		}
	}
	for status, want := range map[int]dispatch.Kind{200: "", 404: dispatch.Rejected, 408: dispatch.Down, 429: dispatch.Throttled,
		500: dispatch.Unknown, 502: dispatch.Unknown, 503: dispatch.Unknown, 504: dispatch.Unknown, 522: dispatch.Unknown, 523: dispatch.Down} {
		if got := KindOfOnce(status, 0); got != want {
			t.Errorf("KindOfOnce(%d, 0) = %q, want %q", status, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, tt := range []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"no wish", http.Header{}, 0},
		{"seconds", http.Header{"Retry-After": {"30"}}, 30 * time.Second},
		{"a fraction", http.Header{"Retry-After": {"1.5"}}, 1500 * time.Millisecond},
		{"none", http.Header{"Retry-After": {"0"}}, 0},
		{"negative", http.Header{"Retry-After": {"-30"}}, 0},
		{"a long wait is capped", http.Header{"Retry-After": {"1000000000"}}, dispatch.MaxRetryAfter},
		{"so is one that no number holds", http.Header{"Retry-After": {strings.Repeat("9", 400)}}, dispatch.MaxRetryAfter},
		{"garbage", http.Header{"Retry-After": {"soon"}}, 0},
		{"not a number", http.Header{"Retry-After": {"NaN"}}, 0},
		{"infinite", http.Header{"Retry-After": {"Inf"}}, 0},
		{"hexadecimal", http.Header{"Retry-After": {"0x10"}}, 0},
		{"two points", http.Header{"Retry-After": {"1.2.3"}}, 0},
		{"a date", http.Header{"Retry-After": {in(90 * time.Second)}}, 90 * time.Second},
		{"a date gone by", http.Header{"Retry-After": {in(-time.Hour)}}, 0},
		{"a date far off", http.Header{"Retry-After": {"Fri, 31 Dec 9999 23:59:59 GMT"}}, dispatch.MaxRetryAfter},
		{
			"a date counts from the reply's own",
			http.Header{"Retry-After": {in(time.Hour + time.Minute)}, "Date": {in(time.Hour)}},
			time.Minute,
		},
		{"milliseconds", http.Header{"Retry-After-Ms": {"250"}, "Retry-After": {"1"}}, 250 * time.Millisecond},
		{"seconds where the milliseconds are garbage", http.Header{"Retry-After-Ms": {"x"}, "Retry-After": {"1"}}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := RetryAfter(tt.header, now); got != tt.want {
				t.Errorf("RetryAfter(%v) = %s, want %s", tt.header, got, tt.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("30", "250", "Sun, 06 Nov 1994 08:49:37 GMT")
	f.Add("Sun, 06 Nov 1994 08:49:37 GMT", "", "")
	f.Add("1e9", "-1", "x")
	f.Fuzz(func(t *testing.T, after, ms, date string) {
		h := http.Header{"Retry-After": {after}, "Retry-After-Ms": {ms}, "Date": {date}}
		if d := RetryAfter(h, time.Unix(1<<31, 0)); d < 0 || d > dispatch.MaxRetryAfter {
			t.Errorf("RetryAfter(%v) = %s", h, d)
		}
	})
}
