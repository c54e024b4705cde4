package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/daemon"
)

// reloadAt reads the routes anew at each of hangups, until ctx ends. Where one
// comes because the terminal is gone that we were started in, it quits.
func (p *program) reloadAt(ctx context.Context, hangups <-chan os.Signal, quit func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		if slices.ContainsFunc(p.terminals, func(f any) bool { return !isTerminal(f) }) {
			quit()
			return
		}
		// systemd knows of a reload only from a service that it knows to be ready.
		told := p.ready.Load()
		if told {
			notify(p.log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
		}
		p.reload()
		if told {
			notify(p.log, daemon.SdNotifyReady)
		}
	}
}

// reload puts the routes file in force as it is now, with the variables that it
// names as they are in the environment file now. Where anything is wrong with them,
// that is logged and all stays as it was.
func (p *program) reload() {
	if p.routing == nil {
		if path := routesPath(p.cfg); path != "" {
			p.log.Warn("there were no routes at the start; restart to have them", "file", path)
		} else {
			p.log.Info("no routes to reload")
		}
		return
	}
	path := p.routing.rules.path
	rules, err := p.reread(path)
	if err == nil {
		err = p.routing.replace(rules)
	}
	if err != nil {
		lines := problemLines(err)
		for _, line := range lines {
			p.log.Error("problem with the routes", "problem", line)
		}
		p.log.Error("routes not reloaded; those from before stay in force", "file", path, "problems", len(lines))
		return
	}
	warnUnconfigured(p.cfg, rules.uses(nil), p.log)
	p.log.Info("routes reloaded", "file", path, "routes", rules.Summary())
}

func (p *program) reread(path string) (*ruleset, error) {
	s, err := p.settings.again()
	if err != nil {
		return nil, err
	}
	if p.settings.path != "" && s.path == "" { // or every variable of it would be empty in texts
		return nil, fmt.Errorf("environment file %s: it was there at the start, and is not any more", p.settings.path)
	}
	return readRoutes(path, s)
}
