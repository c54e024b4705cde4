package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/outbox-listener/outbox-listener/listener"
)

// notify tells systemd about the state of the service. Without systemd it
// does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Debug("systemd not notified", "error", err)
	}
}

// patience keeps systemd from giving up a start while the database is away.
const patience = "STATUS=waiting for the database\nEXTEND_TIMEOUT_USEC=30000000"

// How long a daemon that does not listen is given before it counts as ready
// all the same, living by the sweep.
const deafAfter = 10 * time.Second

// announceReady waits until events are found, and says so once.
func announceReady(ctx context.Context, health func() listener.Health, log *slog.Logger) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var swept time.Time
	for {
		h := health()
		if !h.LastSweep.IsZero() && swept.IsZero() {
			swept = time.Now()
		}
		if !swept.IsZero() && (h.Listening || time.Since(swept) >= deafAfter) {
			log.Info("ready", "listening", h.Listening)
			notify(log, daemon.SdNotifyReady+"\nSTATUS=delivering")
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// feedWatchdog tells systemd's watchdog that we live, as long as alive says
// so.
func feedWatchdog(ctx context.Context, alive func(context.Context) bool, log *slog.Logger) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not fed", "error", err)
	}
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		if alive(ctx) {
			notify(log, daemon.SdNotifyWatchdog)
		} else {
			log.Error("no sweep for too long although the database answers; the watchdog is not fed")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// A sweep may be late by this much.
const sweepSlack = 10 * time.Second

// busySlack is how late a sweep may be while the pool holds work: with every
// hand at a slow provider nothing is claimed, and so nothing swept.
const busySlack = 5 * time.Minute

// alive reports whether a restart would not help: the sweep is recent, or it
// waits for slow deliveries, or for a database that does not answer.
func alive(h listener.Health, now time.Time, sweepEvery time.Duration, ping func() error) bool {
	if h.LastSweep.IsZero() {
		return true // the start has a time limit of its own
	}
	late := now.Sub(h.LastSweep) - 3*sweepEvery
	switch {
	case late <= sweepSlack:
		return true
	case h.Held > 0 && late <= busySlack:
		return true
	}
	return ping() != nil
}
