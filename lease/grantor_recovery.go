package lease

import (
	"fmt"
	"slices"
	"time"
)

// whatRecovery is the Transition that begins a recovery: an alarm, unless the cluster is most likely a new one.
const whatRecovery = "recovery"

// judgeSeen compares what the asker has seen with this record, and takes its claims in recovery. false: the
// request has been answered, or waits for a write.
func (g *Grantor) judgeSeen(now Instant, r Request, l *grantLease) bool {
	seen, own := seenOf(r.Body), g.cluster.Stamp
	if seen.Generation > own.Generation && seen.Generation-own.Generation > MaxLead {
		g.note(NoteAlarm, l, partyOf(r.Body).Node, "generation %d is absurdly far above %d: is a file of this node corrupt?",
			seen.Generation, own.Generation)
		g.refuse(r, "the generation that this node has seen is absurd")
		return false
	}
	ahead := false
	for c := range r.claims {
		top := c.seen
		if c.claim != nil {
			top = max(top, c.claim.Epoch)
		}
		cl := g.leaseNamed(c.lease)
		if cl == nil {
			g.refuse(r, fmt.Sprintf("the cluster has %d leases already", maxLeases))
			return false
		}
		if top >= MaxEpoch || (top > cl.rec.Epoch && top-cl.rec.Epoch > MaxEpochLead) {
			g.note(NoteAlarm, cl, partyOf(r.Body).Node, "epoch %d is absurdly far above %d: is a file of this node corrupt?",
				top, cl.rec.Epoch)
			g.refuse(r, "the epoch that this node has seen is absurd")
			return false
		}
		ahead = ahead || top > cl.rec.Epoch
	}
	same := seen.StoreID == own.StoreID
	behind := same && seen.Generation > own.Generation
	if g.cluster.Recovery {
		return g.inRecovery(now, r, behind)
	}
	known := seen.StoreID == "" || same || g.knownFormer(seen)
	switch {
	case behind, ahead, !known:
		g.enterRecovery(now, r)
		return false
	case seen.StoreID != "" && !same:
		g.reply(r.ID, g.recoveryAnswer(r, "this arbiter's store has a new id"))
		return false
	}
	return true
}

// knownFormer reports whether s is no news: a store id of before, no further than some node has told already.
func (g *Grantor) knownFormer(s Stamp) bool {
	return slices.ContainsFunc(g.cluster.Former, func(f Stamp) bool {
		return f.StoreID == s.StoreID && s.Generation <= f.Generation
	})
}

// enterRecovery begins to rebuild the record from claims: the store is missing, suspect, or behind what a node has
// seen. r is judged again when that is on disk.
func (g *Grantor) enterRecovery(now Instant, r Request) {
	if !g.canAdd() || !g.mayWrite(now) || (g.inflight != nil && len(g.inflight.ops) > 0) {
		g.doubt()
		g.later(now, r)
		return
	}
	seen, c := seenOf(r.Body), g.cluster
	missing := c.Stamp.StoreID == ""
	if !missing {
		c.Former = addFormer(c.Former, c.Stamp)
	}
	// Always a new id: the old one may be on a node's list of dead ids, or in use by another arbiter.
	c.Stamp.StoreID = g.opt.NewStoreID()
	if seen.StoreID != "" {
		c.Former = addFormer(c.Former, seen)
	}
	if seen.Generation <= g.lastGen+MaxLead {
		g.lastGen = max(g.lastGen, seen.Generation)
	}
	c.Recovery = true
	c.Fresh = missing && !knowsAnything(r)
	cause := "this arbiter's record is behind what a node has seen"
	switch {
	case c.Fresh:
		cause = "a cluster that was not known, and whose node has seen nothing: most likely new"
	case missing:
		cause = "this arbiter knows nothing of a cluster that is not new"
	case g.suspect && !g.behind:
		cause = "the store was restored, or has come to another machine"
	}
	g.recoveryFrom = now
	g.write(c, grantOp{kind: opCluster}, Transition{Node: partyOf(r.Body).Node, What: whatRecovery, Cause: cause})
	g.deferred = append(g.deferred, r)
}

// doubt makes a recovery the first thing to be written. Whatever is written before it, or in its place after a write error, would
// hide the reason for it: the generation goes on.
func (g *Grantor) doubt() {
	if g.cluster.Stamp.StoreID != "" && !g.suspect {
		g.suspect, g.behind = true, true
	}
}

// knowsAnything reports whether a node has ever had to do with an arbiter.
func knowsAnything(r Request) bool {
	if seenOf(r.Body) != (Stamp{}) {
		return true
	}
	for c := range r.claims {
		if c.seen != 0 || c.claim != nil {
			return true
		}
	}
	return false
}

func addFormer(list []Stamp, s Stamp) []Stamp {
	list = slices.Clone(list)
	for i := range list {
		if list[i].StoreID == s.StoreID {
			list[i].Generation = max(list[i].Generation, s.Generation)
			return list
		}
	}
	list = append(list, s)
	return list[max(0, len(list)-maxFormer):]
}

// inRecovery takes what a node reports. Only a node that has taken over the new id counts as heard: whoever has
// not may still listen to another arbiter. true: go on with the verb.
func (g *Grantor) inRecovery(now Instant, r Request, behind bool) bool {
	seen := seenOf(r.Body)
	own := seen.StoreID == g.cluster.Stamp.StoreID && !behind
	news := g.cluster.Fresh && seen.StoreID != g.cluster.Stamp.StoreID && knowsAnything(r)
	unknown := seen.StoreID != "" && seen.StoreID != g.cluster.Stamp.StoreID && !g.knownFormer(seen)
	if behind || news || unknown {
		g.enterRecovery(now, r)
		return false
	}
	if l := g.leases[r.Lease]; l != nil && l.writing {
		g.later(now, r)
		return false
	}
	if g.takeClaims(now, r) {
		return false
	}
	node := partyOf(r.Body).Node
	if own { // also of a new cluster: a request that has seen nothing may be an old copy
		g.freshNodes[node] = true
	} else {
		g.reply(r.ID, g.recoveryAnswer(r, "the record is being rebuilt"))
		return false
	}
	for c := range r.claims {
		if !tellsAll(r.Body) {
			break
		}
		if l := g.leases[c.lease]; l != nil && !slices.Contains(l.reported, node) {
			l.reported = append(l.reported, node)
		}
	}
	return g.answerInRecovery(now, r)
}

// tellsAll reports whether a message says all that its node knows of the lease: what it holds, or the highest epoch
// that it has seen. A release, a pause or a resume names an epoch that may be an old one.
func tellsAll(body any) bool {
	switch body.(type) {
	case Acquire, Renew, Report:
		return true
	}
	return false
}

// answerInRecovery: the holder that was taken back goes on as ever; what cannot be decided is answered Recovery.
func (g *Grantor) answerInRecovery(now Instant, r Request) bool {
	l := g.leases[r.Lease]
	if l == nil {
		return true
	}
	for c := range r.claims {
		unknown := c.claim != nil && l.floor > c.claim.Epoch && l.rec.Epoch <= c.claim.Epoch
		if unknown || c.seen > l.rec.Epoch && c.claim != nil {
			g.reply(r.ID, g.recoveryAnswer(r, "another node has seen a higher epoch"))
			return false
		}
	}
	return true
}

// recoveryAnswer repeats what the asker had seen, so that it may take over this store's id.
func (g *Grantor) recoveryAnswer(r Request, why string) Answer {
	seen := seenOf(r.Body)
	a := Answer{Verdict: Recovery, Seq: seqOf(r.Body), Echo: &seen, Reason: why}
	if l := g.leases[r.Lease]; l != nil {
		a.Epoch = l.rec.Epoch
	}
	return a
}

// takeClaims takes claims back as they are. true: a write was begun and r is judged again after it.
func (g *Grantor) takeClaims(now Instant, r Request) bool {
	wrote := false
	for c := range r.claims {
		l := g.leases[c.lease]
		l.unblock(r)
		g.outlive(now, l, r)
		l.floor = max(l.floor, c.seen)
		if c.claim == nil {
			continue
		}
		l.floor = max(l.floor, c.claim.Epoch)
		rec, take := g.recordOfClaim(l, r, *c.claim)
		end := g.claimEnd(now, *c.claim)
		if !take {
			if c.claim.Epoch >= l.rec.Epoch && !rec.Holder.SameBoot(partyOf(r.Body)) {
				l.block(r, end)
			}
			continue
		}
		if !g.canAdd() || !g.mayWrite(now) || l.writing {
			l.block(r, end)
			if wrote {
				continue
			}
			g.later(now, r)
			return true
		}
		g.writeLease(grantOp{kind: opClaim, rec: rec, hold: end}, "claimed",
			fmt.Sprintf("%s says %s", rec.Holder.Node, c.claim.State))
		wrote = true
	}
	if wrote {
		g.deferred = append(g.deferred, r)
	}
	return wrote
}

// grantBlock is a claim that is not in a record: the store could not be written, or the claim contradicts the record.
type grantBlock struct {
	by       Party
	seq      uint64
	until    Instant
	outlived bool // another boot of its node has asked since
}

// outlive: a boot that asks for the lease ends what an earlier one of its node claimed, as it ends a pause on record: not
// before that, if it is another machine and alive, would have been heard, which claims again.
func (g *Grantor) outlive(now Instant, l *grantLease, r Request) {
	a, ok := r.Body.(Acquire)
	if !ok || now < g.nodes[a.Node].twin {
		return
	}
	for i := range l.blocks {
		if b := &l.blocks[i]; b.by.Node == a.Node && b.by.BootID != a.BootID && !b.outlived &&
			g.nodes[a.Node].succeeds(a.BootID, b.by.BootID) {
			b.outlived, b.until = true, Earlier(b.until, now.Add(max(g.opt.MaxHold, 2*RetryAfterFailure)))
		}
	}
}

func (l *grantLease) block(r Request, until Instant) {
	l.blocks = append(l.blocks, grantBlock{by: partyOf(r.Body), seq: seqOf(r.Body), until: until})
}

// unblock forgets what r's sender claimed before: what it says now counts instead. A pause without an end that was
// claimed once would be waited for for ever. What was on its way for longer says nothing of now.
func (l *grantLease) unblock(r Request) {
	p, seq := partyOf(r.Body), seqOf(r.Body)
	l.blocks = slices.DeleteFunc(l.blocks, func(b grantBlock) bool {
		return b.by.SameBoot(p) && (b.by.Instance.Older(p.Instance) || b.by == p && b.seq <= seq)
	})
}

func (l *grantLease) blockedUntil() Instant {
	until := Instant(0)
	for _, b := range l.blocks {
		until = Later(until, b.until)
	}
	return until
}

// recordOfClaim is the record that a claim makes, and whether it says more than the record that is there.
func (g *Grantor) recordOfClaim(l *grantLease, r Request, c Claim) (Record, bool) {
	p, rec := partyOf(r.Body), l.rec
	late := rec.Holder == p && c.Epoch == rec.Epoch && seqOf(r.Body) != 0 && seqOf(r.Body) <= rec.Seq
	if c.Epoch < rec.Epoch || c.Epoch < l.floor || late {
		return rec, false
	}
	next := Record{Lease: l.name, Epoch: c.Epoch, Floor: rec.Floor, State: RecordHeld, Holder: p, Hold: c.Hold}
	if c.Hold == 0 {
		next.Hold = g.opt.MaxHold
	}
	if c.Epoch == rec.Epoch {
		same := rec.Holder.SameBoot(p)
		if rec.State != RecordFree && !same || same && p.Instance.Older(rec.Holder.Instance) {
			g.note(NoteAlarm, l, p.Node, "%s claims epoch %d, which %s has", p.Node, c.Epoch, rec.Holder.Node)
			return rec, false
		}
		if rec.Holder == p && (rec.State == RecordPaused || rec.State == RecordHeld && c.State != ClaimPaused) {
			return rec, false // nothing new
		}
		if rec.State != RecordFree {
			next = rec
			next.Holder = p
		}
		next.Hold = max(rec.Hold, c.Hold)
	}
	if c.State == ClaimPaused && next.State != RecordPaused {
		next = g.pausedByClaim(next, c)
	}
	// The number is one below that of the request, which itself is judged again after the write.
	next.Seq = max(1, seqOf(r.Body)) - 1
	if rec.Holder == p && c.Epoch == rec.Epoch {
		next.Seq = max(next.Seq, rec.Seq)
	}
	return next, true
}

// pausedByClaim makes rec paused as a claim has it. Its hold is an upper bound: the pause as long as it was asked
// for, stretched by the worst drift, and the hold of the grant.
func (g *Grantor) pausedByClaim(rec Record, c Claim) Record {
	rec.State, rec.PauseFor, rec.PauseHold = RecordPaused, c.PauseFor, 0
	if c.PauseFor > 0 {
		rec.PauseHold = g.claimPauseHold(c)
	}
	return rec
}

func (g *Grantor) claimPauseHold(c Claim) time.Duration {
	hold := c.Hold
	if hold == 0 {
		hold = g.opt.MaxHold
	}
	return hold + scale(c.PauseFor, max(g.opt.DriftPPM, 1000)) + g.opt.Grace
}

// claimEnd is until when a claim is waited out, counted in full from its receipt.
func (g *Grantor) claimEnd(now Instant, c Claim) Instant {
	hold := c.Hold
	switch {
	case c.State == ClaimPaused && c.PauseFor == 0:
		return Never
	case c.State == ClaimPaused:
		hold = g.claimPauseHold(c)
	case hold == 0:
		hold = g.opt.MaxHold
	}
	return now.Add(hold)
}

// recoveryWait is until when new grants wait at least: the longest hold that may exist.
func (g *Grantor) recoveryWait() Instant { return g.recoveryFrom.Add(g.opt.MaxHold) }

// recoveryReason says what a recovery waits for.
func (g *Grantor) recoveryReason(now Instant, l *grantLease) string {
	wait := left(now, g.recoveryWait()).Round(time.Second)
	if g.cluster.Fresh {
		return fmt.Sprintf("this arbiter does not know the cluster: if it is new, start its second node or run "+
			"leasedog-arbiter recover %s", g.opt.Cluster)
	}
	return fmt.Sprintf("recovery: new grants wait %v and for reports of both nodes (heard: %v), or for "+
		"leasedog-arbiter recover %s", wait, l.reported, g.opt.Cluster)
}

// endRecovery ends a recovery when nothing unknown can hold any more.
func (g *Grantor) endRecovery(now Instant) {
	if !g.cluster.Recovery || g.inflight != nil || g.suspect {
		return
	}
	if g.cluster.Fresh {
		// Both nodes have seen nothing, ever: there is nothing to wait for. One node alone proves nothing, since
		// the other may hold, or be paused, by a store that was lost.
		if len(g.freshNodes) >= 2 {
			g.finishRecovery("new cluster: both nodes have seen nothing", nil)
		}
		return
	}
	if now < g.recoveryWait() {
		return
	}
	for _, l := range g.sorted() {
		if len(l.reported) < 2 || now < Later(l.blockedUntil(), l.denied) || (l.floor > l.rec.Epoch && now < l.holdEnd) {
			return
		}
	}
	if len(g.leases) > 0 {
		g.finishRecovery("every node has reported", nil)
	}
}

func (g *Grantor) nextOfRecovery() Instant {
	next := Never
	if g.broken || g.cluster.Fresh {
		return next
	}
	all := true
	for _, l := range g.leases {
		all = all && len(l.reported) >= 2
	}
	if !all || len(g.leases) == 0 {
		return next
	}
	next = g.recoveryWait()
	for _, l := range g.leases {
		next = Later(next, Later(l.blockedUntil(), l.denied))
		if l.floor > l.rec.Epoch {
			next = Later(next, l.holdEnd)
		}
	}
	return next
}

// finishRecovery writes the end of a recovery, with the highest epochs that were seen.
func (g *Grantor) finishRecovery(cause string, ids []RequestID) {
	c := g.base()
	c.Recovery, c.Fresh = false, false
	g.write(c, grantOp{kind: opCluster, ids: ids, answer: Answer{Verdict: OK}}, Transition{What: "recovered", Cause: cause})
	for _, l := range g.sorted() {
		rec := l.rec
		rec.Floor = max(rec.Floor, l.skip)
		switch {
		case l.floor > l.rec.Epoch:
			rec = Record{Lease: l.name, Epoch: l.floor, Floor: rec.Floor, State: RecordFree}
			g.write(c, grantOp{kind: opFree, rec: rec}, Transition{})
		case rec != l.rec:
			g.write(c, grantOp{kind: opFloor, rec: rec}, Transition{})
		}
	}
}

// commitCluster takes over a cluster record that is on disk.
func (g *Grantor) commitCluster(now Instant, c ClusterRecord) {
	entered := c.Recovery && (!g.cluster.Recovery || g.cluster.Stamp.StoreID != c.Stamp.StoreID || g.cluster.Fresh != c.Fresh)
	if entered {
		g.recoveryFrom = now
		g.freshNodes = map[string]bool{}
		g.suspect, g.behind = false, false
		for _, l := range g.leases {
			l.reported, l.floor, l.skip = nil, 0, 0
		}
	}
	if g.cluster.Recovery && !c.Recovery {
		for _, l := range g.leases {
			l.reported, l.floor, l.skip, l.blocks, l.denied = nil, 0, 0, nil, 0
		}
	}
	g.cluster = c
}
