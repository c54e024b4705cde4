package routes

import (
	"strings"

	"github.com/outbox-listener/outbox-listener/dispatch/render"
)

// nearest returns the one of known that s is most likely a misspelling of, ""
// where none is near.
func nearest(s string, known []string) string {
	best, least := "", 0
	for _, k := range known {
		d := distance(plainly(s), plainly(k))
		if allowed := min(2, max(1, len(k)/3)); d > allowed || len(k) < 3 && d > 0 {
			continue
		}
		if best == "" || d < least {
			best, least = k, d
		}
	}
	return best
}

// plainly is a key without what styles of writing differ in: replyTo, reply-to
// and reply_to are one.
func plainly(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// distance is how far b is from a as a misspelling. What is long has none worth the
// work: it is far from everything.
func distance(a, b string) int {
	const far = 64
	if len(a) > far || len(b) > far {
		return far
	}
	return render.Distance([]rune(a), []rune(b))
}
