// Command bare makes the POSTs of a drain and nothing else: no queue, no
// database, no signature. What it manages in a process of its own is what no
// sender in Go that uses net/http can do better on the machine, however it
// comes by its events.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const usage = `usage: bare version
       bare post N BYTES URL`

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "version":
		_, err := fmt.Fprintln(out, "net/http of", runtime.Version())
		return err
	case len(args) == 4 && args[0] == "post":
		count, err := strconv.Atoi(args[1])
		if err != nil || count < 1 {
			return fmt.Errorf("no number of requests: %q", args[1])
		}
		size, err := strconv.Atoi(args[2])
		if err != nil || size < 0 {
			return fmt.Errorf("no size in bytes: %q", args[2])
		}
		took, err := postAll(args[3], count, size)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, `{"jobs":%d,"seconds":%g}`+"\n", count, took.Seconds())
		return err
	}
	return fmt.Errorf("unknown command\n%s", usage)
}

// hands is how many requests are made at once: as many as the listener has
// workers.
const hands = 32

// postAll makes the requests of the numbers from 1 to count, with about size
// bytes each, and returns how long that took. The first that fails ends it.
func postAll(url string, count, size int) (time.Duration, error) {
	client := &http.Transport{MaxIdleConns: hands, MaxIdleConnsPerHost: hands, DisableCompression: true}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var working sync.WaitGroup
	begun := time.Now()
	for range hands {
		working.Go(func() {
			for n := int(next.Add(1)); n <= count && failed.Load() == nil; n = int(next.Add(1)) {
				if err := post(client, url, n, size); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	working.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return time.Since(begun), nil
}

// post goes to the transport, as the listener does: http.Client would copy all headers for a redirect.
func post(client *http.Transport, url string, n, size int) error {
	body := fmt.Appendf(nil, `{"n":%d,"pad":"`, n)
	body = append(body, strings.Repeat("x", max(0, size-len(body)-2))...)
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(append(body, `"}`...)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("request %d: %s", n, resp.Status)
	}
	return nil
}
