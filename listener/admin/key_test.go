package admin

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/outbox-listener/outbox-listener/dispatch"
	"github.com/outbox-listener/outbox-listener/listener"
)

func TestWrongKeysAreLimited(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	for i := range 15 {
		got := r.do("POST", path, "", "x-api-key", "wrong")
		if i < maxFailures && got.status != 401 || i >= maxFailures && (got.status != 429 || got.header.Get("Retry-After") == "") {
			t.Errorf("try %d: %d %s, Retry-After %q", i+1, got.status, got.body, got.header.Get("Retry-After"))
		}
	}
	if got := r.do("POST", path, "", "x-api-key", key); got.status != 200 {
		t.Errorf("the right key is locked out: %d %s", got.status, got.body)
	}
	if got := r.do("POST", path, "", "x-api-key", "wrong", "X-Forwarded-For", "192.0.2.1"); got.status != 429 {
		t.Errorf("a header makes another address: %d", got.status)
	}
	if n := strings.Count(r.log.String(), "without the right key"); n != 2 {
		t.Errorf("%d lines for 16 failures", n)
	}
}

func TestCheckKey(t *testing.T) {
	for _, tt := range []struct {
		key string
		ok  bool
	}{
		{"", false},
		{"  ", false},
		{"changeme", false},
		{"CHANGE_ME", false},
		{"<change-me-please>", false},
		{"secret", false},
		{"Password123!", false},
		{"your-api-key", false},
		{"your-api-key-here", false},
		{"replace-with-a-long-random-value", false},
		{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", false},
		{"12345678", false},
		{"dev", false},
		{"devonshire cream", true},
		{"123456789012345678901234567890", true},
		{key, true},
	} {
		if err := CheckKey(dispatch.Secret(tt.key)); (err == nil) != tt.ok || err != nil && tt.key != "" && strings.Contains(err.Error(), tt.key) {
			t.Errorf("%q: %v", tt.key, err)
		}
	}
	cfg := Config{Key: "changeme", Drain: func(context.Context, int) (listener.Stats, error) { return listener.Stats{}, nil },
		Health: func() listener.Health { return listener.Health{} }, Ping: func(context.Context) error { return nil }}
	if _, err := New(cfg); err == nil {
		t.Error("New takes a placeholder")
	}
	var log lines
	cfg.Key, cfg.Log = "devonshire", slog.New(slog.NewTextHandler(&log, nil))
	if _, err := New(cfg); err != nil || !strings.Contains(log.String(), "short") || strings.Contains(log.String(), "devonshire") {
		t.Errorf("%v, %s", err, &log)
	}
}
