package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// attack2 5d. A renewal's answer is on its way while a long poll of another lease is answered with a higher generation,
// and is read after it. An answer is judged by what the node knew when the request left (4.3.7): it counts.
func orderCrossedAnswers(t *testing.T) {
	o := holding(t, func(o *orders) { o.w.leases = []string{"pg", "web"} })
	web := func(n *node) *keeper { return n.agent.keeper("web") }
	web(o.n1).step(lease.LeaveAsked{Cause: "test"})
	o.until(5*time.Second, "web is on n2", func() bool { return web(o.n2).h.View().Phase == lease.Held })
	o.until(8*time.Second, "n1 waits for web", func() bool { return web(o.n1).h.View().Phase == lease.Acquiring })
	o.run(2 * time.Second)
	o.keep(o.n1, "pg renew answer")
	o.until(time.Second, "a renewal of pg is answered", func() bool { return len(o.letters(o.n1, "renew answer")) > 0 })
	o.lose(o.n1, "pg renew")
	sent, before := o.under(o.n1).Sent, o.view().Stamp
	web(o.n2).step(lease.LeaveAsked{Cause: "test", Retire: true})
	o.until(700*time.Millisecond, "n1 has a newer answer about web", func() bool { return web(o.n1).h.View().Phase != lease.Acquiring })
	o.want(o.n1.agent.known.Stamp.Generation > before.Generation, "n1 knows %v, which is not newer than %v", o.n1.agent.known.Stamp, before)
	o.deliver(o.letter(o.n1, "renew answer"))
	o.want(o.pg(o.n1).h.View().Sent == sent, "the acknowledgement was dropped")
	o.run(o.n1.clock.real(sent.Add(o.w.budget.LossAfter - 900*time.Millisecond)).Sub(o.w.now))
	o.heal(o.n1)
	o.during(20*time.Second, "n1 holds pg", o.in(o.n1, lease.Held))
}

// attack2 5a. The store is lost. The nodes take the new id from an answer that names what their very request had seen,
// and never listen to the old store again, a late answer included (4.3.7). The holder goes on; the peer is granted when
// everything that may exist was waited out.
func orderEmptyDBNewID(t *testing.T) {
	o := holding(t, func(o *orders) { o.w.leases = []string{"pg", "web"} })
	o.keep(o.n2, "acquire answer")
	o.until(5*time.Second, "the old store has answered n2 twice", func() bool {
		return len(o.letters(o.n2, "acquire answer")) == 1 && len(o.letters(o.n2, "web acquire answer")) == 1
	})
	o.heal(o.n2)
	o.restartArbiter(10*time.Millisecond, func(d *lease.Snapshot) { *d = lease.Snapshot{} })
	lost := o.w.now
	o.deliver(o.letter(o.n2, "web acquire answer"))
	o.until(700*time.Millisecond, "n2 has taken the new id", func() bool { return o.n2.agent.known.Stamp.StoreID != "storeA" })
	fresh := o.n2.agent.known.Stamp.StoreID
	o.want(o.asks(o.n2, lease.Acquire{}), "n2 does not wait for the answer any more")
	heard := o.pg(o.n2).h.View().LastAnswer
	o.w.after(time.Millisecond, o.letter(o.n2, "acquire answer").happen)
	o.during(5*time.Millisecond, "n2 listens to the new store only", func() bool {
		return o.n2.agent.known.Stamp.StoreID == fresh && o.pg(o.n2).h.View().LastAnswer == heard
	})
	o.during(3*time.Second, "n1 holds", o.holds(o.n1))
	o.want(o.n1.agent.known.Stamp.StoreID == fresh && slices.Contains(o.n1.agent.known.DeadStores, "storeA"), "n1 knows %+v", o.n1.agent.known)
	for _, k := range o.n1.agent.keepers {
		k.step(lease.LeaveAsked{Cause: "test", Retire: true})
	}
	o.until(20*time.Second, "n2 holds", o.holds(o.n2))
	o.want(o.w.now.Sub(lost) > o.w.maxHold && o.n1.boots == 1, "%v after the loss, n1's boot %d", o.w.now.Sub(lost), o.n1.boots)
}

// attack 24b. The store is lost and the peer is dead: the holder's claim is taken back, it may renew at once and goes on
// for ever. Only a new grant waits for both nodes, or for an operator (4.3.7).
func orderEmptyDBOneNodeDead(t *testing.T) {
	o := holding(t)
	o.gone(o.n2)
	o.restartArbiter(50*time.Millisecond, func(d *lease.Snapshot) { *d = lease.Snapshot{} })
	o.during(10*time.Minute, "n1 holds", o.holds(o.n1))
	o.tell(o.n1, lease.LeaveAsked{Cause: "test"})
	o.until(5*time.Second, "n1 stands by", o.in(o.n1, lease.Acquiring))
	o.during(5*time.Minute, "nobody is granted without the other node's word", not(o.runs(o.n1)))
	o.operator(func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorRecover{ID: id} })
	o.until(5*time.Second, "n1 holds", o.holds(o.n1))
	// The other one may have won epochs that nobody here has heard of: they are left out.
	o.want(o.epoch(o.n1) > 1000 && o.n1.boots == 1, "epoch %d, boot %d", o.epoch(o.n1), o.n1.boots)
}

// attack 20, with the arbiter's own bar. The heartbeat is cut and each node has the other one fenced: one bar at most
// stands, and never one of a node that holds or may hold; who is barred is refused everything until it boots anew (4.3.13).
func orderMutualFence(t *testing.T) {
	bar := func(o *orders, n *node) lease.Verdict {
		return o.operator(func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorBar{ID: id, Node: n.name} }).Verdict
	}
	fence := func(o *orders, by, target *node) lease.Verdict {
		return o.operator(func(id lease.RequestID) lease.GrantorEvent {
			return lease.Request{ID: id, Body: lease.Fence{Party: by.agent.self, Seq: 1, Seen: by.agent.known.Stamp, Target: target.name, Guarded: true}}
		}).Verdict
	}
	t.Run("one holds", func(t *testing.T) {
		o := holding(t)
		o.want(fence(o, o.n2, o.n1) == lease.Denied, "a holder was fenced")
		o.want(fence(o, o.n1, o.n2) == lease.OK, "a standby was not fenced")
		o.want(fence(o, o.n2, o.n1) == lease.Barred, "both are barred")
		o.want(bar(o, o.n1) == lease.Refused, "a holder was barred")
		o.during(20*time.Second, "n1 holds", o.holds(o.n1))
		o.want(o.n1.boots == 1 && o.n2.boots == 2, "boots %d and %d", o.n1.boots, o.n2.boots)
		o.until(10*time.Second, "n2's new boot waits", o.waits(o.n2))
		o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
		o.until(5*time.Second, "n2 holds", o.holds(o.n2))
	})
	t.Run("the holder is dead", func(t *testing.T) {
		o := holding(t)
		o.gone(o.n1)
		died := o.w.now
		o.until(o.w.maxHold+time.Second, "n1 is fenced", func() bool { return fence(o, o.n2, o.n1) == lease.OK })
		o.want(o.w.now.Sub(died) > o.n2.budget.Hold()-o.n2.budget.RenewEvery-time.Second, "n1 was fenced %v after its death", o.w.now.Sub(died))
		o.until(5*time.Second, "n2 holds", o.holds(o.n2))
	})
	t.Run("nobody holds", func(t *testing.T) {
		o := holding(t)
		o.tell(o.n2, lease.LeaveAsked{Cause: "test", Retire: true})
		o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
		o.until(5*time.Second, "the lease is free", o.recorded(lease.RecordFree))
		o.run(5 * time.Second)
		o.want(bar(o, o.n1) == lease.OK, "n1 was not barred")
		o.want(bar(o, o.n2) == lease.Refused, "both are barred")
		o.tell(o.n1, lease.AcquireAsked{})
		o.tell(o.n2, lease.AcquireAsked{})
		o.until(10*time.Second, "n2 holds", o.holds(o.n2))
	})
	t.Run("one may hold", func(t *testing.T) {
		o := holding(t)
		o.restartArbiter(10*time.Millisecond, nil)
		o.want(bar(o, o.n1) == lease.Refused, "a node in quarantine was barred")
		o.during(20*time.Second, "n1 holds", o.holds(o.n1))
		o.pause(0)
		o.want(bar(o, o.n1) == lease.Refused, "a paused node was barred")

		o = newOrders(t)
		o.n1.boot()
		o.keep(o.n1, "renew")
		o.until(5*time.Second, "n1 has a grant that is not renewed", func() bool { return len(o.letters(o.n1, "renew")) > 0 })
		o.want(bar(o, o.n1) == lease.Refused, "a node with a grant was barred")

		o = holding(t)
		o.restartArbiter(10*time.Millisecond, func(d *lease.Snapshot) { *d = lease.Snapshot{} })
		o.until(5*time.Second, "a recovery goes on, and both have spoken", func() bool {
			return o.view().Recovery != "" && len(o.view().Nodes) == 2
		})
		o.want(bar(o, o.n1) == lease.Refused && bar(o, o.n2) == lease.Refused, "a node was barred in a recovery")
	})
}

// attack2 5c. One node's file is corrupt: it says that it has seen a generation, or an epoch, absurdly far ahead. It is
// refused with an alarm; the others do not go through a recovery (4.3.7).
func orderAbsurdGeneration(t *testing.T) {
	for name, corrupt := range map[string]func(*lease.Known){
		"generation": func(k *lease.Known) { k.Stamp.Generation = 1 << 63 },
		"epoch":      func(k *lease.Known) { k.Epochs = map[string]lease.Epoch{"pg": 1 << 60} },
	} {
		t.Run(name, func(t *testing.T) {
			o := holding(t)
			was := o.w.arbiter.disk.Cluster
			o.n2.agent.kill(100 * time.Millisecond)
			good := o.n2.disk
			o.n2.disk = good.Clone()
			corrupt(&o.n2.disk)
			o.during(20*time.Second, "n1 holds", o.holds(o.n1))
			o.want(strings.Contains(o.w.trace.String(), "alarm") && o.phase(o.n2) == lease.Acquiring, "no alarm, n2 is %s", o.phase(o.n2))
			now := o.w.arbiter.disk.Cluster
			o.want(now.Stamp.StoreID == was.Stamp.StoreID && !now.Recovery, "the cluster went through a recovery: %+v", now)
			o.n2.agent.kill(100 * time.Millisecond)
			o.n2.disk = good
			o.until(5*time.Second, "n2 waits", o.waits(o.n2))
			o.tell(o.n1, lease.LeaveAsked{Cause: "test", Retire: true})
			o.until(5*time.Second, "n2 holds", o.holds(o.n2))
		})
	}
}

// attack 6. The profile goes from standard to fast and the agent is restarted. Hold and budget belong to the grant: the
// successor goes on with the ones it was granted with, and an adopt that asks for others changes nothing (4.3.9).
func orderProfileChangeOnAdopt(t *testing.T) {
	o := holding(t, func(o *orders) { o.profile(o.n1, "standard"); o.profile(o.n2, "standard"); o.w.maxHold = time.Minute })
	standard, device := o.w.budget, o.n1.device
	fast, _ := lease.Profile("fast")
	o.n1.budget, o.n2.budget, o.n2.device = fast, fast, fast // n1's guard has its device open as it was
	o.n2.agent.kill(100 * time.Millisecond)
	o.keep(o.n1, "adopt")
	o.n1.agent.kill(100 * time.Millisecond)
	o.until(time.Second, "the adopt is under way", func() bool { return len(o.letters(o.n1, "adopt")) > 0 })
	// What another version of the agent might ask for, with the same number.
	end := o.holdEnd()
	a := o.ask(lease.Acquire{Party: o.n1.agent.self, Seq: o.under(o.n1).Seq, Claim: &lease.Claim{Epoch: 1, State: lease.ClaimHeld, Hold: fast.Hold()},
		SeenEpoch: 1, Seen: o.w.arbiter.disk.Cluster.Stamp, Terms: fast.Terms, Hold: fast.Hold(), Ready: true})
	o.want(a.Verdict == lease.Adopted && a.Hold == standard.Hold(), "%s with a hold of %v", a.Verdict, a.Hold)
	o.want(o.record().Hold == standard.Hold() && o.holdEnd() == end, "the hold is %v now, and ends at %v instead of %v",
		o.record().Hold, o.holdEnd(), end)
	o.heal(o.n1)
	o.until(5*time.Second, "the successor is installed", func() bool { return o.phase(o.n1) == lease.Held && !o.pg(o.n1).h.View().Adopting })
	o.until(5*time.Second, "n2 waits", o.waits(o.n2))
	o.run(5 * time.Second)
	o.lose(o.n1) // for longer than fast would bear, and less than L of standard
	o.during(6*time.Second, "n1 holds", o.holds(o.n1))
	o.heal(o.n1)
	o.during(40*time.Second, "n1 holds", o.holds(o.n1))
	o.want(o.n1.device == device && o.epoch(o.n1) == 1, "epoch %d", o.epoch(o.n1))
	o.cutAndHang(o.n1)
	o.until(standard.Hold()+time.Second, "n2 holds", o.holds(o.n2))
	o.want(o.record().Hold == fast.Hold(), "n2's hold is %v", o.record().Hold)
}

// attack2 11. In the middle of a change from standard to lan the holder dies. Different holds are an alarm and never a
// refusal, and each grant is waited out by its own (4.3.9).
func orderProfileChangeThenHolderDies(t *testing.T) {
	for _, dead := range []bool{true, false} {
		o := holding(t, func(o *orders) { o.profile(o.n1, "standard"); o.profile(o.n2, "standard"); o.w.maxHold = time.Minute })
		standard := o.w.budget
		lan, _ := lease.Profile("lan")
		o.n2.budget, o.n2.device = lan, lan
		o.n2.agent.kill(100 * time.Millisecond)
		o.until(5*time.Second, "n2 waits", func() bool { return !o.n2.agent.dead && o.waits(o.n2)() })
		o.run(3 * time.Second)
		if dead {
			o.gone(o.n1)
		} else {
			o.cutAndHang(o.n1)
		}
		o.during(standard.Hold()-3*time.Second, "n2 waits for the hold of n1", not(o.runs(o.n2)))
		o.until(4*time.Second, "n2 holds", o.holds(o.n2))
		o.want(o.record().Hold == o.n2.budget.Hold(), "n2's hold is %v", o.record().Hold)
		o.want(strings.Contains(o.w.trace.String(), "are their configurations the same?"), "no alarm")
	}
}

// attack 9. The arbiter's store goes back to what it was at every generation, under every state of a history with grants,
// an adopt, pauses, resumes and releases; the holder is cut off for a moment, or for good and cannot stop. Each durable
// change raises the generation, which the nodes tell (4.3.7): what is behind is rebuilt from their claims.
func orderRollback(t *testing.T) {
	// The store of a moment when n1 held comes back while n2 holds and is cut off. n1 stands by and has seen nothing newer:
	// it is on record, and that is no claim. In quarantine it waits like anybody else (4.3.6).
	for _, forGood := range []bool{false, true} {
		o := holding(t)
		old := o.w.arbiter.disk
		o.lose(o.n1)
		o.until(20*time.Second, "n2 holds", o.holds(o.n2))
		o.until(10*time.Second, "n1 wants to compete again", o.in(o.n1, lease.Acquiring))
		o.run(2 * time.Second)
		if forGood {
			o.cutAndHang(o.n2)
		} else {
			o.lose(o.n2)
		}
		o.restartArbiter(50*time.Millisecond, func(d *lease.Snapshot) { *d = old })
		o.heal(o.n1)
		if forGood {
			o.w.check.won["pg"] = 1 // nobody is left who has seen epoch 2: that it is granted again, no rule can prevent
			o.until(20*time.Second, "n1 holds", o.holds(o.n1))
			o.want(!o.n2.alive, "n2 was not reset")
			continue
		}
		o.during(time.Second, "n2 holds", o.holds(o.n2))
		o.heal(o.n2)
		o.during(30*time.Second, "n2 holds", o.holds(o.n2))
	}
	move := func(from, to *node) func(*orders) {
		return func(o *orders) {
			o.tell(from, lease.LeaveAsked{Cause: "test"})
			o.until(10*time.Second, "it moves", o.holds(to))
			o.until(10*time.Second, "the other waits", o.waits(from))
		}
	}
	stop := func(o *orders) { o.pause(0) }
	resume := func(o *orders) {
		o.tell(o.n1, lease.ResumeAsked{})
		o.until(10*time.Second, "n1 holds", o.holds(o.n1))
	}
	swap := func(o *orders) { o.n1, o.n2 = o.n2, o.n1 } // n1 is who holds
	there := func(o *orders) { move(o.n1, o.n2)(o); swap(o) }
	restart := func(o *orders) {
		o.n1.agent.kill(100 * time.Millisecond)
		o.until(5*time.Second, "the successor is installed", func() bool { return o.phase(o.n1) == lease.Held && !o.pg(o.n1).h.View().Adopting })
	}
	history := []func(*orders){restart, stop, resume, there, stop, resume, there, restart, stop}
	play := func(steps int) (*orders, []lease.Snapshot) {
		o := holding(t)
		disks := []lease.Snapshot{lease.NewClusterSnapshot("storeA")}
		for _, step := range append([]func(*orders){func(*orders) {}}, history[:steps]...) {
			step(o)
			o.run(4 * time.Second) // a poll of the other node brings it the generation
			if d := o.w.arbiter.disk; d.Cluster.Stamp != disks[len(disks)-1].Cluster.Stamp {
				disks = append(disks, d)
			}
		}
		return o, disks
	}
	for steps := range len(history) + 1 {
		_, disks := play(steps)
		for back := range len(disks) - 1 {
			for _, forGood := range []bool{false, true} {
				o, disks := play(steps)
				o.w.log("ROLLBACK from %v to %v, for good %v", o.w.arbiter.disk.Cluster.Stamp, disks[back].Cluster.Stamp, forGood)
				pausedThen := o.phase(o.n1) == lease.Paused
				if forGood {
					o.cutAndHang(o.n1)
				} else {
					o.lose(o.n1)
				}
				o.restartArbiter(50*time.Millisecond, func(d *lease.Snapshot) { *d = disks[back] })
				o.run(time.Second)
				if forGood {
					o.run(2 * time.Minute)
					o.want(!pausedThen || o.runs(o.n1)(), "a paused node was stopped")
					continue
				}
				o.heal(o.n1)
				if pausedThen {
					o.n1.agent.kill(100 * time.Millisecond) // it speaks when it is restarted
				}
				o.until(2*time.Minute, "somebody holds, or is paused as before", func() bool {
					return o.holds(o.n1)() || o.holds(o.n2)() || pausedThen && o.phase(o.n1) == lease.Paused && !o.pg(o.n1).h.View().Adopting
				})
				o.run(20 * time.Second)
				o.want(!pausedThen || o.runs(o.n1)() && o.record().State == lease.RecordPaused, "the pause is gone: the record says %s", o.record().State)
			}
		}
	}
}

// attack 23. n2 never gets an answer in time, and asks all the same. A grant carries no time, lapses without a first
// renewal within L, and its node waits behind every other (4.3.1): n1 is not starved.
func orderSlowWaiter(t *testing.T) {
	o := newOrders(t)
	o.lose(o.n2, "acquire answer")
	o.n2.boot()
	o.until(5*time.Second, "n2 was granted, and does not know", func() bool { return o.record().Epoch > 0 })
	o.n1.boot()
	o.until(2*o.w.budget.LossAfter, "n1 holds", o.holds(o.n1))
	for range 3 {
		o.run(5 * time.Second)
		o.tell(o.n1, lease.LeaveAsked{Cause: "test"})
		o.until(5*time.Second, "n1 leaves", o.in(o.n1, lease.Standby))
		o.until(8*time.Second+o.w.budget.LossAfter, "n1 holds again", o.holds(o.n1))
	}
	o.run(5 * time.Second)
	end := o.holdEnd() // an adopt restarts no hold either
	o.lose(o.n1, "renew")
	o.n1.agent.kill(100 * time.Millisecond)
	o.until(2*time.Second, "the successor is installed", func() bool { return o.phase(o.n1) == lease.Held && !o.pg(o.n1).h.View().Adopting })
	o.want(o.holdEnd() == end, "the adopt moved the end of the hold by %v", o.holdEnd().Sub(end))

	// n2's connections break: it asks anew at once, and waits longer than n1 when its grant lapses.
	o = newOrders(t)
	o.lose(o.n2, "acquire answer")
	o.n2.boot()
	o.until(5*time.Second, "n2 was granted, and does not know", func() bool { return o.record().Epoch > 0 })
	o.tell(o.n2, lease.Failed{Seq: o.under(o.n2).Seq, Err: "connection reset by peer"})
	o.until(time.Second, "n2 waits again", o.waits(o.n2))
	o.n1.boot()
	o.until(o.w.budget.LossAfter+time.Second, "n1 holds", o.holds(o.n1))
	o.want(o.epoch(o.n1) == 2, "epoch %d: n2 was granted again", o.epoch(o.n1))
}

// attack2 15a. n1 gave the lease up and stands back for minutes; then the peer dies. Who stands back goes on waiting, as
// last resort: a free lease is never without an owner (4.3.1).
func orderStandBackThenPeerDies(t *testing.T) {
	o := holding(t)
	o.n1.cannotRun = true
	for range 3 { // n1 gets it back, since nobody else wants it, and gives it up again: it stands back longer each time
		o.until(20*time.Second, "n2 holds", o.holds(o.n2))
		o.tell(o.n2, lease.LeaveAsked{Cause: "test", Retire: true})
		o.until(10*time.Second, "n1 holds", o.holds(o.n1))
		o.tell(o.n2, lease.AcquireAsked{})
	}
	o.until(20*time.Second, "n2 holds", o.holds(o.n2))
	o.n1.cannotRun = false
	o.run(20 * time.Second)
	o.want(o.n1.now() < o.pg(o.n1).h.View().StandBack, "n1 stands back no more")
	o.gone(o.n2)
	o.until(o.w.budget.Hold()+3*time.Second, "n1 holds", o.holds(o.n1))
}

// attack 25b. A switchover's target cannot take the lease: it does not wait, or dies when it was accepted. Refused
// without a live waiter, the reservation ends, and the request is for one epoch: it is not played again (4.3.12).
func orderSwitchoverTargetDead(t *testing.T) {
	ask := func(o *orders, e lease.Epoch) lease.Answer { return o.ask(lease.Switchover{To: "n2", Epoch: e}) }
	o := holding(t)
	o.want(ask(o, 7).Verdict == lease.Refused, "a switchover of another epoch was accepted")
	o.want(ask(o, 1).Verdict == lease.OK, "a switchover was refused")
	o.gone(o.n2)
	o.until(2*time.Second, "n1 leaves", o.in(o.n1, lease.Leaving))
	o.until(15*time.Second, "n1 stands by", o.in(o.n1, lease.Acquiring))
	o.until(o.w.budget.Hold()+time.Second, "n1 holds again", o.holds(o.n1))
	o.during(30*time.Second, "n1 holds", o.holds(o.n1))
	o.want(ask(o, 0).Verdict == lease.Refused, "a switchover to a dead node was accepted")
	o.during(30*time.Second, "n1 holds", o.holds(o.n1))

	// The holder does not hear of it, loses the lease and gets it again with a new epoch: it is not asked to leave that.
	o = holding(t)
	o.lose(o.n1, "renew answer")
	o.want(ask(o, 1).Verdict == lease.OK, "a switchover was refused")
	o.gone(o.n2)
	o.until(5*time.Second, "n1 loses", o.in(o.n1, lease.Losing))
	o.heal(o.n1)
	o.until(20*time.Second, "n1 holds again", o.holds(o.n1))
	o.during(30*time.Second, "n1 holds", o.holds(o.n1))
	o.want(o.epoch(o.n1) == 2, "epoch %d", o.epoch(o.n1))

	// The arbiter forgets it in a restart: the administrator asks again.
	o = holding(t)
	o.lose(o.n1, "renew answer")
	o.want(ask(o, 1).Verdict == lease.OK, "a switchover was refused")
	o.restartArbiter(100*time.Millisecond, nil)
	o.heal(o.n1)
	o.during(30*time.Second, "n1 holds", o.holds(o.n1))
}
