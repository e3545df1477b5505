package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// pauseScenarios are the rows in which a lease is kept without a deadline, by an administrator or by maintenance, and the
// one in which its configuration goes.
func pauseScenarios() []Scenario {
	lan := lanConfig()
	return []Scenario{
		{Name: "maintenance-arbiter-down", Config: lan, Bound: noTransition,
			About: "maintenance mode, then the arbiter is down for 60 s and comes back: nothing stopped, nothing reset",
			Run:   playMaintenanceArbiterDown},
		{Name: "upgrade-agent-in-maintenance", Config: lan, Bound: noTransition,
			About: "maintenance mode; agent and Pacemaker are restarted on the holder: nothing stopped, nothing reset",
			Run:   playUpgradeInMaintenance},
		{Name: "reboot-in-maintenance", Config: lan, Bound: 120 * time.Second,
			About: "the holder reboots in maintenance mode: its old boot's pause ends, and somebody runs the group again",
			Run:   playRebootInMaintenance},
		{Name: "pause-without-end", Config: lan, Bound: noTransition,
			About: "a pause; agent and arbiter restarted, the holder cut off: the peer never starts, its resume changes nothing and says so",
			Run:   playPauseWithoutEnd},
		{Name: "pause-with-end", Config: lan, Bound: noTransition,
			About: "a pause of 20 s outlives a cut of 12 s, resumes by itself, and the lease is guarded again", Run: playPauseWithEnd},
		{Name: "rename-lease-while-holding", Config: lan, Bound: 3 * time.Second,
			About: "the holder's configuration names the lease no longer and its agent is restarted: the lease is left, the peer runs",
			Run:   playRename},
		{Name: "pause-with-end-cut-off", Config: lan, Bound: 20*time.Second + takeoverBound(lan),
			About: "a pause of 15 s whose holder stays cut off: it stops at the end of it, and the peer takes over after its hold",
			Run:   playPauseCutOff},
	}
}

// maintain sets the cluster's maintenance mode and waits until the lease is in the state that follows from it.
func (r *Run) maintain(ctx context.Context, on bool) error {
	want := "held"
	if on {
		want = "paused"
	}
	err := r.Fault(fmt.Sprintf("maintenance mode: %v", on), func() error {
		return r.setOptions(ctx, map[string]string{"maintenance-mode": fmt.Sprint(on)})
	})
	if err != nil {
		return err
	}
	return r.waitState(ctx, r.Holder, want)
}

// endMaintenance is for rows that ended in the middle: without it no mending works.
func (r *Run) endMaintenance(ctx context.Context) {
	if err := r.setOptions(context.WithoutCancel(ctx), map[string]string{"maintenance-mode": "false"}); err != nil {
		r.Fail("maintenance mode cannot be ended: %v", err)
	}
}

func (r *Run) waitState(ctx context.Context, node, want string) error {
	return waitFor(ctx, fmt.Sprintf("the lease to be %s on %s", want, node), 20*time.Second, func() error {
		l, _, err := r.Status(ctx, node)
		if err == nil && l.State != want {
			err = fmt.Errorf("it is %s", l.State)
		}
		return err
	})
}

// expectState fails unless the lease has the state, and the epoch that it had before.
func (r *Run) expectState(ctx context.Context, node, want string, epoch uint64) {
	l, _, err := r.Status(ctx, node)
	if err != nil || l.State != want || l.Epoch != epoch {
		r.Fail("on %s the lease is %q epoch %d, expected %s epoch %d (%v)", node, l.State, l.Epoch, want, epoch, err)
	}
}

// guardArmed tells whether the holder's guard is armed, as the status says it.
func (r *Run) guardArmed(ctx context.Context, node string) (bool, error) {
	_, text, err := r.Status(ctx, node)
	if err != nil {
		return false, err
	}
	var s struct {
		Leases []struct {
			Guard struct {
				Armed bool `json:"armed"`
			} `json:"guard"`
		} `json:"leases"`
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil || len(s.Leases) == 0 {
		return false, fmt.Errorf("read the guard's state on %s: %v", node, err)
	}
	return s.Leases[0].Guard.Armed, nil
}

func (r *Run) expectGuard(ctx context.Context, node string, armed bool) {
	if got, err := r.guardArmed(ctx, node); err != nil || got != armed {
		r.Fail("the guard of %s is armed: %v, expected %v (%v)", node, got, armed, err)
	}
}

func playMaintenanceArbiterDown(ctx context.Context, r *Run) error {
	before, _, err := r.Status(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.maintain(ctx, true); err != nil {
		return err
	}
	defer r.endMaintenance(ctx)
	r.expectGuard(ctx, r.Holder, false)
	if err := r.StayDown(Arbiter, true); err != nil {
		return err
	}
	if err := r.Crash(ctx, Arbiter); err != nil {
		return err
	}
	r.Event("the arbiter's host is down")
	if err := pause(ctx, 60*time.Second); err != nil {
		return err
	}
	r.expectState(ctx, r.Holder, "paused", before.Epoch)
	if err := r.StayDown(Arbiter, false); err != nil {
		return err
	}
	if err := pause(ctx, 15*time.Second); err != nil { // boot, and more than a hold
		return err
	}
	r.expectState(ctx, r.Holder, "paused", before.Epoch)
	if err := r.maintain(ctx, false); err != nil {
		return err
	}
	r.expectState(ctx, r.Holder, "held", before.Epoch)
	r.expectGuard(ctx, r.Holder, true)
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playUpgradeInMaintenance(ctx context.Context, r *Run) error {
	before, _, err := r.Status(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.maintain(ctx, true); err != nil {
		return err
	}
	defer r.endMaintenance(ctx)
	for _, argv := range [][]string{{"restart", agentUnit}, {"stop", "pacemaker"}, {"restart", agentUnit}, {"start", "pacemaker"}} {
		r.Event("systemctl %s on %s", strings.Join(argv, " "), r.Holder)
		if _, err := r.Exec(ctx, r.Holder, append([]string{"systemctl"}, argv...)...); err != nil {
			return err
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		r.expectState(ctx, r.Holder, "paused", before.Epoch)
	}
	if err := waitFor(ctx, "the pair to form again", joinLimit, func() error { return r.together(ctx) }); err != nil {
		return err
	}
	if err := waitFor(ctx, "the pair to come to rest", settleLimit, func() error { return r.idle(ctx) }); err != nil {
		return err
	}
	if err := r.maintain(ctx, false); err != nil {
		return err
	}
	r.expectState(ctx, r.Holder, "held", before.Epoch)
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playRebootInMaintenance(ctx context.Context, r *Run) error {
	if err := r.maintain(ctx, true); err != nil {
		return err
	}
	defer r.endMaintenance(ctx)
	if err := r.Fault("the holder loses power in maintenance", func() error { return r.Crash(ctx, r.Holder) }); err != nil {
		return err
	}
	// Nobody may start the group in maintenance, whoever has the lease then.
	if err := pause(ctx, budgetOf("lan").hold+5*time.Second); err != nil {
		return err
	}
	if err := waitFor(ctx, "the pair to form again", joinLimit, func() error { return r.together(ctx) }); err != nil {
		return err
	}
	r.endMaintenance(ctx)
	r.Event("maintenance is over")
	return waitFor(ctx, "somebody to run the group", 60*time.Second, func() error {
		runs, err := r.Runs()
		if err == nil && len(runs) != 1 {
			err = fmt.Errorf("run by %v", runs)
		}
		return err
	})
}

func (r *Run) pauseLease(ctx context.Context, flags ...string) error {
	return r.Fault("leasedog pause "+strings.Join(flags, " "), func() error {
		_, err := r.Exec(ctx, r.Holder, append([]string{"leasedog", "pause", leaseName, "--yes"}, flags...)...)
		return err
	})
}

func playPauseWithoutEnd(ctx context.Context, r *Run) error {
	before, _, err := r.Status(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.pauseLease(ctx); err != nil {
		return err
	}
	r.expectState(ctx, r.Holder, "paused", before.Epoch)
	r.expectGuard(ctx, r.Holder, false)
	if _, err := r.Exec(ctx, r.Holder, "systemctl", "restart", agentUnit); err != nil {
		return err
	}
	if err := r.Kill(Arbiter, "arbiter"); err != nil {
		return err
	}
	r.Event("agent restarted, arbiter killed")
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := r.Cut(ctx, Cut{Link: r.Holder, Way: BothWays}); err != nil {
		return err
	}
	r.Event("%s is cut off", r.Holder)
	if err := pause(ctx, budgetOf("lan").hold+8*time.Second); err != nil {
		return err
	}
	out, err := r.Exec(ctx, r.Standby(), "leasedog", "resume", leaseName)
	if err != nil || !strings.Contains(out, "nothing has changed yet") || !strings.Contains(out, r.Holder) {
		r.Fail("resume at the peer, with a silent holder, says %q (%v)", out, err)
	}
	r.Event("resume at %s: %s", r.Standby(), strings.TrimSpace(out))
	if err := pause(ctx, budgetOf("lan").hold+3*time.Second); err != nil {
		return err
	}
	r.expectState(ctx, r.Holder, "paused", before.Epoch)
	if err := r.Heal(ctx); err != nil {
		return err
	}
	r.Event("healed: the holder hears that it is asked to resume")
	if err := r.waitState(ctx, r.Holder, "held"); err != nil {
		r.Fail("%v", err)
	}
	r.expectState(ctx, r.Holder, "held", before.Epoch)
	r.expectGuard(ctx, r.Holder, true)
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playPauseWithEnd(ctx context.Context, r *Run) error {
	before, _, err := r.Status(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.pauseLease(ctx, "--for", "20s"); err != nil {
		return err
	}
	r.expectGuard(ctx, r.Holder, true) // for the end of the pause
	if err := r.Cut(ctx, Cut{Link: r.Holder + "-arbiter", Way: BothWays}); err != nil {
		return err
	}
	if err := pause(ctx, 12*time.Second); err != nil {
		return err
	}
	r.expectState(ctx, r.Holder, "paused", before.Epoch)
	if err := r.Heal(ctx); err != nil {
		return err
	}
	if err := r.waitState(ctx, r.Holder, "held"); err != nil {
		r.Fail("%v", err)
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	r.expectState(ctx, r.Holder, "held", before.Epoch)
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playPauseCutOff(ctx context.Context, r *Run) error {
	if err := r.pauseLease(ctx, "--for", "15s"); err != nil {
		return err
	}
	if err := r.Cut(ctx, Cut{Link: r.Holder, Way: BothWays}); err != nil {
		return err
	}
	r.expectTakeoverWithin(ctx, 15*time.Second+takeoverBound(r.Config))
	return pause(ctx, 3*time.Second)
}

// editConfig replaces text in a node's configuration and restarts its agent.
func (r *Run) editConfig(ctx context.Context, node, from, to string) error {
	_, err := r.Exec(ctx, node, "/bin/sh", "-c", fmt.Sprintf(
		"sed -i 's/%s/%s/' /etc/leasedog/leasedog.toml && systemctl restart %s", from, to, agentUnit))
	return err
}

func playRename(ctx context.Context, r *Run) error {
	const old, renamed = `name = "app"`, `name = "renamed"`
	err := r.Fault("rename the lease on "+r.Holder, func() error { return r.editConfig(ctx, r.Holder, old, renamed) })
	if err != nil {
		return err
	}
	defer func() {
		if err := r.editConfig(context.WithoutCancel(ctx), r.Holder, renamed, old); err != nil {
			r.Fail("the lease cannot be renamed back: %v", err)
		}
	}()
	if took := r.Takeover(ctx, r.Standby(), 30*time.Second); took > 10*time.Second {
		r.Fail("%s runs the group after %.2f s", r.Standby(), took.Seconds())
	}
	if err := r.waitState(ctx, r.Holder, "standby"); err != nil {
		r.Fail("%v", err)
	}
	said := func() error {
		l, _, err := r.StatusOf(ctx, r.Holder, "renamed")
		if why := strings.Join(l.WhyNot, "; "); err == nil && !strings.Contains(why, "leasedog constraints renamed --apply") {
			err = fmt.Errorf("it says %q", why)
		}
		return err
	}
	if err := waitFor(ctx, r.Holder+" to say what its new lease lacks", 20*time.Second, said); err != nil {
		r.Fail("%v", err)
	}
	r.expectNoReset()
	return nil
}
