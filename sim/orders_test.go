package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// TestOrders plays the event orders that broke earlier wordings of the rules, each under the name by which the notes
// on them call for it. After every event the world checks that no two nodes may run, in real time, counted from the
// attribute until proven stopped or reset. What else must hold is said in each story, with the rule it guards.
func TestOrders(t *testing.T) {
	for _, s := range []struct {
		name string
		play func(*testing.T)
	}{
		{"adopt_seq", orderAdoptSeq},
		{"crossed_answers", orderCrossedAnswers},
		{"empty_db_nodes_accept_new_id", orderEmptyDBNewID},
		{"empty_db_one_node_dead", orderEmptyDBOneNodeDead},
		{"hedged_renew_two_paths", orderHedgedRenew},
		{"kill_agent_at_every_step_of_losing", orderKillInLosing},
		{"kill_agent_between_arm_and_resume", orderKillBetweenArmAndResume},
		{"kill_agent_in_leaving", orderKillInLeaving},
		{"late_release_after_reacquire", orderLateRelease},
		{"late_resume_after_arbiter_restart", orderLateResume},
		{"leaving_then_cut", orderLeavingThenCut},
		{"mutual_fence", orderMutualFence},
		{"old_instance_waiter", orderOldInstanceWaiter},
		{"one_node_reports_absurd_generation", orderAbsurdGeneration},
		{"pause_ack_lost", orderPauseAckLost},
		{"pause_ack_lost_then_dead", orderPauseAckLostThenDead},
		{"pause_arbiter_restart", orderPauseArbiterRestart},
		{"pause_then_agent_restart", orderMachinePauseThenAgentRestart},
		{"pause_then_new_guard", orderMachinePauseThenNewGuard},
		{"profile_change_on_adopt", orderProfileChangeOnAdopt},
		{"profile_change_then_holder_dies", orderProfileChangeThenHolderDies},
		{"recovery_of_paused_lease", orderRecoveryOfPausedLease},
		{"resume_crash_points", orderResumeCrashPoints},
		{"rollback_at_every_generation", orderRollback},
		{"slow_waiter_starves_peer", orderSlowWaiter},
		{"standback_then_peer_dies", orderStandBackThenPeerDies},
		{"successor_releases", orderSuccessorReleases},
		{"switchover_target_dead", orderSwitchoverTargetDead},
		{"w_longer_than_asked", orderLongerWatchdog},
	} {
		t.Run(s.name, s.play)
	}
}

// attack2 15c. The numbers of an earlier agent are far ahead. A number belongs to the instance that sent it: an adopt
// begins with its own (4.3.2), else every renewal of the successor would be refused and each restart be a loss.
func orderAdoptSeq(t *testing.T) {
	o := holding(t)
	e := o.epoch(o.n1)
	o.pg(o.n1).shift = uint64(time.Hour)
	o.run(3 * time.Second)
	o.keep(o.n1, "renew")
	o.run(time.Second)
	old := o.letter(o.n1, "renew")
	o.heal(o.n1)
	o.n1.agent.kill(100 * time.Millisecond)
	o.until(time.Second, "the successor is installed", func() bool { return o.phase(o.n1) == lease.Held && !o.pg(o.n1).h.View().Adopting })
	o.during(10*time.Second, "n1 holds", o.holds(o.n1))
	// A renewal of the earlier agent comes late, and then the arbiter forgets what it does not write: the number that
	// counts is that of the adopt.
	o.deliver(old)
	o.during(10*time.Second, "n1 holds", o.holds(o.n1))
	o.restartArbiter(100*time.Millisecond, nil)
	o.deliver(old)
	o.during(20*time.Second, "n1 holds", o.holds(o.n1))
	o.want(o.epoch(o.n1) == e && o.n1.boots == 1, "epoch %d, boot %d", o.epoch(o.n1), o.n1.boots)
}

// attack 10. The first copy of a renewal extends the hold, its answer is lost, and a copy by another path is answered
// 0.7 s later. The lease counts from the Sent of the first copy (4.4.1); a repeat is answered ok (else a second path
// would be useless) and extends nothing (4.3.3).
func orderHedgedRenew(t *testing.T) {
	o := holding(t)
	hedge := func() (received lease.Instant) {
		o.kept = nil
		o.keep(o.n1, "renew")
		o.until(time.Second, "a renewal leaves", func() bool { return len(o.letters(o.n1, "renew")) > 0 })
		sent := o.under(o.n1).Sent
		o.lose(o.n1, "renew answer")
		received = o.w.now
		o.deliver(o.letter(o.n1, "renew"))
		o.heal(o.n1)
		o.keep(o.n1, "renew")
		o.run(700 * time.Millisecond)
		o.deliver(o.letter(o.n1, "renew"))
		o.want(o.pg(o.n1).h.View().Sent == sent, "counts from %v, the first copy left at %v", o.pg(o.n1).h.View().Sent, sent)
		return received
	}
	for range 10 {
		hedge()
		o.heal(o.n1)
	}
	o.want(o.holds(o.n1)(), "every renewal was answered by its second copy, and n1 is %s", o.phase(o.n1))
	received := hedge()
	o.cutAndHang(o.n1)
	o.until(received.Add(o.w.budget.Hold()+200*time.Millisecond).Sub(o.w.now), "n2 holds when the hold of the first copy is over",
		o.holds(o.n2))
	o.want(!o.n1.alive, "n1 was not reset")
}

// attack 2. The agent dies at any point of a loss. /run says losing before the first step of the ladder, and released
// before the disarm (4.4.3); only held is taken up, and only while the guard shows that epoch armed (4.4.7): after a loss
// comes a new epoch (4.4.2).
func orderKillInLosing(t *testing.T) {
	var said lease.RunState
	strike := func(o *orders) {
		k := o.pg(o.n1)
		begun := k.phase == lease.Stopped || (k.phase == lease.Losing || k.phase == lease.Leaving) && o.n1.now().Sub(k.since) > time.Millisecond
		o.n1.agent.kill(200 * time.Millisecond)
		said = o.n1.run["pg"].State
		o.want(!begun || said != lease.RunHeld, "the loss has begun, and /run says %q", said)
	}
	after := func(o *orders) {
		e := lease.Epoch(1)
		heldAgain := func() bool { return o.phase(o.n1) == lease.Held && o.epoch(o.n1) == e }
		o.heal(o.n1)
		limit := o.w.now.Add(o.w.budget.Hold() + 10*time.Second)
		for !o.holds(o.n2)() && !o.holds(o.n1)() || o.record().Epoch == e {
			o.want(o.w.now < limit, "nobody holds a new epoch")
			o.want(!heldAgain() || said == lease.RunHeld, "n1 holds epoch %d again, /run said %q", e, said)
			o.one()
			if said == lease.RunHeld && o.holds(o.n1)() {
				return // it had not begun to lose as far as anybody can know
			}
		}
		o.want(o.n1.boots == 1, "n1 was reset")
	}
	c := crashes{strike: strike, after: after, ended: func(o *orders) bool { return !o.runs(o.n1)() && !o.guarded(o.n1) }}
	c.begin = func(t *testing.T) *orders {
		o := holding(t)
		o.lose(o.n1)
		o.until(4*time.Second, "n1 loses", o.in(o.n1, lease.Losing))
		return o
	}
	c.story = func(o *orders) { o.run(3 * time.Second) }
	t.Run("silence", c.play)
	c.begin = func(t *testing.T) *orders { return holding(t) }
	c.story = func(o *orders) {
		o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
		o.run(3 * time.Second)
	}
	t.Run("leave", c.play)
	// Lost with time left, since the record says released. n2 does not come into it.
	c.begin = func(t *testing.T) *orders {
		o := holding(t)
		o.lose(o.n2)
		o.run(4 * time.Second)
		o.restartArbiter(10*time.Millisecond, func(d *lease.Snapshot) {
			d.Leases = slices.Clone(d.Leases)
			d.Leases[0].State = lease.RecordFree
		})
		o.until(time.Second, "n1 loses", o.in(o.n1, lease.Losing))
		return o
	}
	c.story = func(o *orders) { o.run(time.Second) }
	c.ended = func(o *orders) bool { return o.phase(o.n1) == lease.Standby }
	c.after = func(o *orders) {
		if said != lease.RunHeld {
			o.during(2*time.Second, "epoch 1 is not held again", func() bool { return o.phase(o.n1) != lease.Held || o.epoch(o.n1) > 1 })
		}
		o.until(5*time.Second, "n1 has stopped what epoch 1 ran", func() bool { return !o.runs(o.n1)() || o.record().Epoch > 1 })
	}
	t.Run("lost", c.play)
}

// attack2 9. A planned loss goes on over the death of the agent: leaving is taken up as leaving, renewals go on, and a
// stop that takes longer than F costs no reset (4.4.7, 4.4.2).
func orderKillInLeaving(t *testing.T) {
	var said lease.RunState
	crashes{
		begin: func(t *testing.T) *orders {
			o := holding(t)
			o.n1.stops = "hang"
			return o
		},
		strike: func(o *orders) {
			o.n1.agent.kill(200 * time.Millisecond)
			said = o.n1.run["pg"].State
		},
		story: func(o *orders) {
			o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
			o.run(2 * time.Second)
		},
		ended: func(o *orders) bool { return o.phase(o.n1) == lease.Leaving },
		after: func(o *orders) {
			if said == lease.RunHeld {
				o.run(time.Second) // nobody knows that a leave was asked
				o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
			}
			o.until(time.Second, "the leaving is taken up", o.in(o.n1, lease.Leaving))
			o.during(3*o.w.budget.HardDeadline(), "n1 leaves, in peace", o.in(o.n1, lease.Leaving))
			o.n1.healStops()
			o.until(3*time.Second, "n2 holds", o.holds(o.n2))
			o.want(o.n1.boots == 1 && o.n1.alive, "n1 was reset")
		},
	}.play(t)
}

// attack 1. A releases, the release is on its way for long, A takes the lease again, and then the release comes. An
// acquire from standby always gets a new epoch (4.3.2), so that it names an old one; and a release counts only with a
// number above the last (4.3.4).
func orderLateRelease(t *testing.T) {
	o := holding(t)
	o.keep(o.n1, "release")
	o.lose(o.n2)
	o.tell(o.n1, lease.LeaveAsked{Cause: "test"})
	o.until(15*time.Second, "n1 has given up to be heard", o.in(o.n1, lease.Standby))
	o.until(15*time.Second, "n1 holds again", o.holds(o.n1))
	o.want(o.epoch(o.n1) == 2, "the epoch is %d", o.epoch(o.n1))
	o.heal(o.n2)
	o.until(10*time.Second, "n2 waits", o.waits(o.n2))
	late := o.letters(o.n1, "release")
	o.want(len(late) > 1, "%d releases are on their way", len(late))
	o.deliver(late...)
	o.during(5*time.Second, "n1 holds", o.holds(o.n1))
	// Nobody sends the new epoch with an old number. If somebody did:
	a := o.ask(lease.Release{Party: o.n1.agent.self, Epoch: 2, Seq: o.pg(o.n1).sent.Seq, Seen: o.w.arbiter.disk.Cluster.Stamp})
	o.want(a.Verdict == lease.Refused, "a release with the number of a renewal is answered %s", a.Verdict)
	o.during(20*time.Second, "n1 holds", o.holds(o.n1))
}

// attack2 9. Cut off while it leaves, and Pacemaker's own stop hangs: losing at Sent+L, the ladder forces the stop, and if
// that does not help either, the guard resets (4.4.2, 4.4.4). An acknowledgement that comes after it brings nothing back.
func orderLeavingThenCut(t *testing.T) {
	odd := func(o *orders) { // L falls between a renewal and its deadline
		for _, n := range o.w.nodes {
			n.budget.LossAfter += 400 * time.Millisecond
			n.budget.StopBudget -= 400 * time.Millisecond
			n.device = n.budget
		}
		o.w.budget = o.n1.budget
	}
	for _, forcible := range []bool{true, false} {
		o := holding(t, odd)
		o.n1.stops, o.n1.forcible, o.n1.outage = "hang", forcible, 1000*time.Hour
		o.tell(o.n1, lease.LeaveAsked{Cause: "test"})
		o.until(time.Second, "n1 leaves", o.in(o.n1, lease.Leaving))
		o.during(10*time.Second, "n1 leaves, in peace", o.in(o.n1, lease.Leaving))
		o.keep(o.n1, "renew answer")
		o.until(o.w.budget.LossAfter+time.Second, "n1 loses", o.in(o.n1, lease.Losing))
		o.lose(o.n1)
		late := o.letters(o.n1, "renew answer")
		o.w.after(time.Millisecond, late[len(late)-1].happen)
		o.during(20*time.Millisecond, "n1 loses", o.in(o.n1, lease.Losing))
		o.until(o.w.budget.Hold()+5*time.Second, "n2 holds", o.holds(o.n2))
		o.want(o.n1.alive == forcible, "forcible %v, n1 alive %v", forcible, o.n1.alive)
	}
}

// attack 23. Two agents of one boot wait at once. The newer cancels the older's polls and the older is superseded, so
// that no grant goes where nobody listens; and an older one's adopt, which comes late, does not take the lease away from
// the newer (4.3, the head; 4.3.2).
func orderOldInstanceWaiter(t *testing.T) {
	t.Run("late acquire", func(t *testing.T) {
		o := holding(t)
		o.keep(o.n2, "acquire")
		o.until(5*time.Second, "an acquire of the older one is under way", func() bool { return len(o.letters(o.n2, "acquire")) > 0 })
		o.heal(o.n2)
		o.n2.agent.kill(100 * time.Millisecond)
		o.until(2*time.Second, "the newer one waits", o.waits(o.n2))
		o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
		o.until(time.Second, "n1 stops", o.in(o.n1, lease.Stopped))
		o.deliver(o.letter(o.n2, "acquire"))
		o.until(time.Second, "n2 holds", o.holds(o.n2))
		o.want(o.epoch(o.n2) == 2, "epoch %d: a grant went where nobody listens", o.epoch(o.n2))
	})
	t.Run("parked poll", func(t *testing.T) {
		o := holding(t, func(o *orders) { o.w.leases = []string{"pg", "web"} })
		o.until(5*time.Second, "the older one's poll was parked just now", func() bool {
			return o.waits(o.n2)() && o.n2.now().Sub(o.under(o.n2).Sent) < 50*time.Millisecond
		})
		o.n2.agent.kill(50 * time.Millisecond)
		o.keep(o.n2, "pg acquire")
		o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
		o.until(time.Second, "the newer one has asked for web, and for pg in vain", func() bool { return len(o.letters(o.n2, "acquire")) > 0 })
		o.until(time.Second, "the lease is free", func() bool { return o.phase(o.n1) == lease.Standby })
		o.run(100 * time.Millisecond)
		o.want(o.record().Epoch == 1, "epoch %d went where nobody listens", o.record().Epoch)
		o.heal(o.n2)
		o.deliver(o.letter(o.n2, "acquire"))
		o.until(time.Second, "n2 holds pg", o.in(o.n2, lease.Held))
	})
	for _, restart := range []bool{false, true} {
		o := holding(t)
		o.keep(o.n1, "adopt")
		o.n1.agent.kill(100 * time.Millisecond)
		o.until(time.Second, "the second agent's adopt is under way", func() bool { return len(o.letters(o.n1, "adopt")) > 0 })
		second := o.letter(o.n1, "adopt")
		o.heal(o.n1)
		o.n1.agent.kill(100 * time.Millisecond)
		o.until(time.Second, "the third is installed", func() bool { return o.phase(o.n1) == lease.Held && !o.pg(o.n1).h.View().Adopting })
		if restart {
			o.restartArbiter(100*time.Millisecond, nil)
		}
		o.deliver(second)
		o.during(20*time.Second, "n1 holds", o.holds(o.n1))
	}
}

// attack2 15b. The agent is killed before its release leaves. Its successor has another instance, and never adopts what is
// being lost: it releases all the same, with a number above the last one (4.3.4), also when it has already spoken for
// another lease. The peer does not wait for the hold.
func orderSuccessorReleases(t *testing.T) {
	for _, leases := range [][]string{{"pg"}, {"pg", "web"}} {
		o := holding(t, func(o *orders) { o.w.leases = leases })
		o.keep(o.n1, "pg release")
		o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
		o.until(time.Second, "the release is under way", func() bool { return len(o.letters(o.n1, "release")) > 0 })
		o.n1.agent.kill(100 * time.Millisecond)
		o.kept = nil
		o.heal(o.n1)
		o.until(500*time.Millisecond, "a successor starts", func() bool { return !o.n1.agent.dead })
		o.until(o.w.budget.RenewEvery/2, "n2 holds pg", o.in(o.n2, lease.Held))
		o.want(o.n1.boots == 1, "n1 was reset")
	}
}

// attack2 12d. The watchdog's real timeout shows only when the guard opens its device: longer than the grant counts on.
// The attribute is not put, the lease is given back, and asked for again with a hold that fits (4.4.3, 4.3.9).
func orderLongerWatchdog(t *testing.T) {
	o := newOrders(t)
	o.w.maxHold = time.Minute
	o.restartArbiter(time.Millisecond, nil)
	o.n1.device = o.n1.budget.WithWatchdog(5 * time.Second)
	o.n1.boot()
	o.until(3*time.Second, "the guard has read the real timeout, and the lease was given back", func() bool {
		return o.record().Epoch == 1 && o.record().State == lease.RecordFree
	})
	o.want(o.n1.res["pg"].attr == 0 && !o.n1.res["pg"].runs, "the attribute was put")
	o.pg(o.n1).h.SetBudget(o.n1.device) // the next preflight reads what the guard has left
	o.until(10*time.Second, "n1 holds", o.holds(o.n1))
	o.want(o.record().Hold == o.n1.device.Hold() && o.record().Hold > o.n1.budget.Hold(), "the hold is %v", o.record().Hold)
	o.n2.boot()
	o.until(5*time.Second, "n2 waits", o.waits(o.n2))
	o.cutAndHang(o.n1)
	o.until(o.n1.device.Hold()+time.Second, "n2 holds", o.holds(o.n2))
}
