package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// serving fills in what matters of a node that holds: whether Pacemaker leaves the resources alone, whether they run
// here as they should, and if Pacemaker does not run one here, why (ARCHITECTURE 4.4).
func (k *keeper) serving(ctx context.Context, plan pcmk.Plan, planErr error, c cluster, r *lease.Reading) {
	readable := c.statusErr == nil && planErr == nil && !c.down
	if readable {
		r.Maintenance = k.maintenance(plan, c.status)
		r.Running = k.running(plan, c.status)
	}
	if r.Maintenance == lease.Yes {
		return // what does not run is nobody's to move
	}
	if c.down && !c.stopping { // it crashed: systemd starts it again, and what runs may go on
		r.CannotRun = "Pacemaker does not run on this node"
		return
	}
	if why := k.planned(c, readable); why != "" {
		r.CannotRun, r.Planned = why, true
		return
	}
	if readable && r.Running == lease.No && c.status.StopAll != pcmk.Yes {
		r.CannotRun, r.CannotSince = k.failing(ctx, plan, c.status)
	}
}

// maintenance tells whether Pacemaker leaves every guarded resource here alone. No needs a positive reading.
func (k *keeper) maintenance(plan pcmk.Plan, st pcmk.Status) lease.Tri {
	n, known := st.Node(k.a.node)
	if st.MaintenanceMode == pcmk.Yes || known && n.Maintenance == pcmk.Yes {
		return lease.Yes
	}
	managed, unmanaged := 0, 0
	for _, p := range plan.Primitives() {
		for r := range instances(p, st) {
			switch r.Managed {
			case pcmk.Yes:
				managed++
			case pcmk.No:
				unmanaged++
			}
		}
	}
	switch {
	case managed > 0 && known && st.MaintenanceMode == pcmk.No && n.Maintenance == pcmk.No:
		return lease.No
	case managed == 0 && unmanaged > 0:
		return lease.Yes
	}
	return lease.Unknown
}

// instances iterates over what Pacemaker shows of a primitive: one, or one for each instance of a clone.
func instances(p pcmk.Primitive, st pcmk.Status) func(func(pcmk.Resource) bool) {
	return func(yield func(pcmk.Resource) bool) {
		for r := range st.Primitives() {
			if pcmk.BaseID(r.ID) == p.ID && !yield(r) {
				return
			}
		}
	}
}

// planned says why an administrator does not want this node to run the resources, "" if nothing speaks for that.
func (k *keeper) planned(c cluster, readable bool) string {
	switch n, ok := c.status.Node(k.a.node); {
	case c.stopping:
		return "Pacemaker is being stopped on this node"
	case !readable || !ok:
		return ""
	case n.Shutdown == pcmk.Yes:
		return "Pacemaker is being stopped on this node"
	// With fencing a node that joins, as after a crash of its controller, is shown as standby too.
	case n.Standby == pcmk.Yes && n.Pending == pcmk.No:
		return "this node is in standby"
	}
	if c.cibErr == nil {
		return c.cib.MovedAway(k.a.node, k.conf.Resources)
	}
	return ""
}

func (k *keeper) running(plan pcmk.Plan, st pcmk.Status) lease.Tri {
	for _, p := range plan.Primitives() {
		if !k.servesHere(p, st) {
			return lease.No
		}
	}
	return lease.Yes
}

func (k *keeper) servesHere(p pcmk.Primitive, st pcmk.Status) bool {
	for r := range instances(p, st) {
		if !slices.Contains(r.Nodes, k.a.node) {
			continue
		}
		return serves(p, r)
	}
	return false
}

// serves reports whether this instance of p is in the role of a holder and has not failed.
func serves(p pcmk.Primitive, r pcmk.Resource) bool {
	want := r.Role == pcmk.RoleStarted || r.Role == pcmk.RolePromoted || r.Role == pcmk.RoleUnpromoted
	if p.Role == pcmk.RolePromoted {
		want = r.Role == pcmk.RolePromoted
	}
	return want && r.Failed != pcmk.Yes
}

// failing says why Pacemaker does not run a resource here, and since when. Either it has failed too often, or its start
// fails and is tried again and again, or the cluster is at rest, nobody stopped it, and still it does not run here: node
// health, a constraint, a failure of another kind.
func (k *keeper) failing(ctx context.Context, plan pcmk.Plan, st pcmk.Status) (string, lease.Instant) {
	idle := pcmk.ActivityUnknown
	for _, p := range plan.Primitives() {
		if k.servesHere(p, st) {
			continue
		}
		for _, h := range st.History {
			if h.Node != k.a.node || pcmk.BaseID(h.Resource) != p.ID {
				continue
			}
			if h.FailCount >= infinity || h.MigrationThreshold > 0 && h.FailCount >= h.MigrationThreshold {
				return fmt.Sprintf("%s failed here %s", p.ID, times(h.FailCount)), k.a.instantOf(h.FailedAt())
			}
			if k.startFails(p, h, st) {
				return fmt.Sprintf("the start of %s fails here, %d times now", p.ID, h.FailCount), k.a.instantOf(h.FailedAt())
			}
		}
		if stoppedOnPurpose(p, st) {
			continue
		}
		if idle == pcmk.ActivityUnknown {
			dc, err := k.a.opt.Cluster.DCState(ctx)
			if err != nil {
				return "", 0
			}
			idle = dc.Activity
		}
		if idle == pcmk.Idle {
			return fmt.Sprintf("Pacemaker does not run %s here and has nothing left to do (crm_simulate -sL shows why)", p.ID), 0
		}
	}
	return "", 0
}

// startFails tells whether what a resource failed with last is its start, and lately. With start-failure-is-fatal=false,
// which constraints --cluster-options asks for, and without a migration-threshold Pacemaker starts it again for ever. An
// older failure stays in the status until somebody cleans it up, and says nothing of a restart that is under way.
func (k *keeper) startFails(p pcmk.Primitive, h pcmk.History, st pcmk.Status) bool {
	lately := p.Timeout("start") + p.Timeout(string(pcmk.Stop)) + pollEvery
	if at := h.FailedAt(); h.FailCount == 0 || !at.IsZero() && time.Since(at).Abs() > lately {
		return false
	}
	return slices.ContainsFunc(st.Failures, func(f pcmk.Failure) bool {
		return f.Node == k.a.node && pcmk.BaseID(f.Resource) == p.ID && f.Task == "start"
	})
}

// stoppedOnPurpose: an administrator's target role, or a resource that is not managed.
func stoppedOnPurpose(p pcmk.Primitive, st pcmk.Status) bool {
	for r := range instances(p, st) {
		demoted := p.Role == pcmk.RolePromoted && r.Target == pcmk.RoleUnpromoted
		if r.Target == pcmk.RoleStopped || demoted || r.Managed != pcmk.Yes {
			return true
		}
	}
	return false
}

// infinity is Pacemaker's score for ever.
const infinity = 1_000_000

func times(n int64) string {
	if n >= infinity {
		return "and is not tried again"
	}
	return fmt.Sprintf("%d times", n)
}

// instantOf turns a reading of the wall clock into an Instant; 0 if it is not known or lies in the future. A step of the
// clock makes it wrong: use it only to do earlier what would be done anyway.
func (a *Agent) instantOf(wall time.Time) lease.Instant {
	if age := time.Since(wall); !wall.IsZero() && age >= 0 {
		return max(1, a.opt.Now().Add(-age))
	}
	return 0
}
