package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// orderScenarios are orders of events that broke earlier designs. Two of them are rows of faults.go under other names:
// "promoted lost, no reset" is promotable-isolated, "the guard's start fails, no reboot" is guard-missing.
func orderScenarios() []Scenario {
	lan, withService := lanConfig(), lanConfig()
	withService.Systemd = true
	fast := Config{Stack: StackLeasedog, Profile: "fast", Token: 500 * time.Millisecond}
	standard := Config{Stack: StackLeasedog, Profile: "standard", Token: time.Second}
	bound := takeoverBound(lan)
	const moving = 5 * time.Second // what a move takes until the fault comes
	return []Scenario{
		{Name: "lose-during-slow-start", Config: lan, Bound: moving + bound, Run: playLoseDuringSlowStart,
			About: "a node is isolated while its start of the resource is under way: the start never completes"},
		{Name: "execd-stopped-with-queued-start", Config: lan, Bound: moving + bound, Run: playQueuedStart,
			About: "a node is isolated while a start waits in its frozen executor, which thaws later"},
		{Name: "freeze-based-cut-arbiter-thaw", Config: lan, Bound: bound, Run: playFrozenBase,
			About: "the holder's CIB manager is frozen, the arbiter is cut off, and the daemon thaws at some moment"},
		{Name: "attrd-frozen-put-then-delete", Config: lan, Bound: moving + bound, Run: playFrozenAttrd,
			About: "a win's attribute waits in a frozen attrd, the lease is lost, and attrd thaws at some moment"},
		{Name: "enabled-unit-boot", Config: withService, Bound: 90 * time.Second, Run: playEnabledUnit,
			About: "a guarded unit starts at boot on the standby: it gets no lease, is not reset, and says why"},
		// After the last resort 0.7 s are left for the proof, which a machine with two busy pairs may need for one attempt.
		{Name: "isolate-holder-with-stonith-no-reset", Alone: true, Config: lan, Bound: 3 * time.Minute, Run: playStonith,
			About: "fencing is configured and fails; the holder is isolated: it stops, proven, without a reset"},
		{Name: "lose-while-unguarded-start-60s", Config: lan, Bound: 60*time.Second + bound, Run: playUnguardedStart,
			About: "the holder loses the arbiter while an unguarded start of 60 s keeps Pacemaker busy: no reset"},
		{Name: "kill9-pacemakerd-is-not-stopped", Config: lan, Bound: bound, Run: playPacemakerdKilled,
			About: "kill -9 of pacemakerd alone, with the CIB manager frozen: that is no stopped Pacemaker; isolated, the holder is reset"},
		{Name: "software-missing-on-peer", Config: lan, Bound: 90 * time.Second, Run: playSoftwareMissing,
			About: "the monitor on the standby says 5 (not installed): it gets no lease, is not reset, and says why"},
		{Name: "switchover-slow-stop-fast", Alone: true, Config: fast, Bound: 7 * time.Second,
			About: "a planned move whose stop takes 5 s, profile fast, token 500",
			Run:   func(ctx context.Context, r *Run) error { return playSwitchover(ctx, r, 5) }},
		{Name: "profile-changed", Config: standard, Bound: takeoverBound(standard) + 2*time.Second, Run: playProfileChanged,
			About: "from profile standard to fast while holding; answers are lost and the holder dies: the old hold is waited out"},
	}
}

// moveTo asks for a switchover to the standby and returns when that node holds at the arbiter.
func (r *Run) moveTo(ctx context.Context, node string) error {
	return r.step("switchover to "+node, func() error {
		if _, err := r.Exec(ctx, Peer(node), "leasedog", "switchover", leaseName, "--to", node, "--yes"); err != nil {
			return err
		}
		return waitFor(ctx, node+" to hold at the arbiter", 20*time.Second, func() error {
			_, l, err := r.arbiterSays(ctx)
			if err == nil && l.Holder != node {
				err = fmt.Errorf("%s holds (%s)", l.Holder, l.State)
			}
			return err
		})
	})
}

// someTime waits for a random time up to most.
func (r *Run) someTime(ctx context.Context, most time.Duration) error {
	return pause(ctx, time.Duration(r.Random.Int64N(int64(most))))
}

// expectBack waits until the old holder runs the group again, and expects that the new one never did.
func (r *Run) expectBack(ctx context.Context) {
	if took := r.Takeover(ctx, r.Holder, takeoverBound(r.Config)+30*time.Second); took > takeoverBound(r.Config) {
		r.Fail("%s runs the group again after %.2f s, allowed are %.2f s", r.Holder, took.Seconds(), takeoverBound(r.Config).Seconds())
	}
}

func (r *Run) expectNeverRan(node string) {
	beats, err := r.Beats(node, r.Start)
	if err != nil || len(beats) > 0 {
		r.Fail("the group ran on %s (%d beats) %v", node, len(beats), err)
	}
}

// revive heals all links and brings a node back that the last resort before a reset left without a controller, which
// pacemakerd starts again only sometimes.
func (r *Run) revive(ctx context.Context, node string) error {
	if err := errors.Join(r.Thaw(), r.Heal(ctx)); err != nil {
		return err
	}
	err := waitFor(ctx, node+" to join again", 20*time.Second, func() error {
		found, err := r.Find(node, "pacemaker-controld")
		if err == nil && len(found) == 0 {
			err = errors.New("it has no controller")
		}
		return errors.Join(err, r.together(ctx))
	})
	if err == nil {
		return nil
	}
	r.Event("%s is started anew: %v", node, err)
	return r.Crash(ctx, node)
}

func playLoseDuringSlowStart(ctx context.Context, r *Run) error {
	node := r.Standby()
	if err := r.Steer(node, StartDelay, "8"); err != nil {
		return err
	}
	if err := r.moveTo(ctx, node); err != nil {
		return err
	}
	if err := waitFor(ctx, "the start to be under way", 5*time.Second, func() error {
		_, err := r.Exec(ctx, node, "pgrep", "-f", "lab/canary start")
		return err
	}); err != nil {
		return err
	}
	if err := r.someTime(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	if err := r.CutOff(ctx, node); err != nil {
		return err
	}
	r.expectBack(ctx)
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	r.expectNeverRan(node)
	return r.revive(ctx, node)
}

func playQueuedStart(ctx context.Context, r *Run) error {
	node := r.Standby()
	if err := r.Freeze(node, "pacemaker-execd"); err != nil {
		return err
	}
	if err := r.moveTo(ctx, node); err != nil {
		return err
	}
	if err := waitFor(ctx, "the gate to open", 5*time.Second, func() error {
		l, _, err := r.Status(ctx, node)
		if err == nil && l.State != "held" {
			err = errors.New(l.State)
		}
		return err
	}); err != nil {
		return err
	}
	if err := r.someTime(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := r.CutOff(ctx, node); err != nil {
		return err
	}
	r.expectBack(ctx)
	if err := r.Thaw(); err != nil {
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	r.expectNeverRan(node)
	return r.revive(ctx, node)
}

// thawMeanwhile thaws everything at a random moment between least and most from now; the function that it returns waits
// for that.
func (r *Run) thawMeanwhile(ctx context.Context, least, most time.Duration) (wait func() error) {
	done := make(chan error, 1)
	after := least + time.Duration(r.Random.Int64N(int64(most-least)))
	go func() {
		err := pause(ctx, after)
		if err == nil {
			err = r.Thaw()
			r.Event("thawed")
		}
		done <- err
	}()
	return func() error { return <-done }
}

func playFrozenBase(ctx context.Context, r *Run) error {
	if err := r.Freeze(r.Holder, "pacemaker-based"); err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder+"-arbiter"); err != nil {
		return err
	}
	thawed := r.thawMeanwhile(ctx, 0, 8*time.Second)
	r.expectTakeover(ctx)
	if err := errors.Join(thawed(), pause(ctx, 5*time.Second)); err != nil {
		return err
	}
	return r.revive(ctx, r.Holder)
}

// playFrozenAttrd: the guard takes a second to start, so that attrd freezes between the grant and the put. It cannot be
// frozen before: the old holder's own delete may need it.
func playFrozenAttrd(ctx context.Context, r *Run) (err error) {
	node := r.Standby()
	undo, err := r.dropIn(ctx, node, guardUnit, "[Service]\nExecStartPre=/bin/sleep 1\n")
	if err != nil {
		return err
	}
	if err := r.moveTo(ctx, node); err != nil {
		return err
	}
	if err := r.step("freeze attrd on "+node, func() error { return r.Freeze(node, "pacemaker-attrd") }); err != nil {
		return err
	}
	if l, _, err := r.Status(ctx, node); err != nil || l.State != "acquiring" {
		return fmt.Errorf("the attribute was put before attrd froze: %s (%w)", l.State, err)
	}
	if err := errors.Join(r.renewals(ctx, 2), r.someTime(ctx, 2*time.Second)); err != nil {
		return err
	}
	// Should it be reset, its joining again would hold up the start on the other node.
	if err := r.StayDown(node, true); err != nil {
		return err
	}
	if err := r.CutOff(ctx, node+"-arbiter"); err != nil {
		return err
	}
	// Before the loss the node would be right to run the group for as long as its lease lasts.
	thawed := r.thawMeanwhile(ctx, budgetOf(r.Config.Profile).loss, 8*time.Second)
	r.expectBack(ctx)
	if err := errors.Join(thawed(), pause(ctx, 5*time.Second), r.StayDown(node, false), r.awaitBoot(ctx, node)); err != nil {
		return err
	}
	r.expectNeverRan(node)
	return errors.Join(r.revive(ctx, node), undo())
}

func playEnabledUnit(ctx context.Context, r *Run) error {
	const wants = "/etc/systemd/system/multi-user.target.wants/lab-slow.service"
	if _, err := r.Exec(ctx, r.Standby(), "systemctl", "add-wants", "multi-user.target", "lab-slow.service"); err != nil {
		return err
	}
	return playUnfit(ctx, r, "starts at boot", func() error {
		_, err := r.Exec(ctx, r.Standby(), "/bin/sh", "-c", "rm "+wants+" && systemctl daemon-reload")
		return err
	})
}

func playSoftwareMissing(ctx context.Context, r *Run) error {
	if err := r.Steer(r.Standby(), NotInstalled, ""); err != nil {
		return err
	}
	return playUnfit(ctx, r, "not proven stopped", func() error { return r.Unsteer(ctx) })
}

// addResource writes a primitive into the configuration, and the function that it returns takes it away again.
func (c *Cluster) addResource(ctx context.Context, id, xml string) (remove func() error, err error) {
	if _, err := c.ExecInput(ctx, Node1, xml, "cibadmin", "--create", "-o", "resources", "--xml-pipe"); err != nil {
		return nil, err
	}
	return func() error {
		_, err := c.Exec(ctx, Node1, "cibadmin", "--delete", "-o", "resources", "--xml-text", fmt.Sprintf(`<primitive id=%q/>`, id))
		return err
	}, nil
}

// playStonith: the isolated holder's half fences, and fails, again and again, so its coordinator is never idle. The peer's
// half waits for a fencing that never succeeds: nobody runs the group until the links are back.
func playStonith(ctx context.Context, r *Run) (err error) {
	remove, err := r.addResource(ctx, "fence", `<primitive id="fence" class="stonith" type="fence_lab">`+
		`<operations><op id="fence-monitor" name="monitor" interval="60s" timeout="20s"/></operations></primitive>`)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, r.revive(ctx, r.Holder), waitFor(ctx, "the pair to form", joinLimit, func() error { return r.together(ctx) }),
			r.setOptions(ctx, map[string]string{"stonith-enabled": "false"}), remove())
	}()
	if err := r.setOptions(ctx, map[string]string{"stonith-enabled": "true"}); err != nil {
		return err
	}
	if err := r.WaitSettled(ctx); err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	if err := pause(ctx, 12*time.Second); err != nil {
		return err
	}
	r.expectNoReset()
	if runs, err := r.Runs(); err != nil || len(runs) > 0 && runs[0] == r.Holder {
		r.Fail("%v run the group (%v)", runs, err)
	}
	l, _, err := r.Status(ctx, r.Holder)
	if err != nil || l.State != "standby" && l.State != "acquiring" {
		r.Fail("the lease on the isolated holder is %s (%v)", l.State, err)
	}
	return nil
}

// playUnguardedStart: a policy engine that waits for a slow start elsewhere does not stop the group.
func playUnguardedStart(ctx context.Context, r *Run) (err error) {
	remove, err := r.addResource(ctx, "unguarded", `<primitive id="unguarded" class="ocf" provider="heartbeat" type="Delay">`+
		`<instance_attributes id="unguarded-params"><nvpair id="unguarded-start" name="startdelay" value="60"/>`+
		`<nvpair id="unguarded-stop" name="stopdelay" value="0"/><nvpair id="unguarded-mon" name="mondelay" value="0"/>`+
		`</instance_attributes><operations><op id="unguarded-start-op" name="start" interval="0" timeout="90s"/></operations></primitive>`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.revive(ctx, r.Holder), remove()) }()
	if err := waitFor(ctx, "the unguarded start to be under way", 20*time.Second, func() error {
		for _, node := range Nodes() {
			if _, err := r.Exec(ctx, node, "pgrep", "-f", "heartbeat/Delay start"); err == nil {
				r.Event("the unguarded start is under way on %s", node)
				return nil
			}
		}
		return errors.New("no such process")
	}); err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder+"-arbiter"); err != nil {
		return err
	}
	r.Takeover(ctx, r.Standby(), 60*time.Second+takeoverBound(r.Config))
	r.expectNoReset()
	return nil
}

// playPacemakerdKilled: the other daemons live, and one of them is frozen and thaws later. Who takes this for a stopped
// Pacemaker believes that the attribute is gone.
func playPacemakerdKilled(ctx context.Context, r *Run) error {
	// Its unit would start it again within a second. A reset takes this away.
	if _, err := r.dropIn(ctx, r.Holder, pacemakerUnit, "[Service]\nRestart=no\n"); err != nil {
		return err
	}
	if err := r.step("kill -9 pacemakerd", func() error { return r.Kill(r.Holder, "pacemakerd") }); err != nil {
		return err
	}
	// Longer than a look and a give-up: it must not be one.
	if err := r.expectGoesOn(ctx, r.Holder, 12*time.Second); err != nil {
		return err
	}
	if l, _, err := r.Status(ctx, r.Holder); err != nil || l.State != "held" {
		r.Fail("the lease on %s is %s (%v)", r.Holder, l.State, err)
	}
	if err := r.Freeze(r.Holder, "pacemaker-based"); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	r.expectTakeover(ctx)
	if err := errors.Join(r.Thaw(), pause(ctx, 5*time.Second), r.awaitBoot(ctx, r.Holder)); err != nil {
		return err
	}
	r.expectGuardReset(ctx)
	return r.revive(ctx, r.Holder)
}

// setProfile changes a node's configuration and restarts its agent.
func (c *Cluster) setProfile(ctx context.Context, node, profile string) error {
	_, err := c.Exec(ctx, node, "/bin/sh", "-ec", fmt.Sprintf(`sed -i 's/^profile = .*/profile = "%s"/' %s; systemctl restart %s`,
		profile, agentConfig, agentUnit))
	return err
}

func playProfileChanged(ctx context.Context, r *Run) (err error) {
	was, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, r.Heal(ctx))
		for _, node := range Nodes() {
			err = errors.Join(err, r.StayDown(node, false), waitFor(ctx, node+" to boot", time.Minute, func() error {
				return r.setProfile(ctx, node, r.Config.Profile)
			}))
		}
		// The lease that is held now was granted with the fast one.
		err = errors.Join(err, r.WaitSettled(ctx), r.moveTo(ctx, r.Holder))
	}()
	for _, node := range []string{r.Standby(), r.Holder} {
		if err := r.step("profile fast on "+node, func() error { return r.setProfile(ctx, node, "fast") }); err != nil {
			return err
		}
	}
	r.expectHeldAs(ctx, was, lease.Epoch, true)
	if err := r.StayDown(r.Holder, true); err != nil {
		return err
	}
	if err := errors.Join(r.renewals(ctx, 2), r.Phase(ctx)); err != nil {
		return err
	}
	cut := Cut{Link: r.Holder + "-arbiter", Way: In}
	if err := r.Fault("cut "+cut.String(), func() error { return r.Cut(ctx, cut) }); err != nil {
		return err
	}
	if err := r.someTime(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := r.step(r.Holder+" loses power", func() error { return r.Crash(ctx, r.Holder) }); err != nil {
		return err
	}
	r.expectTakeoverWithin(ctx, takeoverBound(r.Config)+2*time.Second)
	if took, hold := Now().Sub(r.At), budgetOf(r.Config.Profile).hold; took < hold-budgetOf(r.Config.Profile).renew {
		r.Fail("%s took over after %.2f s: the hold of the old profile, %.2f s, was not waited out", r.Standby(), took.Seconds(), hold.Seconds())
	}
	out, err := r.Exec(ctx, r.Standby(), "leasedog", "status", "-o", "json")
	if err != nil || !strings.Contains(out, `"fast"`) {
		r.Fail("%s does not hold with profile fast: %v", r.Standby(), err)
	}
	return nil
}
