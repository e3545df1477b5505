package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leasedog/leasedog/pcmk"
)

// missing says what a proof lacks.
func missing(format string, args ...any) error { return fmt.Errorf(format, args...) }

// errNotIdle: everything has stopped, but what the coordinator ordered before may still arrive.
var errNotIdle = errors.New("the DC was not seen idle since the attribute went away")

// prove returns nil if the guarded resources of the plan are proven stopped on this node, in this order: the
// attribute reads as absent; nothing that was ordered before can still arrive; no operation is pending and no
// resource agent is at work; every monitor says stopped; and the attribute still reads as absent. Whatever cannot be
// read is missing.
func (k *keeper) prove(ctx context.Context, plan pcmk.Plan) error {
	// First what costs nothing: while an agent is at work here the rest is in vain, and keeps the machine busy.
	if err := k.noAgentAtWork(plan); err != nil {
		return err
	}
	turn, err := k.gate.confirmClosed(ctx)
	if err != nil {
		return missing("the attribute is not proven absent: %v", err)
	}
	down, err := k.a.pacemakerDown()
	if err != nil {
		return missing("Pacemaker's processes cannot be looked at: %v", err)
	}
	idle, severed := k.gate.state()
	idle = idle || down
	if !idle {
		dc, err := k.a.opt.Cluster.DCState(ctx)
		if err == nil && dc.Activity == pcmk.Idle {
			idle = true
			k.gate.settle(turn)
		}
	}
	if err := k.provenQuiet(ctx, plan, down || severed); err != nil {
		return err
	}
	if err := k.provenStopped(ctx, plan); err != nil {
		return err
	}
	if !idle {
		return errNotIdle
	}
	if err := k.provenQuiet(ctx, plan, down || severed); err != nil {
		return err // an action that began while the monitors ran
	}
	if err := k.gate.confirmStill(ctx, turn); err != nil {
		return missing("the attribute did not stay absent: %v", err)
	}
	stillDown, err := k.a.pacemakerDown()
	if err != nil || down && !stillDown {
		return missing("Pacemaker came up while this was proven")
	}
	return nil
}

// provenQuiet: no operation on a guarded primitive is under way here, in the cluster's view or in /proc. An agent
// process outlives a killed executor and completes its start while the cluster shows Stopped. Without a controller
// and an executor (queuesGone) what the CIB calls pending will never be carried out.
func (k *keeper) provenQuiet(ctx context.Context, plan pcmk.Plan, queuesGone bool) error {
	prims := plan.Primitives()
	if !queuesGone {
		ids := make([]string, len(prims))
		for i, p := range prims {
			ids[i] = p.ID
		}
		ops, err := k.a.opt.Cluster.Pending(ctx, k.a.node, ids...)
		if err != nil {
			return missing("pending operations cannot be read: %v", err)
		}
		ops = slices.DeleteFunc(ops, func(op pcmk.PendingOp) bool { return op.Task == "monitor" })
		if len(ops) > 0 {
			return missing("%s of %s is pending here", ops[0].Task, ops[0].Resource)
		}
	}
	return k.noAgentAtWork(plan)
}

// noAgentAtWork looks in /proc for a resource agent that does more than look.
func (k *keeper) noAgentAtWork(plan pcmk.Plan) error {
	procs, err := pcmk.AgentProcesses(k.a.opt.Proc, plan.Primitives())
	if err != nil {
		return missing("resource agents cannot be looked at: %v", err)
	}
	for _, p := range procs {
		if p.Agent && p.Action != "monitor" {
			return missing("a resource agent is at work here (pid %d: %s %s)", p.PID, p.Resource, p.Action)
		}
	}
	return nil
}

// provenStopped runs every monitor side by side.
func (k *keeper) provenStopped(ctx context.Context, plan pcmk.Plan) error {
	prims := plan.Primitives()
	if len(prims) == 0 {
		return missing("it is not known what is guarded")
	}
	errs := make([]error, len(prims))
	var all sync.WaitGroup
	for i, p := range prims {
		all.Go(func() { errs[i] = k.a.stopped(ctx, plan, p) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return missing("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// stopped returns nil if one primitive's own monitor says that the guarded role does not run here.
func (a *Agent) stopped(ctx context.Context, plan pcmk.Plan, p pcmk.Primitive) error {
	if p.Class == "systemd" {
		u, err := a.opt.Units.Unit(ctx, p.Unit)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
		if !u.Inactive() {
			return fmt.Errorf("%s: unit %s is %s", p.ID, p.Unit, u.Active)
		}
		pids, err := a.opt.Units.Processes(ctx, p.Unit)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
		if len(pids) > 0 {
			return fmt.Errorf("%s: unit %s is %s but has processes", p.ID, p.Unit, u.Active)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout(string(pcmk.Monitor)))
	defer cancel()
	got, err := a.opt.Cluster.RunAgent(ctx, plan, p, pcmk.Monitor)
	if err != nil {
		return err
	}
	if !p.Inactive(got.Condition) {
		return fmt.Errorf("%s is %s (monitor: %d)", p.ID, got.Condition, got.Code)
	}
	return nil
}

// pacemakerDown reports whether none of Pacemaker's daemons runs here. A killed pacemakerd with living children is
// not that case.
func (a *Agent) pacemakerDown() (bool, error) {
	found, err := pcmk.Daemons(a.opt.Proc)
	return err == nil && len(found) == 0, err
}

// proofTime bounds one attempt to prove.
const proofTime = 10 * time.Second
