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
	target string        // "": no fencing has failed
	asked  lease.Instant // for it, by fence_leasedog, the last time
}

// refenceEvery is how long nobody has asked for a fencing that Pacemaker has given up, and how often it is looked at then.
const refenceEvery = 5 * time.Second

// fencingAttribute is a transient attribute of this node whose only purpose is to change. No lease can have it: their names have no
// underscore.
const fencingAttribute = "leasedog_fencing"

// ended is the outcome of one question of fence_leasedog.
func (r *refencing) ended(now lease.Instant, target string, done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !done:
		r.target, r.asked = target, now
	case r.target == target:
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

// refence looks, while a fencing has failed, whether it would succeed now.
func (a *Agent) refence(ctx context.Context) {
	touched := false
	for pause(ctx, refenceEvery) == nil {
		target := a.refencing.due(a.opt.Now())
		if target == "" {
			continue
		}
		wanted, free := a.couldFence(ctx, target)
		one, cancel := context.WithTimeout(ctx, toolTime)
		switch {
		case !wanted:
			a.refencing.ended(a.opt.Now(), target, true)
			if touched {
				_ = a.opt.Cluster.DeleteAttribute(one, fencingAttribute)
			}
			touched = false
		case free:
			touched = true
			a.log.Infof("the fencing of %s had failed, and can succeed now: Pacemaker is to try again", target)
			_ = a.opt.Cluster.PutAttribute(one, fencingAttribute, fmt.Sprintf("%s-%d", target, a.opt.Now())) // else in 5 s again
		}
		cancel()
	}
}

// couldFence says whether Pacemaker still wants target to be fenced, and whether it holds nothing any more. What cannot be read
// changes nothing.
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
	var ask lease.Fence
	a.inLoop(func() {
		ask = lease.Fence{Party: a.self, Seq: uint64(a.opt.Now()), Seen: a.known.Stamp, Target: target, Check: true}
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
	return true, answer.Verdict == lease.OK || answer.Verdict == lease.Denied && answer.Holder == ""
}
