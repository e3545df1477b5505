package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// refencing has Pacemaker try a fencing again that it has given up. It tries ten times at once (stonith-max-attempts), which is over
// long before a target that renews has lost its lease, and after that only when something changes, or after
// cluster-recheck-interval, a quarter of an hour. Where the lease is won by a resource that stands behind that fencing
// (ocf:leasedog:lease), nothing else would change. Any number of goroutines call its methods.
type refencing struct {
	mu     sync.Mutex
	target string        // "": no fencing is missing
	asked  lease.Instant // for it, by fence_leasedog, the last time
}

// refenceEvery is how long nobody has asked for a fencing that Pacemaker has given up, and how often it is looked at then. Where
// Pacemaker does not try again all the same (maintenance, a device that is banned), it is told less and less often.
const (
	refenceEvery = 5 * time.Second
	refenceMost  = 5 * time.Minute
)

// fencingAttribute is a transient attribute of this node whose only purpose is to change. No lease can have it: their names have no
// underscore.
const fencingAttribute = "leasedog_fencing"

// asks notes that fence_leasedog has asked, or that a fencing was found missing. Whether it is done Pacemaker says, not the answer,
// which may have met nobody.
func (r *refencing) asks(now lease.Instant, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target, r.asked = target, now
}

// done is what Pacemaker says: target is not to be fenced any more.
func (r *refencing) done(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target == target {
		r.target = ""
	}
}

// due names the target whose fencing nobody asks for any more, "" if there is none.
func (r *refencing) due(now lease.Instant) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target == "" || now.Sub(r.asked) < refenceEvery {
		return ""
	}
	return r.target
}

// refence looks, while a fencing is missing, whether it would succeed now.
func (a *Agent) refence(ctx context.Context) {
	a.findFencing(ctx)
	wait, next := refenceEvery, lease.Instant(0)
	for pause(ctx, refenceEvery) == nil {
		now := a.opt.Now()
		target := a.refencing.due(now)
		if target == "" || now < next {
			continue
		}
		wanted, free := a.couldFence(ctx, target)
		one, cancel := context.WithTimeout(ctx, toolTime)
		switch {
		case !wanted:
			a.refencing.done(target)
			if next != 0 {
				_ = a.opt.Cluster.DeleteAttribute(one, fencingAttribute)
			}
			wait, next = refenceEvery, 0
		case free:
			if next == 0 {
				a.log.Infof("the fencing of %s had failed, and would succeed now: Pacemaker is to try again", target)
			}
			_ = a.opt.Cluster.PutAttribute(one, fencingAttribute, fmt.Sprintf("%s-%d", target, now)) // else later again
			wait, next = min(2*wait, refenceMost), now.Add(wait)
		}
		cancel()
	}
}

// findFencing finds what an earlier agent knew, or nobody, when fence_leasedog asked: Pacemaker knows what is missing.
func (a *Agent) findFencing(ctx context.Context) {
	for {
		one, cancel := context.WithTimeout(ctx, toolTime)
		st, err := a.opt.Cluster.Status(one)
		cancel()
		if err == nil {
			for _, n := range st.Nodes {
				if n.Name != a.node && n.Unclean == pcmk.Yes && st.StonithEnabled != pcmk.No {
					a.refencing.asks(a.opt.Now(), n.Name)
				}
			}
			return
		}
		if pause(ctx, refenceEvery) != nil {
			return
		}
	}
}

// couldFence says whether Pacemaker still wants target to be fenced, and whether the arbiter would say that it is. What cannot be
// read changes nothing.
func (a *Agent) couldFence(ctx context.Context, target string) (wanted, free bool) {
	one, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	st, err := a.opt.Cluster.Status(one)
	if err != nil {
		return true, false
	}
	for _, n := range st.Nodes {
		wanted = wanted || n.Name == target && n.Unclean != pcmk.No
	}
	if !wanted {
		return false, false
	}
	unguarded := a.unguarded(ctx)
	var ask lease.Fence
	a.inLoop(func() {
		ask = lease.Fence{Party: a.self, Seq: uint64(a.opt.Now()), Seen: a.known.Stamp, Target: target, Check: true,
			Guarded: len(unguarded) == 0}
	})
	if ask.Node == "" {
		return true, false // the agent is ending
	}
	request, stop := context.WithTimeout(ctx, a.budget().RequestTimeout)
	defer stop()
	answer, err := a.opt.Arbiter.Ask(request, "", ask)
	if err == nil {
		a.inLoop(func() { err = a.judgeFence(ask.Seen, answer) })
	}
	if err != nil {
		return true, false
	}
	return true, answer.Boot != ""
}
