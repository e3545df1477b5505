package lease

import (
	"fmt"
)

// enter changes the phase; the become methods are its only callers besides begin.
func (h *Holder) enter(now Instant, p Phase, cause string) {
	h.phase, h.since, h.cause = p, now, cause
	h.do(Enter{Phase: p, Epoch: h.epoch, Cause: cause})
}

func (h *Holder) becomeStandby(now Instant, cause string) {
	if h.phase == Stopped {
		h.writeRun(RunNone)
	}
	h.epoch, h.hold, h.sent, h.armed, h.step = 0, 0, 0, 0, stepNone
	h.out, h.adopting, h.pausing, h.rearmed, h.startBy, h.cannotSince = nil, false, false, false, 0, 0
	h.owed, h.newcomer = false, false // from here on it starts what runs, and so has to stop it
	if h.opt.Mode != AcquireAuto && h.phase == Stopped {
		h.asked = false
	}
	if h.gaveUp {
		h.gaveUp = false
		h.standBack = now.Add(h.backOff)
		h.backOff = min(2*h.backOff, StandBackMax)
	}
	h.reading.FreshUntil = Earlier(h.reading.FreshUntil, now) // what was read before does not let it compete again
	h.do(CloseGate{})
	h.enter(now, Standby, cause)
}

func (h *Holder) becomeAcquiring(now Instant, cause string) {
	h.nextSend, h.out = now, nil // a report that is out holds nothing up
	h.enter(now, Acquiring, cause)
}

// becomeWinning begins the order of a win (4.4.3): the epoch on disk and a first renewal, /run, guard, arm, and
// only then the attribute.
func (h *Holder) becomeWinning(now Instant, a Answer) {
	mayRun := h.startBy != 0 || h.reading.opens(now)
	h.out, h.startBy = nil, 0
	h.epoch, h.hold, h.party, h.budget = a.Epoch, a.Hold, h.opt.Self, h.opt.Budget
	h.sent, h.armed, h.saved, h.step, h.granter = 0, 0, false, stepSave, a.Stamp.StoreID
	h.ladder++
	h.enter(now, Winning, fmt.Sprintf("granted epoch %d", a.Epoch))
	if need := h.budget.NeededHold(); a.Hold < need {
		h.lose(now, fmt.Sprintf("the arbiter holds for %v only, this node needs %v", a.Hold, need))
		return
	}
	if !mayRun {
		h.lose(now, "granted, but this node may not compete any more")
		return
	}
	h.do(SaveKnown{Known: h.known.Clone(), Epoch: h.epoch, Wait: true})
	h.nextSend = now
}

// winOn goes on once the epoch is on disk and the lease has time.
func (h *Holder) winOn() {
	if h.step == stepSave && h.saved && h.sent != 0 {
		h.step = stepRun
		h.writeRun(RunHeld)
	}
}

func (h *Holder) knownSaved(now Instant, ev KnownSaved) {
	if h.phase != Winning || h.step != stepSave || ev.Epoch != h.epoch {
		return
	}
	if ev.Err != "" {
		h.lose(now, "the epoch cannot be saved: "+ev.Err)
		return
	}
	h.saved = true
	h.winOn()
}

func (h *Holder) runWritten(now Instant, ev RunWritten) {
	if ev.Epoch != h.epoch {
		return
	}
	failed := ev.Err != ""
	if failed {
		h.note(true, "/run cannot say %q: %s", ev.State, ev.Err)
	}
	switch {
	case h.phase == Winning && h.step == stepRun && ev.State == RunHeld:
		if failed {
			h.lose(now, "/run cannot be written: "+ev.Err)
			return
		}
		h.step = stepGuard
		h.do(StartGuard{Epoch: h.epoch})
	case h.phase == Resuming && h.step == stepRun && ev.State == RunHeld && !failed:
		h.step, h.nextSend = stepTell, now
	case h.phase == Paused && h.step == stepRun && ev.State == RunPaused:
		if failed {
			h.becomeResuming(now, "/run cannot be written")
			return
		}
		h.step = stepDisarm
		if h.pauseFor > 0 {
			h.step = stepArm
		}
		h.nextSend = now
	case h.phase == Stopped && h.step == stepRun && ev.State == RunReleased && !failed:
		h.step, h.nextSend = stepDisarm, now
		if h.epoch == 0 {
			h.step = stepRelease // nothing was ever held or armed
		}
	}
}

func (h *Holder) guardStarted(now Instant, ev GuardStarted) {
	if ev.Epoch != h.epoch || h.step != stepGuard {
		return
	}
	switch h.phase {
	case Winning, Resuming:
		if ev.Err == "" {
			h.step, h.tried = stepArm, true
			h.arm(true)
			return
		}
		if h.phase == Winning {
			h.lose(now, "the guard does not start: "+ev.Err)
			return
		}
		if h.tried { // it may be armed: no way back into the pause
			h.step = stepSave
			h.note(true, "the guard does not start: %s", ev.Err)
			return
		}
		h.note(true, "the guard does not start, the lease stays paused: %s", ev.Err)
		h.becomePausedAgain(now, "the guard does not start: "+ev.Err)
	}
}

// arm asks the guard to reset at F after the Sent of the newest acknowledged renewal.
func (h *Holder) arm(shorten bool) {
	until := h.sent.Add(h.budget.HardDeadline())
	h.do(Arm{Epoch: h.epoch, Sent: h.sent, Until: until, Budget: h.budget,
		Shorten: shorten && h.phase == Resuming && h.armed != 0 && until < h.armed})
}

func (h *Holder) guardArmed(now Instant, ev Armed) {
	if ev.Epoch != h.epoch {
		return
	}
	if ev.Err != "" {
		h.note(true, "the guard does not arm: %s", ev.Err)
		if h.phase == Winning && h.step == stepArm {
			h.lose(now, "the guard does not arm: "+ev.Err)
		}
		if h.phase == Resuming && h.step == stepArm {
			h.step = stepSave // it may have ended by itself, unarmed: the next renewal begins with starting it
		}
		return
	}
	h.armed = ev.Until
	switch {
	case h.phase == Winning && h.step == stepArm:
		if ev.Watchdog > h.budget.Watchdog {
			h.lose(now, fmt.Sprintf("the watchdog's real timeout is %v, this grant counts on %v", ev.Watchdog, h.budget.Watchdog))
			return
		}
		if h.watched != 0 { // the lease's own deadline stands now
			h.do(Unwatch{})
		}
		h.step = stepGate
		h.do(OpenGate{Epoch: h.epoch})
	case h.phase == Resuming && h.step == stepArm:
		if ev.Watchdog > h.budget.Watchdog { // another device than before the pause
			h.note(true, "cannot resume: the watchdog's real timeout is %v, and this lease was granted for %v; tried again in %v. It stays paused "+
				"for the peer until this node has its former watchdog again, or reboots", ev.Watchdog, h.budget.Watchdog, h.budget.RenewEvery)
			h.step = stepSave
			return
		}
		h.step, h.rearmed = stepRun, true
		h.writeRun(RunHeld)
	case h.phase == Paused && h.step == stepArm && ev.Sent == h.pauseSent: // not the answer to a renewal's extension
		h.step = stepNone
	}
}

func (h *Holder) disarmed(now Instant, ev Disarmed) {
	if ev.Epoch != h.epoch || h.step != stepDisarm {
		return
	}
	if ev.Err != "" {
		h.note(true, "the guard does not disarm: %s", ev.Err)
		return
	}
	h.armed = 0
	switch h.phase {
	case Paused:
		h.step = stepNone
	case Stopped:
		h.step, h.nextSend = stepRelease, now
	}
}

func (h *Holder) becomeHeld(now Instant, cause string) {
	h.step, h.rearmed, h.pauseFor, h.pauseSent, h.byMaintenance = stepNone, false, 0, 0, false
	h.lastFailure, h.failBackOff, h.newcomer = "", RetryAfterFailure, false
	h.cannotSeen = 0 // what was read before the attribute was set says nothing
	h.enter(now, Held, cause)
}

// spares gives back the first grant of all, which could not be used, and leaves alone what ran here before: installing
// leasedog must not stop anything.
func (h *Holder) spares(now Instant, cause string) bool {
	if h.phase != Winning || !h.newcomer {
		return false
	}
	h.note(true, "the lease is given back, and what runs here is not touched: %s", cause)
	h.do(CloseGate{})
	h.becomeStopped(now, "not used, nothing was stopped: "+cause)
	return true
}

// becomeLeaving begins a planned loss: the attribute goes, renewals go on, Pacemaker stops in its own order.
func (h *Holder) becomeLeaving(now Instant, cause string) {
	if h.spares(now, cause) {
		return
	}
	h.step, h.cannotSince = stepNone, 0
	if h.phase != Winning {
		h.ladder++
	}
	h.orderly = now.Add(h.opt.LeaveTimeout)
	h.enter(now, Leaving, cause)
	h.writeRun(RunLeaving)
	h.do(CloseGate{})
	h.do(Stop{Ladder: h.ladder, Orderly: h.orderly, From: h.orderly, Until: Never})
}

// lose is becomeLosing for a grant that is not used: it also waits before the next try, longer each time.
func (h *Holder) lose(now Instant, cause string) {
	h.lastFailure = cause
	h.notBefore = now.Add(h.failBackOff)
	h.failBackOff = min(2*h.failBackOff, StandBackMax)
	h.becomeLosing(now, cause)
}

// becomeLosing ends all renewing and runs the stop ladder against the guard's deadline.
func (h *Holder) becomeLosing(now Instant, cause string) {
	if h.spares(now, cause) {
		return
	}
	if h.phase != Leaving && h.phase != Winning {
		h.ladder++
	}
	h.out, h.adopting, h.pausing, h.startBy, h.step = nil, false, false, 0, stepNone
	if h.hold == 0 {
		h.hold = h.budget.Hold()
	}
	h.enter(now, Losing, cause)
	h.writeRun(RunLosing)
	h.do(CloseGate{})
	h.do(Stop{Ladder: h.ladder, From: now, Until: h.resetAt()})
}

// becomeStopped begins the tail of a loss. /run says released before the guard is disarmed, and the guard is
// disarmed before the release leaves.
func (h *Holder) becomeStopped(now Instant, cause string) {
	h.out, h.adopting = nil, false
	h.step, h.nextSend = stepRun, now
	h.enter(now, Stopped, cause)
}

// record is what /run must say.
func (h *Holder) record(s RunState) RunRecord {
	r := RunRecord{Lease: h.opt.Lease, State: s, Party: h.party, Epoch: h.epoch, Hold: h.hold,
		PauseFor: h.pauseFor, Sent: h.sent, Budget: h.budget}
	if s == RunPaused {
		r.Sent, r.Maintenance = h.pauseSent, h.byMaintenance
	}
	return r
}

func (h *Holder) writeRun(s RunState) { h.do(WriteRun{Record: h.record(s)}) }
