package agent

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

const (
	// peaceTime is how long a lease that is still held may keep Pacemaker's stop waiting: by then the agent leaves it, or
	// does not because of maintenance.
	peaceTime = 2 * time.Second
	// followTime is how long the stop waits for the peer to start what was left here.
	followTime = 5 * time.Second
)

// handover is one stop of Pacemaker that waits until the leases are elsewhere.
type handover struct {
	mu    sync.Mutex
	since lease.Instant // of the first question; 0: there was none
	left  lease.Instant // when no lease was in the way any more; 0: not yet
	names []string      // of the leases that were in the way
}

// begin forgets the stop before.
func (o *handover) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since, o.left, o.names = 0, 0, nil
}

// handOver is asked by leasedog-handover.service before Pacemaker is stopped. The stop itself is what lets the agent leave
// its leases. This only says when that is over and the peer has started the resources, with this node's Pacemaker as the
// coordinator if it is: a new one takes two seconds to begin.
func (h handler) handOver(ctx context.Context) (string, error) {
	stops, err := h.a.lookAtStop(ctx)
	if err != nil {
		return "", control.Refuse(control.CodeRefused, "", "whether Pacemaker is being stopped cannot be asked: %v", err)
	}
	if !stops {
		return "Pacemaker is not being stopped: nothing is handed over", nil
	}
	o := &h.a.handover
	o.mu.Lock()
	defer o.mu.Unlock()
	now := h.a.opt.Now()
	if o.since == 0 {
		o.since = now
	}
	phases := h.a.phases()
	if busy := h.a.inTheWayOfStop(phases, now.Sub(o.since) < peaceTime); len(busy) > 0 {
		o.names = slices.Compact(slices.Sorted(slices.Values(append(o.names, busy...))))
		return "", control.Refuse(control.CodeTryAgain, "", "still being left: %s", strings.Join(busy, ", "))
	}
	if o.left == 0 {
		o.left = now
	}
	// One that is held all the same, since no peer waits for it, is started by nobody.
	held := h.a.inTheWayOfStop(phases, true)
	left := slices.DeleteFunc(slices.Clone(o.names), func(name string) bool { return slices.Contains(held, name) })
	if len(left) > 0 && now.Sub(o.left) < followTime && h.a.peerIsToStart(ctx, left) {
		return "", control.Refuse(control.CodeTryAgain, "", "left, and not yet started elsewhere: %s", strings.Join(left, ", "))
	}
	return "no lease keeps Pacemaker from being stopped", nil
}

// inTheWayOfStop lists the leases that Pacemaker's stop is to wait for.
func (a *Agent) inTheWayOfStop(phases []lease.Phase, patient bool) (names []string) {
	for i, p := range phases {
		if delaysStop(p, patient) {
			names = append(names, a.keepers[i].name)
		}
	}
	return names
}

// delaysStop tells whether Pacemaker's stop is to wait for a lease in this phase: for one whose resources are being stopped,
// and for a while for one that is about to be left. One that is Stopped only has to be given back, which an arbiter that
// cannot be reached would delay for ever.
func delaysStop(p lease.Phase, patient bool) bool {
	switch p {
	case lease.Held, lease.Winning:
		return patient
	case lease.Leaving, lease.Losing:
		return true
	}
	return false
}

// peerIsToStart tells whether another node is there for the resources of these leases and does not run them all yet. What
// cannot be read is not waited for.
func (a *Agent) peerIsToStart(ctx context.Context, names []string) bool {
	ctx, cancel := context.WithTimeout(ctx, stopLook)
	defer cancel()
	st, err := a.opt.Cluster.Status(ctx)
	if err != nil || !slices.ContainsFunc(st.Nodes, func(n pcmk.Node) bool { return n.Name != a.node && n.Online == pcmk.Yes }) {
		return false
	}
	for _, k := range a.keepers {
		plan, err := k.currentPlan()
		if err == nil && slices.Contains(names, k.name) && !k.startedElsewhere(plan, st) {
			return true
		}
	}
	return false
}

// startedElsewhere reports whether every resource of the lease that is to run runs on another node as its holder runs it.
func (k *keeper) startedElsewhere(plan pcmk.Plan, st pcmk.Status) bool {
	for _, p := range plan.Primitives() {
		elsewhere := false
		for r := range instances(p, st) {
			elsewhere = elsewhere || r.Target == pcmk.RoleStopped || serves(p, r) && slices.ContainsFunc(r.Nodes, func(n string) bool { return n != k.a.node })
		}
		if !elsewhere {
			return false
		}
	}
	return true
}
