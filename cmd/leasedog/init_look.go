package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/guard"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// node is what init finds on this node.
type node struct {
	name, version, clusterName string
	cluster                    *pcmk.Cluster
	cib                        *pcmk.CIB
	groups                     []string
	dogs                       []guard.WatchdogInfo
}

// suggestion is the answer to the question for a lease, if there is one group only.
func (n node) suggestion() string {
	if len(n.groups) != 1 {
		return ""
	}
	name := strings.ToLower(strings.TrimPrefix(n.groups[0], "g-"))
	if pcmk.CheckLease(name) != nil {
		return ""
	}
	return name + "=" + n.groups[0]
}

// look reads Pacemaker and the watchdogs, and says what it found.
func (i *initialize) look(ctx context.Context) error {
	tools, err := pcmk.FindTools(i.tools...)
	if err != nil {
		return err
	}
	n := node{cluster: pcmk.New(command.Exec{}, tools, pcmk.Options{})}
	if n.version, err = n.cluster.Version(ctx); err != nil {
		return err
	}
	if n.name, err = n.cluster.LocalNode(ctx); err == nil {
		n.cib, err = n.cluster.CIB(ctx)
	}
	if err != nil {
		return &exitError{code: exitUnavailable, err: fmt.Errorf("look at the cluster: %w", err),
			hint: "Pacemaker must run on this node: pcs cluster start, or systemctl start pacemaker"}
	}
	n.groups = n.cib.Groups()
	if o := n.cib.Option("cluster-name"); o.State == pcmk.Present {
		n.clusterName = o.Value
	}
	if n.dogs, err = guard.ScanWatchdogs(strings.TrimSuffix(i.root, "/")); err != nil {
		return err
	}
	i.found = n
	i.say("this node: %s, Pacemaker %s, groups: %s", n.name, n.version, orNone(n.groups))
	for _, d := range n.dogs {
		owner := ""
		if d.Owner != "" {
			owner = ", used by " + d.Owner
		}
		i.say("watchdog: %s (%s%s)", d.Path, d.Identity, owner)
	}
	if len(n.dogs) == 0 && !i.softdog && i.watchdog != "systemd" {
		i.say("watchdog: none. Until there is one this node gets no lease: \"leasedog init --softdog\" loads the kernel's, " +
			"--watchdog systemd does without where none can exist")
	}
	return nil
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// margin is by how much a profile's stop budget is to exceed the longest stop seen: Pacemaker has to notice, and the next stop may
// be slower.
const margin = 2

// fit checks the resources against Pacemaker's configuration, and names the profile.
func (i *initialize) fit(resources []string) (string, error) {
	plan, err := i.found.cluster.PlanFrom(i.found.cib, i.found.name, resources)
	if err != nil {
		return "", err
	}
	longest, seen := i.found.cib.StopTime(plan)
	count := len(plan.Primitives())
	profile, why := lease.DefaultProfile, "the default"
	switch {
	case i.profile != "":
		profile, why = i.profile, "as asked"
	case seen == count:
		profile, why = "wan", "the slowest"
		for _, p := range lease.ProfileNames()[1:] { // fast also asks a lot of network and Corosync: only on request
			if b, err := lease.Profile(p); err == nil && b.StopBudget >= margin*longest {
				profile, why = p, fmt.Sprintf("the first whose stop budget, %v, is twice that", b.StopBudget)
				break
			}
		}
	}
	switch b, err := lease.Profile(profile); {
	case err != nil:
		return "", usageError("%v", err)
	case seen < count:
		i.say("stops: Pacemaker remembers those of %d of %d resources; profile %s (%s), which leaves %v to stop them all", seen, count, profile, why, b.StopBudget)
	default:
		i.say("stops: %v in all at the last ones; profile %s (%s)", longest.Round(time.Millisecond), profile, why)
		if b.StopBudget < longest {
			i.say("  ! profile %s leaves %v: an isolated holder would be reset instead of stopped", profile, b.StopBudget)
		}
	}
	return profile, nil
}

// loadSoftdog loads the kernel's software watchdog and has it loaded at each boot. soft_noboot=0 is said because a distribution may say
// otherwise: with 1 it does not reset.
func (i *initialize) loadSoftdog(ctx context.Context) error {
	for _, d := range i.found.dogs {
		if !d.Software() {
			i.say("softdog: not needed, %s (%s) is there", d.Path, d.Identity)
			return nil
		}
	}
	for file, text := range map[string]string{
		modulesFile:  "# Written by leasedog init --softdog.\nsoftdog\n",
		modprobeFile: "# Written by leasedog init --softdog.\noptions softdog soft_noboot=0\n",
	} {
		path := filepath.Join(i.root, file)
		if i.dryRun {
			i.say("would write %s", path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("load softdog: %w", err)
		}
		if err := renameio.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("load softdog: %w", err)
		}
		i.say("%s: written", path)
	}
	if i.dryRun || len(i.found.dogs) > 0 {
		return nil
	}
	if i.root != "/" {
		return nil // not this machine's
	}
	if _, err := (command.Exec{}).Run(ctx, command.Cmd{Path: "/sbin/modprobe", Args: []string{"softdog"}}); err != nil {
		return &exitError{code: exitFailure, err: fmt.Errorf("load softdog: %w", err),
			hint: "its files are written; where this kernel has no softdog (a container, a cloud kernel) see --watchdog systemd"}
	}
	for end := time.Now().Add(softdogWait); ; {
		dogs, err := guard.ScanWatchdogs("")
		if err != nil {
			return err
		}
		if len(dogs) > 0 {
			i.say("softdog: loaded, %s", dogs[0].Path)
			i.found.dogs = dogs
			return nil
		}
		if time.Now().After(end) {
			return &exitError{code: exitFailure, err: fmt.Errorf("softdog was loaded, and no watchdog device has come"), hint: "dmesg says why"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
