package bench

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// postAll makes the POSTs of the numbers from 0 to n-1 with as many hands as the
// listener has workers and nothing else: no queue, no signature. It returns how
// many a second: what no sender in Go that uses net/http can do better on this
// machine, however it gets at its events.
func postAll(url string, n int) (rate float64, err error) {
	const hands = 16
	transport := &http.Transport{MaxIdleConns: hands, MaxIdleConnsPerHost: hands, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var next atomic.Int64
	var g errgroup.Group
	begun := time.Now()
	for range hands {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := post(client, url, numbered(i)); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begun).Seconds(), nil
}

// padding makes a body as long as a payload.
var padding = strings.Repeat("x", payload-30)

func numbered(n int) []byte { return fmt.Appendf(nil, `{"n": %d, "text": %q}`, n, padding) }
