package lease

import (
	"fmt"
	"slices"
	"strings"
)

// Step takes one event at one instant and returns what is to be done. Time is looked at first: an event that comes
// late finds the lease already lost. The first event must be Found.
func (h *Holder) Step(now Instant, ev Event) []Action {
	h.acts, h.now = nil, now
	if found, ok := ev.(Found); ok != (h.phase == "") {
		panic(fmt.Sprintf("lease: Holder in phase %q got %T", h.phase, ev))
	} else if ok {
		h.begin(now, found)
		h.advance(now)
		return h.acts
	}
	if h.gone {
		return nil
	}
	if a, ok := ev.(Armed); ok && a.Err == "" && a.Epoch == h.epoch && h.armed != 0 && (h.phase == Held || h.phase == Leaving) {
		h.armed = Later(h.armed, a.Until) // what the guard has acknowledged counts even if it is read late
	}
	h.expire(now)
	h.take(now, ev)
	h.advance(now)
	return h.acts
}

// take dispatches one event.
func (h *Holder) take(now Instant, ev Event) {
	switch ev := ev.(type) {
	case Tick:
	case Answered:
		h.answered(now, ev)
	case Failed:
		h.failed(now, ev)
	case Reading:
		h.read(now, ev)
	case KnownSaved:
		h.knownSaved(now, ev)
	case RunWritten:
		h.runWritten(now, ev)
	case GuardStarted:
		h.guardStarted(now, ev)
	case Armed:
		h.guardArmed(now, ev)
	case Disarmed:
		h.disarmed(now, ev)
	case Watched:
		h.watchAnswered(ev)
	case Unwatched:
		h.unwatched(now, ev)
	case GateOpened:
		if h.phase == Winning && h.step == stepGate && ev.Epoch == h.epoch {
			h.becomeHeld(now, "attribute set")
		}
	case Proven:
		if (h.phase == Leaving || h.phase == Losing) && ev.Ladder == h.ladder {
			h.becomeStopped(now, "proven stopped")
		}
	case LeaveAsked:
		h.leaveAsked(now, ev)
	case AcquireAsked:
		h.retired, h.asked, h.notBefore = false, true, now
	case PauseAsked:
		h.pauseAsked(now, ev)
	case ResumeAsked:
		h.resumeAsked(now)
	case Jumped:
		h.jumped(ev)
		h.expire(now)
	default:
		panic(fmt.Sprintf("lease: Holder got an unknown event %T", ev))
	}
}

// begin decides what an earlier agent of this boot left behind (4.4.7, 6.4 Start).
func (h *Holder) begin(now Instant, f Found) {
	r := f.Record
	if r != nil && (r.Party.Node != h.opt.Self.Node || r.Party.BootID != h.opt.Self.BootID || r.Lease != h.opt.Lease) {
		r = nil // of another boot, which is over
	}
	if f.Watched != nil {
		h.watched, h.watchedFrom = f.Watched.Until, f.Watched.Sent
	}
	if r == nil && f.Guard == nil {
		h.party = h.opt.Self
		h.beginWithout(now, f)
		return
	}
	if r == nil {
		r = &RunRecord{State: RunNone, Party: h.opt.Self, Epoch: f.Guard.Epoch, Budget: h.opt.Budget,
			Hold: h.opt.Budget.Hold()}
	}
	h.epoch, h.hold, h.party, h.budget, h.sent = r.Epoch, r.Hold, r.Party, r.Budget, r.Sent
	if h.known.see(h.opt.Lease, r.Epoch) { // the earlier agent had no time to save it: it must not be won again
		h.do(SaveKnown{Known: h.known.Clone(), Epoch: r.Epoch})
	}
	h.owed = true // whether the earlier agent asked for a pause is not known
	// A grant that counts on a shorter watchdog than there is, which the earlier agent had no time to leave, guards nothing.
	guarded := f.Guard != nil && f.Guard.Epoch == r.Epoch && f.Guard.Watchdog <= r.Budget.Watchdog
	if f.Guard != nil {
		h.armed = f.Guard.Until
		h.sent = f.Guard.Sent
	}
	inTime := guarded && now < h.sent.Add(h.budget.LossAfter)
	switch {
	case r.State == RunPaused && (r.PauseFor == 0 || guarded):
		h.pauseFor, h.pauseSent, h.byMaintenance, h.adopting = r.PauseFor, r.Sent, r.Maintenance, true
		if f.Guard != nil { // paused was written, and what follows was not finished; no resume has left yet
			h.step = stepDisarm
			if h.pauseFor > 0 {
				h.step = stepArm
			}
		}
		h.enter(now, Paused, "taken over from an earlier agent")
	case r.State == RunHeld && inTime:
		h.adopting = true
		h.enter(now, Held, "adopted from an earlier agent")
	case r.State == RunLeaving && inTime:
		h.adopting = true
		h.becomeLeaving(now, "adopted while leaving")
	default:
		h.becomeLosing(now, fmt.Sprintf("an earlier agent left the lease as %q", r.State))
	}
}

// beginWithout is the start of an agent that finds no lease. What it finds active it asks for first, and then stops: by
// itself, or the guard does.
func (h *Holder) beginWithout(now Instant, f Found) {
	switch {
	case f.Active == Yes && f.Unguarded && h.watched == 0:
		h.newcomer, h.startBy = true, Never
		h.note(true, "a guarded resource is active, and no rule of Pacemaker depends on the lease: nothing is touched while it is "+
			"asked for. leasedog constraints %s --apply comes after the grant", h.opt.Lease)
	case f.Active == Yes:
		h.startBy = now.Add(h.opt.Budget.LossAfter)
		if h.watched != 0 { // an earlier agent began this: its time is not given anew
			h.startBy = Earlier(h.startBy, h.watched.Add(-h.opt.Budget.StopBudget))
		} else {
			h.watched, h.watchedFrom = h.startBy.Add(h.opt.Budget.StopBudget), now
			h.do(Watch{Sent: now, Until: h.watched})
		}
	case h.watched != 0:
		h.becomeLosing(now, "an earlier agent found resources active here, and they are not proven stopped")
		return
	default:
		h.becomeStandby(now, "start")
		return
	}
	h.becomeAcquiring(now, "a guarded resource is active: ask before touching it")
}

// watchAnswered: until it is known that the guard is not armed, it counts as armed. An answer may come after that of an
// Unwatch that was asked for later by the clock of this agent, and an error may be an answer that was lost.
func (h *Holder) watchAnswered(ev Watched) {
	if ev.Err == "" {
		h.watched = ev.Until
		return
	}
	if h.phase == Winning {
		h.note(true, "the guard does not take a later deadline for what was found active: %s", ev.Err)
		return
	}
	h.note(true, "resources are active here without a lease, and nothing resets this node if they do not stop: the guard "+
		"does not arm: %s", ev.Err)
	h.do(Unwatch{})
}

func (h *Holder) unwatched(now Instant, ev Unwatched) {
	if ev.Err != "" {
		h.note(true, "the guard does not disarm: %s", ev.Err)
		return
	}
	counted := h.watched != 0
	h.watched = 0
	switch {
	case h.phase == Stopped:
		h.nextSend = now
	case h.phase == Losing && counted: // no reset will come
		h.do(Stop{Ladder: h.ladder, From: h.since, Until: h.resetAt()})
	}
}

// expire does what time alone demands.
func (h *Holder) expire(now Instant) {
	unanswered := false
	h.out = slices.DeleteFunc(h.out, func(p pending) bool {
		if now <= p.deadline {
			return false
		}
		h.lastError = "no answer in time"
		unanswered = unanswered || p.kind == kindPause
		return true
	})
	if unanswered && h.phase == Held {
		h.pauseFailed(now, "the arbiter did not answer in time")
	}
	switch {
	case now >= h.loseAt():
		h.becomeLosing(now, h.expiredCause(now))
	case h.phase == Acquiring && h.startBy != 0 && now >= h.startBy:
		h.becomeLosing(now, "no grant in time for resources that were found active")
	case h.phase == Winning && now >= h.since.Add(WinWithin):
		h.lastFailure = "the attribute could not be set"
		h.notBefore = now.Add(WinWithin)
		h.becomeLeaving(now, fmt.Sprintf("the attribute could not be set within %v", WinWithin))
	}
}

func (h *Holder) expiredCause(now Instant) string {
	why := h.lastError
	if why == "" {
		why = "no answer"
	}
	if h.phase == Paused || h.phase == Resuming && !h.rearmed {
		return fmt.Sprintf("the pause of %v is over", h.pauseFor)
	}
	if h.sent == 0 {
		return fmt.Sprintf("the grant was not renewed within %v (%s)", h.budget.LossAfter, why)
	}
	return fmt.Sprintf("not renewed for %v (%s)", now.Sub(h.sent), why)
}

// advance sends what is due.
func (h *Holder) advance(now Instant) {
	switch {
	case h.phase == Held && h.retired: // asked for while it was paused
		h.becomeLeaving(now, "asked to leave before the pause ended")
	case h.phase == Held:
		h.mayGiveUp(now)
	}
	h.followMaintenance(now)
	if h.phase == Paused && h.pauseFor > 0 && h.step == stepNone && !h.adopting &&
		now >= Later(h.pauseSent.Add(h.pauseFor-h.budget.LossAfter), h.nextResume) {
		h.becomeResuming(now, "the pause ends soon")
	}
	if h.phase == Standby && h.mayCompete(now) {
		h.becomeAcquiring(now, "free to compete")
	}
	if h.gone || now < h.nextSend {
		return
	}
	switch h.phase {
	case Standby:
		h.report(now)
	case Acquiring:
		h.sendAcquire(now)
	case Winning, Held, Leaving, Resuming:
		h.sendRenew(now)
	case Paused:
		h.keepPaused(now)
	case Stopped:
		h.finish(now)
	}
}

// Next returns when Step must be called at the latest.
func (h *Holder) Next() Instant {
	if h.gone {
		return Never
	}
	next := h.loseAt()
	for _, p := range h.out {
		next = Earlier(next, p.deadline+1)
	}
	switch h.phase {
	case Standby:
		if at := Later(h.notBefore, h.now+1); h.notBefore != 0 && h.mayCompete(at) {
			next = Earlier(next, at)
		}
		if h.mayReport(h.now + 1) {
			next = Earlier(next, Later(h.nextSend, h.now+1))
		}
	case Acquiring:
		if len(h.out) == 0 {
			next = Earlier(next, h.nextSend)
		}
		if h.startBy != 0 {
			next = Earlier(next, h.startBy)
		}
	case Winning, Held, Leaving, Resuming, Stopped:
		next = Earlier(next, h.nextSend)
	case Paused:
		next = Earlier(next, h.nextSend)
		if h.pauseFor > 0 && !h.adopting && h.step == stepNone {
			next = Earlier(next, Later(h.pauseSent.Add(h.pauseFor-h.budget.LossAfter), h.nextResume))
		}
	}
	if h.phase == Winning {
		next = Earlier(next, h.since.Add(WinWithin))
	}
	if h.phase == Held && h.cannotSince != 0 && h.sureThatItCannot() {
		next = Earlier(next, h.cannotSince.Add(h.opt.GiveUpAfter))
	}
	return next
}

// mayCompete tells whether this node may ask for the lease now (4.4.8).
func (h *Holder) mayCompete(now Instant) bool {
	wanted := h.opt.Mode == AcquireAuto || h.asked
	return wanted && !h.retired && now >= h.notBefore && h.reading.opens(now)
}

// opens tells whether a reading lets this node compete: it is fresh, nothing speaks against it, and the guarded
// resources are proven stopped.
func (r Reading) opens(now Instant) bool {
	return now < r.FreshUntil && len(r.WhyNot) == 0 && r.Proven == Yes
}

// mayNot is the cause with which it stops competing.
func (h *Holder) mayNot(now Instant) string {
	switch r := h.reading; {
	case r.opens(now):
		return "may not compete"
	case now >= r.FreshUntil:
		return "may not compete: the cluster was not read lately"
	case len(r.WhyNot) > 0:
		return "may not compete: " + strings.Join(r.WhyNot, "; ")
	}
	return "may not compete: the resources are not proven stopped here"
}

// read takes in a poll.
func (h *Holder) read(now Instant, r Reading) {
	h.reading = r
	if h.opt.Defers && !h.deferred && h.phase == Standby && r.opens(now) {
		h.deferred = true
		h.notBefore = Later(h.notBefore, now.Add(HeadStart))
	}
	if h.phase == Acquiring && h.startBy == 0 && !r.opens(now) {
		h.becomeStandby(now, h.mayNot(now))
	}
	if h.phase != Held {
		return
	}
	if h.cannotSeen++; r.CannotRun == "" {
		h.cannotSeen = 0
	}
	if r.Running != Unknown && r.CannotRun != h.movedFor {
		h.movedFor = ""
	}
	if r.Running == Yes {
		h.backOff = StandBackFirst
	}
}

// mayGiveUp leaves a lease with which Pacemaker cannot run a resource here while a peer waits that could (6.4).
func (h *Holder) mayGiveUp(now Instant) {
	eligible := slices.ContainsFunc(h.waiters, func(w Waiter) bool {
		return w.Ready && !w.LastResort && w.Node != h.opt.Self.Node
	})
	// Left for that before, and it came back: nobody else can run the resources, or an administrator has changed his mind.
	again := h.reading.Planned && h.reading.CannotRun == h.movedFor
	planned := h.reading.Planned && !again
	if h.opt.GiveUpAfter <= 0 && !planned || h.adopting || h.reading.CannotRun == "" || now >= h.reading.FreshUntil || !eligible ||
		again && h.reading.Running == Yes {
		h.cannotSince = 0
		return
	}
	if h.cannotSince == 0 {
		h.cannotSince = now
	}
	if at := h.reading.CannotSince; at != 0 {
		h.cannotSince = Earlier(h.cannotSince, at)
	}
	if planned || h.sureThatItCannot() && now.Sub(h.cannotSince) >= h.opt.GiveUpAfter {
		if h.gaveUp = !planned; planned {
			h.movedFor = h.reading.CannotRun
		}
		h.becomeLeaving(now, "gives up: "+h.reading.CannotRun)
	}
}

// sureThatItCannot: one look alone may have come just before Pacemaker acts, and the next one late.
func (h *Holder) sureThatItCannot() bool { return h.cannotSeen > 1 || h.reading.CannotSince != 0 }

func (h *Holder) leaveAsked(now Instant, ev LeaveAsked) {
	if ev.Retire {
		h.retired, h.asked = true, false
	}
	switch h.phase {
	case Acquiring:
		if h.startBy == 0 || h.newcomer {
			h.becomeStandby(now, ev.Cause)
			return
		}
		h.becomeLosing(now, ev.Cause)
	case Winning:
		h.becomeLosing(now, ev.Cause)
	case Held:
		if ev.Unguarded {
			h.becomeStopped(now, ev.Cause+"; no rule of Pacemaker depends on this lease: its resources are left as they are")
			return
		}
		h.becomeLeaving(now, ev.Cause)
	case Paused, Resuming:
		h.note(true, "the lease is paused: it is left when the pause has ended, not before (%s)", ev.Cause)
	}
}

func (h *Holder) jumped(ev Jumped) {
	if ev.Size <= 0 {
		return
	}
	h.out = slices.DeleteFunc(h.out, func(p pending) bool { return p.sent < ev.Until })
	// A deadline that counts from a later Sent has nothing to do with it: a new agent hears of every pause that its guard
	// has ever found.
	guarded := h.armed != 0 && Later(h.sent, h.pauseSent) < ev.Until
	if h.sent != 0 && h.sent < ev.Until {
		h.sent = h.sent.Add(-ev.Size)
	}
	if h.pauseSent != 0 && h.pauseSent < ev.Until {
		h.pauseSent = h.pauseSent.Add(-ev.Size)
	}
	if guarded {
		h.armed = h.armed.Add(-ev.Size)
	}
	if h.watched != 0 && h.watchedFrom < ev.Until {
		h.watched = h.watched.Add(-ev.Size)
	}
	h.note(true, "this machine was paused for %v: every deadline moved nearer by as much", ev.Size)
}

func (h *Holder) do(a Action) {
	if h.acts == nil {
		h.acts = make([]Action, 0, 4) // most steps that do anything do two or three things
	}
	h.acts = append(h.acts, a)
}

func (h *Holder) note(alarm bool, format string, args ...any) {
	h.do(Note{Alarm: alarm, Text: fmt.Sprintf(format, args...)})
}
