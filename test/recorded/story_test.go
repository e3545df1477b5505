package recorded

import (
	"time"

	"github.com/leasedog/leasedog/lease"
)

// step is one of the story: what an agent asks, or what is done to the arbiter.
type step struct {
	name  string
	do    string
	lease string
	node  string   // whose client sends it
	ask   any      // a request of package lease
	tell  []string // alarms, instead
	get   string   // a path, instead
}

// long has terms under which nothing in the story runs out, however slow the machine is.
func long() lease.Terms {
	return lease.Terms{LossAfter: 10 * time.Minute, StopBudget: time.Minute, TimerSlack: time.Second, Watchdog: 5 * time.Second,
		Quantum: time.Second, Chances: 2, ResetLatency: time.Second, DriftPPM: 500}
}

const hold = 20 * time.Minute

// story has every request, every verdict and every field that agents and arbiter exchange. TestRecordingsAreWhole says what it lacks.
func story() []step {
	a, b, a2 := party("node1", 1), party("node2", 1), party("node1", 2)
	seen := func(generation uint64) lease.Stamp { return lease.Stamp{StoreID: "store-1", Generation: generation} }
	ask := func(p lease.Party, seq uint64) lease.Acquire {
		return lease.Acquire{Party: p, Seq: seq, Terms: long(), Hold: hold, Ready: true, Wait: time.Millisecond}
	}
	claim := func(epoch lease.Epoch, s lease.ClaimState) *lease.Claim {
		return &lease.Claim{Epoch: epoch, State: s, Hold: hold}
	}
	pg := func(name string, p lease.Party, body any) step {
		return step{name: name, lease: "pg", node: p.Node, ask: body}
	}
	adopts := ask(a2, 1)
	adopts.Claim, adopts.SeenEpoch, adopts.Seen = claim(1, lease.ClaimHeld), 1, seen(2)
	lastResort := ask(b, 4)
	lastResort.LastResort, lastResort.SeenEpoch = true, 1
	unsafe := ask(b, 5)
	unsafe.Hold = time.Minute
	stopped := ask(b, 6)
	stopped.Stopped, stopped.Claim = true, nil
	paused := &lease.Claim{Epoch: 1, State: lease.ClaimPaused, Hold: hold, PauseFor: time.Minute}
	list := []step{
		pg("a cluster that is new is in recovery", a, ask(a, 1)),
		{name: "a report", node: "node1", ask: lease.Report{Party: a, Seq: 2, Seen: seen(1), Leases: []lease.LeaseReport{{Lease: "pg"}}}},
		{name: "a report of the other", node: "node2", ask: lease.Report{Party: b, Seq: 1, Seen: seen(1), Leases: []lease.LeaseReport{{Lease: "pg"}, {Lease: "web"}}}},
		{do: "the recovery ends"},
		{name: "alarms", node: "node1", tell: []string{"the clock runs 900 ppm fast", "no watchdog"}},
		pg("a grant", a, ask(a, 3)),
		pg("the first renewal", a, lease.Renew{Party: a, Epoch: 1, Seq: 4, Claim: claim(1, lease.ClaimHeld)}),
		pg("denied", b, ask(b, 2)),
		pg("a renewal that hears of who waits", a, lease.Renew{Party: a, Epoch: 1, Seq: 5, Claim: claim(1, lease.ClaimHeld)}),
		{name: "a report of what was seen", node: "node2", ask: lease.Report{Party: b, Seq: 13, Seen: seen(2), Leases: []lease.LeaseReport{{Lease: "pg", SeenEpoch: 1}}}},
		pg("not the holder's own node", b, lease.Renew{Party: b, Epoch: 1, Seq: 3}),
		pg("denied, as a last resort", b, lastResort),
		pg("a renewal that hears who stands back", a, lease.Renew{Party: a, Epoch: 1, Seq: 6}),
		pg("terms that are unsafe", b, unsafe),
		pg("stopped", b, stopped),
		pg("a switchover", b, lease.Switchover{Epoch: 1, To: "node2"}),
		pg("a renewal that hears of the switchover", a, lease.Renew{Party: a, Epoch: 1, Seq: 7}),
		pg("a pause with an end", a, lease.Pause{Party: a, Epoch: 1, Seq: 8, For: time.Minute, Terms: long()}),
		pg("its end", a, lease.Resume{Party: a, Epoch: 1, Seq: 9}),
		pg("a pause without an end", a, lease.Pause{Party: a, Epoch: 1, Seq: 10, Terms: long()}),
		pg("somebody asks for its end", b, lease.ResumeAsk{}),
		pg("a renewal in a pause", a, lease.Renew{Party: a, Epoch: 1, Seq: 11, Claim: paused}),
		pg("the end of that pause", a, lease.Resume{Party: a, Epoch: 1, Seq: 12}),
		{name: "fencing of who holds", node: "node2", ask: lease.Fence{Party: b, Seq: 7, Target: "node1", Off: true, Guarded: true}},
		{name: "how who holds stands", node: "node2", ask: lease.Fence{Party: b, Seq: 8, Target: "node1", Check: true}},
		{do: "the arbiter restarts"},
		pg("denied in quarantine", b, ask(b, 9)),
		pg("the next agent adopts", a2, adopts),
		pg("superseded", a, lease.Renew{Party: a, Epoch: 1, Seq: 13}),
		pg("a renewal of the next agent, leaving", a2, lease.Renew{Party: a2, Epoch: 1, Seq: 2, Claim: claim(1, lease.ClaimLeaving)}),
		pg("a release", a2, lease.Release{Party: a2, Epoch: 1, Seq: 3}),
		pg("lost", a2, lease.Renew{Party: a2, Epoch: 1, Seq: 4}),
		{name: "fencing of who holds nothing", node: "node2", ask: lease.Fence{Party: b, Seq: 11, Target: "node1", Off: true, Guarded: true, Boot: lease.BootMark("boot-of-node1")}},
		pg("barred", a2, ask(a2, 5)),
		pg("a grant to the other", b, ask(b, 12)),
		pg("its first renewal", b, lease.Renew{Party: b, Epoch: 2, Seq: 14}),
		{name: "a report after a restart", node: "node2", ask: lease.Report{Party: b, Seq: 15}},
		{name: "the status", node: "node1", get: "/v1/clusters/" + cluster},
		{name: "the status of all", node: "node1", get: "/v1/clusters"},
		{name: "the history", node: "node1", get: "/v1/history?cluster=" + cluster + "&limit=3"},
		{do: "the disk fills up"},
		{name: "a grant that cannot be written", lease: "web", node: "node2", ask: ask(b, 20)},
		{name: "a verb that this arbiter has not", node: "node1", get: "/v1/clusters/" + cluster + "/leases/pg/steal"},
	}
	return list
}
