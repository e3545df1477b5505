package lease

import (
	"strings"
	"testing"
	"time"
)

func pausedFor(d time.Duration) Answer {
	a := ans(OK, 7)
	a.Paused, a.Hold = true, max(lan.Hold(), lan.PauseHold(d))
	return a
}

// pausedRig is a rig in an endless pause.
func pausedRig(t *testing.T) *rig {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{})
	r.answer(pausedFor(0))
	r.wantPhase(Paused)
	return r
}

func maintenance(r *rig, m Tri) {
	r.step(Reading{Running: Yes, Maintenance: m, FreshUntil: r.now.Add(15 * time.Second)})
}

// 4.4.9, entering: arbiter first, then /run, then disarm.
func TestHolder_PauseAndResumeInOrder(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{})
	if r.guard == nil {
		t.Fatal("disarmed before the arbiter answered")
	}
	r.log = nil
	r.answer(ans(OK, 7))
	r.wantPhase(Paused)
	r.order("WriteRun", "Disarm")
	if r.guard != nil || r.run != RunPaused || r.h.Gate() != 7 {
		t.Fatalf("guard %v run %s gate %d", r.guard, r.run, r.h.Gate())
	}
	r.pass(24 * time.Hour)
	r.step(Tick{})
	r.wantPhase(Paused)
	r.log = nil
	r.step(ResumeAsked{})
	r.wantPhase(Resuming)
	if _, ok := r.last().Body.(Renew); !ok {
		t.Fatalf("resume begins with %T", r.last().Body)
	}
	r.answer(ans(OK, 7))
	r.order("Send", "StartGuard", "Arm", "WriteRun", "Send")
	if _, ok := r.last().Body.(Resume); !ok || r.guard == nil || r.run != RunHeld {
		t.Fatalf("%T guard %v run %s", r.last().Body, r.guard, r.run)
	}
	r.answer(ans(OK, 7))
	r.wantPhase(Held)
}

// 4.4.9, shorter: the resume of a pause with an end brings the guard's deadline back to that of the renewal, which an arm
// without shorten never does, before resume leaves.
func TestHolder_ResumeShortensTheGuard(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{For: time.Hour})
	r.answer(pausedFor(time.Hour))
	r.wantPhase(Paused)
	r.pass(time.Minute)
	r.mute["Arm"] = true
	r.step(ResumeAsked{})
	renewal := r.last()
	r.now = r.now.Add(10 * ms)
	var arm Arm
	for _, a := range r.h.Step(r.now, Answered{Seq: renewal.Seq, Answer: ans(OK, 7)}) {
		if _, start := a.(StartGuard); start {
			for _, a := range r.h.Step(r.now, GuardStarted{Epoch: 7}) {
				if a, ok := a.(Arm); ok {
					arm = a
				}
			}
		}
	}
	if want := renewal.Sent.Add(lan.HardDeadline()); !arm.Shorten || arm.Until != want {
		t.Errorf("the guard is armed with %+v, want a shorten to %v", arm, want)
	}
	r.wantPhase(Resuming)
}

// An unanswered pause counts as not paused, and resume is sent until it is answered; a late ok enters nothing.
func TestHolder_PauseAnswerLost(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{})
	pause := r.last()
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(OK, 7))
	r.now = pause.Deadline + 1
	r.step(Tick{})
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if _, ok := r.last().Body.(Resume); !ok {
		t.Fatalf("want a resume, got %T", r.last().Body)
	}
	r.step(Answered{Seq: pause.Seq, Answer: ans(OK, 7)})
	r.wantPhase(Held)
	if r.guard == nil {
		t.Fatal("the guard was disarmed")
	}
}

// Without an acknowledged renewal after the guard counts again, a resume is a held lease like any other.
func TestHolder_ResumeThenSilence(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{})
	r.answer(ans(OK, 7))
	r.step(ResumeAsked{})
	r.answer(ans(OK, 7))
	r.pass(lan.LossAfter)
	r.step(Tick{})
	r.wantPhase(Losing)
}

// A timed pause ends in the ladder if nobody resumes; the guard was armed for D+S.
func TestHolder_TimedPause(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{For: time.Hour})
	sent := r.last().Sent
	r.answer(pausedFor(time.Hour))
	r.wantPhase(Paused)
	if r.guard == nil || r.guard.Until != sent.Add(time.Hour+lan.StopBudget) {
		t.Fatalf("guard %+v", r.guard)
	}
	r.now = sent.Add(time.Hour - lan.LossAfter)
	r.step(Tick{})
	r.wantPhase(Resuming)
	r.now = sent.Add(time.Hour)
	r.step(Tick{})
	r.wantPhase(Losing)
}

// The guard takes no deadline that counts from before the one it has (deadman/late_extension). A pause whose answer comes after
// that of a later renewal would leave it armed for that renewal: reset in the middle of the pause.
func TestHolder_TimedPauseAnsweredAfterARenewal(t *testing.T) {
	r := newRig(t)
	r.win()
	r.pass(lan.RenewEvery - 100*ms)
	r.step(PauseAsked{For: time.Hour})
	pause := r.last()
	r.pass(100 * ms)
	r.step(Tick{})
	r.answer(ans(OK, 7))
	if r.guard.Sent <= pause.Sent {
		t.Fatal("no later renewal")
	}
	r.step(Answered{Seq: pause.Seq, Answer: pausedFor(time.Hour)})
	r.wantPhase(Held)
	if v := r.h.View(); !v.Pausing || !strings.Contains(v.PauseProblem, "try again") {
		t.Fatalf("%+v", v)
	}
}

// The answer to a renewal's extension, read late, does not say that the guard is armed for the pause.
func TestHolder_TimedPauseIsArmedForItself(t *testing.T) {
	r := newRig(t)
	r.win()
	r.mute["Arm"] = true
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(OK, 7))
	extension := Armed{Epoch: 7, Sent: r.last().Sent, Until: r.last().Sent.Add(lan.HardDeadline()), Watchdog: time.Second}
	r.pass(10 * ms)
	r.step(PauseAsked{For: time.Hour})
	sent := r.last().Sent
	r.answer(pausedFor(time.Hour))
	r.wantPhase(Paused)
	r.step(extension)
	r.mute["Arm"] = false // the first one for the pause was lost
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if r.guard.Until != sent.Add(time.Hour+lan.StopBudget) {
		t.Fatalf("the guard resets at %v, in a pause from %v", r.guard.Until, sent)
	}
}

// A hold that is too short for the pause is no pause.
func TestHolder_PauseHoldTooShort(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{For: time.Hour})
	a := pausedFor(time.Hour)
	a.Hold--
	r.answer(a)
	r.wantPhase(Held)
	if r.guard == nil || !r.h.View().Pausing || !strings.Contains(r.h.View().PauseProblem, "this node needs") {
		t.Fatalf("guard %v, %+v", r.guard, r.h.View())
	}
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if _, ok := r.last().Body.(Resume); !ok {
		t.Fatalf("want a resume, got %T", r.last().Body)
	}
}

func TestHolder_PauseRefused(t *testing.T) {
	r := newRig(t)
	r.step(Found{Active: No})
	for name, ask := range map[string]Event{"only a lease that is held": PauseAsked{}, "no length": PauseAsked{For: -1},
		"not paused here": ResumeAsked{}} {
		r.step(ask)
		if got := r.h.View().PauseProblem; !strings.Contains(got, name) || len(r.sends) > 0 {
			t.Errorf("%T: %q", ask, got)
		}
	}
}

// A paused node is heard from time to time, and hears that somebody elsewhere asks it to resume. What it sends
// extends nothing here.
func TestHolder_PausedHearsResumeAsk(t *testing.T) {
	r := pausedRig(t)
	sent := r.h.View().Sent
	r.pass(RetryAfterFailure + lan.RenewEvery)
	r.step(Tick{})
	renewal, ok := r.last().Body.(Renew)
	if !ok || renewal.Claim == nil || renewal.Claim.State != ClaimPaused {
		t.Fatalf("sent %+v", r.last().Body)
	}
	r.answer(pausedFor(0))
	r.wantPhase(Paused)
	if r.h.View().Sent != sent || r.guard != nil {
		t.Fatal("a renewal in a pause counts for something")
	}
	r.pass(RetryAfterFailure)
	r.step(Tick{})
	a := pausedFor(0)
	a.ResumeAsk = true
	r.answer(a)
	r.wantPhase(Resuming)
}

// A record that does not say paused ends the pause: nobody would deny the peer for longer than a hold.
func TestHolder_PausedButTheRecordIsNot(t *testing.T) {
	r := pausedRig(t)
	r.pass(RetryAfterFailure + lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(OK, 7))
	r.wantPhase(Resuming)
}

// A lease that an operator gave away while this node was paused is lost here as any other.
func TestHolder_LostWhilePaused(t *testing.T) {
	r := pausedRig(t)
	r.pass(RetryAfterFailure + lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(Lost, 8))
	r.wantPhase(Losing)
}

// 6.4: maintenance pauses without an end, and resumes on a positive reading only.
func TestHolder_FollowsMaintenance(t *testing.T) {
	r := newRig(t)
	r.win()
	maintenance(r, Unknown)
	r.wantPhase(Held)
	if _, ok := r.last().Body.(Pause); ok {
		t.Fatal("what is not known pauses")
	}
	maintenance(r, Yes)
	if p, ok := r.last().Body.(Pause); !ok || p.For != 0 {
		t.Fatalf("sent %+v", r.last().Body)
	}
	r.answer(pausedFor(0))
	r.wantPhase(Paused)
	if r.guard != nil {
		t.Fatal("still armed")
	}
	for _, m := range []Tri{Yes, Unknown} {
		maintenance(r, m)
		r.wantPhase(Paused)
	}
	r.step(Reading{Maintenance: No, FreshUntil: r.now - 1})
	r.wantPhase(Paused) // too old to count
	r.step(ResumeAsked{})
	r.wantPhase(Paused)
	maintenance(r, No)
	r.wantPhase(Resuming)
}

// An administrator's pause does not end with a maintenance, and one that is asked for during it stays after it.
func TestHolder_MaintenanceLeavesAPauseAlone(t *testing.T) {
	r := pausedRig(t)
	maintenance(r, Yes)
	maintenance(r, No)
	r.wantPhase(Paused)

	r = newRig(t)
	r.win()
	maintenance(r, Yes)
	r.answer(pausedFor(0))
	r.step(PauseAsked{})
	maintenance(r, No)
	r.wantPhase(Paused)
	if p := r.h.View().PauseProblem; p != "" {
		t.Fatal(p)
	}
}

// If the arbiter cannot be told the normal rules hold, and that is said at once.
func TestHolder_MaintenanceNotPinned(t *testing.T) {
	r := newRig(t)
	r.win()
	maintenance(r, Yes)
	pause := r.last()
	said := ""
	r.now = pause.Deadline + 1
	for _, a := range r.h.Step(r.now, Tick{}) {
		if n, ok := a.(Note); ok && n.Alarm {
			said += n.Text
		}
	}
	if !strings.Contains(said, "maintenance is not pinned") || !strings.Contains(said, "stops its resources in") {
		t.Fatalf("said %q", said)
	}
	r.now = r.h.View().LoseAt
	r.step(Tick{})
	r.wantPhase(Losing)
}

// 4.4.7: a successor goes on with the pause as it was, and knows whether maintenance began it.
func TestHolder_SuccessorOfMaintenance(t *testing.T) {
	for _, byMaintenance := range []bool{true, false} {
		r := newRig(t)
		rec := record(r, RunPaused)
		rec.Maintenance = byMaintenance
		r.start(Found{Record: rec})
		r.wantPhase(Paused)
		a := pausedFor(0)
		a.Verdict = Adopted
		r.answer(a)
		maintenance(r, No)
		want := map[bool]Phase{true: Resuming, false: Paused}[byMaintenance]
		r.wantPhase(want)
	}
}

// Who asked for a pause and was not told what came of it, and then loses the lease, is not free of it by the clock: the
// record may say paused, which no hold ends. Nobody would ever be granted again (seed 9213 of a simulated world with pauses).
func TestHolder_ReleasesUntilAnsweredWhenItMayBePaused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		start func(r *rig)
		owed  bool
	}{
		{"never paused", (*rig).win, false},
		{"pause unanswered", func(r *rig) {
			r.win()
			r.step(PauseAsked{})
			r.answer(ans(Unavailable, 7))
		}, true},
		{"pause unanswered, then ended", func(r *rig) {
			r.win()
			r.step(PauseAsked{})
			r.answer(ans(Unavailable, 7))
			r.pass(lan.RenewEvery)
			r.step(Tick{})
			r.answer(ans(OK, 7)) // the resume
		}, false},
		{"resume unanswered", func(r *rig) {
			r.win()
			r.step(PauseAsked{})
			r.answer(ans(OK, 7))
			r.step(ResumeAsked{})
			r.answer(ans(OK, 7)) // the renewal
		}, true},
		{"not known what an earlier agent asked", func(r *rig) { r.start(Found{Record: record(r, RunHeld), Guard: guardFor(r)}) }, true},
		{"an earlier agent's lease, adopted", func(r *rig) {
			r.start(Found{Record: record(r, RunHeld), Guard: guardFor(r)})
			r.answer(ans(Adopted, 7))
		}, false},
		{"an earlier agent's lease, adopted, and paused it is", func(r *rig) {
			r.start(Found{Record: record(r, RunHeld), Guard: guardFor(r)})
			a := ans(Adopted, 7)
			a.Paused = true
			r.answer(a)
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			tc.start(r)
			r.pass(lan.LossAfter)
			r.step(Tick{})
			r.wantPhase(Losing)
			r.step(Proven{Ladder: r.stop.Ladder})
			r.pass(time.Hour)
			r.step(Tick{})
			if !tc.owed {
				r.wantPhase(Standby)
				return
			}
			r.wantPhase(Stopped)
			if _, ok := r.last().Body.(Release); !ok || r.last().Sent != r.now || r.guard != nil {
				t.Fatalf("last request %+v, guard %v", r.last(), r.guard)
			}
			r.answer(ans(OK, 7))
			r.wantPhase(Standby)
		})
	}
}

// The release in an earlier agent's name is the first try only: the arbiter may know that name no more. That it is
// superseded says nothing about this agent.
func TestHolder_SuccessorReleasesInItsOwnNameToo(t *testing.T) {
	r := newRig(t)
	r.start(Found{Record: record(r, RunLosing), Guard: guardFor(r)})
	r.step(Proven{Ladder: r.stop.Ladder})
	r.answer(ans(Superseded, 7))
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if rel, ok := r.last().Body.(Release); !ok || rel.Party != r.h.opt.Self || rel.Epoch != 7 {
		t.Fatalf("%+v", r.last().Body)
	}
	r.answer(ans(OK, 7))
	r.wantPhase(Standby)
}

// An agent that is stopped ends, whatever the arbiter does: a lease that was paused when it was asked to leave is left when
// the pause has ended, and nothing that only the arbiter could answer is waited for without an end.
func TestHolder_StopOfTheAgentEnds(t *testing.T) {
	stop := LeaveAsked{Cause: "the agent is stopped", Retire: true}
	mayEnd := func(r *rig, want bool) {
		t.Helper()
		if v := r.h.View(); v.MayEnd != want {
			t.Errorf("%s (%s): may end %v", v.Phase, v.Cause, v.MayEnd)
		}
	}

	// Resuming, and the arbiter does not answer.
	r := pausedRig(t)
	mayEnd(r, true)
	r.step(ResumeAsked{})
	r.step(stop)
	r.wantPhase(Resuming)
	mayEnd(r, true)
	// It does: the guard is armed, and the lease held, and so it is left.
	r.answer(ans(OK, 7))
	mayEnd(r, false)
	r.answer(ans(OK, 7))
	r.wantPhase(Leaving)
	mayEnd(r, false)

	// Stopped, and the arbiter, which may say paused, does not answer.
	r = newRig(t)
	r.win()
	r.step(PauseAsked{})
	r.step(stop)
	r.pass(lan.LossAfter)
	r.step(Tick{})
	r.step(Proven{Ladder: r.stop.Ladder})
	r.wantPhase(Stopped)
	mayEnd(r, false)
	r.pass(lan.Hold())
	r.step(Tick{})
	r.wantPhase(Stopped)
	mayEnd(r, true)

	// Never while the guard may be armed.
	r = newRig(t)
	r.win()
	r.mute["Disarm"] = true
	r.step(stop)
	r.step(Proven{Ladder: r.stop.Ladder})
	r.pass(time.Hour)
	r.step(Tick{})
	mayEnd(r, false)
}

// A resume by itself that cannot be finished is tried again at the pace of renewals, not at that of the network.
func TestHolder_ResumesAtAPace(t *testing.T) {
	for name, begin := range map[string]func(r *rig){
		"the pause ends soon": func(r *rig) {
			r.step(PauseAsked{For: time.Hour})
			r.answer(pausedFor(time.Hour))
			r.now = r.now.Add(time.Hour - lan.LossAfter)
			r.step(Tick{})
		},
		"maintenance is over": func(r *rig) {
			maintenance(r, Yes)
			r.answer(pausedFor(0))
			maintenance(r, No)
		},
	} {
		r := newRig(t)
		r.win()
		r.fail["StartGuard"] = true
		begin(r)
		tries := 0
		for until := r.now.Add(2 * lan.RenewEvery); r.now < until; r.pass(10 * ms) {
			r.step(Tick{})
			if r.h.View().Phase == Resuming {
				tries++
				r.answer(pausedFor(0))
			}
			if next := r.h.Next(); next <= r.now {
				t.Fatalf("%s: next %v at %v", name, next, r.now)
			}
		}
		if tries != 2 {
			t.Errorf("%s: %d tries in two renewals' time", name, tries)
		}
	}
}

// The guard was started for a resume and ended by itself before the arm came, since the agent had stood still for longer than
// an unarmed guard lives: it is started again. Once an arm has left, no start that fails leads back into the pause, in which
// a guard that was armed after all would reset the node.
func TestHolder_ResumeStartsTheGuardAgain(t *testing.T) {
	r := pausedRig(t)
	r.fail["Arm"] = true
	r.step(ResumeAsked{})
	r.answer(ans(OK, 7))
	for range 2 {
		r.fail["StartGuard"] = !r.fail["StartGuard"]
		r.log = nil
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		r.answer(ans(OK, 7))
		r.wantPhase(Resuming)
		r.order("Send", "StartGuard")
	}
	r.fail["Arm"] = false
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(OK, 7))
	r.answer(ans(OK, 7))
	r.wantPhase(Held)
	if r.guard == nil {
		t.Fatal("held without a guard")
	}
}

// A guard that found another device than before the pause guards nothing for this grant: the pause goes on.
func TestHolder_ResumeWithALongerWatchdog(t *testing.T) {
	r := pausedRig(t)
	r.mute["Arm"] = true
	r.step(ResumeAsked{})
	r.answer(ans(OK, 7))
	r.step(Armed{Epoch: 7, Until: r.now.Add(lan.HardDeadline()), Watchdog: lan.Watchdog + 1})
	r.answer(ans(OK, 7))
	r.wantPhase(Resuming)
	r.mute["Arm"] = false
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	r.answer(ans(OK, 7))
	r.answer(ans(OK, 7))
	r.wantPhase(Held)
}

// The answer to a resume that was sent before a pause says nothing about that pause.
func TestHolder_LateResumeAnswer(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{})
	r.answer(ans(Unavailable, 7))
	var resumes []Send
	for range 2 { // the deadline of the first is when the second leaves
		r.pass(lan.RenewEvery)
		r.step(Tick{})
		resumes = append(resumes, r.last())
		r.step(Answered{Seq: r.sends[len(r.sends)-2].Seq, Answer: ans(OK, 7)})
	}
	r.step(Answered{Seq: resumes[0].Seq, Answer: ans(OK, 7)})
	if r.h.View().Pausing {
		t.Fatal("the resume was answered")
	}
	r.pass(10 * ms)
	r.step(PauseAsked{})
	r.step(Answered{Seq: resumes[1].Seq, Answer: ans(OK, 7)})
	if !r.h.View().Pausing {
		t.Fatal("the newer pause counts as ended")
	}
}

// A pause of unknown outcome is ended while the lease is being left, too: who dies then would leave it paused for ever.
func TestHolder_LeavingEndsAPause(t *testing.T) {
	r := newRig(t)
	r.win()
	r.step(PauseAsked{})
	r.answer(ans(Unavailable, 7))
	r.step(LeaveAsked{Cause: "standby"})
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if _, ok := r.last().Body.(Resume); !ok {
		t.Fatalf("%T", r.last().Body)
	}
	r.answer(ans(OK, 7))
	r.wantPhase(Leaving)
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if _, ok := r.last().Body.(Renew); !ok {
		t.Fatalf("%T", r.last().Body)
	}
	paused := ans(OK, 7)
	paused.Paused = true
	r.answer(paused)
	r.pass(lan.RenewEvery)
	r.step(Tick{})
	if _, ok := r.last().Body.(Resume); !ok {
		t.Fatalf("the record is paused: %T", r.last().Body)
	}
}
