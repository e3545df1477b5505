package lab

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// budget is the part of a profile that the lab judges by. It is written down here once more on purpose: were it read
// from the code under test, a wrong profile would judge itself.
type budget struct {
	renew, hold   time.Duration
	loss, timeout time.Duration
}

func budgetOf(profile string) budget {
	const msec = time.Millisecond
	switch profile {
	case "fast":
		return budget{renew: 200 * msec, timeout: 150 * msec, loss: 750 * msec, hold: 2600 * msec}
	case "standard":
		return budget{renew: 2 * time.Second, timeout: 2 * time.Second, loss: 10 * time.Second, hold: 27 * time.Second}
	case "wan":
		return budget{renew: 5 * time.Second, timeout: 5 * time.Second, loss: 20 * time.Second, hold: 44 * time.Second}
	}
	return budget{renew: 750 * msec, timeout: 750 * msec, loss: 3 * time.Second, hold: 8750 * msec} // lan, and no profile
}

// notice is how soon Corosync and Pacemaker act on a silent peer at the latest, measured for each token.
func notice(token time.Duration) time.Duration {
	switch {
	case token <= 500*time.Millisecond:
		return 2100 * time.Millisecond
	case token <= time.Second:
		return 3300 * time.Millisecond
	}
	return 7600 * time.Millisecond
}

// takeoverBound is max(hold, notice) + 1.5 s, with fencing + 3 s: Pacemaker starts nothing before it has succeeded.
func takeoverBound(cfg Config) time.Duration {
	rest := 1500 * time.Millisecond
	if cfg.Fence != NoFencing {
		rest = 3 * time.Second
	}
	return max(budgetOf(cfg.Profile).hold, notice(cfg.Token)) + rest
}

func lanConfig() Config { return Config{Stack: StackLeasedog, Profile: "lan", Token: time.Second} }

// noTransition is the bound of rows in which nothing may move.
const noTransition = serveGap

// leaseScenarios are the rows about links, the arbiter and planned moves.
func leaseScenarios() []Scenario {
	lan := lanConfig()
	slow, two, promotable := lan, lan, lan
	two.TwoLeases, promotable.Promotable = true, true
	slow.Token = 3 * time.Second
	bound := takeoverBound(lan)
	return []Scenario{
		{Name: "heartbeat-cut", InTest: true, Config: lan, Bound: noTransition,
			About: "the heartbeat is cut for 30 s: nothing moves",
			Run:   func(ctx context.Context, r *Run) error { return playHeartbeatCut(ctx, r, 30*time.Second) }},
		{Name: "holder-isolated", InTest: true, Config: lan, Bound: bound,
			About: "the holder loses all links: it stops, proven, without a reset; the peer takes over",
			Run:   func(ctx context.Context, r *Run) error { return playIsolated(ctx, r, false) }},
		// The arbiter may hear renewals for as long as the holder goes on sending them, and counts its hold from the last.
		{Name: "replies-lost", InTest: true, Config: lan, Bound: bound + budgetOf("lan").loss,
			About: "the holder's requests reach the arbiter, the replies are lost",
			Run:   func(ctx context.Context, r *Run) error { return playOneWay(ctx, r, In) }},
		{Name: "requests-lost", InTest: true, Config: lan, Bound: bound,
			About: "the holder's requests are lost on their way to the arbiter",
			Run:   func(ctx context.Context, r *Run) error { return playOneWay(ctx, r, Out) }},
		{Name: "arbiter-killed", InTest: true, Config: lan, Bound: noTransition,
			About: "the arbiter is killed and restarted by its unit at once: nothing moves", Run: playArbiterKilled},
		{Name: "arbiter-frozen", Config: lan, Bound: 8*time.Second + budgetOf("lan").hold + bound,
			About: "the arbiter is frozen for 1 to 8 s", Run: playArbiterFrozen},
		{Name: "arbiter-down-60s", Config: lan, Bound: 60*time.Second + budgetOf("lan").hold + bound,
			About: "the arbiter's host is down for 60 s: nobody runs, then one does again, once", Run: playArbiterDown},
		{Name: "switchover", InTest: true, Config: lan, Bound: 2 * time.Second,
			About: "a planned move", Run: func(ctx context.Context, r *Run) error { return playSwitchover(ctx, r, 0) }},
		{Name: "switchover-slow-stop", InTest: true, Config: lan, Bound: 7 * time.Second,
			About: "a planned move whose stop takes 5 s",
			Run:   func(ctx context.Context, r *Run) error { return playSwitchover(ctx, r, 5) }},
		{Name: "switchover-promotable", Config: promotable, Bound: 2 * time.Second,
			About: "a planned move of a lease that also guards the promoted role of a clone", Run: playSwitchoverPromotable},
		{Name: "two-leases", Config: two, Bound: bound,
			About: "each node holds a lease; one is isolated, and the other, whose guard is armed already, takes both",
			Run:   playTwoLeases},
		{Name: "cold-alone", Config: lan, Bound: 90 * time.Second,
			About: "both nodes are off; one starts alone: it gets the lease and runs", Run: playColdAlone},
		{Name: "holder-isolated-token-3000", Config: slow, Bound: takeoverBound(slow),
			About: "the holder loses all links, and its own half notices late: a reset is allowed, and was announced",
			Run:   func(ctx context.Context, r *Run) error { return playIsolated(ctx, r, true) }},
	}
}

// expectNoReset fails when any node ended.
func (r *Run) expectNoReset() {
	for _, node := range Nodes() {
		ends := r.Ends(node)
		if r.Config.Fence != NoFencing && node == r.Standby() && len(ends) == 1 && r.wasFenced(node) {
			continue // the lease decides the race: the holder fences the standby, once
		}
		if len(ends) > 0 {
			cause, _ := r.Cause(node)
			r.Fail("%s ended (%s); cause record: %s", node, ends[0].What, cause)
		}
	}
}

// expectTakeover waits for the standby and fails when it comes later than max(hold, notice) + 1.5 s.
func (r *Run) expectTakeover(ctx context.Context) {
	r.expectTakeoverWithin(ctx, takeoverBound(r.Config))
}

func (r *Run) expectTakeoverWithin(ctx context.Context, bound time.Duration) {
	if took := r.Takeover(ctx, r.Standby(), bound+30*time.Second); took > bound {
		r.Fail("%s took over after %.2f s, allowed are %.2f s", r.Standby(), took.Seconds(), bound.Seconds())
	}
}

// expectStays fails unless the holder's canary is one process that lived all the time, and the peer's none.
func (r *Run) expectStays() {
	for _, node := range Nodes() {
		beats, err := r.Beats(node, r.Start)
		if err != nil {
			r.Fail("%v", err)
		}
		if lives, want := len(Alive(beats)), map[bool]int{true: 1}[node == r.Holder]; lives != want {
			r.Fail("%d canaries lived on %s, expected %d", lives, node, want)
		}
	}
}

func playHeartbeatCut(ctx context.Context, r *Run, length time.Duration) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, heartbeatLink); err != nil {
		return err
	}
	if err := pause(ctx, length); err != nil {
		return err
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playIsolated(ctx context.Context, r *Run, resetAllowed bool) error {
	if resetAllowed {
		out, err := r.Exec(ctx, r.Holder, "leasedog", "budget")
		if err != nil || !strings.Contains(out, "comfort") {
			r.Fail("leasedog budget does not announce that an isolated holder may be reset: %v", err)
		}
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	r.expectTakeover(ctx)
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	if !resetAllowed {
		r.expectNoReset()
	}
	return nil
}

func playOneWay(ctx context.Context, r *Run, way string) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	cut := Cut{Link: r.Holder + "-arbiter", Way: way}
	if err := r.Fault("cut "+cut.String(), func() error { return r.Cut(ctx, cut) }); err != nil {
		return err
	}
	bound := takeoverBound(r.Config)
	if way == In {
		bound += budgetOf(r.Config.Profile).loss
	}
	r.expectTakeoverWithin(ctx, bound)
	return pause(ctx, 3*time.Second)
}

func playArbiterKilled(ctx context.Context, r *Run) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.Fault("kill -9 the arbiter", func() error { return r.Kill(Arbiter, "arbiter") }); err != nil {
		return err
	}
	if err := pause(ctx, 15*time.Second); err != nil {
		return err
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playArbiterFrozen(ctx context.Context, r *Run) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	length := time.Second + time.Duration(r.Random.Int64N(int64(7*time.Second)))
	err := r.Fault(fmt.Sprintf("freeze the arbiter for %.2f s", length.Seconds()),
		func() error { return r.Freeze(Arbiter, "arbiter") })
	if err != nil {
		return err
	}
	if err := pause(ctx, length); err != nil {
		return err
	}
	if err := r.Thaw(); err != nil {
		return err
	}
	r.Event("the arbiter goes on")
	return pause(ctx, budgetOf(r.Config.Profile).hold+3*time.Second)
}

func playArbiterDown(ctx context.Context, r *Run) error {
	if err := r.StayDown(Arbiter, true); err != nil {
		return err
	}
	if err := r.Fault("the arbiter's host dies", func() error { return r.Crash(ctx, Arbiter) }); err != nil {
		return err
	}
	if err := pause(ctx, 60*time.Second); err != nil {
		return err
	}
	if runs, err := r.Runs(); err != nil || len(runs) != 0 {
		r.Fail("after 60 s without an arbiter %v still run the group (%v)", runs, err)
	}
	if err := r.StayDown(Arbiter, false); err != nil {
		return err
	}
	r.Event("the arbiter's host boots")
	if err := r.WaitSettled(ctx); err != nil {
		return err
	}
	if err := pause(ctx, 15*time.Second); err != nil {
		return err
	}
	lives := 0
	for _, node := range Nodes() {
		beats, err := r.Beats(node, r.Start)
		if err != nil {
			return err
		}
		lives += len(Alive(beats))
	}
	if lives != 2 {
		r.Fail("%d canaries lived, expected the one before and the one after", lives)
	}
	r.expectNoReset()
	return nil
}

func playSwitchover(ctx context.Context, r *Run, stopSeconds int) error {
	if stopSeconds > 0 {
		if err := r.Steer(r.Holder, StopDelay, fmt.Sprint(stopSeconds)); err != nil {
			return err
		}
	}
	if err := r.Phase(ctx); err != nil {
		return err
	}
	err := r.Fault("switchover to "+r.Standby(), func() error {
		_, err := r.Exec(ctx, r.Holder, "leasedog", "switchover", leaseName, "--to", r.Standby(), "--yes")
		return err
	})
	if err != nil {
		return err
	}
	// The gap has a bound of its own; this one only says that nothing was waited for in vain on the way.
	limit := time.Duration(stopSeconds)*time.Second + 8*time.Second
	if took := r.Takeover(ctx, r.Standby(), 30*time.Second); took > limit {
		r.Fail("%s runs the group after %.2f s, allowed are %.2f s", r.Standby(), took.Seconds(), limit.Seconds())
	}
	r.expectNoReset()
	return pause(ctx, 2*time.Second)
}

func playColdAlone(ctx context.Context, r *Run) error {
	for _, node := range Nodes() {
		if err := r.StayDown(node, true); err != nil {
			return err
		}
	}
	err := r.Fault("both nodes lose power", func() error {
		if err := r.Crash(ctx, Node1); err != nil {
			return err
		}
		return r.Crash(ctx, Node2)
	})
	if err != nil {
		return err
	}
	alone := Nodes()[r.Random.IntN(2)]
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	r.Event("%s boots alone", alone)
	if err := r.StayDown(alone, false); err != nil {
		return err
	}
	return waitFor(ctx, alone+" to run the group alone", 80*time.Second, func() error {
		runs, err := r.Runs()
		if err == nil && len(runs) == 0 {
			err = fmt.Errorf("nobody runs it")
		}
		return err
	})
}

// playSwitchoverPromotable moves the lease and looks at both instances of the clone: demoted here, promoted there.
func playSwitchoverPromotable(ctx context.Context, r *Run) error {
	if err := playSwitchover(ctx, r, 0); err != nil {
		return err
	}
	r.expectRole(ctx, r.Holder, unpromoted)
	r.expectRole(ctx, r.Standby(), promoted)
	return nil
}

// playTwoLeases: the preflight of a node that holds must not stumble over its own guard.
func playTwoLeases(ctx context.Context, r *Run) error {
	first, _, err := r.StatusOf(ctx, r.Holder, secondLease)
	if err != nil {
		return err
	}
	if first.State == "held" {
		r.Event("%s holds both leases; the second moves to %s", r.Holder, r.Standby())
		_, err := r.Exec(ctx, r.Holder, "leasedog", "switchover", secondLease, "--to", r.Standby(), "--wait", "--yes")
		if err != nil {
			return err
		}
	}
	before, _, err := r.StatusOf(ctx, r.Standby(), secondLease)
	if err != nil || before.State != "held" {
		return fmt.Errorf("%s does not hold lease %s: %q %w", r.Standby(), secondLease, before.State, err)
	}
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	r.expectTakeover(ctx)
	for _, name := range []string{leaseName, secondLease} {
		l, _, err := r.StatusOf(ctx, r.Standby(), name)
		if err != nil || l.State != "held" {
			r.Fail("%s does not hold lease %s after the takeover: %q %v", r.Standby(), name, l.State, err)
		}
		if name == secondLease && l.Epoch != before.Epoch {
			r.Fail("lease %s went from epoch %d to %d, although nothing happened to its holder", name, before.Epoch, l.Epoch)
		}
	}
	r.expectNoReset()
	return nil
}
