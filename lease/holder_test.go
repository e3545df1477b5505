package lease

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// rig drives one Holder as a faultless driver would: local actions are acknowledged at once, requests are kept
// for the test to answer.
type rig struct {
	t     *testing.T
	h     *Holder
	known *Known
	now   Instant
	sends []Send
	log   []string // every action by type, in order
	run   RunState
	guard *GuardState
	// watched is what the guard has armed for resources that were found active.
	watched Instant
	gate    Epoch // the attribute
	stop    *Stop
	mute    map[string]bool // local actions, by type name, that get no answer
	fail    map[string]bool // local actions that are answered with an error
}

var lan, _ = Profile("lan")

func newRig(t *testing.T, change ...func(*HolderOptions)) *rig {
	opt := HolderOptions{
		Lease: "pg", Self: Party{Node: "node1", BootID: "boot1", Instance: Instance{Start: 1, Nonce: 1}},
		Budget: lan, GiveUpAfter: 5 * time.Second, LeaveTimeout: 20 * time.Second,
	}
	for _, c := range change {
		c(&opt)
	}
	r := &rig{t: t, known: &Known{}, now: Instant(1000 * time.Second), mute: map[string]bool{}, fail: map[string]bool{}}
	r.h = NewHolder(opt, r.known)
	return r
}

func (r *rig) step(ev Event) {
	for _, a := range r.h.Step(r.now, ev) {
		r.carryOut(a)
	}
}

func (r *rig) carryOut(a Action) {
	name := reflect.TypeOf(a).Name()
	r.log = append(r.log, name)
	errText := ""
	if r.fail[name] {
		errText = "broken"
	}
	var back Event
	switch a := a.(type) {
	case Send:
		r.sends = append(r.sends, a)
	case SaveKnown:
		if a.Wait {
			back = KnownSaved{Epoch: a.Epoch, Err: errText}
		}
	case WriteRun:
		if errText == "" && !r.mute[name] {
			r.run = a.Record.State
		}
		back = RunWritten{State: a.Record.State, Epoch: a.Record.Epoch, Err: errText}
	case StartGuard:
		back = GuardStarted{Epoch: a.Epoch, Err: errText}
	case Arm:
		if errText == "" && !r.mute[name] {
			r.guard = &GuardState{Epoch: a.Epoch, Sent: a.Sent, Until: a.Until}
		}
		back = Armed{Epoch: a.Epoch, Sent: a.Sent, Until: a.Until, Watchdog: 1 * time.Second, Err: errText}
	case Watch:
		if errText == "" && !r.mute[name] {
			r.watched = a.Until
		}
		back = Watched{Until: a.Until, Err: errText}
	case Unwatch:
		if errText == "" && !r.mute[name] {
			r.watched = 0
		}
		back = Unwatched{Err: errText}
	case Disarm:
		if errText == "" && !r.mute[name] {
			r.guard = nil
		}
		back = Disarmed{Epoch: a.Epoch, Err: errText}
	case OpenGate:
		r.gate = a.Epoch
		back = GateOpened(a)
	case CloseGate:
		r.gate = 0
	case Stop:
		r.stop = &a
	}
	if back != nil && !r.mute[name] {
		r.step(back)
	}
}

func (r *rig) pass(d time.Duration) { r.now = r.now.Add(d) }

func (r *rig) last() Send {
	r.t.Helper()
	if len(r.sends) == 0 {
		r.t.Fatal("nothing was sent")
	}
	return r.sends[len(r.sends)-1]
}

// keepRenewing acknowledges every renewal for so long.
func (r *rig) keepRenewing(e Epoch, length time.Duration) {
	for until := r.now.Add(length); r.now < until; {
		r.pass(lan.RenewEvery / 3)
		r.step(Tick{})
		if _, renewal := r.last().Body.(Renew); renewal {
			r.answer(ans(OK, e))
		}
	}
}

func (r *rig) wantPhase(p Phase) {
	r.t.Helper()
	if got := r.h.View().Phase; got != p {
		r.t.Fatalf("phase %s (%s), want %s", got, r.h.View().Cause, p)
	}
}

func (r *rig) start(f Found) { r.step(f) }

func (r *rig) ready() {
	r.step(Reading{Proven: Yes, FreshUntil: r.now.Add(time.Hour)})
}

func ans(v Verdict, e Epoch) Answer {
	return Answer{Verdict: v, Epoch: e, Hold: lan.Hold(), Stamp: Stamp{StoreID: "s1", Generation: 5}}
}

func (r *rig) answer(a Answer) { r.step(Answered{Seq: r.last().Seq, Answer: a}) }

// win brings a fresh rig to held with epoch 7; the acknowledged renewal was sent 10 ms ago.
func (r *rig) win() {
	r.t.Helper()
	r.start(Found{Active: No})
	r.wantPhase(Standby)
	r.ready()
	r.wantPhase(Acquiring)
	r.pass(10 * ms)
	r.answer(ans(Granted, 7))
	r.pass(10 * ms)
	r.answer(ans(OK, 7))
	r.wantPhase(Held)
}

// What stands by is proven stopped, and says so.
func TestHolder_AsksAsStopped(t *testing.T) {
	r := newRig(t)
	r.start(Found{Active: No})
	r.ready()
	if a, ok := r.last().Body.(Acquire); !ok || !a.Stopped {
		t.Fatalf("%+v", r.last().Body)
	}
}

func (r *rig) order(want ...string) {
	r.t.Helper()
	i := 0
	for _, got := range r.log {
		if i < len(want) && got == want[i] {
			i++
		}
	}
	if i < len(want) {
		r.t.Fatalf("want %v in this order, missing %s; got %v", want, want[i], r.log)
	}
}

func TestHolder_OrderOfAWin(t *testing.T) {
	r := newRig(t)
	r.win()
	r.order("SaveKnown", "WriteRun", "StartGuard", "Arm", "OpenGate")
	if r.gate != 7 || r.run != RunHeld || r.guard == nil || r.h.Gate() != 7 {
		t.Fatalf("gate %d run %s guard %v", r.gate, r.run, r.guard)
	}
}

// Whatever step of the win does not come back, the attribute is not set.
func TestHolder_NoAttributeBeforeEveryStepOfTheWin(t *testing.T) {
	for _, missing := range []string{"SaveKnown", "WriteRun", "StartGuard", "Arm"} {
		for _, how := range []string{"silent", "error"} {
			t.Run(missing+"/"+how, func(t *testing.T) {
				r := newRig(t)
				if how == "silent" {
					r.mute[missing] = true
				} else {
					r.fail[missing] = true
				}
				r.start(Found{Active: No})
				r.ready()
				r.answer(ans(Granted, 7))
				r.answer(ans(OK, 7))
				for range 10 {
					r.pass(lan.RenewEvery)
					r.step(Tick{})
				}
				if r.gate != 0 || r.h.Gate() != 0 || strings.Contains(fmt.Sprint(r.log), "OpenGate") {
					t.Fatalf("the attribute was set although %s failed", missing)
				}
				r.wantPhase(Losing)
			})
		}
	}
}

// Rule 4.4.1: the lease counts from Sent.
func TestHolder_CountsFromSent(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	sent := r.last().Sent
	r.pass(lan.RequestTimeout - 10*ms)
	r.answer(ans(OK, 7))
	if v := r.h.View(); v.Sent != sent || v.LoseAt != sent.Add(lan.LossAfter) || v.ResetAt != sent.Add(lan.HardDeadline()) {
		t.Fatalf("sent %v loseAt %v resetAt %v, want them to count from %v", v.Sent, v.LoseAt, v.ResetAt, sent)
	}
}

// Rule 4.4.1: a reply after its own request's deadline is dropped.
func TestHolder_ReplyAfterDeadlineIsDropped(t *testing.T) {
	r := newRig(t)
	r.win()
	before := r.h.View().Sent
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	late := r.last()
	r.now = late.Deadline + 1
	r.step(Answered{Seq: late.Seq, Answer: ans(OK, 7)})
	if r.h.View().Sent != before {
		t.Fatal("a reply after its deadline extended the lease")
	}
}

// Rule 4.4.4: no newer acknowledged renewal by Sent+L is a loss, even if the reply is read in the same instant.
func TestHolder_LossAtL(t *testing.T) {
	r := newRig(t)
	r.win()
	sent := r.h.View().Sent
	r.now = sent.Add(lan.LossAfter - 1*ms)
	r.step(Tick{})
	req := r.last()
	r.wantPhase(Held)
	r.now = sent.Add(lan.LossAfter)
	r.step(Answered{Seq: req.Seq, Answer: ans(OK, 7)})
	r.wantPhase(Losing)
	if r.run != RunLosing || r.gate != 0 || r.stop.Until != sent.Add(lan.HardDeadline()) {
		t.Fatalf("run %s gate %d stop %+v", r.run, r.gate, r.stop)
	}
	if r.guard == nil {
		t.Fatal("the guard was disarmed without proof")
	}
}

// TestNoRenewInLosing: in losing nothing is renewed, whatever arrives and however long it takes.
func TestNoRenewInLosing(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	late := r.last()
	r.step(Answered{Seq: r.last().Seq, Answer: ans(Lost, 7)})
	r.wantPhase(Losing)
	n := len(r.sends)
	for range 20 {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		r.step(Answered{Seq: late.Seq, Answer: ans(OK, 7)})
		r.step(Reading{Running: Yes, Proven: Yes, FreshUntil: r.now.Add(time.Hour)})
		r.step(ResumeAsked{})
	}
	if len(r.sends) != n {
		t.Fatalf("%d requests left in losing", len(r.sends)-n)
	}
	r.wantPhase(Losing)
}

// Order of a loss (4.4.3): /run says losing, gate, proof, /run says released, disarm, release.
func TestHolder_OrderOfALoss(t *testing.T) {
	r := newRig(t)
	r.win()
	r.log = nil
	r.pass(lan.LossAfter)
	r.step(Tick{})
	if r.guard == nil {
		t.Fatal("disarmed without proof")
	}
	r.step(Proven{Ladder: r.stop.Ladder})
	r.order("WriteRun", "CloseGate", "Stop", "WriteRun", "Disarm", "Send")
	if _, ok := r.last().Body.(Release); !ok || r.guard != nil {
		t.Fatalf("last request %T", r.last().Body)
	}
	r.answer(ans(OK, 7))
	r.wantPhase(Standby)
	if r.run != RunNone {
		t.Fatalf("/run still says %s", r.run)
	}
}

// /run must say released before the guard is disarmed: else a successor would take the lease up again.
func TestHolder_NoDisarmBeforeReleasedIsWritten(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.LossAfter)
	r.step(Tick{})
	r.fail["WriteRun"] = true
	r.step(Proven{Ladder: r.stop.Ladder})
	for range 5 {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
	}
	if r.guard == nil {
		t.Fatal("disarmed although /run does not say released")
	}
	if _, ok := r.last().Body.(Release); ok {
		t.Fatal("released although /run does not say released")
	}
}

func TestHolder_NoReleaseBeforeDisarm(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.LossAfter)
	r.step(Tick{})
	r.fail["Disarm"] = true
	r.step(Proven{Ladder: r.stop.Ladder})
	for range 5 {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
	}
	if _, ok := r.last().Body.(Release); ok {
		t.Fatal("released although the guard is armed")
	}
}

// A proof that belongs to an earlier loss proves nothing now.
func TestHolder_StaleProofIsIgnored(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.LossAfter)
	r.step(Tick{})
	r.step(Proven{Ladder: r.stop.Ladder - 1})
	r.wantPhase(Losing)
}

// Rule 4.4.5: nothing but an authenticated lost of the same epoch shortens a held lease.
func TestHolder_OnlyLostShortens(t *testing.T) {
	for _, v := range []Verdict{Denied, Unsafe, Recovery, Unavailable, Refused, Barred} {
		t.Run(string(v), func(t *testing.T) {
			r := newRig(t)
			r.win()
			r.pass(lan.RenewEvery)
			r.step(Tick{})
			at := r.h.View().LoseAt
			r.answer(ans(v, 9))
			r.wantPhase(Held)
			if r.h.View().LoseAt != at {
				t.Fatal("the deadline moved")
			}
		})
	}
	r := newRig(t)
	r.win()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.step(Failed{Seq: r.last().Seq, Err: "connection refused"})
	r.wantPhase(Held)
}

// Leaving: renewals go on and extend the guard; no reset while they are acknowledged.
func TestHolder_LeavingRenewsOn(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(LeaveAsked{Cause: "test"})
	r.wantPhase(Leaving)
	if r.run != RunLeaving || r.gate != 0 {
		t.Fatalf("run %s gate %d", r.run, r.gate)
	}
	for range 60 {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		r.answer(ans(OK, 7))
		if r.guard.Until <= r.now {
			t.Fatal("the guard would reset")
		}
	}
	r.wantPhase(Leaving)
	r.step(Proven{Ladder: r.stop.Ladder})
	r.answer(ans(OK, 7))
	r.wantPhase(Standby)
}

func TestHolder_LeavingThenCut(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(LeaveAsked{Cause: "test"})
	first := r.stop.Ladder
	r.pass(lan.LossAfter)
	r.step(Tick{})
	r.wantPhase(Losing)
	if r.stop.Until != r.guard.Until {
		t.Fatalf("the ladder has until %v, the guard resets at %v", r.stop.Until, r.guard.Until)
	}
	r.step(Proven{Ladder: first})
	r.wantPhase(Stopped)
}

// An answer to a request of an earlier life counts for nothing (5: one way, a new epoch for every new hold).
func TestHolder_OldAnswersDoNotReviveALoss(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	renewal := r.last()
	r.step(LeaveAsked{Cause: "test"})
	r.step(Proven{Ladder: r.stop.Ladder})
	r.wantPhase(Stopped)
	r.step(Answered{Seq: renewal.Seq, Answer: ans(OK, 7)})
	if r.guard != nil || r.h.Gate() != 0 {
		t.Fatal("an old renewal's answer armed the guard or opened the gate")
	}
}

// A grant is used only if it is newer than everything seen, long enough, and the node may still run.
// A grant that was never renewed is void when its store is lost: another epoch may have been granted, and be held, that the
// restored store knows nothing of. One that was renewed goes on.
func TestHolder_GrantOfALostStore(t *testing.T) {
	recovered := func(r *rig, v Verdict, e Epoch) Answer {
		a, seen := ans(v, e), r.known.Stamp
		a.Stamp = Stamp{StoreID: "s2", Generation: 9}
		if v == Recovery {
			a.Echo = &seen
		}
		return a
	}
	for _, c := range []struct {
		name    string
		renewed bool
		want    Phase
	}{{"never renewed", false, Losing}, {"renewed", true, Held}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.start(Found{Active: No})
			r.ready()
			r.answer(ans(Granted, 7))
			if c.renewed {
				r.answer(ans(OK, 7))
			}
			r.pass(lan.RenewEvery)
			r.step(Tick{})
			r.answer(recovered(r, Recovery, 7))
			r.wantPhase(c.want)
		})
	}
	t.Run("told by another lease", func(t *testing.T) { // Known is shared
		r := newRig(t)
		r.start(Found{Active: No})
		r.ready()
		r.answer(ans(Granted, 7))
		r.known.Learn("other", recovered(r, Recovery, 7))
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		r.answer(recovered(r, OK, 7))
		r.wantPhase(Losing)
	})
}

func TestHolder_UnusableGrants(t *testing.T) {
	t.Run("old epoch", func(t *testing.T) {
		r := newRig(t)
		r.known.Epochs = map[string]Epoch{"pg": 9}
		r.start(Found{Active: No})
		r.ready()
		r.answer(ans(Granted, 9))
		r.wantPhase(Acquiring)
	})
	t.Run("short hold", func(t *testing.T) {
		r := newRig(t)
		r.start(Found{Active: No})
		r.ready()
		a := ans(Granted, 7)
		a.Hold = lan.NeededHold() - 1
		r.answer(a)
		r.wantPhase(Losing)
	})
	t.Run("reading stale", func(t *testing.T) {
		r := newRig(t)
		r.start(Found{Active: No})
		r.step(Reading{Proven: Yes, FreshUntil: r.now.Add(100 * ms)})
		r.pass(200 * ms)
		r.answer(ans(Granted, 7))
		r.wantPhase(Losing)
	})
	t.Run("longer watchdog", func(t *testing.T) {
		r := newRig(t)
		r.mute["Arm"] = true
		r.start(Found{Active: No})
		r.ready()
		r.answer(ans(Granted, 7))
		r.answer(ans(OK, 7))
		r.step(Armed{Epoch: 7, Until: r.now.Add(lan.HardDeadline()), Watchdog: lan.Watchdog + 1})
		r.wantPhase(Losing)
		if r.gate != 0 {
			t.Fatal("the attribute was set")
		}
	})
	t.Run("no first renewal", func(t *testing.T) {
		r := newRig(t)
		r.start(Found{Active: No})
		r.ready()
		r.answer(ans(Granted, 7))
		r.pass(lan.LossAfter)
		r.step(Tick{})
		r.wantPhase(Losing)
	})
}

// Without a fresh reading that says proven stopped, nobody competes (4.4.8).
func TestHolder_CompetesOnlyWithProof(t *testing.T) {
	for _, rd := range []Reading{
		{Proven: Unknown, FreshUntil: Never},
		{Proven: No, FreshUntil: Never},
		{Proven: Yes, WhyNot: []string{"standby"}, FreshUntil: Never},
		{Proven: Yes, FreshUntil: 1},
	} {
		r := newRig(t)
		r.start(Found{Active: No})
		r.step(rd)
		r.wantPhase(Standby)
		for _, s := range r.sends {
			if _, ok := s.Body.(Report); !ok || rd.Proven != Yes || rd.FreshUntil < r.now {
				t.Fatalf("sends %T with %+v", s.Body, rd)
			}
		}
	}
}

func record(r *rig, s RunState) *RunRecord {
	return &RunRecord{Lease: "pg", State: s, Party: Party{Node: "node1", BootID: "boot1", Instance: Instance{Start: 1, Nonce: 9}},
		Epoch: 7, Hold: lan.Hold(), Sent: r.now.Add(-time.Second), Budget: lan}
}

func guardFor(r *rig) *GuardState {
	sent := r.now.Add(-500 * ms)
	return &GuardState{Epoch: 7, Sent: sent, Until: sent.Add(lan.HardDeadline())}
}

// Rule 4.4.7: only held (or leaving, as leaving), in time, with the guard armed for that epoch, is taken up.
func TestHolder_TakesUp(t *testing.T) {
	for _, tc := range []struct {
		name  string
		found func(*rig) Found
		want  Phase
		gate  Epoch
	}{
		{"held and armed", func(r *rig) Found { return Found{Record: record(r, RunHeld), Guard: guardFor(r)} }, Held, 7},
		{"leaving and armed", func(r *rig) Found { return Found{Record: record(r, RunLeaving), Guard: guardFor(r)} }, Leaving, 0},
		{"held, not armed", func(r *rig) Found { return Found{Record: record(r, RunHeld)} }, Losing, 0},
		{"held, armed for another epoch", func(r *rig) Found {
			g := guardFor(r)
			g.Epoch = 6
			return Found{Record: record(r, RunHeld), Guard: g}
		}, Losing, 0},
		{"held, armed, too late", func(r *rig) Found {
			g := guardFor(r)
			g.Sent = r.now.Add(-lan.LossAfter)
			return Found{Record: record(r, RunHeld), Guard: g}
		}, Losing, 0},
		{"held, armed, with a longer watchdog than the grant counts on", func(r *rig) Found {
			g := guardFor(r)
			g.Watchdog = lan.Watchdog + 1
			return Found{Record: record(r, RunHeld), Guard: g}
		}, Losing, 0},
		{"held, armed, with the watchdog that the grant counts on", func(r *rig) Found {
			g := guardFor(r)
			g.Watchdog = lan.Watchdog
			return Found{Record: record(r, RunHeld), Guard: g}
		}, Held, 7},
		{"losing", func(r *rig) Found { return Found{Record: record(r, RunLosing), Guard: guardFor(r)} }, Losing, 0},
		{"released", func(r *rig) Found { return Found{Record: record(r, RunReleased)} }, Losing, 0},
		{"no record but armed", func(r *rig) Found { return Found{Guard: guardFor(r)} }, Losing, 0},
		{"paused", func(r *rig) Found { return Found{Record: record(r, RunPaused)} }, Paused, 7},
		{"timed pause without its guard", func(r *rig) Found {
			rec := record(r, RunPaused)
			rec.PauseFor = time.Hour
			return Found{Record: rec}
		}, Losing, 0},
		{"of another boot", func(r *rig) Found {
			rec := record(r, RunHeld)
			rec.Party.BootID = "boot0"
			return Found{Record: rec}
		}, Standby, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.start(tc.found(r))
			r.wantPhase(tc.want)
			if r.h.Gate() != tc.gate {
				t.Fatalf("gate %d, want %d", r.h.Gate(), tc.gate)
			}
		})
	}
}

// An adopted lease is renewed only after the arbiter has installed the new instance, and a refusal is a loss.
func TestHolder_Adopt(t *testing.T) {
	r := newRig(t)
	r.start(Found{Record: record(r, RunHeld), Guard: guardFor(r)})
	acq, ok := r.last().Body.(Acquire)
	if !ok || acq.Claim == nil || acq.Claim.Epoch != 7 || acq.Claim.State != ClaimHeld {
		t.Fatalf("first request %+v", r.last().Body)
	}
	r.answer(ans(Adopted, 7))
	if rn, ok := r.last().Body.(Renew); !ok || rn.Party != r.h.opt.Self {
		t.Fatalf("then %+v", r.last().Body)
	}
	r.answer(ans(OK, 7))
	r.wantPhase(Held)

	r = newRig(t)
	r.start(Found{Record: record(r, RunHeld), Guard: guardFor(r)})
	r.answer(ans(Lost, 8))
	r.wantPhase(Losing)
}

// A successor releases with the recorded instance, and its seq lies above every earlier one of this boot.
func TestHolder_SuccessorReleases(t *testing.T) {
	r := newRig(t)
	r.start(Found{Record: record(r, RunLosing), Guard: guardFor(r)})
	r.step(Proven{Ladder: r.stop.Ladder})
	rel, ok := r.last().Body.(Release)
	if !ok || rel.Instance.Nonce != 9 || rel.Epoch != 7 || rel.Seq < uint64(r.now) {
		t.Fatalf("%+v", r.last().Body)
	}
}

// An agent that was killed before it saved the epoch that it had been granted: its successor knows it from /run, and neither says
// that it has seen less nor wins it again.
func TestHolder_SuccessorKnowsTheEpoch(t *testing.T) {
	r := newRig(t)
	var saved []Action
	for _, a := range r.h.Step(r.now, Found{Record: record(r, RunLosing)}) {
		r.carryOut(a)
		if s, ok := a.(SaveKnown); ok && s.Known.Epochs["pg"] == 7 {
			saved = append(saved, a)
		}
	}
	if len(saved) != 1 {
		t.Errorf("epoch 7 was saved %d times", len(saved))
	}
	r.step(Proven{Ladder: r.stop.Ladder})
	r.answer(ans(OK, 0))
	r.ready()
	r.wantPhase(Acquiring)
	if acq := r.last().Body.(Acquire); acq.SeenEpoch != 7 {
		t.Errorf("it says that it has seen epoch %d", acq.SeenEpoch)
	}
	r.answer(ans(Granted, 7))
	r.wantPhase(Acquiring)
}

// 6.4 Start: a guarded resource is active. Granted within L: nothing is touched. Denied or no answer: stopped.
func TestHolder_StartOnActiveGroup(t *testing.T) {
	newRig := func(t *testing.T) *rig {
		r := newRig(t)
		r.known.Stamp, r.known.Epochs = Stamp{StoreID: "s1", Generation: 1}, map[string]Epoch{"pg": 3}
		return r
	}
	r := newRig(t)
	r.start(Found{Active: Yes})
	r.wantPhase(Acquiring)
	if r.stop != nil {
		t.Fatal("the resource was touched before the lease was asked for")
	}
	if r.last().Body.(Acquire).Stopped {
		t.Fatal("what is active counts as stopped")
	}
	r.answer(ans(Granted, 7))
	r.answer(ans(OK, 7))
	r.wantPhase(Held)

	r = newRig(t)
	r.start(Found{Active: Yes})
	r.answer(ans(Denied, 7))
	r.wantPhase(Losing)

	r = newRig(t)
	r.start(Found{Active: Yes})
	r.pass(lan.LossAfter)
	r.step(Tick{})
	r.wantPhase(Losing)
}

// 6.4: what is found active without a lease is stopped, or the guard resets. It is armed before anything is asked, until
// the lease's own deadline stands, or the resources are proven stopped.
func TestHolder_WatchesWhatItFindsActive(t *testing.T) {
	start := func(change func(r *rig)) *rig {
		r := newRig(t)
		r.known.Stamp, r.known.Epochs = Stamp{StoreID: "s1", Generation: 1}, map[string]Epoch{"pg": 3}
		change(r)
		r.start(Found{Active: Yes})
		return r
	}
	nothing := func(*rig) {}
	r := start(nothing)
	began := r.now
	if want := began.Add(lan.LossAfter + lan.StopBudget); r.watched != want || r.log[0] != "Watch" {
		t.Fatalf("watched until %v, want %v; %v", r.watched, want, r.log)
	}
	r.pass(500 * ms)
	r.answer(ans(Granted, 7))
	r.pass(100 * ms)
	r.log = nil
	r.mute["Arm"] = true
	r.answer(ans(OK, 7))
	if want := began.Add(500*ms + lan.HardDeadline()); r.watched != want { // a slow win is no reason for a reset
		t.Fatalf("watched until %v, want %v", r.watched, want)
	}
	r.order("Watch", "Arm")
	r.log = nil
	r.step(Armed{Epoch: 7, Until: r.now.Add(time.Second), Watchdog: time.Second})
	r.order("Unwatch", "OpenGate")
	r.wantPhase(Held)
	if r.watched != 0 || r.h.View().ResetAt == Never {
		t.Fatal("two deadlines, or none")
	}

	r = start(nothing)
	r.answer(ans(Denied, 7))
	if r.stop.Until != r.watched || r.watched == 0 {
		t.Fatalf("the ladder runs until %v, the guard resets at %v", r.stop.Until, r.watched)
	}
	r.log = nil
	r.step(Proven{Ladder: r.stop.Ladder})
	r.order("WriteRun", "Unwatch", "CloseGate")
	r.wantPhase(Standby)

	// Disarmed for certain, or it stays stopped and tries again.
	r = start(func(r *rig) { r.fail["Unwatch"] = true })
	r.answer(ans(Denied, 7))
	r.step(Proven{Ladder: r.stop.Ladder})
	r.wantPhase(Stopped)
	r.fail["Unwatch"] = false
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.wantPhase(Standby)

	// Without a guard the resources are stopped all the same, and that nothing resets is said.
	r = start(func(r *rig) { r.fail["Watch"] = true })
	r.answer(ans(Denied, 7))
	if r.stop.Until != Never || r.h.View().ResetAt != Never {
		t.Fatal("a reset is announced that will not come")
	}
}

// A guard that is armed for what was found active is disarmed once the lease's own deadline stands, whatever answer is
// late or lost: a healthy holder would be reset.
func TestHolder_WatchIsForgottenInNoOrder(t *testing.T) {
	granted := func(change func(r *rig)) *rig {
		r := newRig(t)
		r.known.Stamp, r.known.Epochs = Stamp{StoreID: "s1", Generation: 1}, map[string]Epoch{"pg": 3}
		r.start(Found{Active: Yes})
		r.pass(10 * ms)
		r.answer(ans(Granted, 7))
		change(r)
		r.pass(10 * ms)
		r.answer(ans(OK, 7))
		return r
	}
	beat := func(r *rig) {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		r.answer(ans(OK, 7))
	}

	// A renewal between Unwatch and its answer.
	r := granted(func(r *rig) { r.mute["OpenGate"], r.mute["Unwatch"] = true, true })
	r.log = nil
	beat(r)
	if slices.Contains(r.log, "Watch") {
		t.Errorf("watched anew while the lease's own deadline stands: %v", r.log)
	}

	// The guard is slow: the answer to Watch is read after that to Unwatch.
	r = granted(func(r *rig) { r.mute["OpenGate"] = true })
	r.watched = r.now.Add(time.Second)
	r.step(Watched{Until: r.watched})
	beat(r)
	if r.watched != 0 {
		t.Error("armed, and nobody disarms it")
	}

	// The answer to Watch is lost: the guard may be armed all the same.
	r = granted(func(r *rig) { r.fail["Watch"] = true })
	if r.wantPhase(Held); r.watched != 0 {
		t.Error("armed, and nobody disarms it")
	}

	// The lease is paused before the guard was disarmed.
	r = granted(func(r *rig) { r.fail["Unwatch"] = true })
	r.step(PauseAsked{})
	r.answer(pausedFor(0))
	r.fail["Unwatch"] = false
	r.pass(RetryAfterFailure)
	r.step(Tick{})
	if r.wantPhase(Paused); r.watched != 0 {
		t.Error("armed in a pause")
	}
}

// A successor gives what was found active no new time, and proves what it does not find active any more.
func TestHolder_WatchedByAnEarlierAgent(t *testing.T) {
	watched := func(r *rig) *GuardState { return &GuardState{Epoch: 1, Sent: r.now, Until: r.now.Add(3 * time.Second)} }
	r := newRig(t)
	r.known.Stamp, r.known.Epochs = Stamp{StoreID: "s1", Generation: 1}, map[string]Epoch{"pg": 3}
	r.start(Found{Active: Yes, Watched: watched(r)})
	r.pass(3*time.Second - lan.StopBudget)
	r.step(Tick{})
	r.wantPhase(Losing)
	if r.stop.Until != r.now.Add(lan.StopBudget) {
		t.Fatalf("the ladder runs until %v", r.stop.Until)
	}
	for _, active := range []Tri{No, Unknown} {
		r = newRig(t)
		r.known.Stamp, r.known.Epochs = Stamp{StoreID: "s1", Generation: 1}, map[string]Epoch{"pg": 3}
		r.start(Found{Active: active, Watched: watched(r)})
		r.wantPhase(Losing)
	}
}

func TestHolder_Switchover(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	a := ans(OK, 7)
	a.MoveTo = "node2"
	r.answer(a)
	r.wantPhase(Leaving)
}

func TestHolder_Superseded(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	n := len(r.sends)
	r.answer(ans(Superseded, 7))
	r.pass(time.Minute)
	r.step(Tick{})
	if len(r.sends) != n || r.log[len(r.log)-1] != "Retire" {
		t.Fatalf("a superseded agent goes on: %v", r.log[len(r.log)-3:])
	}
}

// A barred node is to reset itself while it holds nothing. One that holds is never barred: whatever it hears, it goes on.
func TestHolder_Barred(t *testing.T) {
	r := newRig(t)
	r.start(Found{})
	r.ready()
	r.wantPhase(Acquiring)
	barred := ans(Barred, 0)
	barred.Off = true
	acts := r.h.Step(r.now, Answered{Seq: r.last().Seq, Answer: barred})
	if i := slices.IndexFunc(acts, func(a Action) bool { f, ok := a.(Fenced); return ok && f.Off }); i < 0 {
		t.Errorf("a barred standby does %v", acts)
	}
	r = newRig(t)
	r.win()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(Barred, 7))
	r.wantPhase(Held)
	if slices.Contains(r.log, "Fenced") {
		t.Errorf("a holder resets itself: %v", r.log)
	}
	// A successor that finds a lease released gives it back again, and hears of a bar that came meanwhile.
	r = newRig(t)
	r.start(Found{Record: record(r, RunReleased)})
	r.step(Proven{Ladder: r.stop.Ladder})
	r.wantPhase(Stopped)
	r.answer(ans(Barred, 0))
	r.wantPhase(Standby)
}

// 6.4: gives up for a ready peer only, and then stands back, as last resort, for longer each time.
func TestHolder_GiveUp(t *testing.T) {
	r := newRig(t)
	r.win()
	sick := Reading{CannotRun: "g-pg failed", FreshUntil: Never}
	beat := func(w ...Waiter) {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		a := ans(OK, 7)
		a.Waiters = w
		r.answer(a)
		r.step(sick)
	}
	for range 20 {
		beat(Waiter{Node: "node2", Ready: true, LastResort: true})
		beat(Waiter{Node: "node2"})
	}
	r.wantPhase(Held)
	if at := r.h.View().GiveUpAt; at != 0 {
		t.Fatalf("nobody waits, and it gives up at %v", at)
	}
	beat(Waiter{Node: "node2", Ready: true})
	at := r.h.View().GiveUpAt
	for range 7 {
		beat(Waiter{Node: "node2", Ready: true})
	}
	r.wantPhase(Leaving)
	if v := r.h.View(); at == 0 || v.Since.Sub(at) < 0 || v.Since.Sub(at) > lan.RenewEvery || v.GiveUpAt != 0 {
		t.Fatalf("gave up at %v, was to at %v, is to at %v", v.Since, at, v.GiveUpAt)
	}
	r.step(Proven{Ladder: r.stop.Ladder})
	r.answer(ans(OK, 7))
	r.ready()
	if acq := r.last().Body.(Acquire); !acq.LastResort {
		t.Fatal("a node that gave up competes as before")
	}
	r.pass(StandBackFirst)
	r.step(Failed{Seq: r.last().Seq})
	r.step(Tick{})
	if acq := r.last().Body.(Acquire); acq.LastResort {
		t.Fatal("it stands back for ever")
	}
}

// A jump of the machine's clocks takes time off every deadline, and answers to requests from before it are void.
func TestHolder_Jump(t *testing.T) {
	r := newRig(t)
	r.win()
	before := r.h.View().LoseAt
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	req := r.last()
	r.step(Jumped{Until: r.now + 1, Size: time.Second})
	if got := r.h.View().LoseAt; got != before.Add(-time.Second) {
		t.Fatalf("loseAt %v, want %v", got, before.Add(-time.Second))
	}
	r.step(Answered{Seq: req.Seq, Answer: ans(OK, 7)})
	if r.h.View().Sent >= req.Sent {
		t.Fatal("an answer to a request from before the jump was taken")
	}
	r.step(Jumped{Until: r.now + 1, Size: time.Minute})
	r.wantPhase(Losing)
}

// A new agent hears of every pause that its guard has found, with the first answer. They are over: what it took up counts
// from later, and the guard has taken them off already.
func TestHolder_JumpsOfAnEarlierAgent(t *testing.T) {
	r := newRig(t)
	g := guardFor(r)
	r.start(Found{Record: record(r, RunHeld), Guard: g})
	r.answer(ans(Adopted, 7))
	before := r.h.View()
	for _, ago := range []time.Duration{time.Hour, time.Minute} {
		r.step(Jumped{Until: g.Sent.Add(-ago), Size: time.Minute})
	}
	r.wantPhase(Held)
	if v := r.h.View(); v.LoseAt != before.LoseAt || v.ResetAt != before.ResetAt {
		t.Fatalf("lost at %v and reset at %v, before %v and %v", v.LoseAt, v.ResetAt, before.LoseAt, before.ResetAt)
	}
}

// 4.3.7, the node's side.
func TestKnown_Judge(t *testing.T) {
	at := func(id string, g uint64) Stamp { return Stamp{StoreID: id, Generation: g} }
	left := at("s1", 10)
	for _, tc := range []struct {
		name string
		a    Answer
		ok   bool
	}{
		{"same generation", Answer{Stamp: at("s1", 10)}, true},
		{"higher generation", Answer{Stamp: at("s1", 11)}, true},
		{"lower generation", Answer{Stamp: at("s1", 9)}, false},
		{"absurd generation", Answer{Stamp: at("s1", 11+MaxLead)}, false},
		{"other store", Answer{Stamp: at("s2", 99)}, false},
		{"other store's recovery of another request", Answer{Verdict: Recovery, Echo: &Stamp{StoreID: "s1", Generation: 9}, Stamp: at("s2", 99)}, false},
		{"other store's recovery of this request", Answer{Verdict: Recovery, Echo: &left, Stamp: at("s2", 99)}, true},
		{"dead store", Answer{Verdict: Recovery, Echo: &left, Stamp: at("s0", 99)}, false},
		{"absurd epoch", Answer{Epoch: 3 + MaxEpochLead + 1, Stamp: at("s1", 11)}, false},
		{"no store", Answer{Verdict: OK}, false},
	} {
		k := &Known{Stamp: left, DeadStores: []string{"s0"}}
		if err := k.Judge(left, 3, tc.a); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	k := &Known{Stamp: left}
	k.Learn("pg", Answer{Verdict: Recovery, Echo: &left, Stamp: at("s2", 3)})
	if k.Stamp != at("s2", 3) || k.Judge(left, 0, Answer{Stamp: at("s1", 50)}) == nil {
		t.Fatal("the old store is still listened to")
	}
}

// Crossed answers (attack2 5d): the later-read lower one of two that left together is not ignored.
func TestKnown_CrossedAnswers(t *testing.T) {
	k := &Known{Stamp: Stamp{"s1", 99}}
	left := k.Stamp
	k.Learn("pg", Answer{Stamp: Stamp{"s1", 101}})
	if err := k.Judge(left, 0, Answer{Verdict: OK, Stamp: Stamp{"s1", 100}}); err != nil {
		t.Fatal(err)
	}
}

// A node whose Pacemaker never takes the attribute leaves, with renewals going on: no reset, and no starved peer.
func TestHolder_AttributeNeverSet(t *testing.T) {
	r := newRig(t)
	r.mute["OpenGate"] = true
	r.start(Found{Active: No})
	r.ready()
	r.answer(ans(Granted, 7))
	r.answer(ans(OK, 7))
	r.wantPhase(Winning)
	for range 1 + int(WinWithin/lan.RenewEvery) {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		r.answer(ans(OK, 7))
	}
	r.wantPhase(Leaving)
	if r.h.Gate() != 0 || r.guard.Until < r.now {
		t.Fatalf("gate %d, guard %+v at %v", r.h.Gate(), r.guard, r.now)
	}
	r.step(Proven{Ladder: r.stop.Ladder})
	r.wantPhase(Stopped)
}

// Of two nodes that start together the preferred one asks first; later there is no delay, and no fail-back.
func TestHolder_Prefer(t *testing.T) {
	r := newRig(t, func(o *HolderOptions) { o.Defers = true })
	r.start(Found{Active: No})
	r.ready()
	r.wantPhase(Standby)
	if next := r.h.Next(); next > r.now.Add(HeadStart) {
		t.Fatalf("next %v, want %v", next, r.now.Add(HeadStart))
	}
	r.pass(HeadStart)
	r.step(Tick{})
	r.wantPhase(Acquiring)
	r.step(Reading{Proven: No, FreshUntil: Never})
	r.wantPhase(Standby)
	r.ready()
	r.wantPhase(Acquiring)
}

// Who stops competing says why: the line is all that a journal has of it.
func TestHolder_SaysWhyItMayNot(t *testing.T) {
	for _, c := range []struct {
		reading Reading
		want    string
	}{
		{Reading{Proven: Yes, WhyNot: []string{"this node is in standby", "no rule"}, FreshUntil: Never}, "this node is in standby; no rule"},
		{Reading{Proven: No, FreshUntil: Never}, "not proven stopped"},
		{Reading{Proven: Yes, FreshUntil: 1}, "not read lately"},
	} {
		r := newRig(t)
		r.start(Found{Active: No})
		r.ready()
		r.wantPhase(Acquiring)
		r.step(c.reading)
		r.wantPhase(Standby)
		if got := r.h.View().Cause; !strings.Contains(got, "may not compete: ") || !strings.Contains(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// A node that never saw its arbiter touches nothing that it finds active: it only asks, for as long as it takes.
func TestHolder_NewcomerTouchesNothing(t *testing.T) {
	r := newRig(t)
	r.start(Found{Active: Yes, Unguarded: true})
	r.pass(lan.RenewEvery)
	r.step(Reading{FreshUntil: Never, WhyNot: []string{"no watchdog"}})
	if len(r.sends) > 0 || r.watched != 0 {
		t.Fatal("asks for a lease that it could not use, or arms a reset")
	}
	r.pass(lan.RenewEvery)
	r.step(Reading{FreshUntil: Never, Fit: true, WhyNot: []string{"no rule"}})
	for range 100 {
		r.answer(ans(Denied, 7))
		r.pass(lan.LossAfter)
		r.step(Tick{})
	}
	if r.stop != nil {
		t.Fatal("the resource was stopped")
	}
	r.wantPhase(Acquiring)
	r.answer(ans(Granted, 8))
	r.answer(ans(OK, 8))
	r.wantPhase(Held)
}

// Whatever goes wrong with the grant, nothing that runs without a rule is stopped: Pacemaker would start it again, and
// leasedog is being installed. With a rule it is.
func TestHolder_NewcomerSparesWhatRan(t *testing.T) {
	for name, harm := range map[string]func(r *rig){
		"the guard does not start": func(r *rig) { r.fail["StartGuard"] = true; r.answer(ans(OK, 8)) },
		"no renewal":               func(r *rig) { r.pass(lan.LossAfter); r.step(Tick{}) },
		"no attribute":             func(r *rig) { r.mute["OpenGate"] = true; r.answer(ans(OK, 8)); r.keepRenewing(8, WinWithin) },
		"release asked":            func(r *rig) { r.step(LeaveAsked{Cause: "stop", Retire: true}) },
	} {
		for _, unguarded := range []bool{true, false} {
			r := newRig(t)
			r.known.Stamp = Stamp{StoreID: "s1", Generation: 1}
			r.known.Epochs = map[string]Epoch{"pg": 3} // it may be the second try
			r.start(Found{Active: Yes, Unguarded: unguarded})
			r.step(Reading{FreshUntil: Never, Fit: true})
			r.pass(lan.RenewEvery)
			r.step(Tick{})
			r.answer(ans(Granted, 8))
			harm(r)
			if stopped := r.stop != nil; stopped == unguarded {
				t.Errorf("%s, unguarded %v: stopped %v", name, unguarded, stopped)
			}
			if unguarded && (r.gate != 0 || (r.run != RunReleased && r.run != RunNone) || r.guard != nil) {
				t.Errorf("%s: gate %d, /run %s, guard %v", name, r.gate, r.run, r.guard)
			}
		}
	}
}

// A node whose memory was lost is no newcomer while a rule depends on the lease: what it finds active may run on the peer too.
// Nor is one that has been in standby: what runs later was started by its own attribute.
func TestHolder_NoNewcomerWithRulesOrAfterStandby(t *testing.T) {
	r := newRig(t)
	r.start(Found{Active: Yes})
	r.answer(ans(Denied, 7))
	if r.wantPhase(Losing); r.watched == 0 {
		t.Error("nothing resets it")
	}

	r = newRig(t)
	r.start(Found{Active: Yes, Unguarded: true})
	r.step(Reading{FreshUntil: Never, Fit: true})
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(Granted, 8))
	r.step(LeaveAsked{Cause: "not yet", Retire: true}) // it gives the grant back
	r.answer(ans(OK, 8))
	r.wantPhase(Standby)
	r.step(AcquireAsked{})
	r.ready() // and somebody has stopped the resource, and applied the rule
	r.answer(ans(Granted, 9))
	r.mute["OpenGate"] = true
	r.answer(ans(OK, 9))
	r.pass(lan.LossAfter)
	r.step(Tick{})
	if r.wantPhase(Losing); r.stop == nil {
		t.Error("the attribute was set, and the lease is given back without a proof")
	}
}

// 6.4: a stop of the agent after the rules were removed leaves the resources running, and gives the lease back in order.
func TestHolder_LeavesUnguardedResourcesAlone(t *testing.T) {
	r := newRig(t)
	r.win()
	r.log = nil
	r.step(LeaveAsked{Cause: "the agent is stopped", Retire: true, Unguarded: true})
	r.wantPhase(Stopped)
	r.order("WriteRun", "Disarm", "Send")
	if _, ok := r.last().Body.(Release); !ok || r.stop != nil || r.guard != nil {
		t.Fatalf("%T, stop %v, guard %v", r.last().Body, r.stop, r.guard)
	}
	r.answer(ans(OK, 7))
	r.wantPhase(Standby)
}

// A guard that takes no extension resets at what it last acknowledged: the stop begins S before that, although every
// renewal is acknowledged.
func TestHolder_DeafGuard(t *testing.T) {
	r := newRig(t)
	r.win()
	r.fail["Arm"] = true
	due := r.guard.Until
	for r.now < due {
		r.pass(lan.RenewEvery / 3)
		r.step(Tick{})
		if _, renewal := r.last().Body.(Renew); renewal && r.h.View().Phase == Held {
			r.answer(ans(OK, 7))
		}
		if r.h.View().Phase == Losing {
			break
		}
	}
	r.wantPhase(Losing)
	if left := due.Sub(r.now); left < lan.StopBudget-lan.RenewEvery {
		t.Fatalf("only %v are left to stop", left)
	}
}

// A grant that cannot be used is tried again later and later, and the next one that can ends that.
func TestHolder_BacksOff(t *testing.T) {
	r := newRig(t)
	r.fail["StartGuard"] = true
	r.start(Found{Active: No})
	epoch, want := Epoch(7), RetryAfterFailure
	for range 4 {
		r.ready()
		r.answer(ans(Granted, epoch))
		r.answer(ans(OK, epoch))
		lost := r.now
		r.wantPhase(Losing)
		r.step(Proven{Ladder: r.stop.Ladder})
		r.answer(ans(OK, epoch))
		if v := r.h.View(); v.NotBefore != lost.Add(want) || v.LastFailure == "" {
			t.Fatalf("next try at %v because of %q, want %v", v.NotBefore, v.LastFailure, lost.Add(want))
		}
		r.now = r.h.View().NotBefore
		epoch, want = epoch+1, 2*want
	}
}

// What was never held has nothing to disarm.
func TestHolder_StopWithoutEpoch(t *testing.T) {
	r := newRig(t)
	r.known.Stamp, r.known.Epochs = Stamp{StoreID: "s1", Generation: 1}, map[string]Epoch{"pg": 3}
	r.fail["Disarm"] = true
	r.start(Found{Active: Yes})
	r.answer(ans(Denied, 7))
	r.wantPhase(Losing)
	r.step(Proven{Ladder: r.stop.Ladder})
	r.wantPhase(Standby)
}

// Next never lies in the past of a Holder that has nothing to do: the loop would spin.
func TestHolder_NextIsNotInThePast(t *testing.T) {
	r := newRig(t, func(o *HolderOptions) { o.Defers = true })
	r.start(Found{Active: No})
	r.step(Reading{Proven: Yes, FreshUntil: r.now.Add(HeadStart + time.Second)})
	r.pass(HeadStart + 2*time.Second)
	r.step(Tick{})
	r.wantPhase(Standby)
	if next := r.h.Next(); next <= r.now {
		t.Fatalf("next %v at %v", next, r.now)
	}
}

// 6.4: a failure counts from when it happened; what an administrator wants is done at once, and not stood back for.
func TestHolder_GiveUpSinceAndPlanned(t *testing.T) {
	waiting := func(r *rig) {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		a := ans(OK, 7)
		a.Waiters = []Waiter{{Node: "node2", Ready: true}}
		r.answer(a)
	}
	r := newRig(t)
	r.win()
	waiting(r)
	r.step(Reading{CannotRun: "db failed", CannotSince: r.now.Add(-4 * time.Second), FreshUntil: r.now.Add(time.Minute)})
	r.wantPhase(Held)
	r.pass(time.Second)
	waiting(r)
	r.wantPhase(Leaving)

	for _, giveUp := range []time.Duration{0, 5 * time.Second} {
		r = newRig(t, func(o *HolderOptions) { o.GiveUpAfter = giveUp })
		r.win()
		r.step(Reading{CannotRun: "standby", Planned: true, FreshUntil: r.now.Add(time.Minute)})
		r.wantPhase(Held) // nobody waits
		waiting(r)
		r.wantPhase(Leaving)
		r.step(Proven{Ladder: r.stop.Ladder})
		r.answer(ans(OK, 7))
		r.wantPhase(Standby)
		r.ready()
		if acq := r.last().Body.(Acquire); acq.LastResort {
			t.Fatal("it stands back for what an administrator wanted")
		}
	}
}

// One look that comes just before Pacemaker acts, and a slow next one, are no reason to give up.
func TestHolder_GiveUpIsSeenTwice(t *testing.T) {
	r := newRig(t)
	r.win()
	sick := Reading{CannotRun: "at rest and not running", Running: No, FreshUntil: Never}
	r.step(sick)
	beat := func() {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		a := ans(OK, 7)
		a.Waiters = []Waiter{{Node: "node2", Ready: true}}
		r.answer(a)
	}
	for range 20 {
		beat()
		if next := r.h.Next(); next <= r.now {
			t.Fatalf("next %v at %v", next, r.now)
		}
	}
	r.wantPhase(Held)
	r.step(sick)
	r.wantPhase(Leaving)
}

// The constraint that crm_resource --move leaves behind moves the lease once: where the target gives it back, it stays.
func TestHolder_MovedOnce(t *testing.T) {
	r := newRig(t)
	r.win()
	epoch := Epoch(7)
	beat := func(rd Reading) {
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		a := ans(OK, epoch)
		a.Waiters = []Waiter{{Node: "node2", Ready: true}}
		r.answer(a)
		rd.FreshUntil = Never
		r.step(rd)
	}
	comesBack := func() {
		t.Helper()
		r.wantPhase(Leaving)
		r.step(Proven{Ladder: r.stop.Ladder})
		r.answer(ans(OK, epoch))
		r.ready()
		epoch++
		r.answer(ans(Granted, epoch))
		r.answer(ans(OK, epoch))
		r.wantPhase(Held)
	}
	moved := Reading{CannotRun: "is to be on node2", Planned: true, Running: Yes}
	beat(moved)
	comesBack()
	beat(Reading{CannotRun: moved.CannotRun, Planned: true, Running: No}) // it is being started
	for range 100 {
		beat(moved)
	}
	r.wantPhase(Held)
	beat(Reading{Maintenance: Unknown}) // Pacemaker did not answer
	beat(moved)
	r.wantPhase(Held)

	// Where it does not run here either, it is given up like any failure.
	for range 20 {
		beat(Reading{CannotRun: moved.CannotRun, Planned: true, Running: No})
		if r.h.View().Phase != Held {
			break
		}
	}
	comesBack()

	// Another wish, and the same one after it was taken back.
	beat(Reading{CannotRun: "standby", Planned: true, Running: Yes})
	comesBack()
	beat(Reading{Running: Yes})
	beat(Reading{CannotRun: "standby", Planned: true, Running: Yes})
	r.wantPhase(Leaving)
}

// Who does not compete is heard all the same, once it is proven stopped: an arbiter that does not know the cluster waits
// for the word of both nodes. What it learns from the answer counts at once.
func TestHolder_ReportsFromStandby(t *testing.T) {
	r := newRig(t)
	r.start(Found{Active: No})
	barred := Reading{Proven: Yes, WhyNot: []string{"the rule is missing"}, FreshUntil: Never}
	r.step(barred)
	first, ok := r.last().Body.(Report)
	if !ok || first.Seen != (Stamp{}) || len(first.Leases) != 1 || first.Leases[0] != (LeaseReport{Lease: "pg"}) {
		t.Fatalf("%+v", r.last().Body)
	}
	a := ans(Recovery, 0)
	a.Echo = &Stamp{}
	r.answer(a)
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if second := r.last().Body.(Report); second.Seen.StoreID != "s1" || len(r.sends) != 2 {
		t.Fatalf("%d sent, %+v", len(r.sends), second)
	}
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if len(r.sends) != 2 {
		t.Fatal("reports without pause")
	}
	r.ready() // the report is still out
	if _, ok := r.last().Body.(Acquire); !ok {
		t.Fatalf("%T", r.last().Body)
	}
}
