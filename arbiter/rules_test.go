package arbiter

import (
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// record drives a Grantor by hand, with a clock and a disk of its own: the event orders that broke earlier designs.
type record struct {
	t    *testing.T
	g    *lease.Grantor
	now  lease.Instant
	disk lease.Snapshot
	last lease.Answer
	next lease.RequestID
	logs []lease.GrantorNote
	open *lease.StoreChange // with slow: the write that is outstanding
	slow bool
}

func newRecord(t *testing.T) *record {
	r := &record{t: t, now: lease.Instant(time.Hour), disk: lease.NewClusterSnapshot("s1")}
	r.restart()
	return r
}

func (r *record) restart() {
	r.g = lease.NewGrantor(lease.GrantorOptions{Cluster: "erp", MinHold: time.Second, MaxHold: time.Minute, MaxPause: 8 * time.Hour,
		DriftPPM: 1000, RetryWrite: time.Second, NewStoreID: func() string { return "s2" }}, r.disk, r.now)
}

func (r *record) step(ev lease.GrantorEvent) {
	acts := r.g.Step(r.now, ev)
	for i := 0; i < len(acts); i++ {
		switch a := acts[i].(type) {
		case lease.Reply:
			r.last = a.Answer
		case lease.GrantorNote:
			r.logs = append(r.logs, a)
		case lease.StoreChange:
			if r.slow {
				r.open = &a
				continue
			}
			r.commit(a.Change)
			acts = append(acts, r.g.Step(r.now, lease.Stored{Txn: a.Txn})...)
		}
	}
}

func (r *record) commit(c lease.Change) {
	r.disk.Cluster, r.disk.Suspect = c.Cluster, false
	for _, n := range c.Leases {
		var keep []lease.Record
		for _, o := range r.disk.Leases {
			if o.Lease != n.Lease {
				keep = append(keep, o)
			}
		}
		r.disk.Leases = append(keep, n)
	}
}

func (r *record) ask(name string, body any) lease.Answer {
	r.next++
	r.last = lease.Answer{}
	r.step(lease.Request{ID: r.next, Lease: name, Body: body})
	return r.last
}

func (r *record) wait(d time.Duration) {
	r.now = r.now.Add(d)
	r.step(lease.Drained{})
}

func party(node string) lease.Party {
	return lease.Party{Node: node, BootID: "b", Instance: lease.Instance{Start: 1, Nonce: 1}}
}

func want(node string, seq uint64, profile string, seen lease.Stamp) lease.Acquire {
	b, _ := lease.Profile(profile)
	return lease.Acquire{Party: party(node), Seq: seq, Terms: b.Terms, Hold: b.Hold(), Ready: true, Seen: seen}
}

func (r *record) held(node string) {
	r.t.Helper()
	if a := r.ask("pg", want(node, 1, "lan", lease.Stamp{})); a.Verdict != lease.Granted {
		r.t.Fatalf("acquire: %+v", a)
	}
	if a := r.ask("pg", lease.Renew{Party: party(node), Epoch: 1, Seq: 2}); a.Verdict != lease.OK {
		r.t.Fatalf("renew: %+v", a)
	}
}

func (r *record) expect(what string, a lease.Answer, v lease.Verdict) {
	r.t.Helper()
	if a.Verdict != v {
		r.t.Errorf("%s: %s (%s), want %s", what, a.Verdict, a.Reason, v)
	}
}

// attack 10: a copy of a renewal is ok, is never lost, and extends nothing.
func TestRepeatedSeq(t *testing.T) {
	r := newRecord(t)
	r.held("a")
	r.wait(5 * time.Second)
	r.expect("the copy", r.ask("pg", lease.Renew{Party: party("a"), Epoch: 1, Seq: 2}), lease.OK)
	r.wait(3750 * time.Millisecond)
	r.expect("the peer at the end of the first receipt's hold", r.ask("pg", want("b", 1, "lan", lease.Stamp{})), lease.Granted)
}

// A renewal whose number was used by another request is no copy: nothing of it was counted from its sending.
func TestNumberOfAnotherRequestIsNoCopy(t *testing.T) {
	r := newRecord(t)
	r.held("a")
	r.expect("pause", r.ask("pg", lease.Pause{Party: party("a"), Epoch: 1, Seq: 3}), lease.OK)
	r.expect("renew with its number", r.ask("pg", lease.Renew{Party: party("a"), Epoch: 1, Seq: 3}), lease.Refused)
}

// attack 8: only the holder's own agent ends a pause.
func TestResumeByPeerRefused(t *testing.T) {
	r := newRecord(t)
	r.held("a")
	r.expect("pause", r.ask("pg", lease.Pause{Party: party("a"), Epoch: 1, Seq: 3}), lease.OK)
	r.expect("resume by the peer", r.ask("pg", lease.Resume{Party: party("b"), Epoch: 1, Seq: 9}), lease.Refused)
	r.next++
	r.step(lease.OperatorResume{ID: r.next, Lease: "pg"})
	r.wait(24 * time.Hour)
	r.expect("the peer's acquire", r.ask("pg", want("b", 10, "lan", lease.Stamp{})), lease.Denied)
	if a := r.ask("pg", lease.Renew{Party: party("a"), Epoch: 1, Seq: 4}); !a.ResumeAsk || !a.Paused {
		t.Errorf("the holder is not asked: %+v", a)
	}
}

// attack 8: whoever asks, and however often, the pause goes on: what was on disk stays, and the peer is denied for ever.
func TestResumeAskChangesNothing(t *testing.T) {
	r := newRecord(t)
	r.held("a")
	r.expect("before the pause", r.ask("pg", lease.ResumeAsk{}), lease.Refused)
	r.expect("pause", r.ask("pg", lease.Pause{Party: party("a"), Epoch: 1, Seq: 3}), lease.OK)
	before := r.disk.Cluster.Stamp
	if a := r.ask("pg", lease.ResumeAsk{}); a.Verdict != lease.OK || !a.Paused || !strings.HasPrefix(a.Reason, "its holder is asked") {
		t.Errorf("the holder is reachable: %+v", a)
	}
	r.wait(42 * time.Second)
	a := r.ask("pg", lease.ResumeAsk{})
	for _, want := range []string{"nothing changed", "a was last heard 42s ago", "leasedog-arbiter free erp pg --holder-is-off a"} {
		if a.Verdict != lease.OK || !strings.Contains(a.Reason, want) {
			t.Errorf("the holder is silent: %q is not in %+v", want, a)
		}
	}
	for _, name := range []string{"pg", "two", ""} {
		r.ask(name, lease.ResumeAsk{})
	}
	r.wait(24 * time.Hour)
	r.expect("the peer's acquire", r.ask("pg", want("b", 1, "lan", lease.Stamp{})), lease.Denied)
	if r.disk.Cluster.Stamp != before {
		t.Errorf("asking wrote something: %v, before %v", r.disk.Cluster.Stamp, before)
	}
	if a := r.ask("pg", lease.Renew{Party: party("a"), Epoch: 1, Seq: 4}); !a.ResumeAsk || !a.Paused {
		t.Errorf("the holder is not asked: %+v", a)
	}
}

// attack 24: quarantine is per lease, by its own hold.
func TestQuarantinePerLease(t *testing.T) {
	r := newRecord(t)
	r.held("a")
	r.expect("a paused lease", r.ask("two", want("a", 3, "wan", lease.Stamp{})), lease.Granted)
	r.expect("its renewal", r.ask("two", lease.Renew{Party: party("a"), Epoch: 1, Seq: 4}), lease.OK)
	r.restart()
	r.wait(8749 * time.Millisecond)
	r.expect("before its hold", r.ask("pg", want("b", 1, "lan", lease.Stamp{})), lease.Denied)
	r.wait(time.Millisecond)
	r.expect("after its hold", r.ask("pg", want("b", 2, "lan", lease.Stamp{})), lease.Granted)
	r.expect("the other, longer one", r.ask("two", want("b", 3, "wan", lease.Stamp{})), lease.Denied)
	r.expect("one that nobody held", r.ask("three", want("b", 4, "lan", lease.Stamp{})), lease.Granted)
}

// attack2 2: a claim is taken back as it is and counts in full from its receipt.
func TestRecoveryClaimKeepsHold(t *testing.T) {
	r := newRecord(t)
	r.disk = lease.Snapshot{}
	r.restart()
	old := lease.Stamp{StoreID: "s1", Generation: 7}
	renew := func(seq uint64, seen lease.Stamp) lease.Answer {
		return r.ask("pg", lease.Renew{Party: party("a"), Epoch: 7, Seq: seq, Seen: seen,
			Claim: &lease.Claim{Epoch: 7, State: lease.ClaimPaused, Hold: 8 * time.Second, PauseFor: 2 * time.Hour}})
	}
	// b has reported long ago; the longest hold has passed when a's claim comes.
	b := want("b", 1, "lan", old)
	b.SeenEpoch = 7
	a := r.ask("pg", b)
	r.expect("b is told the new id", a, lease.Recovery)
	if a.Echo == nil || *a.Echo != old || a.Stamp.Generation <= old.Generation {
		t.Errorf("recovery answer: %+v", a)
	}
	b.Seq, b.Seen = 2, a.Stamp
	r.ask("pg", b)
	r.wait(10 * time.Minute)
	a = renew(1, old)
	r.expect("a's claim", a, lease.Recovery)
	a = renew(2, a.Stamp)
	r.expect("a under the new id", a, lease.OK)
	if !a.Paused || a.Epoch != 7 {
		t.Errorf("not taken back as claimed: %+v", a)
	}
	r.wait(2 * time.Hour)
	b.Seq = 3
	if a := r.ask("pg", b); a.Verdict == lease.Granted {
		t.Errorf("granted within a pause that was claimed: %+v", a)
	}
	r.wait(time.Hour)
	b.Seq = 4
	a = r.ask("pg", b)
	r.expect("after it", a, lease.Granted)
	if a.Epoch != 8 {
		t.Errorf("epoch %d after 7", a.Epoch)
	}
}

// attack2 5b: while a change is being written, every answer carries the generation before it.
func TestAnswerCarriesCommittedGeneration(t *testing.T) {
	r := newRecord(t)
	r.held("a")
	before := r.disk.Cluster.Stamp
	r.slow = true
	r.ask("two", want("b", 1, "lan", lease.Stamp{}))
	if a := r.ask("pg", lease.Renew{Party: party("a"), Epoch: 1, Seq: 3}); a.Verdict != lease.OK || a.Stamp != before {
		t.Errorf("a renewal during the write: %+v, want %v", a, before)
	}
	if a := r.ask("pg", want("b", 2, "lan", lease.Stamp{})); a.Verdict != lease.Denied || a.Stamp != before {
		t.Errorf("a denial during the write: %+v, want %v", a, before)
	}
	txn := r.open.Txn
	r.slow, r.last = false, lease.Answer{}
	r.step(lease.Stored{Txn: txn})
	if r.last.Verdict != lease.Granted || r.last.Stamp.Generation != before.Generation+1 {
		t.Errorf("after the write: %+v", r.last)
	}
}

// attack2 11: different holds are an alarm and block no takeover; the old grant's own hold is waited out.
func TestDifferentHoldsStillGranted(t *testing.T) {
	r := newRecord(t)
	r.expect("standard", r.ask("pg", want("a", 1, "standard", lease.Stamp{})), lease.Granted)
	r.expect("its renewal", r.ask("pg", lease.Renew{Party: party("a"), Epoch: 1, Seq: 2}), lease.OK)
	r.wait(26999 * time.Millisecond)
	r.expect("lan, too early", r.ask("pg", want("b", 1, "lan", lease.Stamp{})), lease.Denied)
	r.wait(time.Millisecond)
	r.expect("lan", r.ask("pg", want("b", 2, "lan", lease.Stamp{})), lease.Granted)
	alarms := 0
	for _, n := range r.logs {
		if n.Level == lease.NoteAlarm {
			alarms++
		}
	}
	if alarms != 1 {
		t.Errorf("%d alarms, want one: %+v", alarms, r.logs)
	}
}
