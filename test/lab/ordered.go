package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// leasePrimitive is the resource ocf:leasedog:lease, before which nothing of the group starts.
	leasePrimitive = "lease"
	// retryEvery is its failure-timeout: how long Pacemaker leaves it alone after a race that was lost.
	retryEvery = 20 * time.Second
	// leaseStart is the timeout of its start: lan's hold, loss_after and 5 s.
	leaseStart = 17 * time.Second
)

// orderedScenarios are the rows of the order-first form: Pacemaker starts the resource that holds the lease, and the group
// behind it.
func orderedScenarios() []Scenario {
	first := lanConfig()
	first.OrderFirst = true
	spare := first
	spare.TwoLeases = true
	race := func(length time.Duration) func(context.Context, *Run) error {
		return func(ctx context.Context, r *Run) error { return playLostRace(ctx, r, length) }
	}
	// After the holder has gone the other node's try may just have ended: it comes again after a failure-timeout.
	raced := takeoverBound(first) + retryEvery + 5*time.Second
	return []Scenario{
		{Name: "order-first-isolated", Config: first, Bound: takeoverBound(first) + 1500*time.Millisecond,
			About: "order-first: the holder loses all links; the other node's start waits for the lease and gets it", Run: playOrderedIsolated},
		{Name: "order-first-move", Config: first, Bound: plannedBound + 3*time.Second, Run: playOrderedMove,
			About: "order-first: the lease is moved by crm_resource (2.0: banned): the stop does not wait for the release, the release not for the stop"},
		{Name: "order-first-cold-start", Config: first, Bound: 120 * time.Second, Run: playOrderedCold,
			About: "order-first: both nodes lose power and boot: the first start gets the lease although no coordinator was idle yet"},
		{Name: "order-first-lost-race", Config: first, Bound: raced, Run: race(75 * time.Second),
			About: "order-first: the nodes do not see each other for 75 s, with Pacemaker's defaults; then the holder dies and the lease moves"},
		{Name: "order-first-lost-race-10min", Config: first, Long: true, Bound: raced, Run: race(10 * time.Minute),
			About: "the same for 10 min (by its name only)"},
		{Name: "ocf-tester", Config: spare, Bound: time.Second, Run: playTester,
			About: "ocf-tester of resource-agents with the resource agent and a lease that nobody holds"},
	}
}

func playOrderedIsolated(ctx context.Context, r *Run) error {
	if err := r.Phase(ctx); err != nil {
		return err
	}
	if err := r.CutOff(ctx, r.Holder); err != nil {
		return err
	}
	r.expectTakeoverWithin(ctx, takeoverBound(r.Config)+1500*time.Millisecond)
	r.expectNoReset()
	if err := r.Heal(ctx); err != nil {
		return err
	}
	// If the other half's own start was under way, Pacemaker takes the lease's resource for active on both nodes, stops both
	// and starts one.
	return r.WaitSettled(ctx)
}

func playOrderedMove(ctx context.Context, r *Run) (err error) {
	defer func() {
		_, clear := r.Exec(ctx, Node1, "crm_resource", "--clear", "--resource", leasePrimitive)
		err = errors.Join(err, clear)
	}()
	to := r.Standby()
	verb := []string{"--move", "--node", to}
	if r.Config.Suite == "bullseye" { // without influence="false" a wish is no match for the group's rule: ocf_leasedog_lease(7)
		verb = []string{"--ban", "--node", r.Holder}
	}
	err = r.Fault("crm_resource "+strings.Join(verb, " ")+" of "+leasePrimitive, func() error {
		_, err := r.Exec(ctx, r.Holder, append([]string{"crm_resource", "--resource", leasePrimitive}, verb...)...)
		return err
	})
	if err != nil {
		return err
	}
	r.Takeover(ctx, to, 60*time.Second)
	r.expectNoReset()
	r.expectNoFailure(ctx)
	return nil
}

// expectNoFailure fails when Pacemaker counts any failure.
func (r *Run) expectNoFailure(ctx context.Context) {
	out, err := r.Exec(ctx, Node1, "crm_failcount", "--query", "--resource", leasePrimitive, "--node", r.Standby())
	if err != nil || !strings.Contains(out, "value=0") {
		r.Fail("the resource that holds the lease failed: %s %v", strings.TrimSpace(out), err)
	}
}

func playOrderedCold(ctx context.Context, r *Run) error {
	err := r.Fault("both nodes lose power", func() error { return errors.Join(r.Crash(ctx, Node1), r.Crash(ctx, Node2)) })
	if err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	return waitFor(ctx, "a node to run the group again", 100*time.Second, func() error {
		runs, err := r.Runs()
		if err == nil && len(runs) == 0 {
			err = errors.New("nobody runs it")
		}
		return err
	})
}

// playLostRace cuts the heartbeat for a while with start-failure-is-fatal as Pacemaker has it. The standby's starts fail, and
// its node is not banned for ever: when the holder dies, with the heartbeat still cut, it takes over by itself. With fencing Pacemaker
// does not try there before it has fenced the holder, which fails while that lives, and is given up after ten times.
func playLostRace(ctx context.Context, r *Run, length time.Duration) (err error) {
	if err := r.setOptions(ctx, map[string]string{"start-failure-is-fatal": "true"}); err != nil {
		return err
	}
	defer func() {
		mend := errors.Join(r.StayDown(r.Holder, false), r.Heal(ctx), waitFor(ctx, "the pair to form again", joinLimit,
			func() error { return r.together(ctx) }), r.setOptions(ctx, map[string]string{"start-failure-is-fatal": "false"}))
		err = errors.Join(err, mend)
	}()
	if err := r.CutOff(ctx, heartbeatLink); err != nil {
		return err
	}
	if err := pause(ctx, length); err != nil {
		return err
	}
	out, err := r.Exec(ctx, r.Standby(), "journalctl", "--quiet", "--no-pager", "-u", "pacemaker.service", "--since",
		fmt.Sprintf("-%ds", int(length.Seconds())+5))
	if err != nil {
		return err
	}
	lost := strings.Count(out, "is not held in time")
	r.Event("%s has lost the race %d times", r.Standby(), lost)
	if r.Config.Fence != NoFencing {
		if lost > 0 {
			r.Fail("%s started something before its peer was fenced", r.Standby())
		}
	} else if least := int(length / (retryEvery + leaseStart + 15*time.Second)); lost < max(1, least) {
		r.Fail("%s was to try again and again, and lost %d times", r.Standby(), lost)
	}
	r.expectStays()
	if err := r.StayDown(r.Holder, true); err != nil {
		return err
	}
	r.Event("%s loses power, with the heartbeat still cut", r.Holder)
	if err := r.Crash(ctx, r.Holder); err != nil {
		return err
	}
	err = waitFor(ctx, r.Standby()+" to run the group", 2*time.Minute, func() error {
		beats, err := r.Beats(r.Standby(), Now().Add(-time.Second))
		if err == nil && len(beats) == 0 {
			err = errors.New("its canary is silent")
		}
		return err
	})
	if err != nil {
		r.Fail("%v", err)
	}
	return nil
}

// playTester runs ocf-tester on the standby with a lease of its own. The tester knows no cluster: it calls the agent by
// hand, as an administrator would.
func playTester(ctx context.Context, r *Run) error {
	return r.Fault("ocf-tester on "+r.Standby(), func() error {
		out, err := r.Exec(ctx, r.Standby(), "ocf-tester", "-n", "spare", "-o", "lease=two", "/usr/lib/ocf/resource.d/leasedog/lease")
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			r.Event("%s", line)
		}
		if err != nil || !strings.Contains(out, "passed all tests") {
			r.Fail("ocf-tester: %v", err)
		}
		return nil
	})
}
