// Command river drives the River job queue for the benchmark. What each
// command does and prints is the contract in ../README.md.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// The settings, and what else was tried, are explained in ../README.md.
const (
	noopWorkers = 2000
	postWorkers = 1000
	poolSize    = 10
	insertBatch = 10_000
	inserters   = 8
)

var (
	fetchCooldown = setting("RIVER_FETCH_COOLDOWN", time.Millisecond, time.ParseDuration)
	fetchPoll     = setting("RIVER_FETCH_POLL", 10*time.Millisecond, time.ParseDuration)
)

// setting reads a variable of the environment.
func setting[T any](name string, otherwise T, parse func(string) (T, error)) T {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	v, err := parse(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "river: %s: %v\n", name, err)
		os.Exit(1)
	}
	return v
}

// aboveZero parses a number that is not to be 0.
func aboveZero(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err == nil && n < 1 {
		err = errors.New("not a number above 0")
	}
	return n, err
}

const usage = `usage: river version
       river setup
       river fill N BYTES [URL]
       river drain noop|post N [URL]
       river latency noop|post RATE COUNT [URL]`

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	command, args := arg(args, 0), args[min(1, len(args)):]
	if command == "version" {
		fmt.Fprintln(out, "river", version())
		return nil
	}
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	config.MaxConns, config.MinConns = poolSize, poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil {
		return err
	}
	switch {
	case command == "setup" && len(args) == 0:
		return setup(ctx, pool)
	case command == "fill" && (len(args) == 2 || len(args) == 3):
		return fill(ctx, pool, number(args[0]), number(args[1]), arg(args, 2))
	case command == "drain" && (len(args) == 2 || len(args) == 3):
		return drain(ctx, pool, out, args[0] == "post", number(args[1]), arg(args, 2))
	case command == "latency" && (len(args) == 3 || len(args) == 4):
		return latency(ctx, pool, out, args[0] == "post", number(args[1]), number(args[2]), arg(args, 3))
	}
	return fmt.Errorf("unknown command\n%s", usage)
}

// event is the job: its number, where to post it when the command line does
// not say, and filling.
type event struct {
	N   int    `json:"n"`
	URL string `json:"url,omitempty"`
	Pad string `json:"pad"`
}

func (event) Kind() string { return "event" }

// newEvent makes a job of about size bytes of JSON.
func newEvent(n, size int, url string) event {
	e := event{N: n, URL: url}
	bare, _ := json.Marshal(e)
	e.Pad = strings.Repeat("x", max(0, size-len(bare)))
	return e
}

func setup(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func fill(ctx context.Context, pool *pgxpool.Pool, count, size int, url string) error {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		return err
	}
	for done := 0; done < count; {
		batch := make([]river.InsertManyParams, min(insertBatch, count-done))
		for i := range batch {
			batch[i].Args = newEvent(done+i+1, size, url)
		}
		if _, err := client.InsertManyFast(ctx, batch); err != nil {
			return err
		}
		done += len(batch)
	}
	_, err = pool.Exec(ctx, "vacuum analyze river_job")
	return err
}

func drain(ctx context.Context, pool *pgxpool.Pool, out io.Writer, post bool, count int, url string) error {
	handler := &worker{post: post, url: url, handled: make(chan int, count)}
	start := time.Now()
	client, err := work(ctx, pool, handler)
	if err != nil {
		return err
	}
	for range count {
		<-handler.handled
	}
	if err := recorded(ctx, pool); err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	if err := client.Stop(ctx); err != nil {
		return err
	}
	var done int
	if err := pool.QueryRow(ctx, "select count(*) from river_job where state = 'completed'").Scan(&done); err != nil {
		return err
	}
	if done != count {
		return fmt.Errorf("%d jobs are recorded as completed, not %d", done, count)
	}
	return json.NewEncoder(out).Encode(map[string]any{"jobs": count, "seconds": seconds})
}

// recorded returns once no job is left to finish. It is called when the last
// handler has returned, so it waits for the last batch of completions alone.
func recorded(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		var left bool
		err := pool.QueryRow(ctx, `select exists (select from river_job
			where state in ('available', 'running', 'retryable'))`).Scan(&left)
		if err != nil || !left {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// latency inserts count jobs, rate a second, or each after the one before it
// was handled when rate is 0, and prints when each was committed and when its
// handler began.
func latency(ctx context.Context, pool *pgxpool.Pool, out io.Writer, post bool, rate, count int, url string) error {
	handler := &worker{post: post, url: url, began: make([]atomic.Int64, count+1), handled: make(chan int, count)}
	client, err := work(ctx, pool, handler)
	if err != nil {
		return err
	}
	// The inserter has a client and connections of its own, as another
	// program would.
	config := pool.Config()
	config.MaxConns, config.MinConns = inserters, inserters
	insertPool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer insertPool.Close()
	insertClient, err := river.NewClient(riverpgxv5.New(insertPool), &river.Config{FetchCooldown: fetchCooldown})
	if err != nil {
		return err
	}
	time.Sleep(time.Second) // the worker listens, the connections are open

	commits := make([]int64, count+1)
	insert := func(n int) error {
		err := pgx.BeginFunc(ctx, insertPool, func(tx pgx.Tx) error {
			_, err := insertClient.InsertTx(ctx, tx, newEvent(n, 250, ""), nil)
			return err
		})
		commits[n] = time.Now().UnixNano()
		return err
	}
	if rate == 0 {
		for n := 1; n <= count; n++ {
			if err := insert(n); err != nil {
				return err
			}
			<-handler.handled
		}
	} else {
		due, errs := make(chan int, count), make(chan error, count)
		for range inserters {
			go func() {
				for n := range due {
					errs <- insert(n)
				}
			}()
		}
		start := time.Now()
		for n := 1; n <= count; n++ {
			time.Sleep(time.Until(start.Add(time.Duration(n-1) * time.Second / time.Duration(rate))))
			due <- n
		}
		close(due)
		for range count {
			if err := <-errs; err != nil {
				return err
			}
		}
		for range count {
			<-handler.handled
		}
	}
	if err := client.Stop(ctx); err != nil {
		return err
	}
	var lines bytes.Buffer
	for n := 1; n <= count; n++ {
		fmt.Fprintf(&lines, `{"n":%d,"commit":%d,"began":%d}`+"\n", n, commits[n], handler.began[n].Load())
	}
	_, err = lines.WriteTo(out)
	return err
}

// work starts a River client that gives its jobs to handler.
func work(ctx context.Context, pool *pgxpool.Pool, handler *worker) (*river.Client[pgx.Tx], error) {
	maxWorkers := noopWorkers
	if handler.post {
		maxWorkers = setting("RIVER_WORKERS", postWorkers, aboveZero)
		handler.http = &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				MaxIdleConns:        maxWorkers,
				MaxIdleConnsPerHost: maxWorkers,
			},
		}
	}
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, handler); err != nil {
		return nil, err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown:     fetchCooldown,
		FetchPollInterval: fetchPoll,
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}},
		Workers:           workers,
	})
	if err != nil {
		return nil, err
	}
	return client, client.Start(ctx)
}

// worker handles the jobs.
type worker struct {
	river.WorkerDefaults[event]
	post    bool
	url     string // where to post; "" takes the job's own
	http    *http.Client
	began   []atomic.Int64 // when each job's handler began, in Unix nanoseconds; nil when nobody asks
	handled chan int       // the number of each job whose handler succeeded
}

func (w *worker) Work(ctx context.Context, job *river.Job[event]) error {
	if w.began != nil {
		w.began[job.Args.N].Store(time.Now().UnixNano())
	}
	if w.post {
		if err := w.send(ctx, job.Args); err != nil {
			return err
		}
	}
	w.handled <- job.Args.N
	return nil
}

// send posts e and fails unless the reply is a 2xx.
func (w *worker) send(ctx context.Context, e event) error {
	url := w.url
	if url == "" {
		url = e.URL
	}
	e.URL = ""
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	reply, err := w.http.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if _, err := io.Copy(io.Discard, reply.Body); err != nil {
		return err
	}
	if reply.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", reply.StatusCode)
	}
	return nil
}

// version is that of the River that was built in.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/riverqueue/river" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "unknown"
}

// arg is args[i], or "" when there are not so many.
func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// number reads a count from the command line, or ends the program.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		fmt.Fprintf(os.Stderr, "river: %q is not a count\n%s\n", s, usage)
		os.Exit(2)
	}
	return n
}
