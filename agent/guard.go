package agent

import (
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
)

const (
	// guardStart bounds the start of the guard's unit. It is up in 50 ms when healthy.
	guardStart = 2 * time.Second
	// guardCall bounds one call to it.
	guardCall = time.Second
)

// startGuard starts the guard's unit and answers GuardStarted. One that runs already is fine.
func (k *keeper) startGuard(epoch lease.Epoch) {
	k.guard.add("", func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, guardStart)
		defer cancel()
		err := k.a.writeGuardSetup()
		if err == nil {
			err = k.a.opt.Units.StartUnit(ctx, guardapi.UnitName)
		}
		k.post(lease.GuardStarted{Epoch: epoch, Err: text(err)})
	})
}

// writeGuardSetup tells a guard that starts now what to watch with.
func (a *Agent) writeGuardSetup() error {
	b, w := a.budget(), a.opt.Config.Watchdog
	s := guardapi.Setup{Mode: guardapi.ModeRequired, Device: w.Device, Watchdog: b.Watchdog, TimerSlack: b.TimerSlack}
	if w.Mode == config.WatchdogSystemd {
		s.Mode = guardapi.ModeSystemd
	}
	return guardapi.WriteSetup(filepath.Join(a.opt.RunDir, "guard.json"), s)
}

// arm arms or extends. A newer extension replaces one that still waits behind a slow guard.
func (k *keeper) arm(act lease.Arm) {
	k.guard.add("arm", func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, guardCall)
		defer cancel()
		req := guardapi.Request{Lease: k.name, Epoch: act.Epoch, Instance: k.a.self.Instance.String(),
			Sent: act.Sent, Until: act.Until, StopBudget: act.Budget.StopBudget,
			DyingTo: k.a.dyingTo(), DyingText: "leasedog dying " + k.a.node + " " + k.name}
		r, err := k.a.opt.Guard.Arm(ctx, req)
		if err == nil && act.Shorten && r.Until > act.Until {
			r, err = k.a.opt.Guard.Shorten(ctx, req)
		}
		ev := lease.Armed{Epoch: act.Epoch, Sent: act.Sent, Until: r.Until, Watchdog: r.Status.Watchdog, Err: text(err)}
		if err == nil {
			k.a.noteJumps(r.Status.Jumps)
			if r.Status.Chances > act.Budget.Chances {
				ev.Err = "the guard has no kill timer or no real-time priority (c = 2), this grant counts on it"
			}
		}
		k.post(ev)
	})
}

// foundActive makes the name under which the guard is armed for resources that were found active without a lease. It
// cannot be a lease's name. The epoch means nothing there.
const (
	foundActive = "/found-active"
	foundEpoch  = 1
)

// watchActive arms the guard for resources without a lease.
func (k *keeper) watchActive(act lease.Watch) {
	k.guard.add("", func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, guardStart)
		defer cancel()
		err := k.a.writeGuardSetup()
		if err == nil {
			err = k.a.opt.Units.StartUnit(ctx, guardapi.UnitName)
		}
		var r guardapi.Reply
		if err == nil {
			r, err = k.a.opt.Guard.Arm(ctx, guardapi.Request{Lease: k.name + foundActive, Epoch: foundEpoch,
				Instance: k.a.self.Instance.String(), Sent: act.Sent, Until: act.Until, StopBudget: k.a.budget().StopBudget,
				DyingTo: k.a.dyingTo(), DyingText: "leasedog dying " + k.a.node + " " + k.name})
		}
		k.post(lease.Watched{Until: r.Until, Err: text(err)})
	})
}

func (k *keeper) unwatchActive() {
	k.guard.add("unwatch", func(ctx context.Context) {
		k.post(lease.Unwatched{Err: text(k.disarmNamed(ctx, k.name+foundActive, foundEpoch, k.a.self.Instance))})
	})
}

func (k *keeper) disarm(epoch lease.Epoch, who lease.Instance) {
	k.guard.add("", func(ctx context.Context) {
		k.post(lease.Disarmed{Epoch: epoch, Err: text(k.disarmNamed(ctx, k.name, epoch, who))})
	})
}

func (k *keeper) disarmNamed(ctx context.Context, name string, epoch lease.Epoch, who lease.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, guardCall)
	defer cancel()
	_, err := k.a.opt.Guard.Disarm(ctx, name, epoch, who)
	if errors.Is(err, guardapi.ErrNoGuard) {
		return k.noGuardRuns(ctx)
	}
	return err
}

// noGuardRuns makes sure that nobody listening means that no guard lives: an armed one that is frozen would not
// listen either.
func (k *keeper) noGuardRuns(ctx context.Context) error {
	u, err := k.a.opt.Units.Unit(ctx, guardapi.UnitName)
	if err != nil {
		return err
	}
	if !u.Inactive() {
		return errors.New("the guard is " + u.Active + " but does not listen")
	}
	return nil
}

// tellGuard has the guard write ahead why it may reset.
func (k *keeper) tellGuard(name string, p lease.Phase, epoch lease.Epoch, because string) {
	k.guard.add("note", func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, guardCall)
		defer cancel()
		_, _ = k.a.opt.Guard.Note(ctx, name, epoch, k.a.self.Instance, string(p), because)
	})
}

// guardShows reads what the guard has armed for a lease: nil if nothing, an error if a guard runs and cannot be
// asked.
func (a *Agent) guardShows(ctx context.Context, name string) (*lease.GuardState, error) {
	ctx, cancel := context.WithTimeout(ctx, guardCall)
	defer cancel()
	s, err := a.opt.Guard.Status(ctx)
	if errors.Is(err, guardapi.ErrNoGuard) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, armed := range s.Armed {
		if armed.Lease == name {
			return &lease.GuardState{Epoch: armed.Epoch, Sent: armed.Sent, Until: armed.Until, Watchdog: s.Watchdog}, nil
		}
	}
	return nil, nil
}

// dyingTo is where a last datagram goes: the first arbiter that is named by address.
func (a *Agent) dyingTo() string {
	for _, raw := range a.opt.Config.Arbiter.URLs {
		if u, err := url.Parse(raw); err == nil && net.ParseIP(u.Hostname()) != nil {
			return u.Host
		}
	}
	return ""
}

// recordCause writes ahead, in the agent's own file, why a lease is being lost: a frozen guard cannot.
func (k *keeper) recordCause(stage cause.Stage, epoch lease.Epoch, because string, due lease.Instant) {
	k.disk.add("", func(context.Context) {
		r := cause.Record{Lease: k.name, Epoch: uint64(epoch), BootID: k.a.kernelBoot, Stage: stage, By: "agent",
			Because: because, Written: time.Now()}
		if due != lease.Never {
			r.Due = time.Now().Add(due.Sub(k.a.opt.Now()))
		}
		k.a.causeMu.Lock()
		defer k.a.causeMu.Unlock()
		if err := k.a.causes.Put(r); err != nil {
			k.log().WithError(err).Warn("the cause cannot be recorded")
		}
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
