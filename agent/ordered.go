package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
)

// orderedTime bounds one answer to the resource agent, which asks again and again.
const orderedTime = 5 * time.Second

// orderedSlack is what a start needs beside the longest wait for the lease: the win, and the reading back.
const orderedSlack = 5 * time.Second

// orderedStart is asked by ocf:leasedog:lease until it is done: this node holds, and the attribute was read back.
func (h handler) orderedStart(ctx context.Context, k *keeper, r control.Request) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, orderedTime)
	defer cancel()
	opened := k.gate.timesOpened()
	if err := h.onDemand(k); err != nil {
		return "", err
	}
	var v lease.View
	var err error
	h.a.inLoop(func() {
		if v = k.holder.View(); v.Phase != "" && !v.Asked {
			err = k.compete()
		}
	})
	if err != nil {
		return "", err
	}
	switch v.Phase {
	case lease.Held, lease.Paused, lease.Resuming:
		return fmt.Sprintf("lease %s is held, epoch %d", k.name, v.Epoch), nil
	case lease.Standby, lease.Acquiring, lease.Leaving, lease.Losing, lease.Stopped: // the attribute is to be absent
		if err := k.nothingUnderWay(ctx, r, opened); err != nil {
			k.log().WithError(err).Debug("the DC must be seen idle once before this node competes")
		}
	}
	if !v.Asked {
		h.a.pokeSurvey()
	}
	return "", control.Refuse(control.CodeTryAgain, "", "lease %s: %s", k.name, h.whyNotHeld(k))
}

func (h handler) whyNotHeld(k *keeper) string {
	var l control.Lease
	h.a.inLoop(func() { l = k.describe(h.a.opt.Now()) })
	switch {
	case len(l.WhyNot) > 0:
		return strings.Join(l.WhyNot, "; ")
	case l.State == control.StateAcquiring && l.HolderKnown && l.Holder != "":
		return "held by " + l.Holder
	}
	return string(l.State)
}

// orderedStop is asked by ocf:leasedog:lease until it is done: the attribute is absent, and nothing guarded is active
// here. The proof and the release come afterwards, since the proof may have to wait for a DC that waits for this stop.
func (h handler) orderedStop(ctx context.Context, k *keeper, r control.Request) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, orderedTime)
	defer cancel()
	opened := k.gate.timesOpened()
	var v lease.View
	h.a.inLoop(func() { v = k.holder.View() })
	if v.Phase == "" {
		return "", control.Refuse(control.CodeTryAgain, "", "the agent has just started and has not seen the cluster yet")
	}
	if !v.Retired {
		k.leave("Pacemaker stops " + r.Resource)
		h.a.inLoop(func() { v = k.holder.View() })
	}
	plan, err := k.currentPlan()
	if err == nil && k.active(ctx, plan) != lease.No {
		err = fmt.Errorf("what it guards is not known to be stopped here")
	}
	if err != nil {
		return "", control.Refuse(control.CodeTryAgain, "", "lease %s: %v", k.name, err)
	}
	if v.Phase == lease.Paused || v.Phase == lease.Resuming {
		return fmt.Sprintf("lease %s stays paused here, and nobody else gets it: leasedog resume %s", k.name, k.name), nil
	}
	if _, err := k.gate.confirmClosed(ctx); err != nil {
		return "", control.Refuse(control.CodeTryAgain, "", "lease %s: the attribute is not away yet: %v", k.name, err)
	}
	if err := k.nothingUnderWay(ctx, r, opened); err != nil {
		k.log().WithError(err).Info("the lease is released once the DC was seen idle")
	}
	return fmt.Sprintf("lease %s: nothing runs here any more, it is released as soon as that is proven", k.name), nil
}

// nothingUnderWay takes a call of Pacemaker's for what an idle DC shows: that no start of anything guarded, ordered before
// the attribute went, can still arrive here. The DC's messages to this node come in their order, so whatever it had ordered
// before this call is here and is seen as pending or at work. It orders nothing anew before the call has its result, and
// what else its current plan has for a guarded resource comes behind a start of r.Resource that succeeds, which a lease
// that is held has preceded. So it must be called while Pacemaker waits for the answer: ctx ends when nobody waits any more,
// and opened is what timesOpened said when the call came. A lease that was held since then may have let a start go on that
// was ordered after the call's end.
func (k *keeper) nothingUnderWay(ctx context.Context, r control.Request, opened uint64) error {
	if settled, _ := k.gate.state(); settled {
		return nil
	}
	if !r.Ordered {
		return fmt.Errorf("%s is not run by Pacemaker", r.Resource)
	}
	cib, err := k.a.opt.Cluster.CIB(ctx)
	if err != nil {
		return err
	}
	plan, err := k.currentPlan()
	if err != nil {
		return err
	}
	if !cib.StartsBehind(r.Resource, plan.Resources) {
		return fmt.Errorf("not everything that lease %s guards is ordered behind %s", k.name, r.Resource)
	}
	turn, err := k.gate.confirmClosed(ctx)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("nobody waits for the answer any more: %w", err)
	}
	if k.gate.timesOpened() != opened {
		return fmt.Errorf("lease %s was held since the call came", k.name)
	}
	k.gate.settle(turn) // a gate that opens meanwhile has another turn
	k.a.pokeSurvey()
	return nil
}

// guardedIDs are the resources of the lease as configured; conf is the loop's.
func (k *keeper) guardedIDs() (ids []string) {
	k.a.inLoop(func() { ids = k.conf.Resources })
	return ids
}

func (h handler) onDemand(k *keeper) error {
	var mode config.AcquireMode
	h.a.inLoop(func() { mode = k.conf.Acquire })
	if mode != config.AcquireOnDemand {
		return control.Refuse(control.CodeRefused, `write acquire = "on-demand" into its [[lease]] and restart leasedog.service`,
			"lease %s has acquire = %q: this node asks for it whether Pacemaker starts the resource or not", k.name, mode)
	}
	return nil
}

// orderedCheck says what is wrong with the primitive that holds the lease for Pacemaker, and in its message what may be
// meant so.
func (h handler) orderedCheck(ctx context.Context, k *keeper, r control.Request) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, orderedTime)
	defer cancel()
	if err := h.onDemand(k); err != nil {
		return "", err
	}
	b := h.a.budget()
	need := b.Hold() + b.LossAfter + orderedSlack
	cib, err := h.a.opt.Cluster.CIB(ctx)
	if err != nil {
		return "", control.Refuse(control.CodeTryAgain, "", "the cluster's configuration cannot be read: %v", err)
	}
	first, err := cib.OrderFirst(r.Resource, k.guardedIDs())
	switch {
	case err != nil:
		return "", control.Refuse(control.CodeRefused, "", "%v", err)
	case !first.Found:
		return fmt.Sprintf("%s is not configured: its start needs a timeout of %v at least", r.Resource, roundUp(need)), nil
	case first.Start < need:
		return "", control.Refuse(control.CodeRefused, fmt.Sprintf("pcs resource update %s op start timeout=%s", r.Resource, roundUp(need)),
			"the start of %s has a timeout of %v, and may have to wait %v for lease %s (hold %v + loss_after %v + %v)", r.Resource,
			first.Start, need, k.name, b.Hold(), b.LossAfter, orderedSlack)
	case len(first.NotBehind) > 0:
		return "", control.Refuse(control.CodeRefused, "", "%s", strings.Join(first.NotBehind, "; "))
	case !first.Retries:
		return fmt.Sprintf("warning: a start of %s that gets no lease bans it from this node until a cleanup: pcs resource meta %s "+
			"failure-timeout=30s", r.Resource, r.Resource), nil
	}
	return "", nil
}

// roundUp makes a timeout that people type.
func roundUp(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }
