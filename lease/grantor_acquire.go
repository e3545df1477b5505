package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// grantWaiter is a node that wants a lease. It outlives its polls, so that the queue keeps its order between them.
type grantWaiter struct {
	node   string
	req    Acquire // the newest one
	ids    []RequestID
	until  Instant // the poll is answered then at the latest
	since  Instant // of the first acquire in a row
	heard  Instant // of the newest acquire
	behind bool    // did not use its last grant: waits behind every other
}

// window is how long a waiter counts as waiting without a parked poll: a third of L is more than R.
func (w *grantWaiter) window() time.Duration { return w.req.Terms.LossAfter / 3 }

func (w *grantWaiter) alive(now Instant) bool {
	return len(w.ids) > 0 || w.heard != 0 && now.Sub(w.heard) <= w.window()
}

// rank orders the queue: who stands back, or did not use its grant, comes after everybody else.
func (w *grantWaiter) rank() int {
	switch {
	case w.req.LastResort:
		return 2
	case w.behind:
		return 1
	}
	return 0
}

// acquire takes an acquire: an adopt if it claims, else a place in the queue. Who gets the lease is decided in
// grantFree, and answers that cannot be yes in endPolls.
func (g *Grantor) acquire(now Instant, l *grantLease, r Request, a Acquire) {
	if a.Claim != nil {
		g.adopt(now, l, r, a)
		return
	}
	if v, why := g.judgeTerms(l, a); v != "" {
		g.reply(r.ID, Answer{Verdict: v, Seq: a.Seq, Epoch: l.rec.Epoch, Reason: why})
		return
	}
	own := l.rec.Holder == a.Party
	if own && !l.writing && a.Seq == l.rec.Seq && l.rec.State == RecordHeld && l.lapseAt != 0 && !l.lapsed {
		// a copy of the request that was granted
		g.reply(r.ID, Answer{Verdict: Granted, Seq: a.Seq, Epoch: l.rec.Epoch, Hold: l.rec.Hold})
		return
	}
	if own && a.Seq <= l.lastSeq {
		g.refuse(r, fmt.Sprintf("stale sequence number %d: the last one was %d", a.Seq, l.lastSeq))
		return
	}
	w := g.waiterOf(l, a.Node)
	if w.req.Party == a.Party && a.Seq < w.req.Seq {
		g.refuse(r, fmt.Sprintf("stale sequence number %d: the last one was %d", a.Seq, w.req.Seq))
		return
	}
	if w.req.Party != a.Party || a.Seq > w.req.Seq {
		g.endPoll(now, l, w)
		if w.heard == 0 || now.Sub(w.heard) > max(w.window(), MaxWait+w.window()) {
			w.since = now
		}
		g.compareHolds(l, a)
		w.req = a
	}
	w.ids = append(w.ids, r.ID)
	w.until = now.Add(min(max(a.Wait, 0), MaxWait))
	w.heard = now
	unused := l.rec.State == RecordHeld && l.lapseAt != 0 && !l.lapsed && !l.writing
	if granted := l.lapseAt.Add(-l.rec.LossAfter); unused && l.rec.Holder.SameBoot(a.Party) && now.Sub(granted) > w.window() {
		// its own deadline for that answer is over; an overlapping poll that crossed the grant comes sooner
		g.lapse(now, l, "its node asks anew without having used it")
	}
	if l.rec.State != RecordPaused || l.rec.Holder.Node != a.Node {
		return
	}
	switch {
	case l.rec.Holder.BootID != a.BootID && g.nodes[a.Node].succeeds(a.BootID, l.rec.Holder.BootID):
		g.endPause(now, l, "the holder has booted anew: its old boot's pause")
	case l.rec.Holder.BootID == a.BootID && a.Stopped && !a.Instance.Older(l.rec.Holder.Instance):
		g.endPause(now, l, "the holder stands by, proven stopped: the pause on record")
	}
}

// waiterOf returns the waiter of a node, made when first asked for.
func (g *Grantor) waiterOf(l *grantLease, node string) *grantWaiter {
	i, found := slices.BinarySearchFunc(l.waiters, node, func(w *grantWaiter, n string) int { return cmp.Compare(w.node, n) })
	if !found {
		l.waiters = slices.Insert(l.waiters, i, &grantWaiter{node: node})
	}
	return l.waiters[i]
}

// judgeTerms says whether the budgets of both sides allow a grant at all.
func (g *Grantor) judgeTerms(l *grantLease, a Acquire) (Verdict, string) {
	if slices.ContainsFunc(l.waiters, func(w *grantWaiter) bool {
		return w.node == a.Node && w.req.Hold != 0 && w.req.Hold == a.Hold && w.req.Terms == a.Terms
	}) {
		return "", "" // a waiter asks again, with what was allowed before
	}
	if a.Hold < g.opt.MinHold || a.Hold > g.opt.MaxHold {
		return Refused, fmt.Sprintf("hold %v is not within this arbiter's min_hold %v to max_hold %v",
			a.Hold, g.opt.MinHold, g.opt.MaxHold)
	}
	bad := CheckSafety(g.withDrift(a.Terms), a.Hold)
	if len(bad) == 0 {
		return "", ""
	}
	var lines []string
	for _, v := range bad {
		lines = append(lines, v.String())
	}
	return Unsafe, strings.Join(lines, "; ")
}

// compareHolds alarms when two nodes ask for different holds. It is never a refusal: each grant is waited out by
// its own hold, and a refusal would block the takeover in the middle of a rolling change.
func (g *Grantor) compareHolds(l *grantLease, a Acquire) {
	other, hold := l.rec.Holder.Node, l.rec.Hold
	for _, w := range l.waiters {
		switch {
		case w.node == a.Node && w.req.Hold == a.Hold:
			return // said before
		case w.node != a.Node && w.req.Hold != 0:
			other, hold = w.node, w.req.Hold
		}
	}
	if other != "" && other != a.Node && hold != a.Hold && hold != 0 {
		g.note(NoteAlarm, l, a.Node, "%s asks for a hold of %v and %s for %v: are their configurations the same?",
			a.Node, a.Hold, other, hold)
	}
}

// endPause: a new boot of the holder proves that what ran in the old one is dead, and a boot that stands by, proven
// stopped, that it is not paused, whatever a store says that was rolled back. It waits like anybody else, but for a
// hold, not for the pause.
func (g *Grantor) endPause(now Instant, l *grantLease, what string) {
	if l.pauseOver || l.writing || now < g.nodes[l.rec.Holder.Node].twin {
		return
	}
	hold := l.rec.Hold
	if hold == 0 {
		hold = g.opt.MaxHold
	}
	l.pauseOver = true
	// If what spoke is another machine with the holder's name, the holder, which speaks this often in a pause, is heard by then.
	speaks := RetryAfterFailure + l.rec.LossAfter
	l.holdEnd = Earlier(l.holdEnd, now.Add(max(hold, l.rec.Carry, speaks)))
	g.note(NoteInfo, l, l.rec.Holder.Node, "%s ends in %v", what, left(now, l.holdEnd))
}

// free reports whether anybody may be granted.
func (l *grantLease) free(now Instant) bool {
	if l.rec.State == RecordFree {
		return true
	}
	return l.expired || (l.lapsed && now >= l.holdEnd)
}

// ownAgain reports whether w is the very boot that holds, and asks from standby. It may have a new epoch at once:
// no second node comes into play. Not in quarantine (the record may be an old one), not for a pause, whose resources
// may run without a guard, and not for a grant whose first renewal may be under way.
func (l *grantLease) ownAgain(w *grantWaiter) bool {
	return l.rec.State == RecordHeld && l.rec.Holder.SameBoot(w.req.Party) && l.lapseAt == 0 && !l.quarantine &&
		!w.req.LastResort
}

// grantFree grants what can be granted. At most one grant a lease a transaction.
func (g *Grantor) grantFree(now Instant) {
	if g.cluster.Stamp.StoreID == "" || g.suspect || g.cluster.Recovery || g.broken {
		return
	}
	for _, l := range g.sorted() {
		if l.writing || !g.canAdd() {
			continue
		}
		if w := g.nextOwner(now, l); w != nil {
			g.grant(now, l, w)
		}
	}
}

// nextOwner picks the waiter that is granted now, or nil.
func (g *Grantor) nextOwner(now Instant, l *grantLease) *grantWaiter {
	var parked []*grantWaiter
	for _, w := range l.waiters {
		if len(w.ids) == 0 || now < g.nodes[w.node].twin || g.mayBeBarred(w.req.Party) {
			continue
		}
		if !l.free(now) && l.ownAgain(w) {
			return w
		}
		parked = append(parked, w)
	}
	if !l.free(now) {
		return nil
	}
	parked = slices.DeleteFunc(parked, func(w *grantWaiter) bool { return g.mustWait(now, l, w) != 0 })
	slices.SortStableFunc(parked, func(a, b *grantWaiter) int {
		ready := func(w *grantWaiter) int {
			if w.req.Ready {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(ready(a), ready(b)), cmp.Compare(a.since, b.since),
			cmp.Compare(a.node, b.node))
	})
	if len(parked) == 0 {
		return nil
	}
	return parked[0]
}

// mustWait returns until when w has to let others go first although the lease is free; 0: not at all.
func (g *Grantor) mustWait(now Instant, l *grantLease, w *grantWaiter) Instant {
	if l.move.to != "" && l.move.epoch == l.rec.Epoch && w.node != l.move.to && now < l.move.until {
		return l.move.until
	}
	for _, o := range l.waiters {
		if o != w && o.rank() < w.rank() && o.alive(now) && now >= g.nodes[o.node].twin {
			if len(o.ids) > 0 {
				return Never // it is the one who is granted
			}
			return o.heard.Add(o.window() + 1)
		}
	}
	if at := Later(l.freeSince, w.since).Add(w.window()); w.req.LastResort && now < at {
		return at
	}
	return 0
}

// nextOfWaiter is when something may change for a waiter by the clock alone.
func (g *Grantor) nextOfWaiter(l *grantLease, w *grantWaiter) Instant {
	if len(w.ids) == 0 {
		return Never
	}
	next := w.until
	if g.undecided(g.at, l) {
		next = Never // Stored or Drained will decide
	}
	if g.inflight != nil || g.cluster.Recovery {
		return next
	}
	if l.rec.State == RecordFree || l.expired || l.lapsed {
		if l.lapsed && l.holdEnd > g.at {
			next = Earlier(next, l.holdEnd)
		}
		if at := g.mustWait(g.at, l, w); at != 0 {
			next = Earlier(next, at)
		}
	}
	if twin := g.nodes[w.node].twin; twin > g.at {
		next = Earlier(next, twin)
	}
	return next
}

// grant writes a new epoch for w.
func (g *Grantor) grant(now Instant, l *grantLease, w *grantWaiter) {
	a := w.req
	epoch := max(l.rec.Epoch, l.rec.Floor, a.SeenEpoch) + 1
	rec := Record{Lease: l.name, Epoch: epoch, State: RecordHeld, Holder: a.Party, Seq: a.Seq, Hold: a.Hold,
		LossAfter: a.Terms.LossAfter}
	regrant := !l.free(now)
	cause := "the lease was free"
	switch {
	case regrant:
		rec.Carry = max(l.rec.Hold, l.rec.Carry)
		cause = "its own boot held it, and asks from standby"
	case l.lapsed && l.rec.State != RecordFree:
		cause = fmt.Sprintf("epoch %d of %s lapsed", l.rec.Epoch, l.rec.Holder.Node)
	case l.expired:
		cause = fmt.Sprintf("the hold of epoch %d of %s ran out", l.rec.Epoch, l.rec.Holder.Node)
	}
	op := grantOp{kind: opGrant, rec: rec, regrant: regrant, ids: w.ids,
		answer: Answer{Verdict: Granted, Epoch: epoch, Seq: a.Seq, Hold: a.Hold}}
	w.ids = nil
	g.writeLease(op, "granted", cause)
}

// writeLease adds a change of a lease to the transaction.
func (g *Grantor) writeLease(op grantOp, what, cause string) {
	g.write(g.base(), op, Transition{Lease: op.rec.Lease, Epoch: op.rec.Epoch, Node: op.rec.Holder.Node, What: what, Cause: cause})
}

// base is the cluster record that a change builds on.
func (g *Grantor) base() ClusterRecord {
	if g.inflight != nil {
		return g.inflight.change.Cluster
	}
	return g.cluster
}

// endPolls answers the polls whose time is over.
func (g *Grantor) endPolls(now Instant) {
	for _, l := range g.sorted() {
		for _, w := range l.waiters {
			if len(w.ids) > 0 && now >= w.until && !g.undecided(now, l) {
				g.endPoll(now, l, w)
			}
		}
	}
}

// undecided reports whether a poll that is due must still wait: for a write, or for draining before an expiry.
func (g *Grantor) undecided(now Instant, l *grantLease) bool {
	if l.writing || g.cluster.Stamp.StoreID == "" {
		return true
	}
	if g.inflight != nil && l.free(now) {
		return true
	}
	due := l.rec.State != RecordFree && ((!l.expired && l.holdEnd != 0 && now >= l.holdEnd) ||
		(l.lapseAt != 0 && !l.lapsed && now >= l.lapseAt))
	return due && !g.broken && !g.cluster.Recovery
}

func (g *Grantor) endPoll(now Instant, l *grantLease, w *grantWaiter) {
	for _, id := range w.ids {
		g.reply(id, g.denial(now, l, w))
	}
	w.ids = nil
}

// denial tells a waiter who holds, for how long at most, and why it does not get the lease.
func (g *Grantor) denial(now Instant, l *grantLease, w *grantWaiter) Answer {
	a := Answer{Verdict: Denied, Seq: w.req.Seq, Epoch: l.rec.Epoch, Waiters: l.others(now, w.node),
		Paused: l.rec.State == RecordPaused}
	if l.rec.State != RecordFree {
		a.Holder, a.Hold = l.rec.Holder.Node, l.rec.Hold
		a.FreeIn = left(now, l.holdEnd)
		if l.holdEnd == 0 {
			a.FreeIn = left(now, l.lapseAt)
		}
	}
	switch {
	case g.cluster.Recovery:
		seen := w.req.Seen
		a.Verdict, a.Echo, a.Reason = Recovery, &seen, g.recoveryReason(now, l)
	case g.broken:
		a.Verdict, a.Reason = Unavailable, "the arbiter cannot write its store"
	case now < g.nodes[w.node].twin:
		a.Reason = "two machines speak as " + w.node
	case l.free(now):
		a.Reason = "others come first"
	case l.rec.State == RecordPaused:
		a.Reason = "paused by " + l.rec.Holder.Node
	case l.quarantine:
		a.Reason = "quarantine after a restart of the arbiter"
	case l.lapseAt != 0:
		a.Reason = "granted to " + l.rec.Holder.Node + ", which has not renewed yet"
	default:
		a.Reason = "held by " + l.rec.Holder.Node
	}
	return a
}

// others lists who waits besides node.
func (l *grantLease) others(now Instant, node string) []Waiter {
	var out []Waiter
	for _, w := range l.waiters {
		if w.node != node && w.alive(now) {
			out = append(out, Waiter{Node: w.node, Ready: w.req.Ready, LastResort: w.req.LastResort})
		}
	}
	return out
}

// cancelPolls ends the polls of older instances of p's boot.
func (g *Grantor) cancelPolls(p Party) {
	for _, l := range g.sorted() {
		for _, w := range l.waiters {
			if w.req.SameBoot(p) && w.req.Instance.Older(p.Instance) {
				for _, id := range w.ids {
					g.reply(id, Answer{Verdict: Superseded, Seq: w.req.Seq, Epoch: l.rec.Epoch,
						Reason: "a newer agent of this boot speaks for this node"})
				}
				w.ids = nil
			}
		}
	}
}

// adopt goes on with the same epoch under the asker's instance. It restarts no hold.
func (g *Grantor) adopt(now Instant, l *grantLease, r Request, a Acquire) {
	c, rec := *a.Claim, l.rec
	switch {
	case l.writing:
		g.later(now, r)
	case c.Epoch < rec.Epoch || (c.Epoch == rec.Epoch && rec.State == RecordFree):
		g.reply(r.ID, g.lost(l, a.Seq))
	case !rec.Holder.SameBoot(a.Party):
		g.refuse(r, "another node or boot holds this epoch")
	case a.Instance.Older(rec.Holder.Instance):
		g.reply(r.ID, Answer{Verdict: Superseded, Seq: a.Seq, Epoch: rec.Epoch, Reason: "a newer agent adopted this lease"})
	case rec.Holder == a.Party && a.Seq < l.lastSeq:
		g.refuse(r, fmt.Sprintf("stale sequence number %d: the last one was %d", a.Seq, l.lastSeq))
	case rec.Holder == a.Party && a.Seq == l.rec.Seq && a.Seq == l.lastSeq && !l.lastRenew:
		g.reply(r.ID, g.adopted(rec, a.Seq))
	case rec.Holder == a.Party && a.Seq == l.lastSeq:
		g.refuse(r, fmt.Sprintf("sequence number %d was used before", a.Seq))
	case l.lapsed || l.expired || (l.holdEnd != 0 && now >= l.holdEnd) || (l.lapseAt != 0 && now >= l.lapseAt):
		g.refuse(r, "the hold of this epoch is over")
	case !g.canAdd() || !g.mayWrite(now):
		g.later(now, r)
	default:
		rec.Holder, rec.Seq = a.Party, a.Seq
		if c.State == ClaimPaused && rec.State != RecordPaused {
			g.note(NoteAlarm, l, a.Node, "%s says paused, the record says %s: taken as paused", a.Node, rec.State)
			rec = g.pausedByClaim(rec, c)
		}
		g.writeLease(grantOp{kind: opAdopt, rec: rec, ids: []RequestID{r.ID}, answer: g.adopted(rec, a.Seq)},
			"adopted", "a new agent of the same boot goes on")
	}
}

func (g *Grantor) adopted(rec Record, seq uint64) Answer {
	return Answer{Verdict: Adopted, Seq: seq, Epoch: rec.Epoch, Hold: rec.Hold, Paused: rec.State == RecordPaused}
}

// lost is said only when another epoch was granted, or this one was released.
func (g *Grantor) lost(l *grantLease, seq uint64) Answer {
	a := Answer{Verdict: Lost, Seq: seq, Epoch: l.rec.Epoch, Reason: "released"}
	if l.rec.State != RecordFree {
		a.Holder = l.rec.Holder.Node
		a.Reason = fmt.Sprintf("epoch %d was granted to %s", l.rec.Epoch, l.rec.Holder.Node)
	}
	return a
}
