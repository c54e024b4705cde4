package main

import (
	"path/filepath"
	"testing"

	"github.com/outbox-listener/outbox-listener/internal/pgtest"
)

// TestDevRoutes: a routes file is tried with the stand-ins, and nothing leaves for
// anywhere else.
func TestDevRoutes(t *testing.T) {
	temporaryHere(t)
	t.Setenv("DEV_SHOP", "Corner Shop")
	t.Setenv("DEV_TOKEN", "canary")
	dir := devFolder(t)
	file := filepath.Join(dir, "routes.yaml")
	put(t, dir, "routes.yaml", `version: 1
expose_env: [OUTBOX_DEV_API_URL, DEV_SHOP]
credentials: {api: {bearer: DEV_TOKEN}}
routes:
  - name: paid
    event: order.paid
    deliver:
      - {name: text, sms: {to: "+442071838750", body: '{{env "DEV_SHOP"}} thanks you'}}
      - {name: mail, email: {to: ann@mail.example.org, subject: Paid, text: Thanks}}
      - {name: near, http: {url: '{{env "OUTBOX_DEV_API_URL"}}/mp/collect', credential: api, body: x}}
      - {name: far, http: {url: https://example.com/mp/collect, credential: api, body: x}}
`)
	b := startDev(t, devCmd{Routes: file})
	b.out.await(t, devReadyLine)
	wantWords(t, b.out.String(), file+": 1 route, 4 steps")
	conn := b.connect(t)
	if _, err := conn.Exec(t.Context(), `insert into outbox_events (type, payload) values ('order.paid', '{}')`); err != nil {
		t.Fatal(err)
	}
	b.out.await(t, `ms  sms      \+442071838750     Corner Shop thanks you  `)
	b.out.await(t, `ms  email    ann@mail\.exampl… +Paid  `)
	b.out.await(t, `delivered  http .*order\.paid`)
	pgtest.Eventually(t, devTestTimeout, func() (bool, string) {
		var state, reason string
		err := conn.QueryRow(t.Context(), `select state, coalesce(last_error, '') from outbox.deliveries where step = 'far'`).Scan(&state, &reason)
		return err == nil && state == "held", state + " " + reason
	})
}

func TestDevRefusesRoutes(t *testing.T) {
	temporaryHere(t)
	dir := devFolder(t)
	put(t, dir, "routes.yaml", "version: 2\nroutes: [{name: a, event: b, deliver: [{name: c, log: {text: d}}]}]\n")
	file := filepath.Join(dir, "routes.yaml")
	out, errs := newDevOutput(), newDevOutput()
	if code := runDev(t.Context(), devCmd{Routes: file}, out, errs); code != exitCannot {
		t.Errorf("exit code %d", code)
	}
	wantWords(t, errs.String(), "listener dev: the routes cannot be used:\n"+file+":1:10: ")
}
