package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A peer is another program that does the same work, in a folder of
// bench/peers. The README there has the arguments that it takes.
type peer struct {
	name    string // as people know it
	dir     string
	command []string // what runs it
	version string   // as it says itself
	older   string   // what it declares to need of Node and has not; "" where that is as declared
	env     []string // what it has in its environment beside, or in place of, what the listener has
}

// The peers, by their names.
const (
	river    = "River"
	graphile = "Graphile Worker"
	pgboss   = "pg-boss"

	riverUntuned = "River (GOGC=100)"    // River without the memory that the listener takes for speed
	riverGentle  = "River (2 ms, 20 ms)" // River that fetches as its own benchmark does
	riverFew     = "River (100 workers)" // River with fewer hands, which may suit a small machine
	bareClient   = "a bare client"       // no queue at all: the limit of what is compared
)

var peerFolders = []struct{ name, folder string }{
	{river, "river"},
	{graphile, "graphile"},
	{pgboss, "pgboss"},
	{bareClient, "bare"},
}

// rivers are the ways to run River beside the first.
var rivers = []peer{
	{name: riverUntuned, env: []string{"GOGC=100"}},
	{name: riverFew, env: []string{"RIVER_WORKERS=100"}},
	{name: riverGentle, env: []string{"RIVER_FETCH_COOLDOWN=2ms", "RIVER_FETCH_POLL=20ms"}},
}

// peerNeeds says which scenarios run peers, and which.
var peerNeeds = map[string][]string{
	"drain":   {river, riverUntuned, graphile, pgboss},
	"drain10": {river},
	"limit":   {river},
	"webhook": {river, riverUntuned, riverFew, bareClient},
	"latency": {river, riverGentle},
}

// findPeers builds the peers that the chosen scenarios need. One that cannot
// be built is left out, with a line in the report that says why.
func (r *run) findPeers(ctx context.Context, chosen []scenario) {
	var needed []string
	for _, s := range chosen {
		needed = append(needed, peerNeeds[s.name]...)
	}
	if len(needed) == 0 {
		return
	}
	if r.NoPeers {
		r.note("other programs are left out: --no-peers")
		return
	}
	for _, f := range peerFolders {
		if !slices.Contains(needed, f.name) {
			continue
		}
		p := &peer{name: f.name, dir: filepath.Join(r.Peers, f.folder)}
		if err := p.build(ctx, r.temp); err != nil {
			r.note("%s is left out: %v", p.name, err)
			continue
		}
		r.peers = append(r.peers, p)
		r.say("%s: %s", p.name, p.version)
		if p.older != "" {
			r.note("%s runs on an older Node than it supports: %s.", p.name, p.older)
		}
		for _, other := range rivers {
			if p.name == river && slices.Contains(needed, other.name) {
				also := *p
				also.name, also.env = other.name, other.env
				r.peers = append(r.peers, &also)
			}
		}
	}
}

// build makes the peer ready to run: a Go program is built, for another the
// packages that it names are installed.
func (p *peer) build(ctx context.Context, temp string) error {
	dir, err := filepath.Abs(p.dir)
	if err != nil {
		return err
	}
	p.dir = dir
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("there is no folder %s; --peers names another place", dir)
	}
	var prepare []string
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		binary := filepath.Join(temp, filepath.Base(dir))
		prepare, p.command = []string{"go", "build", "-o", binary, "."}, []string{binary}
	} else {
		prepare, p.command = []string{"npm", "ci", "--no-audit", "--no-fund"}, []string{"node", "main.mjs"} // npm runs on that node
	}
	for _, program := range []string{prepare[0], p.command[0]} {
		if _, err := exec.LookPath(program); err != nil && !filepath.IsAbs(program) {
			return fmt.Errorf("%s is not installed", program)
		}
	}
	building, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(building, prepare[0], prepare[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s in %s: %w: %s", strings.Join(prepare, " "), p.dir, err, lastLine(out))
	}
	onNode := p.command[0] == "node"
	if own := ownNode(dir); onNode && own != "" {
		p.command[0] = own
	}
	out, err := p.do(ctx, "", "version")
	p.version = strings.TrimSpace(string(out))
	if onNode && err == nil {
		if out, err = exec.CommandContext(ctx, p.command[0], "--version").Output(); err != nil {
			return err
		}
		version := strings.TrimSpace(string(out))
		p.version += " on Node " + version
		p.older, err = nodeTooOld(dir, version)
	}
	return err
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// peerTimeout bounds one command of a peer.
const peerTimeout = 15 * time.Minute

// do runs one command of the peer and returns what it printed.
func (p *peer) do(ctx context.Context, database string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.command[0], append(slices.Clone(p.command[1:]), args...)...)
	cmd.Dir = p.dir
	cmd.Env = append(append(os.Environ(), "DATABASE_URL="+database, "GOGC=300"), p.env...) // GOGC as the listener has it
	var stderr ending
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", p.name, strings.Join(args, " "), err, lastLine([]byte(stderr.String())))
	}
	return out, nil
}

// peer returns the one of that name; nil when it was left out.
func (r *run) peer(name string) *peer {
	for _, p := range r.peers {
		if p.name == name {
			return p
		}
	}
	return nil
}

// prepared makes a database with the peer's schema.
func (p *peer) prepared(ctx context.Context, s *server) (*database, error) {
	db, err := s.empty(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := p.do(ctx, db.url, "setup"); err != nil {
		db.drop()
		return nil, err
	}
	return db, nil
}

// drain returns how many jobs of that many bytes the peer gets done a second,
// of n that wait. With a url each is a POST to it.
func (p *peer) drain(ctx context.Context, s *server, n, bytes int, url string) (float64, error) {
	db, err := p.prepared(ctx, s)
	if err != nil {
		return 0, err
	}
	defer db.drop()
	fill := []string{"fill", strconv.Itoa(n), strconv.Itoa(bytes)}
	work := []string{"drain", "noop", strconv.Itoa(n)}
	if url != "" {
		fill, work = append(fill, url), []string{"drain", "post", strconv.Itoa(n), url}
	}
	if _, err := p.do(ctx, db.url, fill...); err != nil {
		return 0, err
	}
	if err := db.settle(ctx); err != nil {
		return 0, err
	}
	return p.rate(ctx, db.url, n, work...)
}

// posts returns how many POSTs of that many bytes to url the peer makes a
// second, of n, with no queue and no database.
func (p *peer) posts(ctx context.Context, n, bytes int, url string) (float64, error) {
	return p.rate(ctx, "", n, "post", strconv.Itoa(n), strconv.Itoa(bytes), url)
}

// rate runs a command that does n jobs, and returns how many that is a second.
func (p *peer) rate(ctx context.Context, database string, n int, args ...string) (float64, error) {
	out, err := p.do(ctx, database, args...)
	if err != nil {
		return 0, err
	}
	var done struct {
		Jobs    int
		Seconds float64
	}
	if err := json.Unmarshal([]byte(lastLine(out)), &done); err != nil {
		return 0, fmt.Errorf("%s %s printed %q: %w", p.name, args[0], lastLine(out), err)
	}
	if done.Jobs != n || done.Seconds <= 0 {
		return 0, fmt.Errorf("%s %s did %d jobs of %d in %g s", p.name, args[0], done.Jobs, n, done.Seconds)
	}
	return float64(n) / done.Seconds, nil
}

// latencies returns the time from COMMIT to the first byte at the sink, in ms,
// of count jobs at rate a second.
func (p *peer) latencies(ctx context.Context, s *server, to *sink, rate, count int) ([]float64, error) {
	db, err := p.prepared(ctx, s)
	if err != nil {
		return nil, err
	}
	defer db.drop()
	if err := db.settle(ctx); err != nil {
		return nil, err
	}
	out, err := p.do(ctx, db.url, "latency", "post", strconv.Itoa(rate), strconv.Itoa(count), to.url())
	if err != nil {
		return nil, err
	}
	var took []float64
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		var line struct {
			N      *int
			Commit int64
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.N == nil || line.Commit == 0 {
			continue // a line for people
		}
		at := time.Time{}
		if n := *line.N; n >= 0 && n < len(to.at) {
			at = to.arrived(n)
		}
		if at.IsZero() {
			return nil, fmt.Errorf("%s: job %d never arrived", p.name, *line.N)
		}
		took = append(took, ms(at.Sub(time.Unix(0, line.Commit))))
	}
	if len(took) != count {
		err = errors.Join(lines.Err(), fmt.Errorf("%s latency printed %d of %d jobs", p.name, len(took), count))
	}
	return took, err
}
