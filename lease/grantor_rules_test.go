package lease

import (
	"testing"
	"time"
)

// TestRenewNeverShortens (attack 6): no renewal brings the end of a hold nearer, also not in a pause.
func TestRenewNeverShortens(t *testing.T) {
	for _, pause := range []string{"", "pause a", "pause a for=1h"} {
		w := newGrantorWorld(t)
		w.run("acquire a profile=standard")
		w.run("renew a")
		if pause != "" {
			w.run(pause)
		}
		before := w.g.leases["pg"].holdEnd
		w.run("time 1s")
		w.run("renew a")
		if after := w.g.leases["pg"].holdEnd; after < before {
			t.Errorf("%q: the hold ended at %v, after a renewal at %v", pause, before, after)
		}
	}
}

// A record without a hold is waited out for the longest one that may have been granted.
func TestQuarantineWithoutARecordedHold(t *testing.T) {
	for _, c := range []struct {
		name string
		rec  Record
		want time.Duration
	}{
		{"held", Record{State: RecordHeld}, time.Minute},
		{"an earlier hold of its boot is longer", Record{State: RecordHeld, Carry: 2 * time.Minute}, 2 * time.Minute},
		{"paused for longer", Record{State: RecordPaused, PauseFor: time.Hour, PauseHold: 61 * time.Minute}, 61 * time.Minute},
	} {
		w := newGrantorWorld(t) // its max_hold is a minute
		c.rec.Lease, c.rec.Epoch, c.rec.Holder, c.rec.Seq = "pg", 1, w.party("a"), 1
		w.disk.Leases = []Record{c.rec}
		w.start()
		if got := w.g.leases["pg"].holdEnd.Sub(w.now); got != c.want {
			t.Errorf("%s: a quarantine of %v, want %v", c.name, got, c.want)
		}
	}
}

// The inequality is judged with the worse of the two clocks, also when a node believes in its own.
func TestTheLargerDriftCounts(t *testing.T) {
	b, _ := Profile("lan")
	own := b.Terms
	own.DriftPPM = 0
	both := own
	both.DriftPPM = 1000 // of this arbiter
	for _, c := range []struct {
		hold time.Duration
		want Verdict
	}{{own.NeededHold(), Unsafe}, {both.NeededHold() - 1, Unsafe}, {both.NeededHold(), Granted}} {
		w := newGrantorWorld(t)
		id := w.send("pg", Acquire{Party: w.party("a"), Seq: 1, Terms: own, Hold: c.hold})
		if a := w.replies[id]; a.Verdict != c.want {
			t.Errorf("hold %v: %s, want %s (%s)", c.hold, a.Verdict, c.want, a.Reason)
		}
	}
}

// Renewals may wait in the sockets when a tick comes: only Drained, which comes after them, decides that a hold is over.
func TestATickDecidesNoExpiry(t *testing.T) {
	w := newGrantorWorld(t)
	w.run("acquire a")
	w.run("renew a")
	w.now = w.g.leases["pg"].holdEnd
	w.step(GrantorTick{})
	if w.g.leases["pg"].expired {
		t.Error("a tick ended the hold")
	}
	w.step(Drained{})
	if !w.g.leases["pg"].expired {
		t.Error("the hold did not end")
	}
}

// An operator's word that the holder is off is not taken against what the arbiter hears: not within the hold of a
// renewal, and of a paused holder not within twice the longest hold.
func TestFreeIsRefusedWhileTheHolderMayRun(t *testing.T) {
	b, _ := Profile("lan")
	for _, c := range []struct {
		name   string
		before []string
		quiet  time.Duration
	}{
		{"held", nil, b.Hold()},
		{"held, by an epoch that its boot was granted anew", []string{"acquire a profile=standard", "renew a", "acquire a profile=lan", "renew a"}, 27 * time.Second},
		{"in quarantine", []string{"restart"}, b.Hold()},
		{"paused", []string{"pause a"}, 2 * time.Minute},
		{"paused with an end", []string{"pause a for=1h"}, 2 * time.Minute},
		{"paused, and heard of since", []string{"pause a", "time 1h", "renew a"}, 2 * time.Minute},
		{"paused, and only its wish for another lease was heard", []string{"pause a", "time 1h", "acquire a lease=two"}, 2 * time.Minute},
		{"paused, and adopted", []string{"pause a", "time 1h", "acquire a/b1/2 claim=paused:1"}, 2 * time.Minute},
		{"paused, arbiter restarted", []string{"pause a", "time 1h", "restart"}, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newGrantorWorld(t)
			w.run("acquire a")
			w.run("renew a")
			for _, command := range c.before {
				w.run(command)
			}
			for _, command := range []string{"free a", "check-free a"} {
				w.now = w.now.Add(c.quiet - 1) // no Drained: the word may come before an expiry is decided
				w.run(command)
				if a := w.replies[w.request]; a.Verdict != Refused && a.Verdict != Unavailable {
					t.Errorf("%s after %v: %+v", command, c.quiet-1, a)
				}
				if w.g.leases["pg"].rec.State == RecordFree {
					t.Errorf("%s after %v gave the lease away", command, c.quiet-1)
				}
				w.now = w.now.Add(1 - c.quiet)
			}
			w.now = w.now.Add(c.quiet)
			w.run("free a")
			if a := w.replies[w.request]; a.Verdict != OK || w.g.leases["pg"].rec.State != RecordFree {
				t.Errorf("after %v: %+v", c.quiet, a)
			}
		})
	}
}

// FuzzSeenEpoch (attack 24): whatever epoch a node says it has seen, no epoch is granted that is not above it, nor one
// that the Pacemaker rule does not let pass.
func FuzzSeenEpoch(f *testing.F) {
	for _, seen := range []uint64{0, 1, 2, uint64(MaxEpochLead), uint64(MaxEpochLead) + 2, uint64(MaxEpoch) - 1, uint64(MaxEpoch), 1<<63 - 1, 1<<64 - 1} {
		f.Add(seen, uint64(5))
		f.Add(uint64(5), seen)
	}
	f.Fuzz(func(t *testing.T, seen, claimed uint64) {
		w := newGrantorWorld(t)
		b, _ := Profile("lan")
		id := w.send("pg", Acquire{Party: w.party("a"), Seq: 1, SeenEpoch: Epoch(seen), Terms: b.Terms, Hold: b.Hold()})
		w.send("pg", Renew{Party: w.party("b"), Seq: 1, Epoch: Epoch(claimed), Seen: w.disk.Cluster.Stamp})
		w.run("recover")
		w.advance(2 * time.Minute)
		id2 := w.send("pg", Acquire{Party: w.party("a"), Seq: 2, SeenEpoch: Epoch(seen), Seen: w.disk.Cluster.Stamp, Terms: b.Terms, Hold: b.Hold()})
		for _, id := range []RequestID{id, id2} {
			a, ok := w.replies[id]
			if !ok {
				t.Fatalf("request %d was never answered", id)
			}
			if a.Verdict == Granted && (a.Epoch <= Epoch(seen) || a.Epoch > MaxEpoch) {
				t.Errorf("seen %d, claimed %d: granted %d", seen, claimed, a.Epoch)
			}
		}
	})
}

// FuzzGrantedPause (attack 7): the hold of a pause outlasts the reset of a node whose deadline is D+S away, with both
// clocks at the wrong end of their drift.
func FuzzGrantedPause(f *testing.F) {
	for _, d := range []time.Duration{time.Nanosecond, time.Second, time.Hour, 8 * time.Hour} {
		for i := range ProfileNames() {
			f.Add(int64(d), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, ns int64, which uint8) {
		d := time.Duration(ns)
		if d <= 0 || d > 8*time.Hour {
			return
		}
		name := ProfileNames()[int(which)%len(ProfileNames())]
		b, _ := Profile(name)
		w := newGrantorWorld(t)
		w.run("acquire a profile=" + name)
		w.run("renew a")
		w.send("pg", Pause{Party: w.party("a"), Epoch: 1, Seq: 9, For: d, Terms: b.Terms})
		hold := w.g.leases["pg"].holdEnd.Sub(w.now)
		rho := float64(b.DriftPPM) / 1e6
		silent := float64(d+b.StopBudget+b.TimerSlack+time.Duration(b.Chances)*(b.Watchdog+b.Quantum))/(1-rho) + float64(b.ResetLatency)
		if earliest := float64(hold) / (1 + rho); earliest < silent-1 {
			t.Errorf("%s, pause of %v: granted %v after the pause was asked for, silent only after %v", name, d,
				time.Duration(earliest), time.Duration(silent))
		}
	})
}
