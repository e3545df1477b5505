package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// paused is a world in which n1 holds pg in a pause, its guard disarmed or, with an end, armed for it.
func paused(t *testing.T, length time.Duration, change ...func(*orders)) *orders {
	t.Helper()
	o := holding(t, change...)
	o.pause(length)
	return o
}

func (o *orders) pause(length time.Duration) {
	o.t.Helper()
	o.tell(o.n1, lease.PauseAsked{For: length})
	o.until(2*time.Second, "n1 is paused", both(o.in(o.n1, lease.Paused), o.recorded(lease.RecordPaused)))
	o.until(10*time.Second, "the guard counts as the pause says", func() bool {
		if length == 0 {
			return !o.guarded(o.n1)
		}
		return o.n1.guard.d.Armed() == 1 && o.n1.guard.d.Nearest().Sub(o.n1.now()) > length-10*time.Second
	})
	o.until(time.Second, "n1 knows that", func() bool { return !o.pg(o.n1).guard.busy })
}

// attack2 3b. The agent dies anywhere between the renewal that begins a resume and its answer, and the resume comes late.
// Resume leaves only when the renewal is acknowledged, the guard armed and /run says held (4.4.9): a successor that finds
// paused would disarm, and the hold that the late resume begins would run out under resources without a guard.
func orderKillBetweenArmAndResume(t *testing.T) {
	// It comes before the successor has spoken, which is cut off then, or after that.
	for _, wait := range []time.Duration{0, 2 * time.Second} {
		crashes{
			begin:  func(t *testing.T) *orders { return paused(t, 0) },
			strike: func(o *orders) { o.n1.agent.kill(200 * time.Millisecond) },
			story: func(o *orders) {
				o.keep(o.n1, "resume")
				o.tell(o.n1, lease.ResumeAsked{})
				o.run(time.Second)
			},
			ended: func(o *orders) bool { return len(o.letters(o.n1, "resume")) > 0 },
			after: func(o *orders) {
				o.run(wait)
				o.cutAndHang(o.n1)
				late := o.letters(o.n1, "resume")
				o.deliver(late...)
				o.run(30 * time.Second)
				if o.record().State == lease.RecordPaused {
					o.want(o.runs(o.n1)() == (o.phase(o.n1) == lease.Paused), "the record says paused, n1 is %s", o.phase(o.n1))
					return
				}
				o.want(len(late) > 0 && o.holds(o.n2)(), "n2 does not hold")
			},
		}.play(t)
	}
}

// attack2 3a. A resume is on its way while the lease is resumed by another, and paused again. The arbiter restarts, and
// then it comes. Every durable change keeps its number (4.3.6): it is below that of the pause, and ends nothing.
func orderLateResume(t *testing.T) {
	o := holding(t)
	o.lose(o.n1, "pause answer")
	o.keep(o.n1, "resume")
	o.tell(o.n1, lease.PauseAsked{})
	o.until(3*time.Second, "a resume is under way", func() bool { return len(o.letters(o.n1, "resume")) > 0 })
	o.heal(o.n1)
	o.until(3*time.Second, "another one was answered", func() bool { return !o.pg(o.n1).h.View().Pausing && o.record().State == lease.RecordHeld })
	o.pause(0)
	o.restartArbiter(100*time.Millisecond, nil)
	o.deliver(o.letter(o.n1, "resume"))
	o.want(o.record().State == lease.RecordPaused, "the late resume ended the pause")
	o.cutAndHang(o.n1)
	o.during(2*time.Minute, "n1 runs, paused", both(o.runs(o.n1), o.recorded(lease.RecordPaused)))
}

// attack 22. The arbiter has written the pause, and its answer is lost. An unanswered pause counts as not paused on the
// node: its guard stays armed (4.4.9).
func orderPauseAckLost(t *testing.T) {
	// It is cut off and reset; its new boot ends the pause of the old one (4.3.10).
	t.Run("reset", func(t *testing.T) {
		o := holding(t)
		o.lose(o.n1, "pause answer")
		o.tell(o.n1, lease.PauseAsked{})
		o.until(time.Second, "the record says paused", o.recorded(lease.RecordPaused))
		o.cutAndHang(o.n1)
		o.n1.outage = 0
		o.until(15*time.Second, "n1 is reset", func() bool { return !o.n1.alive })
		o.n1.stops = ""
		o.until(5*time.Second, "n1 boots anew", func() bool { return o.n1.boots == 2 })
		o.during(20*time.Second, "the pause stands while nobody has heard of the new boot", o.recorded(lease.RecordPaused))
		o.heal(o.n1)
		o.until(5*time.Second+o.w.budget.Hold(), "somebody holds", func() bool { return o.holds(o.n1)() || o.holds(o.n2)() })
	})
	// It is not known what came of the pause (the disk failed, and has it all the same), the arbiter is down until n1 has
	// lost the lease, in order, and its hold is over. No clock ends a pause: n1 releases until it is answered (4.4.3).
	for _, how := range []string{"same agent", "successor", "successor not installed"} {
		t.Run("stopped/"+how, func(t *testing.T) {
			o := holding(t)
			o.halfDone, o.w.arbiter.badDisk = true, true
			o.tell(o.n1, lease.PauseAsked{})
			o.until(time.Second, "the pause is answered", func() bool { return !o.asks(o.n1, lease.Pause{}) })
			o.want(o.phase(o.n1) == lease.Held && o.pg(o.n1).h.View().Pausing, "n1 is %s", o.phase(o.n1))
			o.w.arbiter.badDisk = false
			o.w.arbiter.crash(20*time.Second, func() {})
			switch how {
			case "successor":
				o.until(5*time.Second, "n1 loses", o.in(o.n1, lease.Losing))
				o.n1.agent.kill(100 * time.Millisecond)
			case "successor not installed":
				o.n1.agent.kill(100 * time.Millisecond)
				o.until(time.Second, "n1 holds, not installed", o.in(o.n1, lease.Held))
			}
			o.until(20*time.Second, "the arbiter is back, and n1 has stopped", both(not(o.runs(o.n1)), o.recorded(lease.RecordPaused)))
			o.until(10*time.Second, "somebody holds", func() bool { return o.holds(o.n1)() || o.holds(o.n2)() })
			o.want(o.record().Epoch > 1 && o.n1.boots == 1, "epoch %d, n1's boot %d", o.record().Epoch, o.n1.boots)
		})
	}
	// Its successor was installed and killed before it heard of that: the next one has two names to release in, and its own
	// is the one that counts.
	t.Run("stopped/successor's successor", func(t *testing.T) {
		o := holding(t)
		o.lose(o.n1, "pause answer", "adopt answer", "resume")
		o.tell(o.n1, lease.PauseAsked{})
		o.until(time.Second, "the record says paused", o.recorded(lease.RecordPaused))
		o.n1.agent.kill(100 * time.Millisecond)
		o.until(time.Second, "the second agent is installed", func() bool { return !o.n1.agent.dead && o.record().Holder == o.n1.agent.self })
		o.n1.agent.kill(100 * time.Millisecond)
		o.lose(o.n1)
		o.until(10*time.Second, "the third has stopped", o.in(o.n1, lease.Stopped))
		o.run(10 * time.Second)
		o.heal(o.n1)
		o.until(5*time.Second, "somebody holds", func() bool { return o.holds(o.n1)() || o.holds(o.n2)() })
	})
	// The arbiter is rebuilt from an empty store meanwhile, and knows no such epoch: n1 must not wait for it for ever.
	t.Run("stopped/store lost", func(t *testing.T) {
		o := holding(t)
		o.lose(o.n1, "pause answer", "resume")
		o.tell(o.n1, lease.PauseAsked{})
		o.until(time.Second, "the record says paused", o.recorded(lease.RecordPaused))
		o.w.arbiter.crash(20*time.Second, func() { o.w.arbiter.disk = lease.Snapshot{} })
		o.run(21 * time.Second)
		o.heal(o.n1)
		o.until(30*time.Second, "somebody holds", func() bool { return o.holds(o.n1)() || o.holds(o.n2)() })
	})
}

// attack2 10. The pause's answer is lost and the node dies for good. A pause of unknown outcome is ended: resume is sent
// until it is answered (4.4.9), so that only who dies within that second leaves a pause behind, which a human ends.
func orderPauseAckLostThenDead(t *testing.T) {
	o := holding(t)
	o.lose(o.n1, "pause answer")
	o.tell(o.n1, lease.PauseAsked{})
	o.until(time.Second, "the record says paused", o.recorded(lease.RecordPaused))
	o.until(3*time.Second, "n1 has ended it", o.recorded(lease.RecordHeld))
	o.want(o.holds(o.n1)(), "n1 is %s", o.phase(o.n1))
	o.run(time.Second)
	o.gone(o.n1)
	o.until(o.w.budget.Hold()+time.Second, "n2 holds", o.holds(o.n2))

	o = holding(t)
	o.lose(o.n1, "pause answer")
	o.tell(o.n1, lease.PauseAsked{})
	o.until(time.Second, "the record says paused", o.recorded(lease.RecordPaused))
	o.gone(o.n1)
	o.during(10*time.Minute, "n2 does not run", not(o.runs(o.n2)))
	o.operator(func(id lease.RequestID) lease.GrantorEvent {
		return lease.OperatorFree{ID: id, Lease: "pg", Node: "n1"}
	})
	o.until(time.Second, "n2 holds", o.holds(o.n2))
}

// attack 7. A pause with an end: drift grows with its length, and so does its hold (4.3.9); it is durable, and counted
// anew in full after a restart of the arbiter (4.3.6). n1 is cut off and cannot stop; it is reset at the end of the pause.
func orderPauseArbiterRestart(t *testing.T) {
	const length = 50 * time.Minute
	for _, restart := range []time.Duration{0, time.Minute, length - time.Minute} {
		o := paused(t, length)
		o.cutAndHang(o.n1)
		if restart != 0 {
			o.run(restart)
			o.restartArbiter(time.Second, nil)
		}
		o.until(length+time.Minute, "n1 is reset", func() bool { return !o.n1.alive })
		o.want(o.record().Epoch == 1, "n2 was granted epoch %d first", o.record().Epoch)
		o.until(length+time.Minute, "n2 holds", o.holds(o.n2))
	}
	o := paused(t, 0)
	o.restartArbiter(time.Second, nil)
	o.lose(o.n1)
	o.during(2*time.Hour, "the pause without an end stands", both(o.runs(o.n1), o.recorded(lease.RecordPaused)))
}

// attack2 2. The store is lost under a paused lease. A claim is taken back as claimed (4.3.7): paused stays paused, with an
// end or without, as long as it was, counted from its receipt; it is not clipped, and never an ordinary hold.
func orderRecoveryOfPausedLease(t *testing.T) {
	for _, length := range []time.Duration{0, 10 * time.Minute} {
		o := paused(t, length)
		o.restartArbiter(time.Second, func(d *lease.Snapshot) { *d = lease.Snapshot{} })
		o.until(20*time.Second, "n1 has told that it is paused", o.recorded(lease.RecordPaused))
		told := o.w.now
		o.n1.agent.kill(200 * time.Millisecond)
		o.until(20*time.Second, "its successor is installed", func() bool { return o.phase(o.n1) == lease.Paused && !o.pg(o.n1).h.View().Adopting })
		o.cutAndHang(o.n1)
		if length == 0 {
			o.during(time.Hour, "the pause without an end stands", both(o.runs(o.n1), o.recorded(lease.RecordPaused)))
			continue
		}
		o.during(length-10*time.Second, "the pause stands", o.recorded(lease.RecordPaused))
		o.until(length, "n1 is reset", func() bool { return !o.n1.alive })
		o.until(length, "n2 holds", o.holds(o.n2))
		o.want(o.w.now.Sub(told) > length+o.w.budget.Hold(), "n2 holds %v after the claim", o.w.now.Sub(told))
	}

	// The pause is over and the lease released, and the store goes back to when it was paused. Nobody claims anything, and
	// the boot on record stands by, proven stopped: no pause keeps both nodes out for ever (4.3.10).
	o := paused(t, 0)
	old := o.w.arbiter.disk
	o.tell(o.n1, lease.ResumeAsked{})
	o.until(5*time.Second, "n1 holds", o.holds(o.n1))
	for _, n := range o.w.nodes {
		o.tell(n, lease.LeaveAsked{Cause: "test", Retire: true})
	}
	o.until(5*time.Second, "n1 stands by", o.in(o.n1, lease.Standby))
	o.run(20 * time.Second)
	o.restartArbiter(time.Second, func(d *lease.Snapshot) { *d = old })
	for _, n := range o.w.nodes {
		o.tell(n, lease.AcquireAsked{})
	}
	o.until(o.w.maxHold+o.w.budget.Hold()+10*time.Second, "somebody holds", func() bool { return o.holds(o.n1)() || o.holds(o.n2)() })
}

// attack 8. Only the holder's own agent ends a pause, after a renewal was acknowledged and its guard is armed (4.4.9).
// Whoever crashes at whatever point of it, no pause is left that one side takes for an ordinary hold.
func orderResumeCrashPoints(t *testing.T) {
	t.Run("asked by an administrator, holder silent", func(t *testing.T) {
		o := paused(t, 0)
		o.lose(o.n1)
		o.operator(func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorResume{ID: id, Lease: "pg"} })
		o.during(10*time.Minute, "nothing changes", both(o.runs(o.n1), o.recorded(lease.RecordPaused)))
	})
	for name, crash := range map[string]func(*orders){
		"agent":   func(o *orders) { o.n1.agent.kill(200 * time.Millisecond) },
		"node":    func(o *orders) { o.n1.die("crash") },
		"arbiter": func(o *orders) { o.w.arbiter.crash(100*time.Millisecond, func() {}) },
		"guard": func(o *orders) {
			if g := o.n1.guard; g != nil && g.d.Armed() > 0 {
				o.n1.reset("guard is killed")
			}
		},
	} {
		c := crashes{
			begin:  func(t *testing.T) *orders { return paused(t, 0) },
			strike: crash,
			story: func(o *orders) {
				o.tell(o.n1, lease.ResumeAsked{})
				o.run(500 * time.Millisecond)
			},
			ended: func(o *orders) bool { return o.holds(o.n1)() && o.record().State == lease.RecordHeld },
		}
		c.after = func(o *orders) {
			o.run(30 * time.Second)
			switch {
			case c.ended(o), o.holds(o.n2)(), o.phase(o.n1) == lease.Paused && o.runs(o.n1)() && o.record().State == lease.RecordPaused:
			default:
				o.fail("n1 is %s, n2 is %s, the record says %s", o.phase(o.n1), o.phase(o.n2), o.record().State)
			}
		}
		t.Run(name, c.play)
		for _, wait := range []time.Duration{0, 10 * time.Millisecond, 500 * time.Millisecond} {
			c.after = func(o *orders) {
				o.run(wait)
				o.cutAndHang(o.n1)
				o.run(time.Minute)
				o.want(o.record().State == lease.RecordPaused || o.holds(o.n2)(), "n2 is %s", o.phase(o.n2))
			}
			t.Run(fmt.Sprintf("%s, cut off %v later", name, wait), c.play)
		}
	}
}

// attack2 1, a virtual machine that is stopped for seconds, again and again (nightly snapshots), and an agent that is
// restarted: nobody's clock is shifted, Instants are raw, and a pause is taken off the deadlines that count from before
// it, once (5.3). Else the guard would reset a healthy holder, or feed for as long as the machine was stopped.
func orderMachinePauseThenAgentRestart(t *testing.T) {
	standard := func(o *orders) { o.profile(o.n1, "standard"); o.profile(o.n2, "standard"); o.w.maxHold = time.Minute }
	o := holding(t, standard)
	for range 6 { // 30 s in all, more than F
		o.stopMachine(o.n1, 4*time.Second)
		o.during(10*time.Second, "n1 holds", o.holds(o.n1))
		o.n1.agent.kill(100 * time.Millisecond)
		o.until(time.Second, "the successor is installed", func() bool { return o.phase(o.n1) == lease.Held && !o.pg(o.n1).h.View().Adopting })
		o.during(10*time.Second, "n1 holds", o.holds(o.n1))
	}
	o.want(o.n1.boots == 1 && o.epoch(o.n1) == 1, "boot %d, epoch %d", o.n1.boots, o.epoch(o.n1))

	// A renewal left before the stop, and its answer is read after it: before the guard has found the pause, and between
	// that and the agent's hearing of it.
	for _, read := range []time.Duration{20 * time.Millisecond, 120 * time.Millisecond} {
		o := holding(t, standard)
		o.keep(o.n1, "renew answer")
		o.until(3*time.Second, "a renewal is answered", func() bool { return len(o.letters(o.n1, "renew answer")) > 0 })
		o.stopMachine(o.n1, 5*time.Second)
		o.run(read)
		sent := o.under(o.n1).Sent
		o.deliver(o.letter(o.n1, "renew answer"))
		o.want(o.n1.guard.d.Lease(0).Sent == sent, "the answer was not taken")
		o.cutAndHang(o.n1)
		o.until(o.w.budget.Hold(), "n2 holds", o.holds(o.n2))
		o.want(!o.n1.alive, "n1 was not reset")
	}
}

// attack2 1. A standby is stopped for an hour, wins afterwards with a new guard, is cut off and cannot stop: the guard
// counts by the clock and not by what anybody believes about the past (5.3).
func orderMachinePauseThenNewGuard(t *testing.T) {
	o := holding(t)
	o.stopMachine(o.n2, time.Hour)
	o.tell(o.n2, lease.Jumped{Until: o.n2.now(), Size: time.Hour}) // there is no guard to tell of it; if somebody did
	o.run(10 * time.Second)
	o.tell(o.n1, lease.LeaveAsked{Cause: "test"})
	o.until(5*time.Second, "n2 holds", o.holds(o.n2))
	o.run(10 * time.Second)
	o.cutAndHang(o.n2)
	o.until(o.w.budget.Hold()+time.Second, "n1 holds", o.holds(o.n1))
	o.want(!o.n2.alive, "n2 was not reset")
}

// profile gives a node another row of the budget.
func (o *orders) profile(n *node, name string) {
	b, err := lease.Profile(name)
	if err != nil {
		o.t.Fatal(err)
	}
	n.budget, n.device = b, b
	o.w.budget = b
}
