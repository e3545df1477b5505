package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// Fence is asked by fence_leasedog until it is done: the arbiter says whether a node runs nothing for certain. Whatever
// cannot be read or asked is not done.
func (h handler) Fence(ctx context.Context, r control.Request) (control.Fence, error) {
	if r.To == "" {
		return h.fenceList(ctx)
	}
	if !r.Check && r.To != h.a.node {
		h.a.refencing.asks(h.a.opt.Now(), r.To)
	}
	return h.fence(ctx, r)
}

func (h handler) fence(ctx context.Context, r control.Request) (control.Fence, error) {
	// No answer is final: while a fencing is under way Pacemaker stops nothing here, and this node may be the one that is cut off.
	if why := h.a.cutOff(); why != "" {
		return control.Fence{Final: true, Reason: "the arbiter does not answer: " + why}, nil
	}
	unguarded := h.a.unguarded(ctx)
	var ask lease.Fence
	h.a.inLoop(func() {
		if now := h.a.opt.Now(); len(unguarded) > 0 && !r.Check && (h.a.unguardedAt == 0 || now.Sub(h.a.unguardedAt) > time.Minute) {
			h.a.unguardedAt = now
			h.a.log.WithField("unguarded", strings.Join(unguarded, ", ")).
				Warnf("fencing of %s: not every resource is guarded by a lease, so only its new boot proves that it runs nothing", r.To)
		}
		ask = lease.Fence{Party: h.a.self, Seq: uint64(h.a.opt.Now()), Seen: h.a.known.Stamp, Target: r.To, Off: r.Off, Boot: r.Boot,
			Check: r.Check, Guarded: len(unguarded) == 0}
	})
	if ask.Node == "" {
		return control.Fence{}, control.Refuse(control.CodeTryAgain, "", "the agent is ending")
	}
	ctx, cancel := context.WithTimeout(ctx, h.a.budget().RequestTimeout)
	defer cancel()
	answer, err := h.a.opt.Arbiter.Ask(ctx, "", ask)
	if err != nil {
		return control.Fence{Final: true, Reason: fmt.Sprintf("the arbiter does not answer: %v", err)}, nil
	}
	h.a.inLoop(func() { err = h.a.judgeFence(ask.Seen, answer) })
	if err != nil {
		return control.Fence{}, control.Refuse(control.CodeTryAgain, "", "%v", err)
	}
	return fenceAnswer(answer), nil
}

// cutOff says why there is no hope in asking the arbiter now: what asked last got no answer, nor did anything for as long as a
// renewal may take.
func (a *Agent) cutOff() string {
	b := a.budget()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.opt.Now().Sub(a.contact.at) <= b.RenewEvery+b.RequestTimeout {
		return ""
	}
	return a.contact.err
}

// judgeFence is the loop's: an answer of an old arbiter, or of an old store, counts as none.
func (a *Agent) judgeFence(left lease.Stamp, answer lease.Answer) error {
	if err := a.known.Judge(left, answer.Epoch, answer); err != nil {
		return err
	}
	if stamp := (lease.Answer{Stamp: answer.Stamp}); answer.Stamp.StoreID == a.known.Stamp.StoreID && a.known.Learn("", stamp) {
		a.saveKnown(nil, lease.SaveKnown{Known: a.known.Clone()})
	}
	return nil
}

func fenceAnswer(a lease.Answer) control.Fence {
	out := control.Fence{Done: a.Verdict == lease.OK, Boot: a.Boot, Reason: a.Reason}
	switch a.Verdict {
	case lease.OK:
	case lease.Denied:
		out.Final = a.Paused
	case lease.Barred:
		out.Final, out.Reason = true, "this node is itself barred: its peer was faster"
	case lease.Recovery, lease.Unavailable, lease.Superseded:
	default:
		out.Final = true
	}
	if a.FreeIn > 0 {
		out.FreeInS = control.Known(a.FreeIn.Seconds())
	}
	if a.Quiet >= 0 {
		out.QuietS = control.Known(a.Quiet.Seconds())
	}
	return out
}

func (h handler) fenceList(ctx context.Context) (control.Fence, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	st, err := h.a.opt.Cluster.Status(ctx)
	if err != nil {
		return control.Fence{}, control.Refuse(control.CodeTryAgain, "", "the cluster's nodes cannot be read: %v", err)
	}
	out := control.Fence{Done: true}
	for _, n := range st.Nodes {
		out.Nodes = append(out.Nodes, n.Name)
	}
	return out, nil
}

// unguarded lists the resources of the cluster that no lease of this configuration guards. What cannot be read is one.
func (a *Agent) unguarded(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	cib, err := a.opt.Cluster.CIB(ctx)
	if err != nil {
		return []string{"the configuration cannot be read"}
	}
	guarded := map[string][]string{}
	a.inLoop(func() {
		for _, k := range a.keepers {
			guarded[k.name] = k.conf.Resources
		}
	})
	var rules []pcmk.Rule
	for name, resources := range guarded {
		plan, err := a.opt.Cluster.PlanFrom(cib, a.node, resources)
		if err != nil {
			return []string{"lease " + name + ": " + err.Error()}
		}
		rules = append(rules, plan.Rules(name)...)
	}
	return cib.Unguarded(rules)
}

// fencedTime is how long the record of a reset gets to reach the disk. Nothing of safety depends on the reset: a barred node
// holds nothing and gets nothing.
const fencedTime = time.Second

// barName is under which name the guard is armed for a bar. It cannot be a lease's.
const barName = "/fenced"

// fenced is the loop's: this node is barred. It ends itself, running something or not, since only a new boot ends the bar.
// Not while another lease is left here: the next answer comes.
func (k *keeper) fenced(act lease.Fenced) {
	a := k.a
	for _, o := range a.keepers {
		if !o.begun {
			return
		}
		if p := o.holder.View().Phase; p != lease.Standby && p != lease.Acquiring {
			return
		}
	}
	if a.fencing {
		return
	}
	a.fencing = true
	because := "fencing: " + act.Cause
	if act.Off {
		k.log().Errorf("this node is barred and powers down (%s)", because)
	} else {
		k.log().Errorf("this node is barred and resets itself (%s)", because)
	}
	until := a.opt.Now().Add(fencedTime)
	k.recordCause(cause.Announced, 0, because, until)
	k.guard.add("", func(ctx context.Context) {
		err := k.endNode(ctx, act.Off, because, until)
		if err != nil {
			k.log().WithError(err).Error("this node is barred and cannot end itself: reboot it by hand")
			a.inLoop(func() { a.fencing = false })
		}
	})
}

// endNode has the guard reset the node, or systemd if it cannot. Only systemd can power it down; a guard would take the
// wait for that for a hang.
func (k *keeper) endNode(ctx context.Context, off bool, because string, until lease.Instant) error {
	if off {
		return k.a.opt.Units.PowerOff(ctx)
	}
	one, cancel := context.WithTimeout(ctx, guardStart)
	defer cancel()
	err := k.a.writeGuardSetup()
	if err == nil {
		err = k.a.opt.Units.StartUnit(one, guardapi.UnitName)
	}
	if err == nil {
		_, err = k.a.opt.Guard.Arm(one, guardapi.Request{Lease: barName, Epoch: foundEpoch, Instance: k.a.self.Instance.String(),
			Sent: until.Add(-fencedTime), Until: until, StopBudget: k.a.budget().StopBudget, DyingTo: k.a.dyingTo(),
			DyingText: "leasedog dying " + k.a.node + " fenced"})
	}
	if err == nil {
		_, _ = k.a.opt.Guard.Note(one, barName, foundEpoch, k.a.self.Instance, string(lease.Losing), because)
		return nil
	}
	k.log().WithError(err).Warn("the guard cannot reset this node: systemd is asked")
	if err := k.a.opt.Units.Reboot(ctx); err != nil {
		return fmt.Errorf("ask systemd: %w", err)
	}
	return nil
}
