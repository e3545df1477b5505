package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ruleID is the constraint of the lab's lease.
const ruleID = "leasedog-" + leaseName + "-g-app"

// habitScenarios are what administrators do with pcs, crmsh and systemctl without thinking of leasedog.
func habitScenarios() []Scenario {
	lan := lanConfig()
	again := 10*time.Second + plannedBound // the next look at the attribute, then stop and start
	return []Scenario{
		{Name: "habit-standby", Config: lan, Bound: plannedBound, Run: playHabitStandby,
			About: "pcs node standby on the holder, then crm node standby on the next one: each time released, and the peer runs"},
		{Name: "habit-standby-both", Config: lan, Bound: 60 * time.Second, Run: playStandbyBoth,
			About: "the standby, then the holder become standby nodes: stopped, the lease stays, status says why and what comes; back online it runs"},
		{Name: "habit-cluster-stop", Config: lan, Bound: plannedBound, Run: playClusterStop,
			About: "pcs cluster stop on the holder: released first, and the peer runs; pcs cluster start: back as standby"},
		{Name: "habit-move", Config: lan, Bound: plannedBound, Run: playHabitMove,
			About: "pcs resource move is refused by pcs, and nothing moves; crm's and pcs' move-with-constraint do; a clear changes nothing"},
		{Name: "habit-disable", Config: lan, Bound: 20 * time.Second, Run: playDisable,
			About: "pcs resource disable: stopped everywhere, the lease stays, status says why; crm resource start: it runs where it ran"},
		{Name: "habit-cleanup", Config: lan, Bound: noTransition, Run: playCleanup,
			About: "pcs resource cleanup and refresh, crm resource cleanup and refresh: nothing moves"},
		{Name: "habit-daemon-reexec", Config: lan, Bound: noTransition, Run: playReexec,
			About: "systemctl daemon-reexec and daemon-reload on both nodes: nothing moves"},
		{Name: "habit-attrd-crash", Config: lan, Bound: again,
			About: "kill -9 of the holder's pacemaker-attrd: the attribute is put again, the lease stays",
			Run:   func(ctx context.Context, r *Run) error { return playDaemonCrash(ctx, r, "pacemaker-attrd") }},
		{Name: "habit-controld-crash", Config: lan, Bound: again,
			About: "kill -9 of the holder's pacemaker-controld: the attribute is put again, the lease stays",
			Run:   func(ctx context.Context, r *Run) error { return playDaemonCrash(ctx, r, "pacemaker-controld") }},
		{Name: "habit-standby-crash", Config: lan, Bound: noTransition, Run: playStandbyCrash,
			About: "kill -9 of the standby's pacemaker-attrd, then of its pacemaker-controld: nothing moves"},
		{Name: "habit-standby-reboot", Config: lan, Bound: noTransition, Run: playStandbyReboot,
			About: "systemctl reboot on the standby: nothing moves, nothing was reset, it comes back as standby"},
		{Name: "habit-rule", Config: lan, Bound: noTransition, Run: playHabitRule,
			About: "the rule is deleted with pcs, then weakened: an alarm on both nodes and at the arbiter, the standby does not compete, nothing moves"},
		{Name: "habit-renamed-group", Config: lan, Bound: noTransition, Run: playRenamedGroup,
			About: "crm configure rename of the running group: an alarm on both nodes and at the arbiter, the standby does not compete, nothing moves"},
	}
}

// on runs a command on a node.
func (r *Run) on(ctx context.Context, node string, argv ...string) error {
	_, err := r.Exec(ctx, node, argv...)
	return err
}

// expectMoved is expectPlanned for a command that takes its own time: pcs and crmsh need a second or two before they act.
func (r *Run) expectMoved(ctx context.Context) error {
	r.expectTakeoverWithin(ctx, 20*time.Second)
	return r.outlastGuard(ctx)
}

// runsNow waits until the group runs on a node and its canary lives.
func (r *Run) runsNow(ctx context.Context, node string) error {
	from := Now()
	return waitFor(ctx, node+" to run the group", 30*time.Second, func() error {
		beats, err := r.Beats(node, from)
		if err == nil && len(beats) == 0 {
			err = errors.New("its canary is silent")
		}
		return err
	})
}

// expectAlarm waits until both agents and the arbiter say the words, or say nothing of them any more.
func (r *Run) expectAlarm(ctx context.Context, words string, there bool) {
	says := func(host string, argv ...string) error {
		return waitFor(ctx, fmt.Sprintf("%s to say %q: %v", host, words, there), 90*time.Second, func() error {
			text, err := r.Exec(ctx, host, argv...)
			if err == nil && strings.Contains(text, words) != there {
				err = errors.New(text)
			}
			return err
		})
	}
	r.Event("alarm %q expected: %v", words, there)
	for _, node := range Nodes() {
		if err := says(node, "leasedog", "status"); err != nil {
			r.Fail("%v", err)
		}
	}
	if err := says(Arbiter, "leasedog-arbiter", "status"); err != nil {
		r.Fail("%v", err)
	}
}

// expectWhyNot fails unless the standby does not compete, and says the words.
func (r *Run) expectWhyNot(ctx context.Context, words string) {
	err := waitFor(ctx, "the standby's reason", 20*time.Second, func() error {
		l, _, err := r.Status(ctx, r.Standby())
		if err == nil && (l.State != "standby" || !strings.Contains(strings.Join(l.WhyNot, "; "), words)) {
			err = fmt.Errorf("%s, why not %q", l.State, l.WhyNot)
		}
		return err
	})
	if err != nil {
		r.Fail("%v", err)
	}
}

// undisturbed plays something that must move nothing, for longer than a guard that nobody extends would wait.
func (r *Run) undisturbed(ctx context.Context, do func() error) error {
	was, l, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, l.Epoch, false)
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playHabitStandby(ctx context.Context, r *Run) (err error) {
	first, second := r.Holder, r.Standby()
	defer func() {
		err = errors.Join(err, r.on(ctx, first, "pcs", "node", "unstandby", first), r.on(ctx, first, "crm", "node", "online", second),
			r.forgetStandBack(ctx))
	}()
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.Fault("pcs node standby "+first, func() error { return r.on(ctx, first, "pcs", "node", "standby", first) }); err != nil {
		return err
	}
	if err := r.expectMoved(ctx); err != nil {
		return err
	}
	r.expectJournal(ctx, first, agentUnit, "gives up: this node is in standby")
	for _, s := range []struct {
		what string
		argv []string
	}{
		{"unstandby", []string{"pcs", "node", "unstandby", first}},
		{"wait for " + first, nil},
		{"crm node standby " + second, []string{"crm", "node", "standby", second}},
	} {
		err := r.step(s.what, func() error {
			if s.argv != nil {
				return r.on(ctx, first, s.argv...)
			}
			return r.waitState(ctx, first, "acquiring")
		})
		if err != nil {
			return err
		}
	}
	if err := r.runsNow(ctx, first); err != nil {
		r.Fail("%v", err)
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectNoReset()
	return nil
}

// playStandbyBoth: nobody may run the group. The lease stays where it is, so that it is known who runs it next.
func playStandbyBoth(ctx context.Context, r *Run) (err error) {
	was, l, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.on(ctx, r.Holder, "pcs", "node", "unstandby", "--all")) }()
	if err := r.step("crm node standby "+r.Standby(), func() error { return r.on(ctx, r.Holder, "crm", "node", "standby", r.Standby()) }); err != nil {
		return err
	}
	r.expectWhyNot(ctx, "this node is in standby")
	r.expectJournal(ctx, r.Standby(), agentUnit, "may not compete: this node is in standby")
	if err := r.Fault("pcs node standby "+r.Holder, func() error { return r.on(ctx, r.Holder, "pcs", "node", "standby", r.Holder) }); err != nil {
		return err
	}
	err = waitFor(ctx, "status to say why nothing runs, and what comes", 15*time.Second, func() error {
		text, err := r.Exec(ctx, r.Holder, "leasedog", "status")
		for _, words := range []string{"not to run here: this node is in standby", "stays until another node waits"} {
			if err == nil && !strings.Contains(text, words) {
				err = errors.New(text)
			}
		}
		return err
	})
	if err != nil {
		r.Fail("%v", err)
	}
	from := Now()
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	if beats, err := r.Beats(r.Holder, from); err != nil || len(beats) > 0 {
		r.Fail("the group runs on %s, which is a standby node (%v)", r.Holder, err)
	}
	r.expectHeldAs(ctx, was, l.Epoch, false)
	if err := r.step("crm node online "+r.Holder, func() error { return r.on(ctx, r.Holder, "crm", "node", "online", r.Holder) }); err != nil {
		return err
	}
	if err := r.runsNow(ctx, r.Holder); err != nil {
		r.Fail("%v", err)
	}
	r.expectHeldAs(ctx, was, l.Epoch, false)
	r.expectNeverRan(r.Standby())
	r.expectNoReset()
	return nil
}

func playClusterStop(ctx context.Context, r *Run) (err error) {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, r.step("pcs cluster start", func() error { return r.on(ctx, r.Holder, "pcs", "cluster", "start") }))
	}()
	if err := r.Fault("pcs cluster stop", func() error { return r.on(ctx, r.Holder, "pcs", "cluster", "stop") }); err != nil {
		return err
	}
	if err := r.expectMoved(ctx); err != nil {
		return err
	}
	r.expectJournal(ctx, r.Holder, agentUnit, "gives up: Pacemaker is being stopped on this node")
	l, _, err := r.Status(ctx, r.Holder)
	if err != nil || l.State == "held" || l.State == "leaving" {
		r.Fail("the lease on %s, which has left the cluster, is %s (%v)", r.Holder, l.State, err)
	}
	r.expectNoReset()
	return nil
}

// playHabitMove: pcs tries a move out on a copy of the configuration, in which the peer's attribute is absent, and refuses it.
// Up to 0.10 pcs does not, and its move is the one that writes a constraint and leaves it.
func playHabitMove(ctx context.Context, r *Run) (err error) {
	defer func() {
		err = errors.Join(err, r.on(ctx, r.Standby(), "crm", "resource", "clear", "g-app"), r.forgetStandBack(ctx))
	}()
	refused := func() error {
		err := r.on(ctx, r.Holder, "pcs", "resource", "move", "g-app")
		if err == nil {
			r.Fail("pcs resource move was not refused")
		}
		r.Event("it says: %v", err)
		return nil
	}
	version, err := r.Exec(ctx, r.Holder, "pcs", "--version")
	if err != nil {
		return err
	}
	move := "move"
	if !strings.HasPrefix(version, "0.10.") {
		move = "move-with-constraint"
		if err := r.step("pcs resource move g-app", refused); err != nil {
			return err
		}
	}
	if out, err := r.Exec(ctx, r.Holder, "cibadmin", "--query", "--scope", "constraints"); err != nil || strings.Contains(out, "cli-") {
		r.Fail("pcs left a constraint behind: %s (%v)", out, err)
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	err = r.Fault("crm resource move g-app "+r.Standby(), func() error {
		return r.on(ctx, r.Holder, "crm", "resource", "move", "g-app", r.Standby())
	})
	if err != nil {
		return err
	}
	if err := r.expectMoved(ctx); err != nil {
		return err
	}
	r.expectJournal(ctx, r.Holder, agentUnit, "gives up: g-app ")
	if err := r.clearMove(ctx, "crm", r.Standby()); err != nil {
		return err
	}
	err = r.step("pcs resource "+move+" g-app "+r.Holder, func() error {
		return r.on(ctx, r.Standby(), "pcs", "resource", move, "g-app", r.Holder)
	})
	if err != nil {
		return err
	}
	if err := r.runsNow(ctx, r.Holder); err != nil {
		r.Fail("%v", err)
	}
	if err := r.clearMove(ctx, "pcs", r.Holder); err != nil {
		return err
	}
	r.expectNoReset()
	return nil
}

// clearMove takes a move's constraint away, which must change nothing for longer than an unextended guard waits.
func (r *Run) clearMove(ctx context.Context, tool, node string) error {
	err := r.step(tool+" resource clear g-app", func() error { return r.on(ctx, node, tool, "resource", "clear", "g-app") })
	if err != nil {
		return err
	}
	from := Now()
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	beats, err := r.Beats(node, from)
	if lives := Alive(beats); err != nil || len(lives) != 1 {
		r.Fail("%d canaries lived on %s after the clear, expected 1 (%v)", len(lives), node, err)
	}
	if beats, err := r.Beats(Peer(node), from); err != nil || len(beats) > 0 {
		r.Fail("the group ran on %s after the clear (%v)", Peer(node), err)
	}
	return nil
}

func playDisable(ctx context.Context, r *Run) (err error) {
	was, l, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.on(ctx, r.Holder, "pcs", "resource", "enable", "g-app")) }()
	if err := r.Fault("pcs resource disable g-app", func() error { return r.on(ctx, r.Holder, "pcs", "resource", "disable", "g-app") }); err != nil {
		return err
	}
	err = waitFor(ctx, "status to say that it is disabled", 15*time.Second, func() error {
		text, err := r.Exec(ctx, r.Holder, "leasedog", "status")
		if err == nil && !strings.Contains(text, "stopped here, disabled") {
			err = errors.New(text)
		}
		return err
	})
	if err != nil {
		r.Fail("%v", err)
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, l.Epoch, false)
	if err := r.step("crm resource start g-app", func() error { return r.on(ctx, r.Standby(), "crm", "resource", "start", "g-app") }); err != nil {
		return err
	}
	if err := r.runsNow(ctx, r.Holder); err != nil {
		r.Fail("%v", err)
	}
	r.expectHeldAs(ctx, was, l.Epoch, false)
	r.expectNeverRan(r.Standby())
	r.expectNoReset()
	return nil
}

// expectPeace fails unless both nodes tell a monitoring system that nothing is wrong.
func (r *Run) expectPeace(ctx context.Context) {
	for _, node := range Nodes() {
		err := waitFor(ctx, "peace on "+node, 20*time.Second, func() error {
			out, err := r.Exec(ctx, node, "leasedog", "status", "--check")
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		})
		if err != nil {
			r.Fail("%v", err)
		}
	}
}

func playCleanup(ctx context.Context, r *Run) error {
	r.expectPeace(ctx)
	return r.undisturbed(ctx, func() error {
		for _, argv := range [][]string{{"pcs", "resource", "cleanup"}, {"pcs", "resource", "refresh", "g-app"},
			{"crm", "resource", "cleanup"}, {"crm", "resource", "refresh", "g-app"}} {
			if err := r.Fault(strings.Join(argv, " "), func() error { return r.on(ctx, r.Standby(), argv...) }); err != nil {
				return err
			}
		}
		r.expectPeace(ctx)
		return nil
	})
}

func playReexec(ctx context.Context, r *Run) error {
	return r.undisturbed(ctx, func() error {
		for _, node := range []string{r.Holder, r.Standby()} {
			for _, verb := range []string{"daemon-reexec", "daemon-reload"} {
				if err := r.Fault("systemctl "+verb+" on "+node, func() error { return r.systemctl(ctx, node, verb) }); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// crash kills a daemon of Pacemaker, which pacemakerd starts again.
func (r *Run) crash(ctx context.Context, node, daemon string) error {
	argv := []string{"pkill", "-9", "-f", "/" + daemon + "$"}
	return r.Fault("kill -9 "+daemon+" on "+node, func() error { return r.on(ctx, node, argv...) })
}

func playStandbyCrash(ctx context.Context, r *Run) error {
	return r.undisturbed(ctx, func() error {
		for _, daemon := range []string{"pacemaker-attrd", "pacemaker-controld"} {
			if err := r.crash(ctx, r.Standby(), daemon); err != nil {
				return err
			}
			if err := r.awaitStandby(ctx, r.Standby()); err != nil {
				return err
			}
		}
		return nil
	})
}

// playStandbyReboot: a reboot ends a container as a reset does, so the records are looked at.
func playStandbyReboot(ctx context.Context, r *Run) error {
	was, l, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	standby := r.Standby()
	if err := r.Fault("systemctl reboot on "+standby, func() error { return r.systemctl(ctx, standby, "reboot") }); err != nil {
		return err
	}
	if err := waitFor(ctx, standby+" to go down", 60*time.Second, func() error {
		if len(r.Ends(standby)) == 0 {
			return errors.New("it is up")
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.awaitStandby(ctx, standby); err != nil {
		return err
	}
	if ends := r.Ends(standby); len(ends) != 1 {
		r.Fail("%s ended more than once: %v", standby, ends)
	}
	if stages, err := r.causes(ctx, standby, l.Epoch); err != nil || len(stages) > 0 {
		r.Fail("%s, which held nothing, has records of a reset of epoch %d: %v (%v)", standby, l.Epoch, stages, err)
	}
	r.expectHeldAs(ctx, was, l.Epoch, false)
	r.expectStays()
	return nil
}

// playDaemonCrash: pacemakerd starts the daemon again. What the cluster forgot of the attribute is put again.
func playDaemonCrash(ctx context.Context, r *Run, daemon string) error {
	was, l, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.crash(ctx, r.Holder, daemon); err != nil {
		return err
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	if err := r.runsNow(ctx, r.Holder); err != nil {
		r.Fail("%v", err)
	}
	r.expectHeldAs(ctx, was, l.Epoch, false)
	r.expectNeverRan(r.Standby())
	r.expectNoReset()
	return nil
}

// mendRule writes the rule as it must be.
func (r *Run) mendRule(ctx context.Context) error {
	return r.step("leasedog constraints --apply", func() error {
		return r.on(ctx, r.Holder, "leasedog", "constraints", leaseName, "--apply", "--yes")
	})
}

func playHabitRule(ctx context.Context, r *Run) (err error) {
	defer func() { err = errors.Join(err, r.mendRule(ctx)) }()
	return r.undisturbed(ctx, func() error {
		if err := r.Fault("pcs constraint delete "+ruleID, func() error { return r.on(ctx, r.Standby(), "pcs", "constraint", "delete", ruleID) }); err != nil {
			return err
		}
		missing := "there is no constraint " + ruleID
		r.expectAlarm(ctx, missing, true)
		r.expectWhyNot(ctx, missing)
		r.expectJournal(ctx, r.Holder, agentUnit, "lease app: "+missing)
		r.expectJournal(ctx, r.Standby(), agentUnit, "may not compete: "+missing)
		if err := r.mendRule(ctx); err != nil {
			return err
		}
		r.expectAlarm(ctx, missing, false)
		r.expectJournal(ctx, r.Holder, agentUnit, "mended: ", missing)
		weaken := "cibadmin --query --xpath \"//rule[@id='" + ruleID + "-rule']\" | sed 's/-INFINITY/-100/' | cibadmin --modify --scope constraints --xml-pipe"
		if err := r.Fault("weaken the rule", func() error { return r.on(ctx, r.Standby(), "/bin/sh", "-ec", weaken) }); err != nil {
			return err
		}
		changed := "constraint " + ruleID + " was changed"
		r.expectAlarm(ctx, changed, true)
		r.expectWhyNot(ctx, changed)
		if err := r.mendRule(ctx); err != nil {
			return err
		}
		r.expectAlarm(ctx, changed, false)
		return nil
	})
}

func playRenamedGroup(ctx context.Context, r *Run) error {
	rename := func(from, to string) error {
		return r.Fault("crm configure rename "+from+" "+to, func() error { return r.on(ctx, r.Standby(), "crm", "configure", "rename", from, to) })
	}
	return r.undisturbed(ctx, func() error {
		if err := rename("g-app", "g-web"); err != nil {
			return err
		}
		r.expectAlarm(ctx, "g-app cannot be guarded", true)
		r.expectWhyNot(ctx, "g-app cannot be guarded")
		if err := rename("g-web", "g-app"); err != nil {
			return err
		}
		r.expectAlarm(ctx, "g-app cannot be guarded", false)
		return nil
	})
}
