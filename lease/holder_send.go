package lease

import (
	"fmt"
	"slices"
	"time"
)

// send makes a request: Sent is now, which is before its first copy leaves. Its seq is the Instant at which it was
// made, so that a successor in the same boot has a higher one without any file.
func (h *Holder) send(now Instant, k kind, timeout time.Duration, body func(seq uint64) any) {
	h.seq = max(h.seq+1, uint64(now))
	p := pending{kind: k, seq: h.seq, sent: now, deadline: now.Add(timeout),
		seen: h.known.Stamp, seenEp: h.known.Epochs[h.opt.Lease]}
	h.out = append(h.out, p)
	h.do(Send{Seq: p.seq, Sent: now, Deadline: p.deadline, Body: body(p.seq)})
}

func (h *Holder) waitsFor(k kind) bool {
	return slices.ContainsFunc(h.out, func(p pending) bool { return p.kind == k })
}

func (h *Holder) sendAcquire(now Instant) {
	if len(h.out) > 0 {
		return
	}
	if h.startBy == 0 && !h.mayCompete(now) {
		h.becomeStandby(now, h.mayNot(now))
		return
	}
	b := h.opt.Budget
	if h.newcomer && !(now < h.reading.FreshUntil && h.reading.Fit) {
		h.nextSend = now.Add(b.RenewEvery) // a grant that it could not use would be of no help
		return
	}
	wait := b.Wait()
	if h.startBy != 0 {
		wait = 0
	}
	h.nextSend = now.Add(b.RenewEvery)
	h.send(now, kindAcquire, wait+b.RequestTimeout, func(seq uint64) any {
		return Acquire{Party: h.opt.Self, Seq: seq, SeenEpoch: h.known.Epochs[h.opt.Lease], Seen: h.known.Stamp,
			Terms: b.Terms, Hold: b.Hold(), Wait: wait, Ready: true, LastResort: now < h.standBack,
			Stopped: h.startBy == 0}
	})
}

// mayReport: only who is proven stopped may say that it holds nothing.
func (h *Holder) mayReport(now Instant) bool {
	return now < h.reading.FreshUntil && h.reading.Proven == Yes
}

// report says from standby, while something speaks against competing, that this node lives and claims nothing: an
// arbiter that does not know the cluster, or is in recovery, waits for the word of both nodes.
func (h *Holder) report(now Instant) {
	if !h.mayReport(now) || h.waitsFor(kindReport) {
		return
	}
	h.nextSend = now.Add(ReportEvery)
	h.send(now, kindReport, h.opt.Budget.RequestTimeout, func(seq uint64) any {
		return Report{Party: h.opt.Self, Seq: seq, Seen: h.known.Stamp,
			Leases: []LeaseReport{{Lease: h.opt.Lease, SeenEpoch: h.known.Epochs[h.opt.Lease]}}}
	})
}

// sendAdopt asks the arbiter to install this instance for the epoch that /run claims.
func (h *Holder) sendAdopt(now Instant) {
	if h.waitsFor(kindAdopt) {
		return
	}
	claim := h.claim()
	h.send(now, kindAdopt, h.budget.RequestTimeout, func(seq uint64) any {
		return Acquire{Party: h.opt.Self, Seq: seq, Claim: claim, SeenEpoch: h.known.Epochs[h.opt.Lease],
			Seen: h.known.Stamp, Terms: h.budget.Terms, Hold: h.hold, Ready: true}
	})
}

// claim is what /run says about the lease now.
func (h *Holder) claim() *Claim {
	c := &Claim{Epoch: h.epoch, Hold: h.hold}
	switch h.phase {
	case Held, Winning:
		c.State = ClaimHeld
	case Leaving:
		c.State = ClaimLeaving
	case Paused, Resuming:
		c.State, c.PauseFor = ClaimPaused, h.pauseFor
	default:
		return nil
	}
	return c
}

func (h *Holder) renew(now Instant) {
	claim := h.claim()
	h.send(now, kindRenew, h.budget.RequestTimeout, func(seq uint64) any {
		return Renew{Party: h.party, Epoch: h.epoch, Seq: seq, Seen: h.known.Stamp, Claim: claim}
	})
}

func (h *Holder) sendRenew(now Instant) {
	h.nextSend = now.Add(h.budget.RenewEvery)
	if h.watched != 0 && h.armed != 0 {
		h.do(Unwatch{}) // again: the lease's own deadline stands
	}
	if h.adopting {
		h.sendAdopt(now)
		return
	}
	h.renew(now)
	if h.phase == Resuming && h.step == stepRun {
		h.writeRun(RunHeld) // again: the last one failed, or is still under way
	}
	tell := h.phase == Resuming && h.step == stepTell
	undo := (h.phase == Held || h.phase == Leaving) && h.pausing && !h.waitsFor(kindPause)
	if tell || undo {
		h.send(now, kindResume, h.budget.RequestTimeout, func(seq uint64) any {
			h.resumeSeq = seq
			return Resume{Party: h.party, Epoch: h.epoch, Seq: seq, Seen: h.known.Stamp}
		})
	}
}

// finish is the tail of a loss: /run says released, disarm, release; each step only after the one before it.
func (h *Holder) finish(now Instant) {
	h.nextSend = now.Add(h.budget.RenewEvery)
	if h.step != stepRun && h.watched != 0 {
		h.do(Unwatch{})
		return
	}
	switch h.step {
	case stepRun:
		h.writeRun(RunReleased)
	case stepDisarm:
		h.do(Disarm{Epoch: h.epoch})
	case stepRelease:
		// Free by the clock alone, unless the record may say paused: then only a release frees it.
		if h.epoch == 0 || !h.owed && (h.sent == 0 || now >= h.sent.Add(h.hold)) {
			h.becomeStandby(now, "stopped; the hold is over")
			return
		}
		h.send(now, kindRelease, h.budget.RequestTimeout, func(seq uint64) any {
			return Release{Party: h.party, Epoch: h.epoch, Seq: seq, Seen: h.known.Stamp}
		})
		// A repeat goes in this agent's own name: what an earlier one asked last may have come, and the arbiter may
		// know that name no more.
		h.out[len(h.out)-1].proxy = h.party != h.opt.Self
		h.party = h.opt.Self
	}
}

// answered takes the arbiter's answer to one of our requests.
func (h *Holder) answered(now Instant, ev Answered) {
	i := slices.IndexFunc(h.out, func(p pending) bool { return p.seq == ev.Seq })
	if i < 0 {
		return // dropped with its deadline, its phase, or never ours
	}
	p := h.out[i]
	h.out = slices.Delete(h.out, i, i+1)
	a := ev.Answer
	if err := h.known.Judge(p.seen, p.seenEp, a); err != nil {
		h.lastError = err.Error()
		h.note(true, "%v", err)
		return
	}
	if h.known.Learn(h.opt.Lease, a) {
		h.do(SaveKnown{Known: h.known.Clone(), Epoch: a.Epoch})
	}
	h.lastAnswer, h.waiters = now, a.Waiters
	if a.Verdict == Superseded {
		if p.proxy {
			return // it is the earlier agent who is superseded
		}
		h.gone = true
		h.note(true, "superseded: %s", a.Reason)
		h.do(Retire{Cause: a.Reason})
		return
	}
	if a.Verdict != OK && a.Verdict != Granted && a.Verdict != Adopted {
		h.lastError = "arbiter: " + string(a.Verdict) + ": " + a.Reason
	} else {
		h.lastError = ""
	}
	if a.Verdict == Barred && (h.phase == Standby || h.phase == Acquiring) {
		// No bar ever meets a holder: one that hears of it goes on, and loses the lease by the clock if it is true.
		h.do(Fenced{Off: a.Off, Cause: a.Reason})
	}
	switch p.kind {
	case kindAcquire:
		h.acquireAnswered(now, p, a)
	case kindAdopt:
		h.adoptAnswered(now, a)
	case kindRenew:
		h.renewAnswered(now, p, a)
	case kindRelease:
		h.releaseAnswered(now, a)
	case kindPause:
		h.pauseAnswered(now, p, a)
	case kindResume:
		h.resumeAnswered(now, p, a)
	case kindReport:
		if h.phase == Standby && a.Verdict == Recovery { // with what this node has just learned it counts
			h.nextSend = now.Add(h.opt.Budget.RenewEvery)
		}
	}
}

func (h *Holder) failed(now Instant, ev Failed) {
	i := slices.IndexFunc(h.out, func(p pending) bool { return p.seq == ev.Seq })
	if i < 0 {
		return
	}
	k := h.out[i].kind
	h.out = slices.Delete(h.out, i, i+1)
	h.lastError = ev.Err
	if k == kindPause {
		h.pauseFailed(now, ev.Err)
	}
}

func (h *Holder) acquireAnswered(now Instant, p pending, a Answer) {
	if h.phase != Acquiring {
		return
	}
	switch a.Verdict {
	case Granted:
		if a.Epoch <= p.seenEp {
			h.note(true, "ignore a grant of epoch %d: this node has seen %d", a.Epoch, p.seenEp)
			h.nextSend = now.Add(RetryAfterFailure)
			return
		}
		h.becomeWinning(now, a)
	case Denied:
		news := a.Holder != h.lastDenial.Holder
		h.lastDenial = a
		if h.newcomer && news {
			h.note(true, "a guarded resource is active here, and %s holds the lease: stop one of them by hand", a.Holder)
		} else if h.startBy != 0 && !h.newcomer {
			h.becomeLosing(now, "resources were found active here, and the lease is denied: "+a.Reason)
		}
	default:
		h.lastDenial = a
		h.nextSend = Later(h.nextSend, now.Add(h.opt.Budget.RenewEvery))
		if a.Verdict == Unsafe || a.Verdict == Barred || a.Verdict == Refused {
			h.note(true, "the arbiter refuses this node: %s", a.Reason)
			h.nextSend = now.Add(RetryAfterFailure)
		}
	}
}

func (h *Holder) adoptAnswered(now Instant, a Answer) {
	switch {
	case a.Verdict == Adopted && a.Epoch == h.epoch:
		h.adopting, h.owed, h.party = false, a.Paused, h.opt.Self
		h.nextSend = now
		h.note(false, "the arbiter goes on with epoch %d under this agent", h.epoch)
	case a.Verdict == Lost || a.Verdict == Granted:
		h.becomeLosing(now, fmt.Sprintf("epoch %d cannot be adopted: %s", h.epoch, a.Reason))
	}
}

func (h *Holder) renewAnswered(now Instant, p pending, a Answer) {
	switch h.phase {
	case Winning, Held, Leaving, Resuming, Paused:
	default:
		return
	}
	switch {
	case a.Verdict == Lost:
		h.becomeLosing(now, "the arbiter says lost: "+a.Reason)
		return
	case h.phase == Winning && h.sent == 0 && a.Stamp.StoreID != h.granter:
		// A grant carries no time. The store that it was in may have gone on without it, to another epoch, before it was
		// lost; a recovery would take the claim of this one back. Found by test/model/record.pml (BAD_UNRENEWED_CLAIM).
		h.lose(now, "the store that the grant was in is gone, and it was never renewed")
		return
	case a.Verdict != OK || a.Epoch != h.epoch:
		return
	case h.phase == Paused:
		h.heardPaused(now, a)
		return
	}
	if p.sent > h.sent {
		h.sent = p.sent
		if h.armed != 0 && (h.phase != Resuming || h.rearmed) {
			h.arm(false)
		}
		if h.phase == Winning && h.watched != 0 && h.armed == 0 { // nobody else is granted before: what was found active may run so long
			h.watched, h.watchedFrom = Later(h.watched, h.sent.Add(h.budget.HardDeadline())), h.sent
			h.do(Watch{Sent: h.sent, Until: h.watched})
		}
	}
	if (h.phase == Held || h.phase == Leaving) && a.Paused && !h.waitsFor(kindPause) {
		h.pausing, h.owed = true, true // an earlier pause whose answer was lost: it is ended before anything else
	}
	switch {
	case h.phase == Winning:
		h.winOn()
	case h.phase == Resuming && h.step == stepSave:
		h.step = stepGuard
		h.do(StartGuard{Epoch: h.epoch})
	case h.phase == Resuming && h.step == stepArm:
		h.arm(true) // its last answer was an error, or is still under way
	case h.phase == Held && a.MoveTo != "" && a.MoveTo != h.opt.Self.Node:
		h.becomeLeaving(now, "switchover to "+a.MoveTo)
	}
}

func (h *Holder) releaseAnswered(now Instant, a Answer) {
	// What was held is proven stopped and disarmed, and a barred boot is never granted anything: there is nothing left to give back.
	if h.phase == Stopped && h.step == stepRelease && slices.Contains([]Verdict{OK, Lost, Refused, Barred}, a.Verdict) {
		h.becomeStandby(now, "released")
	}
}
