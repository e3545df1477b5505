package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/guard"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// facts are what init finds on a node.
type facts struct {
	version, node string // Pacemaker's, and this node's name in it
	host          string
	cluster       *pcmk.Cluster
	cib           *pcmk.CIB
	guardable     []string // ids of what a lease could guard
	token         time.Duration
	tokenErr      error
	watchdogs     []guard.WatchdogInfo
	watchdogErr   error
	shell         string // for whom rules are printed
}

// look asks and opens nothing that could change anything; a watchdog's device in particular is not opened.
func (s *setup) look(ctx context.Context) (facts, error) {
	var f facts
	tools, err := pcmk.FindTools(s.tools...)
	if err != nil {
		return f, err
	}
	f.cluster = pcmk.New(command.Exec{}, tools, pcmk.Options{})
	down := func(err error) error {
		return &exitError{code: exitUnavailable, err: fmt.Errorf("nothing was changed, since Pacemaker does not answer on this node: %w", err),
			hint: "the cluster and its groups come first: start it (pcs cluster start, or systemctl start pacemaker), and run this again"}
	}
	if f.version, err = f.cluster.Version(ctx); err != nil {
		return f, down(err)
	}
	if f.node, err = f.cluster.LocalNode(ctx); err != nil {
		return f, down(err)
	}
	if f.cib, err = f.cluster.CIB(ctx); err != nil {
		return f, down(err)
	}
	for _, id := range f.cib.ResourceIDs() {
		plan, err := f.cluster.PlanFrom(f.cib, f.node, []string{id})
		if err == nil && !isLeaseAgent(plan) {
			f.guardable = append(f.guardable, id)
		}
	}
	if f.host, err = os.Hostname(); err != nil {
		return f, fmt.Errorf("find this host's name: %w", err)
	}
	f.token, f.tokenErr = corosyncToken(s.places.corosync)
	f.watchdogs, f.watchdogErr = guard.ScanWatchdogs(s.places.root)
	f.shell = "xml"
	for _, tool := range []string{"crm", "pcs"} { // pcs, where there are both
		for _, dir := range s.places.bin {
			if _, err := os.Stat(filepath.Join(dir, tool)); err == nil {
				f.shell = map[string]string{"crm": "crmsh", "pcs": "pcs"}[tool]
			}
		}
	}
	return f, nil
}

// isLeaseAgent tells a resource of ocf:leasedog:lease, which asks for a lease and is guarded by none.
func isLeaseAgent(plan pcmk.Plan) bool {
	return slices.ContainsFunc(plan.Primitives(), func(p pcmk.Primitive) bool { return p.Provider == "leasedog" })
}

// stops is how long the resources of a lease took to stop, and which of them no node has a stop of on record.
type stops struct {
	took   time.Duration
	unseen []string
	most   time.Duration // what their timeouts allow
}

func (s *setup) stopsOf(l config.Lease) (stops, error) {
	plan, err := s.found.cluster.PlanFrom(s.found.cib, s.found.node, l.Resources)
	if err != nil {
		return stops{}, fmt.Errorf("lease %s: %w", l.Name, err)
	}
	var out stops
	seen := map[string]map[string]time.Duration{"stop": s.found.cib.Took("stop"), "demote": s.found.cib.Took("demote")}
	for _, p := range plan.Primitives() {
		action := "stop"
		if p.Role == pcmk.RolePromoted {
			action = "demote"
		}
		out.most += p.Timeout(action)
		if d, ok := seen[action][p.ID]; ok {
			out.took += d
		} else {
			out.unseen = append(out.unseen, p.ID)
		}
	}
	return out, nil
}

// fits is the fastest profile with which a holder that is cut off can stop in time, and whether there is one. A stop that was
// never seen may take long: then nothing faster than the default is named.
func (s *setup) fits(leases []config.Lease) (profile, why string, err error) {
	var longest time.Duration
	var unseen []string
	for _, l := range leases {
		st, err := s.stopsOf(l)
		if err != nil {
			return "", "", err
		}
		longest = max(longest, st.took)
		unseen = append(unseen, st.unseen...)
	}
	if s.found.tokenErr != nil {
		return lease.DefaultProfile, fmt.Sprintf("the default, since %v", s.found.tokenErr), nil
	}
	why = fmt.Sprintf("fits a token of %v and a stop of %v", s.found.token, longest)
	names := lease.ProfileNames()
	if len(unseen) > 0 {
		names = names[slices.Index(names, lease.DefaultProfile):]
		why = fmt.Sprintf("fits a token of %v; no stop of %s is on record, so nothing faster is named", s.found.token, strings.Join(unseen, ", "))
	}
	for _, name := range names {
		b, err := lease.Profile(name)
		if err != nil {
			return "", "", err
		}
		if _, ok := b.Comfort(s.found.token, longest); ok && longest+stopMargin <= b.StopBudget {
			return name, why, nil
		}
	}
	return lease.DefaultProfile, fmt.Sprintf("the default: with a token of %v and a stop of %v no profile lets a holder that is cut off stop in time. It "+
		"is reset instead, which is safe; leasedog budget has the arithmetic", s.found.token, longest), nil
}

// stopMargin is the half second of docs/TIMING.md for the proof.
const stopMargin = 500 * time.Millisecond

// report says what was found.
func (s *setup) report(conf config.Agent) error {
	f := s.found
	fmt.Fprintf(s.out, "node: %s", s.nodeName(conf))
	if f.node != f.host {
		fmt.Fprintf(s.out, " (in Pacemaker; the host is called %s)", f.host)
	}
	fmt.Fprintf(s.out, "\nPacemaker: %s\n", f.version)
	for _, w := range f.watchdogs {
		use := ""
		switch {
		case w.Owner != "":
			use = ", used by " + w.Owner
		case w.Active == guard.Yes:
			use = ", in use"
		}
		fmt.Fprintf(s.out, "watchdog: %s (%s)%s\n", w.Path, w.Identity, use)
	}
	if len(f.watchdogs) == 0 {
		fmt.Fprintln(s.out, "watchdog: none")
	}
	for _, l := range conf.Leases {
		st, err := s.stopsOf(l)
		if err != nil {
			return err
		}
		seen := fmt.Sprintf("their last stops took %v", st.took)
		if len(st.unseen) > 0 {
			seen = "no stop on record of " + strings.Join(st.unseen, ", ")
		}
		fmt.Fprintf(s.out, "lease %s: guards %s; %s, their timeouts allow %v\n", l.Name, strings.Join(l.Resources, ", "), seen, st.most)
	}
	profile, why, err := s.fits(conf.Leases)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "profile: %s %s", profile, why)
	if got := conf.Budget().Profile; got != profile {
		fmt.Fprintf(s.out, "; the configuration says %s", got)
	}
	fmt.Fprintln(s.out)
	return nil
}

// checkWatchdog refuses a configuration with which this node would never compete.
func (s *setup) checkWatchdog(conf config.Agent) error {
	if conf.Watchdog.Mode != config.WatchdogRequired {
		return nil
	}
	if s.found.watchdogErr != nil {
		return s.found.watchdogErr
	}
	if len(s.found.watchdogs) == 0 {
		return &exitError{code: exitFailure, err: fmt.Errorf("this node has no kernel watchdog, and nothing was changed"),
			hint: "give the machine one, or: leasedog init --softdog, then modprobe softdog; in a container, where neither can be: --watchdog systemd"}
	}
	// The guard of a lease that is held here has it open, as has one that waits for shutdown.
	if slices.ContainsFunc(s.found.watchdogs, func(w guard.WatchdogInfo) bool { return strings.HasPrefix(w.Owner, "leasedog ") }) {
		return nil
	}
	if _, err := guard.ChooseWatchdog(s.places.root, conf.Watchdog.Device); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	return nil
}
