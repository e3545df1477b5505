package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// faultScenarios are the rows in which a process or a host fails, most of them on an isolated holder.
func faultScenarios() []Scenario {
	lan := lanConfig()
	withService := lan
	withService.Systemd = true
	promotable := lan
	promotable.Promotable = true
	fast := Config{Stack: StackLeasedog, Profile: "fast", Token: 500 * time.Millisecond}
	bound := takeoverBound(lan)
	frozen := func(names ...string) func(context.Context, *Run) error {
		return func(ctx context.Context, r *Run) error { return playFrozen(ctx, r, names...) }
	}
	hanging := func(what string) func(context.Context, *Run) error {
		return func(ctx context.Context, r *Run) error { return playHangingStop(ctx, r, what) }
	}
	return []Scenario{
		{Name: "stop-hangs", InTest: true, Config: lan, Bound: bound, Run: hanging(StopHang),
			About: "the isolated holder's stop hangs: the guard resets it, it comes back as standby"},
		{Name: "pacemaker-frozen", InTest: true, Config: lan, Bound: bound, Run: frozen("pacemaker"),
			About: "the isolated holder's Pacemaker is frozen, every daemon of it"},
		{Name: "agent-frozen", InTest: true, Config: lan, Bound: bound, Run: frozen("agent"),
			About: "the isolated holder's agent is frozen"},
		{Name: "guard-frozen", InTest: true, Config: lan, Bound: bound, Run: frozen("guard"),
			About: "the isolated holder's guard is frozen"},
		{Name: "agent-and-guard-frozen", InTest: true, Config: lan, Bound: bound, Run: frozen("agent", "guard"),
			About: "the isolated holder's agent and guard are frozen"},
		{Name: "guard-killed", Config: lan, Bound: bound, Run: playGuardKilled,
			About: "kill -9 of the guard while it is armed: the node is reset"},
		{Name: "holder-crash", InTest: true, Config: lan, Bound: bound, Run: playCrash,
			About: "the holder loses power: the peer takes over"},
		{Name: "guard-missing", Config: lan, Bound: 90 * time.Second, Run: playGuardMissing,
			About: "the standby cannot start its guard: it gets no lease, is not reset, and says why"},
		{Name: "watchdog-missing", Config: lan, Bound: 90 * time.Second, Run: playWatchdogMissing,
			About: "the standby is to have a kernel watchdog and has none: no lease, no reset, and it says why"},
		{Name: "realtime-forbidden", Config: lan, Bound: 90 * time.Second, Run: playRealtimeForbidden,
			About: "the standby's guard may not run in real time: it gets no lease, is not reset, and says why"},
		{Name: "service-stop-hangs", InTest: true, Config: withService, Bound: takeoverBound(withService) + 2*time.Second,
			Run: hanging(SlowHang), About: "the same with a member of class systemd whose stop hangs"},
		{Name: "holder-crash-fast", Alone: true, Config: fast, Bound: takeoverBound(fast), Run: playCrash,
			About: "the holder loses power, profile fast, token 500"},
		{Name: "promotable-isolated", Config: promotable, Bound: bound, Run: playPromotableIsolated,
			About: "the lease also guards the promoted role of a clone: the isolated holder only demotes it"},
		mutantControl("lab_mutant_noguard", "no-guard", "our agent without a guard"),
		mutantControl("lab_mutant_blindguard", "blind-guard", "our guard, extending its deadline unconditionally"),
	}
}

// mutantControl is a control with a mistake compiled into the node's binary: an isolated holder whose stop hangs.
func mutantControl(tag, name, about string) Scenario {
	cfg := lanConfig()
	cfg.Mutant = tag
	return Scenario{
		Name: "mutant-" + name + "-hanging-stop", Control: true, Config: cfg,
		About: about + "; the holder is isolated and its stop hangs",
		Run: func(ctx context.Context, r *Run) error {
			if err := r.Steer(r.Holder, StopHang, ""); err != nil {
				return err
			}
			if err := r.CutOff(ctx, r.Holder); err != nil {
				return err
			}
			r.Takeover(ctx, r.Standby(), 30*time.Second)
			if err := pause(ctx, 5*time.Second); err != nil {
				return err
			}
			// Nothing resets it, and after the last resort its Pacemaker has no controller: it would not come back.
			return r.Crash(ctx, r.Holder)
		},
	}
}

// expectGuardReset fails unless the holder was reset, by a layer that the cause record names.
func (r *Run) expectGuardReset(ctx context.Context) {
	ends := r.Ends(r.Holder)
	if len(ends) == 0 || ends[0].What != WasReset {
		r.Fail("%s was not reset (%v)", r.Holder, ends)
		return
	}
	if len(ends) > 1 {
		r.Fail("%s was reset more than once: %v", r.Holder, ends)
	}
	cause, err := r.Cause(r.Holder)
	if err != nil || cause == "" {
		r.Fail("%s was reset and left no cause record (%v)", r.Holder, err)
		return
	}
	why, err := r.Why(ctx, r.Holder)
	if err != nil || why == "" {
		r.Fail("leasedog why on %s says %q (%v)", r.Holder, why, err)
	}
	r.Event("%s was reset %.2f s after the fault; it says: %s", r.Holder, ends[0].At.Sub(r.At).Seconds(), why)
}

// awaitBoot waits until a host that ended is back in the cluster's sight.
func (r *Run) awaitBoot(ctx context.Context, host string) error {
	return waitFor(ctx, host+" to boot", 60*time.Second, func() error {
		_, err := r.Leader(host)
		return err
	})
}

func playHangingStop(ctx context.Context, r *Run, what string) error {
	if err := r.Steer(r.Holder, what, ""); err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	r.expectTakeover(ctx)
	if err := r.awaitBoot(ctx, r.Holder); err != nil {
		return err
	}
	r.expectGuardReset(ctx)
	if err := r.Heal(ctx); err != nil {
		return err
	}
	r.Event("links healed")
	return r.awaitStandby(ctx, r.Holder)
}

// awaitStandby waits until a node that was reset is back as standby, and the peer still runs the group.
func (r *Run) awaitStandby(ctx context.Context, node string) error {
	if err := waitFor(ctx, node+" to come back as standby", joinLimit, func() error {
		if err := r.together(ctx); err != nil {
			return err
		}
		return r.leaseSettled(ctx, Peer(node))
	}); err != nil {
		r.Fail("%v", err)
		return nil
	}
	r.Event("%s is back as standby", node)
	return nil
}

func playFrozen(ctx context.Context, r *Run, names ...string) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	// First one, then the other, in a random order: an agent that is frozen first leaves a guard that must count on.
	cut := func() error { return r.CutOff(ctx, r.Holder) }
	freeze := func() error {
		return r.Fault("freeze "+strings.Join(names, ", ")+" on "+r.Holder,
			func() error { return r.Freeze(r.Holder, names...) })
	}
	steps := []func() error{cut, freeze}
	first := r.Random.IntN(2)
	for _, step := range []func() error{steps[first], steps[1-first]} {
		if err := step(); err != nil {
			return err
		}
	}
	r.expectTakeover(ctx)
	// The freeze goes on for a while after the takeover: what thaws must not run anything.
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	if err := r.Thaw(); err != nil {
		return err
	}
	r.Event("thawed")
	return pause(ctx, 5*time.Second)
}

func playGuardKilled(ctx context.Context, r *Run) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.Fault("kill -9 the guard", func() error { return r.Kill(r.Holder, "guard") }); err != nil {
		return err
	}
	r.expectTakeover(ctx)
	ends := r.Ends(r.Holder)
	if len(ends) == 0 || ends[0].What != WasReset {
		r.Fail("%s was not reset", r.Holder)
	}
	return nil
}

// playCrash: the dead node stays off until the peer has taken over, as any machine does. A container that joins again
// within three seconds has Pacemaker elect a coordinator in the middle of the takeover.
func playCrash(ctx context.Context, r *Run) error {
	if err := errors.Join(r.StayDown(r.Holder, true), r.Phase(ctx)); err != nil {
		return err
	}
	if err := r.Fault(r.Holder+" loses power", func() error { return r.Crash(ctx, r.Holder) }); err != nil {
		return err
	}
	r.expectTakeover(ctx)
	return nil
}

// dropIn overrides settings of a unit until the node's next boot or undo.
func (c *Cluster) dropIn(ctx context.Context, node, unit, settings string) (undo func() error, err error) {
	dir := "/run/systemd/system/" + unit + ".d"
	script := fmt.Sprintf("mkdir -p %s && cat > %s/lab.conf && systemctl daemon-reload", dir, dir)
	if _, err := c.ExecInput(ctx, node, settings, "/bin/sh", "-c", script); err != nil {
		return nil, err
	}
	return func() error {
		_, err := c.Exec(ctx, node, "/bin/sh", "-c", "rm -rf "+dir+" && systemctl daemon-reload")
		return err
	}, nil
}

// playUnfit takes the holder away and expects that the standby, which is unfit, neither runs the group nor is reset,
// and says why, with the words; made fit again, it takes over. (A watchdog device that is busy cannot be had in a
// container, which has none.)
func playUnfit(ctx context.Context, r *Run, words string, undo func() error) error {
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := r.StayDown(r.Holder, true); err != nil {
		return err
	}
	if err := r.Fault(r.Holder+" loses power", func() error { return r.Crash(ctx, r.Holder) }); err != nil {
		return err
	}
	if err := pause(ctx, takeoverBound(r.Config)+3*time.Second); err != nil {
		return err
	}
	if runs, err := r.Runs(); err != nil || len(runs) > 0 {
		r.Fail("%v run the group, and the standby is unfit (%v)", runs, err)
	}
	if ends := r.Ends(r.Standby()); len(ends) > 0 {
		r.Fail("the unfit standby ended: %v", ends)
	}
	// It may be giving a grant back at this moment; then it says why a little later.
	said := func() error {
		status, _, err := r.Status(ctx, r.Standby())
		why := strings.Join(status.WhyNot, "; ")
		if err != nil || status.State == "held" || !strings.Contains(why, words) {
			return fmt.Errorf("lease %s, why not %q (%v)", status.State, why, err)
		}
		r.Event("%s says: %s", r.Standby(), why)
		return nil
	}
	if err := waitFor(ctx, "the unfit standby to say why", 10*time.Second, said); err != nil {
		r.Fail("%v", err)
	}
	if err := undo(); err != nil {
		return err
	}
	r.Event("%s is fit again", r.Standby())
	r.Takeover(ctx, r.Standby(), 60*time.Second) // it tries again after 5, 10, 20 s
	return nil
}

func playGuardMissing(ctx context.Context, r *Run) error {
	undo, err := r.dropIn(ctx, r.Standby(), guardUnit,
		"[Service]\nExecCondition=\nExecCondition=/usr/sbin/no-such-guard guard --preflight\n"+
			"ExecStart=\nExecStart=/usr/sbin/no-such-guard guard\n")
	if err != nil {
		return err
	}
	return playUnfit(ctx, r, "guard", undo)
}

func playWatchdogMissing(ctx context.Context, r *Run) error {
	const file = "/etc/leasedog/leasedog.toml"
	set := func(from, to string) error {
		_, err := r.Exec(ctx, r.Standby(), "/bin/sh", "-c", fmt.Sprintf(
			`sed -i 's/mode = "%s"/mode = "%s"/' %s && systemctl restart %s`, from, to, file, agentUnit))
		return err
	}
	if err := set("systemd", "required"); err != nil {
		return err
	}
	err := playUnfit(ctx, r, "watchdog", func() error { return set("required", "systemd") })
	return err
}

func playRealtimeForbidden(ctx context.Context, r *Run) error {
	undo, err := r.dropIn(ctx, r.Standby(), guardUnit, "[Service]\nCapabilityBoundingSet=~CAP_SYS_NICE\nLimitRTPRIO=0\n")
	if err != nil {
		return err
	}
	return playUnfit(ctx, r, "real-time", undo)
}

// What the monitor of the clone's instance says, as its exit code.
const (
	unpromoted = "0"
	promoted   = "8"
)

// expectRole waits until a node's instance of the promotable clone has the role, by its agent's own monitor.
func (r *Run) expectRole(ctx context.Context, node, want string) {
	err := waitFor(ctx, fmt.Sprintf("monitor %s of the clone's instance on %s", want, node), 10*time.Second, func() error {
		out, err := r.Exec(ctx, node, "/bin/sh", "-c", "crm_resource --resource state --force-check >/dev/null 2>&1; echo $?")
		if got := strings.TrimSpace(out); err == nil && got != want {
			err = fmt.Errorf("monitor: %s", got)
		}
		return err
	})
	if err != nil {
		r.Fail("%v", err)
	}
}

// playPromotableIsolated: the old holder's instance goes on unpromoted, without a reset, and the peer's is promoted.
func playPromotableIsolated(ctx context.Context, r *Run) error {
	r.expectRole(ctx, r.Holder, promoted)
	if err := playIsolated(ctx, r, false); err != nil {
		return err
	}
	r.expectRole(ctx, r.Holder, unpromoted)
	r.expectRole(ctx, r.Standby(), promoted)
	return nil
}
