package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// agentConfig is the node's configuration.
const agentConfig = "/etc/leasedog/leasedog.toml"

// plannedBound is stop + start + 1 s of the lab's group, whose stop and start take 0.5 s each at most.
const plannedBound = 2 * time.Second

// lifeScenarios are the rows of an ordinary year: restarts, planned stops, resources that fail.
func lifeScenarios() []Scenario {
	lan := lanConfig()
	return []Scenario{
		{Name: "agent-replaced", InTest: true, Config: lan, Bound: noTransition, Run: playAgentReplaced,
			About: "kill -9, restart and reload of the holder's agent: nothing stops, the epoch stays"},
		// Until its reset, F after the last extension, the node may renew a grant that it cannot use.
		{Name: "run-deleted", Config: lan, Bound: 5500*time.Millisecond + takeoverBound(lan),
			About: "the holder's /run/leasedog is emptied, sockets too, and its agent restarted: no new boot id, one copy",
			Run:   func(ctx context.Context, r *Run) error { return playRunDeleted(ctx, r, "*") }},
		{Name: "run-records-deleted", Config: lan, Bound: takeoverBound(lan),
			About: "the same, and the guard's socket stays: what the guard has armed is left in order, without a reset",
			Run:   func(ctx context.Context, r *Run) error { return playRunDeleted(ctx, r, "*.json") }},
		{Name: "bad-config-restart", Config: lan, Bound: noTransition, Run: playBadConfigRestart,
			About: "the holder's agent is restarted with a typo in its configuration: it goes on with the last good one"},
		{Name: "stop-agent", Config: lan, Bound: plannedBound, Run: playStopAgent,
			About: "systemctl stop leasedog on the holder: a planned release, and the peer runs"},
		{Name: "node-standby", InTest: true, Config: lan, Bound: plannedBound, Run: playNodeStandby,
			About: "the holder becomes a standby node of Pacemaker: released, and the peer runs"},
		{Name: "reboot-holder-is-clean", InTest: true, Config: lan, Bound: plannedBound, Run: playRebootHolder,
			About: "systemctl reboot on the holder: stopped and released first, the guard resets nothing"},
		{Name: "stop-pacemaker-on-holder", InTest: true, Config: lan, Bound: plannedBound, Run: playStopPacemaker,
			About: "systemctl stop pacemaker on the holder: released, and the peer runs"},
		{Name: "failed-resource", InTest: true, Config: lan, Bound: failedBound,
			About: "the resource fails on the holder past its migration-threshold: the holder gives up, the peer runs",
			Run:   func(ctx context.Context, r *Run) error { return playFailedResource(ctx, r, false) }},
		{Name: "start-fails-on-holder", InTest: true, Config: lan, Bound: startFailsBound, Run: playStartFails,
			About: "the resource fails on the holder and its start fails again and again, without a migration-threshold"},
		{Name: "failed-on-both", Config: lan, Bound: 120 * time.Second,
			About: "it fails on the peer too: for 60 s the lease moves rarely, and more rarely each time",
			Run:   func(ctx context.Context, r *Run) error { return playFailedResource(ctx, r, true) }},
		{Name: "crm-move", Config: lan, Bound: plannedBound, Run: playMove,
			About: "crm_resource --move, to the peer or away: Pacemaker does not want the group on the holder any more, the peer runs"},
		{Name: "found-active-stop-hangs", Config: lan, Bound: 30 * time.Second, Run: playFoundActive,
			About: "an agent starts, without the arbiter, on a node where somebody started the resource by hand; its stop hangs"},
		{Name: "install-and-remove", Config: lan, Bound: noTransition, Run: playInstall,
			About: "leasedog is removed from a running pair and installed on it again, with a new arbiter: nothing stops"},
	}
}

// giveUpAfter is how long Pacemaker cannot run a resource before its node gives the lease up. monitorEvery is how often the
// canary is looked at, and detection how long Pacemaker takes at most to find that it is dead and to act. failedBound is
// what all that and a planned move allow.
const (
	giveUpAfter  = 5 * time.Second
	monitorEvery = 2 * time.Second
	detection    = monitorEvery + 500*time.Millisecond
	failedBound  = detection + giveUpAfter + plannedBound
	// Pacemaker, which starts it eight times a second, is in the middle of a start when the lease is left, and two seconds
	// late on a busy machine.
	startFailsBound = failedBound + 2*time.Second
)

// nodeStatus is the part of "leasedog status -o json" that is about the node.
type nodeStatus struct {
	Boot     string `json:"boot_mark"`
	Instance string `json:"instance"`
}

// agentOf asks a node's agent who it is.
func (c *Cluster) agentOf(ctx context.Context, node string) (nodeStatus, LeaseStatus, error) {
	l, text, err := c.Status(ctx, node)
	if err != nil {
		return nodeStatus{}, l, err
	}
	var n nodeStatus
	if err := json.Unmarshal([]byte(text), &n); err != nil || n.Boot == "" || n.Instance == "" {
		return n, l, fmt.Errorf("the status of %s names no boot and no instance (%v)", node, err)
	}
	return n, l, nil
}

// systemctl runs a verb of systemctl(1) on a host.
func (c *Cluster) systemctl(ctx context.Context, host string, args ...string) error {
	_, err := c.Exec(ctx, host, append([]string{"systemctl"}, args...)...)
	return err
}

// renewals waits for n renew intervals.
func (r *Run) renewals(ctx context.Context, n int) error {
	return pause(ctx, time.Duration(n)*budgetOf(r.Config.Profile).renew)
}

// expectHeldAs waits until the holder's agent is up, is the old process or a new one as wanted, and holds the epoch.
func (r *Run) expectHeldAs(ctx context.Context, was nodeStatus, epoch uint64, replaced bool) {
	err := waitFor(ctx, "the holder's agent", 5*time.Second, func() error {
		n, l, err := r.agentOf(ctx, r.Holder)
		switch {
		case err != nil:
			return err
		case (n.Instance != was.Instance) != replaced:
			return fmt.Errorf("its instance went from %s to %s", was.Instance, n.Instance)
		case n.Boot != was.Boot:
			return fmt.Errorf("its boot id went from %s to %s", was.Boot, n.Boot)
		case l.State != "held" || l.Epoch != epoch:
			return fmt.Errorf("the lease is %s with epoch %d, it was held with epoch %d", l.State, l.Epoch, epoch)
		}
		return nil
	})
	if err != nil {
		r.Fail("%v", err)
	}
}

// outlastGuard waits for longer than a guard that nobody extends would.
func (r *Run) outlastGuard(ctx context.Context) error {
	b := budgetOf(r.Config.Profile)
	return pause(ctx, b.hold-b.loss+time.Second)
}

// expectJournal fails unless a unit said all the words since the run began, in one line.
func (r *Run) expectJournal(ctx context.Context, host, unit string, words ...string) {
	err := waitFor(ctx, fmt.Sprintf("%s of %s to say %q", unit, host, words), 10*time.Second, func() error {
		text, err := r.Journal(ctx, host, r.Start, unit)
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return nil
			}
		}
		return errors.New("no line has it")
	})
	if err != nil {
		r.Fail("%v", err)
	}
}

// playAgentReplaced replaces the agent in every way. At the end it waits for longer than a guard that is not extended.
func playAgentReplaced(ctx context.Context, r *Run) error {
	was, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what     string
		do       func() error
		replaced bool
	}{
		{"kill -9 the agent", func() error { return r.Kill(r.Holder, "agent") }, true},
		{"restart the agent", func() error { return r.systemctl(ctx, r.Holder, "restart", agentUnit) }, true},
		{"reload the agent", func() error { return r.systemctl(ctx, r.Holder, "reload", agentUnit) }, false},
	} {
		if err := errors.Join(r.renewals(ctx, 2), r.Phase(ctx)); err != nil {
			return err
		}
		if err := r.Fault(step.what, step.do); err != nil {
			return err
		}
		r.expectHeldAs(ctx, was, lease.Epoch, step.replaced)
		if was, _, err = r.agentOf(ctx, r.Holder); err != nil {
			return err
		}
	}
	r.expectJournal(ctx, r.Holder, agentUnit, "adopted from an earlier agent")
	r.expectJournal(ctx, r.Holder, agentUnit, "configuration read again")
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, false)
	r.expectStays()
	r.expectNoReset()
	return nil
}

// playRunDeleted: what /run knew is gone. What must not happen is a new boot id, which would be a proof of death. When the
// guard's socket goes too nobody reaches the guard any more, and it resets the node.
func playRunDeleted(ctx context.Context, r *Run, files string) error {
	was, _, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	err = r.Fault("delete /run/leasedog/"+files+" and restart the agent", func() error {
		_, err := r.Exec(ctx, r.Holder, "/bin/sh", "-c", "rm -f /run/leasedog/"+files+" && systemctl restart "+agentUnit)
		return err
	})
	if err != nil {
		return err
	}
	spoke, last := false, ""
	for Now().Sub(r.At) < takeoverBound(r.Config)+3*time.Second {
		n, l, err := r.agentOf(ctx, r.Holder)
		if err == nil && len(r.Ends(r.Holder)) == 0 {
			spoke = true
			if n.Boot != was.Boot {
				r.Fail("the boot id went from %s to %s within one boot", was.Boot, n.Boot)
				return nil
			}
			if now := fmt.Sprintf("%s epoch %d", l.State, l.Epoch); now != last {
				last = now
				r.Event("%s: %s", r.Holder, now)
			}
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	if !spoke {
		r.Fail("the restarted agent never spoke")
	}
	if files != "*" {
		r.expectNoReset()
		return nil
	}
	for _, end := range r.Ends(r.Holder) {
		why, err := r.Why(ctx, r.Holder)
		r.Event("%s: %s; it says %q (%v)", r.Holder, end.What, why, err)
	}
	return nil
}

// playBadConfigRestart: the journal names the file to mend.
func playBadConfigRestart(ctx context.Context, r *Run) (err error) {
	was, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.renewals(ctx, 2); err != nil {
		return err
	}
	spoil := fmt.Sprintf("cp -p %[1]s %[1]s.lab && sed -i 's/^profile/profil/' %[1]s && systemctl restart %[2]s", agentConfig, agentUnit)
	mend := fmt.Sprintf("mv %[1]s.lab %[1]s && systemctl restart %[2]s", agentConfig, agentUnit)
	defer func() {
		_, undo := r.Exec(ctx, r.Holder, "/bin/sh", "-c", mend)
		err = errors.Join(err, undo, r.renewals(ctx, 2))
		r.expectStays()
		r.expectNoReset()
	}()
	if err := r.Fault("restart the agent with a typo in its configuration", func() error {
		_, err := r.Exec(ctx, r.Holder, "/bin/sh", "-c", spoil)
		return err
	}); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, true)
	r.expectJournal(ctx, r.Holder, agentUnit, "configuration is refused", "Mend "+agentConfig)
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	if was, _, err = r.agentOf(ctx, r.Holder); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, false)
	return nil
}

// expectPlanned waits for the peer, and then for longer than a guard that nobody disarmed. As with a switchover, what counts
// is the gap, which begins when the group stops; from the command on it may be a second more.
func (r *Run) expectPlanned(ctx context.Context) error {
	r.expectTakeoverWithin(ctx, plannedBound+time.Second)
	return r.outlastGuard(ctx)
}

func playStopAgent(ctx context.Context, r *Run) (err error) {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.systemctl(ctx, r.Holder, "start", agentUnit)) }()
	err = r.Fault("systemctl stop leasedog", func() error { return r.systemctl(ctx, r.Holder, "stop", agentUnit) })
	if err != nil {
		return err
	}
	if err := r.expectPlanned(ctx); err != nil {
		return err
	}
	r.expectJournal(ctx, r.Holder, agentUnit, "every lease was left")
	if err := r.systemctl(ctx, r.Holder, "is-active", "--quiet", guardUnit); err == nil {
		r.Fail("the guard still runs on %s, which holds nothing", r.Holder)
	}
	r.expectNoReset()
	return nil
}

func playNodeStandby(ctx context.Context, r *Run) (err error) {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	defer func() {
		_, undo := r.Exec(ctx, r.Standby(), "crm_standby", "-N", r.Holder, "-D")
		err = errors.Join(err, undo)
	}()
	err = r.Fault("standby of "+r.Holder, func() error {
		_, err := r.Exec(ctx, r.Holder, "crm_standby", "-N", r.Holder, "-v", "on")
		return err
	})
	if err != nil {
		return err
	}
	if err := r.expectPlanned(ctx); err != nil {
		return err
	}
	l, _, err := r.Status(ctx, r.Holder)
	if why := strings.Join(l.WhyNot, "; "); err != nil || l.State != "standby" || !strings.Contains(why, "standby") {
		r.Fail("the lease on %s is %s, why not %q (%v)", r.Holder, l.State, why, err)
	}
	r.expectNoReset()
	return nil
}

// playRebootHolder: a reboot ends a container as a reset does, so the reason is looked for in the records and journals.
func playRebootHolder(ctx context.Context, r *Run) error {
	before, _, err := r.Status(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	err = r.Fault("systemctl reboot", func() error { return r.systemctl(ctx, r.Holder, "reboot") })
	if err != nil {
		return err
	}
	r.expectTakeoverWithin(ctx, plannedBound+time.Second)
	if err := waitFor(ctx, r.Holder+" to go down", 60*time.Second, func() error {
		if len(r.Ends(r.Holder)) == 0 {
			return errors.New("it is up")
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.awaitStandby(ctx, r.Holder); err != nil {
		return err
	}
	if ends := r.Ends(r.Holder); len(ends) != 1 {
		r.Fail("%s ended more than once: %v", r.Holder, ends)
	}
	r.expectJournal(ctx, r.Holder, agentUnit, "every lease was left")
	// A record that was left open says that the node went down under an armed guard.
	if stages, err := r.causes(ctx, r.Holder, before.Epoch); err != nil || !slices.Equal(stages, []string{"closed"}) {
		r.Fail("the guard's record of epoch %d after a clean reboot: %v (%v)", before.Epoch, stages, err)
	}
	return nil
}

// causes returns how the records of resets that a node keeps of an epoch stand.
func (c *Cluster) causes(ctx context.Context, node string, epoch uint64) (stages []string, err error) {
	out, err := c.Exec(ctx, node, "leasedog", "why", "-o", "json")
	if err != nil {
		return nil, err
	}
	var why struct {
		Records []struct {
			Epoch uint64 `json:"epoch"`
			Stage string `json:"stage"`
		} `json:"records"`
	}
	if err := json.Unmarshal([]byte(out), &why); err != nil {
		return nil, fmt.Errorf("read leasedog why: %w", err)
	}
	for _, r := range why.Records {
		if r.Epoch == epoch {
			stages = append(stages, r.Stage)
		}
	}
	return stages, nil
}

// playFoundActive: nobody holds the lease, so that the node must not run the resource, and it cannot stop it.
func playFoundActive(ctx context.Context, r *Run) error {
	at := func(verb string, nodes ...string) error {
		var errs []error
		for _, node := range nodes {
			errs = append(errs, r.systemctl(ctx, node, verb, agentUnit))
		}
		return errors.Join(errs...)
	}
	if err := r.Fault("stop both agents", func() error { return at("stop", r.Standby(), r.Holder) }); err != nil {
		return err
	}
	if err := r.Steer(r.Holder, StopHang, ""); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"cut the arbiter", func() error { return r.Cut(ctx, Cut{Link: r.Holder + "-arbiter", Way: BothWays}) }},
		{"start the resource by hand", func() error {
			_, err := r.Exec(ctx, r.Holder, "crm_resource", "--force-start", "-r", "canary")
			return err
		}},
		{"start the agent", func() error { return at("start", r.Holder) }},
	} {
		if err := r.step(step.what, step.do); err != nil {
			return err
		}
	}
	if err := waitFor(ctx, r.Holder+" to be reset", 30*time.Second, func() error {
		if len(r.Ends(r.Holder)) == 0 {
			return errors.New("it is up")
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.awaitBoot(ctx, r.Holder); err != nil {
		return err
	}
	r.expectGuardReset(ctx)
	if err := errors.Join(r.Heal(ctx), at("start", r.Standby())); err != nil {
		return err
	}
	return r.WaitSettled(ctx)
}

func playStopPacemaker(ctx context.Context, r *Run) (err error) {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.systemctl(ctx, r.Holder, "start", pacemakerUnit)) }()
	err = r.Fault("systemctl stop pacemaker", func() error { return r.systemctl(ctx, r.Holder, "stop", pacemakerUnit) })
	if err != nil {
		return err
	}
	if err := r.expectPlanned(ctx); err != nil {
		return err
	}
	l, _, err := r.Status(ctx, r.Holder)
	if err != nil || l.State == "held" || l.State == "leaving" {
		r.Fail("the lease on %s, which has no Pacemaker, is %s (%v)", r.Holder, l.State, err)
	}
	r.expectNoReset()
	return nil
}

// forgetStandBack restarts both agents, so that the rows that follow do not meet a node which stands back.
func (r *Run) forgetStandBack(ctx context.Context) error {
	return errors.Join(r.systemctl(ctx, Node1, "restart", agentUnit), r.systemctl(ctx, Node2, "restart", agentUnit))
}

// killCanary ends the resource's process; its monitor finds that within monitorEvery.
func (r *Run) killCanary(node string) error {
	return r.Fault("kill the resource on "+node, func() error { return r.Kill(node, "lab") })
}

// playFailedResource: a failed resource is not tried again on its node. With onBoth it then fails on the peer.
func playFailedResource(ctx context.Context, r *Run, onBoth bool) (err error) {
	threshold := func(args ...string) error {
		_, err := r.Exec(ctx, r.Standby(), append([]string{"crm_resource", "--resource", "canary", "--meta"}, args...)...)
		return err
	}
	defer func() {
		err = errors.Join(err, threshold("--delete-parameter", "migration-threshold"), r.forgetStandBack(ctx))
	}()
	if err := threshold("--set-parameter", "migration-threshold", "--parameter-value", "1"); err != nil {
		return err
	}
	if err := errors.Join(r.renewals(ctx, 2), r.Phase(ctx)); err != nil {
		return err
	}
	if err := r.killCanary(r.Holder); err != nil {
		return err
	}
	r.expectTakeoverWithin(ctx, failedBound)
	if onBoth {
		if err := r.failsThereToo(ctx); err != nil {
			return err
		}
	} else if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectNoReset()
	return nil
}

// failsThereToo lets the resource fail on the peer, which took it over, and watches the lease for 60 s.
func (r *Run) failsThereToo(ctx context.Context) error {
	if err := r.killCanary(r.Standby()); err != nil {
		return err
	}
	_, before, err := r.arbiterSays(ctx)
	if err != nil {
		return err
	}
	began, epoch := Now(), before.Epoch
	var moves []Monotonic
	for Now().Sub(began) < time.Minute {
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
		_, l, err := r.arbiterSays(ctx)
		if err != nil {
			return err
		}
		if l.Epoch != epoch {
			epoch = l.Epoch
			moves = append(moves, Now())
			r.Event("epoch %d is granted to %s", l.Epoch, l.Holder)
		}
	}
	n := len(moves)
	if n > 5 {
		r.Fail("the lease moved %d times within a minute", n)
	}
	if n > 2 && moves[n-1].Sub(moves[n-2]) < moves[1].Sub(moves[0]) {
		r.Fail("the moves come faster, not slower: %v", moves)
	}
	return nil
}

// playStartFails: start-failure-is-fatal is false, and nothing limits how often Pacemaker tries.
func playStartFails(ctx context.Context, r *Run) (err error) {
	defer func() { err = errors.Join(err, r.forgetStandBack(ctx)) }()
	if err := r.Steer(r.Holder, StartFail, ""); err != nil {
		return err
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.killCanary(r.Holder); err != nil {
		return err
	}
	r.expectTakeoverWithin(ctx, startFailsBound)
	r.expectNoReset()
	return r.outlastGuard(ctx)
}

// playMove moves the group as administrators do: by a preference for the peer, or by a ban on the node where it runs.
func playMove(ctx context.Context, r *Run) (err error) {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	defer func() {
		_, undo := r.Exec(ctx, r.Standby(), "crm_resource", "--resource", "g-app", "--clear")
		err = errors.Join(err, undo, r.forgetStandBack(ctx))
	}()
	argv := []string{"crm_resource", "--resource", "g-app", "--move"}
	if r.Random.IntN(2) == 0 {
		argv = append(argv, "--node", r.Standby())
	}
	err = r.Fault(strings.Join(argv, " "), func() error {
		_, err := r.Exec(ctx, r.Holder, argv...)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.expectPlanned(ctx); err != nil {
		return err
	}
	r.expectNoReset()
	return nil
}

// playInstall goes from a guarded pair to a plain one and back, in the order of the README, and never asks the group to stop.
func playInstall(ctx context.Context, r *Run) error {
	onBoth := func(script string) error {
		var errs []error
		for _, node := range Nodes() {
			_, err := r.Exec(ctx, node, "/bin/sh", "-ec", script)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	apply := func() error { return r.applyConstraints(ctx) }
	steps := []struct {
		what string
		do   func() error
	}{
		{"remove the rules", func() error {
			_, err := r.Exec(ctx, Node1, "leasedog", "constraints", "all", "--remove", "--yes")
			return err
		}},
		{"stop the agents", func() error { return onBoth("systemctl disable --now " + agentUnit) }},
		// As on nodes, and an arbiter, that never had it.
		{"forget everything", func() error {
			return errors.Join(onBoth("rm -f /var/lib/leasedog/* /run/leasedog/*"), r.withArbiterStopped(ctx, "rm "+storeFile))
		}},
		{"wait for longer than a guard that was left armed", func() error { return r.outlastGuard(ctx) }},
		{"apply the rules too early", func() error {
			if err := apply(); err == nil || !strings.Contains(err.Error(), "does not hold lease") {
				r.Fail("constraints --apply was not refused while nobody holds the lease: %v", err)
			}
			return nil
		}},
		{"start the agents", func() error { return onBoth("systemctl enable --now " + agentUnit) }},
		{"wait for the lease", func() error {
			return waitFor(ctx, r.Holder+" to hold the lease", 60*time.Second, func() error {
				l, _, err := r.Status(ctx, r.Holder)
				if err == nil && l.State != "held" {
					err = fmt.Errorf("it is %s %q", l.State, l.WhyNot)
				}
				return err
			})
		}},
		{"apply the rules", apply},
	}
	for _, step := range steps {
		if err := r.Fault(step.what, step.do); err != nil {
			return err
		}
	}
	if err := r.WaitSettled(ctx); err != nil {
		return err
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}
