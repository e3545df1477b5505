package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// ladder stops the guarded resources of one lease and proves it. Its steps: the attribute goes (the gate does that),
// and Pacemaker stops in its own order; after a while each primitive is demoted and stopped from here; late, just
// before a reset, the node's own controller and executor are killed, whose queues die with them. It ends with the
// proof, or with the reset that the guard does.
type ladder struct {
	k *keeper

	mu   sync.Mutex
	stop lease.Stop
	last error         // what the last attempt missed
	lone lease.Instant // since when that is nothing but an idle DC, without a break; 0: it is not
	end  context.CancelFunc
}

// Shares of the stop budget after which the next step begins, in percent.
const (
	forceAt = 40
	loneAt  = 50 // kill, when everything has stopped and only the coordinator's queue is in the way of the proof
	killAt  = 70
)

// provePace is how often a proof is tried while the ladder runs.
const provePace = 100 * time.Millisecond

// start begins the ladder, or changes the deadlines of one that runs.
func (l *ladder) start(ctx context.Context, s lease.Stop) {
	l.mu.Lock()
	defer l.mu.Unlock()
	running := l.end != nil && l.stop.Ladder == s.Ladder
	l.stop = s
	if running {
		return
	}
	if l.end != nil {
		l.end()
	}
	ctx, l.end = context.WithCancel(ctx)
	l.last, l.lone = nil, 0
	go l.run(ctx, s.Ladder)
}

// halt ends it.
func (l *ladder) halt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.end()
		l.end = nil
	}
}

// missing is what the last attempt to prove lacked.
func (l *ladder) missing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// alone is since when nothing but an idle DC is missing, 0 if more is.
func (l *ladder) alone() lease.Instant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lone
}

func (l *ladder) plan() lease.Stop {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop
}

// rungs are when the steps are due: force after 40 % of the stop budget (in leaving: when Pacemaker's own stop has
// had its time), kill at 70 %, and only if a reset is what comes next. With nothing left to stop there is nothing left to
// wait for but a coordinator that may not come to rest, as one whose fencing fails again and again: kill then comes at 50 %,
// so that the proof has more time, and not before nothing else was missing for 20 %.
func (l *ladder) rungs() (force, kill lease.Instant) {
	s := l.plan()
	if s.Orderly != 0 {
		return s.Orderly, lease.Never
	}
	span := l.k.a.budget().StopBudget
	if s.Until != lease.Never {
		span = max(0, min(span, s.Until.Sub(s.From)))
		kill = s.From.Add(span * killAt / 100)
		if since := l.alone(); since != 0 { // a DC that is about to come to rest has the time for it
			lone := lease.Later(s.From.Add(span*loneAt/100), since.Add(span*(killAt-loneAt)/100))
			kill = lease.Earlier(kill, lone)
		}
	} else {
		kill = lease.Never
	}
	return s.From.Add(span * forceAt / 100), kill
}

func (l *ladder) run(ctx context.Context, number int) {
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beside.Go(func() { l.forceInTime(ctx) })
	beside.Go(func() {
		if l.severInTime(ctx) {
			// A proof needs less from now on. The attempt that is under way may be about to succeed, or hang in a tool: it
			// goes on, and new ones begin beside it.
			l.prove(ctx, number, cancel)
		}
	})
	l.prove(ctx, number, cancel)
}

// prove tries again and again until a proof succeeds, here or beside it.
func (l *ladder) prove(ctx context.Context, number int, done context.CancelFunc) {
	for ctx.Err() == nil {
		if l.attempt(ctx) == nil {
			done()
			l.k.post(lease.Proven{Ladder: number})
			return
		}
		if pause(ctx, provePace) != nil {
			return
		}
	}
}

// forceInTime stops the resources from here when that is due. It goes beside the attempts to prove, which must not be cut
// off for it: on a busy machine one takes a second.
func (l *ladder) forceInTime(ctx context.Context) {
	for {
		force, _ := l.rungs()
		if l.k.a.opt.Now() >= force {
			break
		}
		if pause(ctx, provePace) != nil {
			return
		}
	}
	l.k.log().WithField("missing", l.missing()).Warn("Pacemaker has not stopped the resources in its time: stopping them from here")
	l.force(ctx)
}

// severInTime does the last resort when that is due, and tries again while it cannot be done. It reports whether it was.
func (l *ladder) severInTime(ctx context.Context) bool {
	for pause(ctx, provePace) == nil {
		if _, kill := l.rungs(); l.k.a.opt.Now() >= kill && l.lastResort(ctx) {
			return true
		}
	}
	return false
}

// attempt tries to prove, within what is left.
func (l *ladder) attempt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeLeft(proofTime))
	defer cancel()
	go l.endWithPacemaker(ctx, cancel)
	plan, err := l.k.currentPlan()
	if err == nil {
		err = l.k.prove(ctx, plan)
	}
	l.mu.Lock()
	if l.last = err; !errors.Is(err, errNotIdle) {
		l.lone = 0
	} else if l.lone == 0 {
		l.lone = l.k.a.opt.Now()
	}
	l.mu.Unlock()
	return err
}

// endWithPacemaker cuts an attempt off when Pacemaker's last daemon has gone: a tool that was asking it waits for its
// deadline, and the next attempt needs none of them. The gate's own tool, which the attempt waits for, is ended too.
func (l *ladder) endWithPacemaker(ctx context.Context, cut context.CancelFunc) {
	for up := false; pause(ctx, provePace) == nil; {
		down, err := l.k.a.pacemakerDown()
		if err == nil && down {
			if up {
				cut()
			}
			l.k.gate.interrupt()
			return
		}
		up = up || err == nil
	}
}

// timeLeft bounds a call by the guard's deadline.
func (l *ladder) timeLeft(most time.Duration) time.Duration {
	now := l.k.a.opt.Now()
	if at := l.plan().Until; at > now && at != lease.Never {
		most = min(most, at.Sub(now))
	}
	return max(most, provePace)
}

// force demotes and stops each primitive from here, the last started first, without any Pacemaker process. Under a
// rule on the promoted role it only demotes.
func (l *ladder) force(ctx context.Context) {
	plan, err := l.k.currentPlan()
	if err != nil {
		l.k.log().WithError(err).Error("cannot stop the resources from here: it is not known how")
		return
	}
	prims := plan.Primitives()
	slices.Reverse(prims)
	for _, p := range prims {
		if err := l.forceOne(ctx, plan, p); err != nil {
			l.k.log().WithError(err).WithField("resource", p.ID).Warn("forced stop")
		}
	}
}

func (l *ladder) forceOne(ctx context.Context, plan pcmk.Plan, p pcmk.Primitive) error {
	actions := []pcmk.Action{pcmk.Stop}
	if p.Role == pcmk.RolePromoted {
		actions = []pcmk.Action{pcmk.Demote}
	}
	if p.Class == "systemd" {
		ctx, cancel := context.WithTimeout(ctx, p.Timeout(string(pcmk.Stop)))
		defer cancel()
		return l.k.a.opt.Units.StopUnit(ctx, p.Unit)
	}
	if l.k.a.stopped(ctx, plan, p) == nil {
		return nil
	}
	var errs []error
	for _, action := range actions {
		ctx, cancel := context.WithTimeout(ctx, p.Timeout(string(action)))
		_, err := l.k.a.opt.Cluster.RunAgent(ctx, plan, p, action)
		cancel()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// lastResort, just before a reset: once the attribute is known to be away, this node's controller and executor are
// killed, so that nothing ordered before can arrive any more, and then the resource agents that outlive them. The
// node is unclean to its peer afterwards, which a reset would make it too. It reports whether there is no point in
// trying again.
func (l *ladder) lastResort(ctx context.Context) (done bool) {
	k := l.k
	ctx, cancel := context.WithTimeout(ctx, l.timeLeft(toolTime))
	defer cancel()
	turn, err := k.gate.confirmClosed(ctx)
	if err != nil {
		k.log().WithError(err).Debug("no last resort yet: the attribute is not proven absent")
		return false
	}
	if ctx.Err() != nil {
		return false // proven meanwhile
	}
	killed, err := pcmk.KillDaemons(k.a.opt.Proc, pcmk.Controld, pcmk.Execd)
	k.log().WithField("killed", len(killed)).WithError(err).
		Warn("last resort before a reset: this node's controller and executor are killed")
	if err != nil {
		return false
	}
	k.gate.sever(turn)
	plan, err := k.currentPlan()
	if err != nil {
		return true
	}
	procs, err := pcmk.AgentProcesses(k.a.opt.Proc, plan.Primitives())
	if err != nil {
		return true
	}
	for _, p := range procs {
		if p.Agent && p.Action != "monitor" { // those of the proof itself, or ones that do no harm
			k.log().WithFields(logrus.Fields{"pid": p.PID, "action": p.Action}).
				Warn("last resort before a reset: a resource agent is killed")
			_ = pcmk.Kill(k.a.opt.Proc, p.Process)
		}
	}
	return true
}
