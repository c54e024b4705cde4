package routes

import "strings"

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

// distance is how many characters have to be changed, added, left out, or
// exchanged with their neighbour to make b of a. What is long has no misspelling
// worth the work: it is far from everything.
func distance(a, b string) int {
	const far = 64
	if len(a) > far || len(b) > far {
		return far
	}
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			change := 1
			if s[i-1] == t[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(s)][len(t)]
}
