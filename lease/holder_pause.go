package lease

import (
	"fmt"
	"time"
)

// pauseAsked is an administrator's pause. What came of it is in View: the phase, or PauseProblem.
func (h *Holder) pauseAsked(now Instant, ev PauseAsked) {
	h.pauseProblem = ""
	switch {
	case ev.For < 0:
		h.pauseProblem = fmt.Sprintf("a pause of %v is no length", ev.For)
	case h.phase == Paused && h.step == stepNone && h.byMaintenance && ev.For == 0:
		h.byMaintenance = false // from now on the end of maintenance does not end it
		h.writeRun(RunPaused)
	case h.phase == Held && h.adopting:
		h.pauseProblem = "this agent has just started and has not reached the arbiter yet"
	case h.phase == Held && h.pausing:
		h.pauseProblem = "an earlier pause is not settled with the arbiter yet"
	case h.phase == Held:
		h.sendPause(now, ev.For, false)
	default:
		h.pauseProblem = fmt.Sprintf("only a lease that is held can be paused, and here it is %s", h.phase)
	}
}

// sendPause asks the arbiter. Until it has answered, and if the answer is lost, the lease counts as not paused.
func (h *Holder) sendPause(now Instant, length time.Duration, byMaintenance bool) {
	h.pausing, h.owed, h.pauseFor, h.byMaintenance = true, true, length, byMaintenance
	h.send(now, kindPause, h.budget.RequestTimeout, func(seq uint64) any {
		h.pauseSeq = seq
		return Pause{Party: h.party, Epoch: h.epoch, Seq: seq, Seen: h.known.Stamp, For: length, Terms: h.budget.Terms}
	})
}

// followMaintenance pauses without an end while Pacemaker is in maintenance, and resumes on a positive reading that
// this is over. What is not known changes nothing. A pause that an administrator asked for is left alone.
func (h *Holder) followMaintenance(now Instant) {
	switch m := h.maintenance(now); {
	case h.phase == Held && m == Yes && !h.adopting && !h.pausing && now >= h.nextPause:
		h.nextPause = now.Add(RetryAfterFailure)
		h.sendPause(now, 0, true)
	case h.phase == Paused && m == No && h.byMaintenance && h.step == stepNone && !h.adopting && now >= h.nextResume:
		h.becomeResuming(now, "maintenance is over")
	}
}

// maintenance is the newest reading, or unknown if that is too old.
func (h *Holder) maintenance(now Instant) Tri {
	if now >= h.reading.FreshUntil {
		return Unknown
	}
	return h.reading.Maintenance
}

// pauseFailed: the arbiter refused, or did not answer. The lease counts as not paused; resume is sent until it is
// answered, since the request may have been written all the same.
func (h *Holder) pauseFailed(now Instant, why string) {
	h.pauseProblem = why
	if h.byMaintenance {
		h.note(true, "maintenance is not pinned: %s; unless a renewal is acknowledged this node stops its resources in %v",
			why, h.loseAt().Sub(now))
		return
	}
	h.note(true, "the lease is not paused: %s", why)
}

// pauseAnswered enters the pause only while no resume with a higher seq has left (4.4.9).
func (h *Holder) pauseAnswered(now Instant, p pending, a Answer) {
	if h.phase != Held || h.resumeSeq > p.seq {
		return
	}
	switch need := h.budget.PauseHold(h.pauseFor); {
	case a.Verdict != OK || a.Epoch != h.epoch:
		h.pauseFailed(now, "the arbiter says: "+a.Reason)
	case h.pauseFor > 0 && a.Hold < need:
		h.pauseFailed(now, fmt.Sprintf("the arbiter holds a pause of %v for %v only, this node needs %v", h.pauseFor, a.Hold, need))
	case h.pauseFor > 0 && h.sent > p.sent: // the guard would not take a deadline that counts from before the one it has
		h.pauseFailed(now, "a renewal that was sent later was answered first: try again")
	default:
		h.pausing = false
		h.becomePaused(now, p.sent)
	}
}

func (h *Holder) becomePaused(now, sent Instant) {
	h.pauseSent, h.step, h.nextSend, h.out = sent, stepRun, now, nil
	cause := "paused without an end"
	switch {
	case h.byMaintenance:
		cause = "Pacemaker is in maintenance: paused until that is over"
	case h.pauseFor > 0:
		cause = fmt.Sprintf("paused for %v", h.pauseFor)
	}
	h.enter(now, Paused, cause)
}

// keepPaused repeats what is not done yet on the way into a pause, installs a successor's instance, and then only
// lets the arbiter hear that this node lives: an administrator elsewhere may ask for the pause to end.
func (h *Holder) keepPaused(now Instant) {
	h.nextSend = now.Add(h.budget.RenewEvery)
	if h.watched != 0 {
		h.do(Unwatch{}) // again: nothing resets in a pause
	}
	switch {
	case h.step == stepRun:
		h.writeRun(RunPaused)
	case h.step == stepDisarm:
		h.do(Disarm{Epoch: h.epoch})
	case h.step == stepArm:
		h.do(Arm{Epoch: h.epoch, Sent: h.pauseSent, Until: h.pauseEnd(), Budget: h.budget})
	case h.adopting:
		h.nextSend = now.Add(max(h.budget.RenewEvery, RetryAfterFailure))
		h.sendAdopt(now)
	default:
		h.nextSend = now.Add(max(h.budget.RenewEvery, RetryAfterFailure))
		h.renew(now)
	}
}

func (h *Holder) pauseEnd() Instant { return h.pauseSent.Add(h.pauseFor + h.budget.StopBudget) }

// heardPaused takes the answer to a renewal in a pause, which extends nothing here.
func (h *Holder) heardPaused(now Instant, a Answer) {
	switch {
	case h.step != stepNone || h.adopting:
	case !a.Paused:
		h.note(true, "this node says paused, the arbiter's record does not: it resumes")
		h.becomeResuming(now, "the arbiter's record is not paused")
	case a.ResumeAsk && h.byMaintenance && h.maintenance(now) != No:
		h.note(false, "asked to resume, but Pacemaker is in maintenance: the pause ends when that is over")
	case a.ResumeAsk:
		h.becomeResuming(now, "resume was asked for at the arbiter")
	}
}

// resumeAsked is an administrator's resume at this node.
func (h *Holder) resumeAsked(now Instant) {
	h.pauseProblem = ""
	switch {
	case h.phase != Paused:
		h.pauseProblem = fmt.Sprintf("the lease is not paused here, it is %s", h.phase)
	case h.byMaintenance && h.maintenance(now) != No:
		h.pauseProblem = "Pacemaker is in maintenance: the pause ends by itself when that is over"
	case h.adopting:
		h.pauseProblem = "this agent has not reached the arbiter since its start, and only an acknowledged renewal ends a pause"
	case h.step != stepNone:
		h.pauseProblem = "the pause has only just begun: try again"
	default:
		h.becomeResuming(now, "resume asked")
	}
}

func (h *Holder) becomeResuming(now Instant, cause string) {
	h.step, h.rearmed, h.tried, h.nextSend = stepSave, false, false, now
	h.enter(now, Resuming, cause)
}

// becomePausedAgain falls back from an unfinished resume, of which the arbiter has not been told.
func (h *Holder) becomePausedAgain(now Instant, why string) {
	h.pauseProblem = why
	h.step, h.rearmed, h.out = stepNone, false, nil
	h.nextSend, h.nextResume = now.Add(RetryAfterFailure), now.Add(h.budget.RenewEvery)
	h.enter(now, Paused, "cannot resume")
}

func (h *Holder) resumeAnswered(now Instant, p pending, a Answer) {
	if a.Verdict == Lost {
		h.becomeLosing(now, "the arbiter says lost: "+a.Reason)
		return
	}
	if a.Verdict != OK || a.Epoch != h.epoch || p.seq < h.pauseSeq { // a later pause stands behind it
		return
	}
	h.pausing, h.owed = false, false
	if h.phase == Resuming && h.step == stepTell {
		h.becomeHeld(now, "resumed")
	}
}
