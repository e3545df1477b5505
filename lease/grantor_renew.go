package lease

import (
	"fmt"
	"time"
)

// speaks judges whether a message of party about epoch comes from the holder. When not, it has been answered.
func (g *Grantor) speaks(l *grantLease, r Request, p Party, epoch Epoch) bool {
	rec, seq := l.rec, seqOf(r.Body)
	_, gives := r.Body.(Release)
	switch {
	case epoch < rec.Epoch, epoch == rec.Epoch && rec.State == RecordFree:
		if epoch == rec.Epoch && rec.Holder == p && seq == rec.Seq {
			if gives { // a copy of the release
				g.reply(r.ID, Answer{Verdict: OK, Seq: seq, Epoch: rec.Epoch})
				return false
			}
		}
		g.reply(r.ID, g.lost(l, seq))
	case epoch > rec.Epoch:
		why := fmt.Sprintf("epoch %d is not known here", epoch)
		if gives { // recovery: there is nothing to give back, and its node must be free to report
			g.refuse(r, why)
			return false
		}
		g.unavailable(r, why)
	case !rec.Holder.SameBoot(p):
		g.refuse(r, "another node or boot holds this epoch")
	case p.Instance.Older(rec.Holder.Instance):
		g.reply(r.ID, Answer{Verdict: Superseded, Seq: seq, Epoch: rec.Epoch, Reason: "a newer agent adopted this lease"})
	case rec.Holder != p && !gives: // a release needs no adopt: its node is proven stopped, whoever of it speaks
		g.refuse(r, "this agent has not adopted the lease")
	case l.lapsed:
		g.refuse(r, "the grant was not renewed in time and is void")
	default:
		return true
	}
	return false
}

func (g *Grantor) stale(l *grantLease, r Request) bool {
	if seqOf(r.Body) > l.lastSeq {
		return false
	}
	g.refuse(r, fmt.Sprintf("stale sequence number %d: the last one was %d", seqOf(r.Body), l.lastSeq))
	return true
}

// renew restarts the hold at its receipt, and never brings the hold's end nearer. While a change of the lease is
// being written the answer is neither yes nor no.
func (g *Grantor) renew(now Instant, l *grantLease, r Request, b Renew) {
	if !g.speaks(l, r, b.Party, b.Epoch) {
		return
	}
	if l.writing {
		g.unavailable(r, "a change of this lease is being written")
		return
	}
	repeat := b.Seq == l.lastSeq && l.lastRenew
	if !repeat && g.stale(l, r) {
		return
	}
	if !repeat {
		l.lastSeq, l.lastRenew = b.Seq, true
		l.lapseAt, l.expired, l.quarantine, l.pauseOver = 0, false, false, false
		if l.first == 0 {
			l.first = now
		}
		g.usedBy(now, l, b)
		l.holdEnd = Later(l.holdEnd, now.Add(l.rec.Hold))
		if _, ends := l.rec.quarantine(g.opt.MaxHold); !ends {
			l.holdEnd = Never
		}
	}
	a := Answer{Verdict: OK, Epoch: l.rec.Epoch, Seq: b.Seq, Hold: l.rec.Hold, Waiters: l.others(now, b.Node),
		ResumeAsk: l.resumeAsk && l.rec.State == RecordPaused, Paused: l.rec.State == RecordPaused, Elapsed: now.Sub(l.first)}
	if l.move.epoch == l.rec.Epoch && now < l.move.until {
		a.MoveTo = l.move.to
	}
	g.reply(r.ID, a)
}

// usedBy: the holder uses its grant, so it is not behind any more, and a poll of it that crossed the grant is over.
func (g *Grantor) usedBy(now Instant, l *grantLease, b Renew) {
	w := g.waiterOf(l, b.Node)
	w.behind = false
	if w.req.Party == b.Party && w.req.Seq < b.Seq {
		g.endPoll(now, l, w)
		w.heard = 0
	}
}

// release frees the lease at once.
func (g *Grantor) release(now Instant, l *grantLease, r Request, b Release) {
	lapsed := l.lapsed
	l.lapsed = false // a void grant may still be given back
	ok := g.speaks(l, r, b.Party, b.Epoch)
	l.lapsed = lapsed
	if !ok {
		return
	}
	if l.writing {
		g.later(now, r)
		return
	}
	if g.stale(l, r) {
		return
	}
	if !g.canAdd() || !g.mayWrite(now) {
		g.later(now, r)
		return
	}
	rec := l.rec
	rec.State, rec.Seq, rec.Carry, rec.PauseFor, rec.PauseHold = RecordFree, b.Seq, 0, 0, 0
	g.writeLease(grantOp{kind: opFree, rec: rec, ids: []RequestID{r.ID},
		answer: Answer{Verdict: OK, Seq: b.Seq, Epoch: rec.Epoch}}, "released", "its holder gave it back")
}

// pause makes a held lease a paused one: the lease with L := For, or one that does not end.
func (g *Grantor) pause(now Instant, l *grantLease, r Request, b Pause) {
	if !g.speaks(l, r, b.Party, b.Epoch) {
		return
	}
	if l.writing {
		g.later(now, r)
		return
	}
	rec := l.rec
	if rec.State == RecordPaused && b.Seq == rec.Seq && !l.lastRenew {
		g.reply(r.ID, g.paused(rec))
		return
	}
	if g.stale(l, r) {
		return
	}
	if l.expired || l.lapseAt != 0 {
		g.refuse(r, "only a lease that is held and renewed can be paused")
		return
	}
	rec.State, rec.Seq, rec.PauseFor, rec.PauseHold = RecordPaused, b.Seq, b.For, 0
	if b.For != 0 {
		hold, why := g.pauseHold(b)
		if why != "" {
			g.refuse(r, why)
			return
		}
		rec.PauseHold = hold
	}
	if !g.canAdd() || !g.mayWrite(now) {
		g.later(now, r)
		return
	}
	cause := "without an end"
	if b.For != 0 {
		cause = fmt.Sprintf("for %v, hold %v", b.For, rec.PauseHold)
	}
	g.writeLease(grantOp{kind: opPause, rec: rec, ids: []RequestID{r.ID}, answer: g.paused(rec)}, "paused", cause)
}

func (g *Grantor) paused(rec Record) Answer {
	return Answer{Verdict: OK, Seq: rec.Seq, Epoch: rec.Epoch, Hold: max(rec.Hold, rec.PauseHold), Paused: true}
}

// pauseHold computes the hold of a pause with an end.
func (g *Grantor) pauseHold(b Pause) (time.Duration, string) {
	if b.For < 0 || b.For > g.opt.MaxPause {
		return 0, fmt.Sprintf("a pause of %v is not within 0 to this arbiter's max_pause %v", b.For, g.opt.MaxPause)
	}
	t := g.withDrift(b.Terms)
	t.LossAfter = b.For
	if bad := t.Validate(); len(bad) > 0 {
		return 0, bad[0]
	}
	return t.NeededHold() + g.opt.Grace, ""
}

// resume ends a pause. Its sender has armed its guard, so the hold may become shorter here, and only here. In a
// lease that is not paused it is written all the same: a delayed pause with a lower number must not win later.
func (g *Grantor) resume(now Instant, l *grantLease, r Request, b Resume) {
	if !g.speaks(l, r, b.Party, b.Epoch) {
		return
	}
	if l.writing {
		g.later(now, r)
		return
	}
	rec := l.rec
	answer := Answer{Verdict: OK, Seq: b.Seq, Epoch: rec.Epoch, Hold: rec.Hold}
	if rec.State == RecordHeld && b.Seq == rec.Seq && !l.lastRenew {
		g.reply(r.ID, answer)
		return
	}
	if g.stale(l, r) {
		return
	}
	if !g.canAdd() || !g.mayWrite(now) {
		g.later(now, r)
		return
	}
	rec.State, rec.Seq, rec.PauseFor, rec.PauseHold = RecordHeld, b.Seq, 0, 0
	g.writeLease(grantOp{kind: opResume, rec: rec, ids: []RequestID{r.ID}, answer: answer}, "resumed", "its holder ended the pause")
}

// switchover asks the holder of one epoch to leave for a node that is ready to take over.
func (g *Grantor) switchover(now Instant, l *grantLease, id RequestID, b Switchover) {
	why := ""
	target := -1
	for i, w := range l.waiters {
		if w.node == b.To {
			target = i
		}
	}
	switch {
	case g.cluster.Recovery:
		why = "the cluster is in recovery: who holds is not known"
	case l.rec.State == RecordFree:
		why = "nobody holds the lease"
	case l.quarantine:
		why = "quarantine after a restart of the arbiter: the holder has not renewed yet"
	case l.writing:
		why = "a change of this lease is being written"
	case l.rec.State == RecordPaused:
		why = "the lease is paused: resume it first"
	case l.expired || l.lapsed || l.lapseAt != 0:
		why = "the holder does not renew"
	case b.Epoch != 0 && b.Epoch != l.rec.Epoch:
		why = fmt.Sprintf("the epoch is %d", l.rec.Epoch)
	case b.To == l.rec.Holder.Node:
		why = b.To + " holds the lease already"
	case target < 0 || !l.waiters[target].alive(now):
		why = b.To + " does not wait for the lease"
	case !l.waiters[target].req.Ready:
		why = b.To + " waits, but could not run the resources now"
	}
	if why != "" {
		g.reply(id, Answer{Verdict: Refused, Epoch: l.rec.Epoch, Holder: l.rec.Holder.Node, Reason: why})
		return
	}
	l.move = grantMove{epoch: l.rec.Epoch, to: b.To, until: now.Add(l.rec.Hold)}
	g.note(NoteInfo, l, b.To, "switchover asked: %s is to leave for %s", l.rec.Holder.Node, b.To)
	g.reply(id, Answer{Verdict: OK, Epoch: l.rec.Epoch, Holder: l.rec.Holder.Node, MoveTo: b.To})
}

// decide ends holds and void grants. Everything that had arrived by now was read before.
func (g *Grantor) decide(now Instant) {
	for _, l := range g.sorted() {
		if l.writing || l.rec.State == RecordFree {
			continue
		}
		unused := l.lapseAt != 0 && !l.lapsed
		if unused && l.holdEnd != 0 && now >= l.holdEnd {
			l.holdEnd = 0 // what an earlier epoch of this boot left is over
		}
		if !l.expired && l.holdEnd != 0 && now >= l.holdEnd {
			l.expired, l.freeSince = true, now
			g.note(NoteWarn, l, l.rec.Holder.Node, "expired: the hold of %s ran out", l.rec.Holder.Node)
		}
		if l.lapseAt != 0 && !l.lapsed && now >= l.lapseAt {
			g.lapse(now, l, "no renewal came")
		}
		if why := g.pauseAlarm(now, l); why != "" && !l.longPause {
			l.longPause = true
			g.note(NoteAlarm, l, l.rec.Holder.Node, "%s", why)
		}
	}
}

// lapse voids a grant that was never renewed. It carried no time, so nothing has to be waited out but what an
// earlier epoch of the same boot left.
func (g *Grantor) lapse(now Instant, l *grantLease, why string) {
	l.lapsed, l.freeSince = true, now
	g.waiterOf(l, l.rec.Holder.Node).behind = true
	g.note(NoteWarn, l, l.rec.Holder.Node, "lapsed: %s", why)
}

// commitLease is what a written change does to what this arbiter knows beside the record.
func (g *Grantor) commitLease(now Instant, op grantOp) {
	l := g.leases[op.rec.Lease]
	if op.kind == opFloor {
		l.rec.Floor = op.rec.Floor
		return
	}
	was, wasPaused := l.rec.Holder, l.rec.State == RecordPaused
	if op.kind == opPause || op.rec.Epoch != l.rec.Epoch || !wasPaused {
		l.resumeAsk, l.longPause, l.pausedAt = false, false, now // they were about an earlier pause
	}
	l.rec, l.writing = op.rec, false
	switch op.kind {
	case opGrant:
		if !op.regrant {
			l.holdEnd = 0
		}
		l.lapseAt = now.Add(op.rec.LossAfter)
		l.lapsed, l.expired, l.quarantine, l.pauseOver, l.resumeAsk = false, false, false, false, false
		l.first, l.move = 0, grantMove{}
		w := g.waiterOf(l, op.rec.Holder.Node)
		w.heard = 0
	case opFree:
		l.holdEnd, l.lapseAt, l.freeSince, l.first = 0, 0, now, 0
		l.lapsed, l.expired, l.quarantine, l.pauseOver, l.resumeAsk = false, false, false, false, false
	case opPause:
		g.restartHold(now, l)
	case opResume:
		if wasPaused {
			l.holdEnd = now.Add(max(op.rec.Hold, op.rec.Carry))
			l.resumeAsk, l.pauseOver, l.expired = false, false, false
		}
	case opAdopt:
		if op.rec.State == RecordPaused && !wasPaused {
			g.restartHold(now, l)
		}
	case opClaim:
		if l.first != 0 && !was.SameBoot(op.rec.Holder) {
			l.denied = Later(l.denied, Earlier(l.holdEnd, now.Add(max(g.opt.MaxHold, 2*RetryAfterFailure))))
		}
		if wasPaused && op.rec.State != RecordPaused {
			l.holdEnd = 0 // of an epoch that was over before the claimed one was granted; it may never end
		}
		l.holdEnd = Later(l.holdEnd, op.hold)
		l.lapsed, l.expired, l.quarantine, l.pauseOver, l.lapseAt, l.first = false, false, false, false, 0, 0
	}
	l.lastSeq, l.lastRenew = op.rec.Seq, false
}

// restartHold makes the hold at least that of the record, counted from now.
func (g *Grantor) restartHold(now Instant, l *grantLease) {
	hold, ends := l.rec.quarantine(g.opt.MaxHold)
	if !ends {
		l.holdEnd = Never
		return
	}
	l.holdEnd = Later(l.holdEnd, now.Add(hold))
}
