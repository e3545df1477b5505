package agent

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// A lease that an earlier agent of this boot held, and that the configuration no longer names, or names with other
// resources, goes on with its old definition: renewed, guarded, and left in Pacemaker's order (ARCHITECTURE 4.4.7). Only
// then does the new definition begin.

// outdatedCause is why such a lease is left.
const outdatedCause = "the configuration names it no longer, or with other resources"

// definitions are what this agent begins with: the configuration's leases, and in place of or beside them the old
// definitions of what /run says is held.
func (a *Agent) definitions() []*keeper {
	var out []*keeper
	named := map[string]bool{}
	for _, conf := range a.opt.Config.Leases {
		named[conf.Name] = true
		if old, ok := a.oldDefinition(conf.Name); ok && !sameResources(old, conf.Resources) {
			k := newKeeper(a, config.Lease{Name: conf.Name, Resources: old, Acquire: config.AcquireManual})
			k.outdated, k.after = true, &conf
			out = append(out, k)
			continue
		}
		out = append(out, newKeeper(a, conf))
	}
	records, _ := filepath.Glob(a.recordPath("*")) // the pattern is ours
	for _, path := range records {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "lease-"), ".json")
		if named[name] {
			continue
		}
		old, _ := a.oldDefinition(name)
		k := newKeeper(a, config.Lease{Name: name, Resources: old, Acquire: config.AcquireManual})
		k.outdated = true
		out = append(out, k)
	}
	return out
}

// oldDefinition returns what an earlier agent guarded by a lease of which /run has a record: the resources that its
// plan names. Without a record there is nothing to go on with.
func (a *Agent) oldDefinition(name string) (resources []string, ok bool) {
	if r, err := a.readRecord(name); err == nil && r == nil {
		return nil, false
	}
	var plan pcmk.Plan
	if err := readJSON(a.planPath(name), &plan); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.WithError(err).WithField(keyLease, name).Warn("what an earlier agent guarded cannot be read")
		}
		return nil, false
	}
	for _, g := range plan.Resources {
		resources = append(resources, g.ID)
	}
	return resources, len(resources) > 0
}

func sameResources(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// leaveOutdated is the loop's: an outdated lease that is held (again, after a pause) is left. Where its rules were removed
// first, nothing is stopped.
func (k *keeper) leaveOutdated() {
	if k.outdated && k.begun && !k.asking && k.holder.View().Phase == lease.Held {
		k.asking = true
		go k.leave(outdatedCause)
	}
}

// over reports whether an outdated lease was left.
func (k *keeper) over() bool { return k.outdated && k.begun && k.holder.View().Phase == lease.Standby }

// adoptDefinitions is the loop's, while the survey waits for it: where an old definition was left the new one begins.
func (a *Agent) adoptDefinitions() {
	for _, k := range a.keepers {
		if !k.over() || k.after == nil {
			continue
		}
		k.log().Info("the old definition was left: the configuration's begins")
		k.conf, k.after, k.outdated, k.begun = *k.after, nil, false, false
		k.watched = nil // what was armed then is disarmed
		k.mu.Lock()
		k.plan, k.planErr = nil, errNoPlan
		k.mu.Unlock()
		k.holder = k.newHolder()
	}
}

// inTheWay names the outdated lease that still guards one of k's resources, "" if none does: two leases must not stop
// and start one resource.
func (a *Agent) inTheWay(k *keeper) string {
	blocker := ""
	a.inLoop(func() {
		for _, o := range a.keepers {
			shared := slices.ContainsFunc(o.conf.Resources, func(r string) bool { return slices.Contains(k.conf.Resources, r) })
			if o != k && o.outdated && !o.over() && shared {
				blocker = o.name
			}
		}
	})
	return blocker
}
