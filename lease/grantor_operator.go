package lease

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// operatorRecover ends a recovery by a human's word.
func (g *Grantor) operatorRecover(now Instant, ev OperatorRecover) {
	switch {
	case !g.cluster.Recovery && !g.suspect:
		g.reply(ev.ID, Answer{Verdict: Refused, Reason: "the cluster is not in recovery"})
	case g.suspect || !g.canAdd() || !g.mayWrite(now):
		g.reply(ev.ID, Answer{Verdict: Unavailable, Reason: "the store cannot be written now, or no node has spoken yet: try again"})
	case now < g.deniedUntil():
		g.reply(ev.ID, Answer{Verdict: Refused, Reason: fmt.Sprintf("a claim contradicts a holder that was heard lately, and may still run: "+
			"try again in %v", left(now, g.deniedUntil()).Round(time.Second/10))})
	default:
		g.skipEpochs()
		g.finishRecovery("an operator's recover", []RequestID{ev.ID})
	}
}

// deniedUntil is when the last holder that a claim contradicts has no hold left.
func (g *Grantor) deniedUntil() Instant {
	until := Instant(0)
	for _, l := range g.leases {
		until = Later(until, l.denied)
	}
	return until
}

// recoverLead is how many epochs a node may have won that nobody else has heard of.
const recoverLead Epoch = 1000

// lead is recoverLead and what no two recoveries have in common: the node that won after the first one may be silent in the second,
// whose nodes then know no more than before the first.
func (g *Grantor) lead() Epoch {
	sum := sha256.Sum256([]byte(g.cluster.Stamp.StoreID))
	return recoverLead + Epoch(binary.BigEndian.Uint32(sum[:]))%(1<<20)
}

// skipEpochs: the human speaks for a node that is not heard, and which may have won epochs that no other node has seen. They
// are not granted a second time: not after an epoch that is over, and not after one that somebody holds.
func (g *Grantor) skipEpochs() {
	for _, l := range g.sorted() {
		outdated := l.rec.State == RecordFree || l.floor > l.rec.Epoch // is to be free
		switch {
		case len(l.reported) >= 2 || g.cluster.Fresh:
		case outdated:
			l.floor = max(l.floor, l.rec.Epoch) + g.lead()
		default:
			l.skip = l.rec.Epoch + g.lead()
		}
	}
}

// operatorFree gives a lease away whose holder is off.
func (g *Grantor) operatorFree(now Instant, ev OperatorFree) {
	l := g.leases[ev.Lease]
	a := g.judgeFree(now, l, ev.Node)
	if a.Verdict != OK || ev.Check {
		g.reply(ev.ID, a)
		return
	}
	rec := l.rec
	rec.State, rec.Carry, rec.PauseFor, rec.PauseHold = RecordFree, 0, 0, 0
	ago, heard := g.holderQuiet(now, l)
	g.writeLease(grantOp{kind: opFree, rec: rec, ids: []RequestID{ev.ID}, answer: a}, "freed",
		fmt.Sprintf("an operator says that %s is off; it was %s", ev.Node, lastHeard(ago, heard)))
}

// judgeFree says whether a lease may be given away by a human's word. The word is not enough when this arbiter knows
// better: while the holder's hold may run, or a paused holder was heard lately, node is not off.
func (g *Grantor) judgeFree(now Instant, l *grantLease, node string) Answer {
	switch {
	case l == nil:
		return Answer{Verdict: Refused, Reason: "no such lease"}
	case l.rec.State == RecordFree:
		return Answer{Verdict: Refused, Epoch: l.rec.Epoch, Reason: "nobody holds this lease"}
	case l.rec.Holder.Node != node:
		return Answer{Verdict: Refused, Epoch: l.rec.Epoch, Holder: l.rec.Holder.Node,
			Reason: fmt.Sprintf("its holder is %s, not %s", l.rec.Holder.Node, node)}
	}
	a := Answer{Verdict: Unavailable, Epoch: l.rec.Epoch, Holder: node, Paused: l.rec.State == RecordPaused,
		Waiters: l.others(now, node)}
	ago, heard := g.holderQuiet(now, l)
	must := g.mustBeQuiet(l)
	again := (must - ago).Round(time.Second / 10)
	instead := fmt.Sprintf("leasedog switchover %s moves the lease", l.name)
	switch {
	case l.pauseOver:
		instead = fmt.Sprintf("it has booted anew or stands by, and the pause on record ends in %v", left(now, l.holdEnd).Round(time.Second/10))
	case a.Paused:
		instead = fmt.Sprintf("leasedog resume %s asks it to end the pause", l.name)
	}
	switch {
	case heard && ago <= g.renewWindow(l):
		a.Verdict, a.Reason = Refused, fmt.Sprintf("%s was %s: it is not off; %s", node, lastHeard(ago, heard), instead)
	case heard && ago < must:
		a.Reason = fmt.Sprintf("%s was %s, and counts as off after %v of silence: try again in %v, or, if it is on, %s", node,
			lastHeard(ago, heard), must, again, instead)
	case ago < must:
		a.Reason = fmt.Sprintf("this arbiter has listened for %v only, and %s counts as off after %v of silence: try again in %v",
			ago.Round(time.Second/10), node, must, again)
	case g.suspect:
		a.Reason = "the store was restored or has come to another machine, and no node has spoken since: try again"
	case l.writing || !g.canAdd() || !g.mayWrite(now):
		a.Reason = "the store cannot be written now: try again"
	default:
		a.Verdict, a.Reason = OK, g.afterFree(now, l, a.Waiters)
	}
	return a
}

// afterFree says what comes next.
func (g *Grantor) afterFree(now Instant, l *grantLease, waiters []Waiter) string {
	switch {
	case g.cluster.Recovery:
		return g.recoveryReason(now, l)
	case len(waiters) == 0:
		return "nobody waits for it: the first node that asks is granted"
	case len(waiters) > 1:
		return fmt.Sprintf("%d nodes wait for it, and one of them is granted at once", len(waiters))
	}
	return waiters[0].Node + " waits for it and is granted at once"
}

// quiet is how long a node, in whichever boot, has not been heard; heard is false if it was not since this arbiter
// started, which may be a moment ago.
func (g *Grantor) quiet(now Instant, node string) (ago time.Duration, heard bool) {
	if n := g.nodes[node]; n != nil && len(n.boots) > 0 {
		return now.Sub(n.boots[len(n.boots)-1].last), true
	}
	return now.Sub(g.started), false
}

// holderQuiet is how long the node of a holder has not been heard, in whichever boot, unless the one that was heard last is another
// machine's, which says nothing of the holder's: then how long the holder's boot.
func (g *Grantor) holderQuiet(now Instant, l *grantLease) (ago time.Duration, heard bool) {
	holder := l.rec.Holder
	n := g.nodes[holder.Node]
	if n == nil || len(n.boots) == 0 {
		return g.quiet(now, holder.Node)
	}
	last := n.boots[len(n.boots)-1].id
	if last == holder.BootID || n.succeeds(last, holder.BootID) {
		return g.quiet(now, holder.Node)
	}
	if ago, heard = g.silence(now, holder); !heard {
		ago = now.Sub(g.started)
	}
	return ago, heard
}

// mustBeQuiet is how long a holder must be silent before a human's word that it is off is taken: its hold, since until
// then it may run by a renewal; a paused one may run for ever, and its agent may be restarted meanwhile.
func (g *Grantor) mustBeQuiet(l *grantLease) time.Duration {
	hold := max(l.rec.Hold, l.rec.Carry)
	if l.rec.Hold == 0 {
		hold = max(hold, g.opt.MaxHold)
	}
	if l.rec.State == RecordPaused {
		hold = max(hold, 2*g.opt.MaxHold)
	}
	return hold
}

// answerOnCommit answers when the transaction that was just begun is on disk.
func (g *Grantor) answerOnCommit(id RequestID, a Answer) {
	op := &g.inflight.ops[len(g.inflight.ops)-1]
	op.ids, op.answer = append(op.ids, id), a
}

// askResume asks the holder to end its pause. Nothing else changes, and with a silent holder nothing at all.
func (g *Grantor) askResume(now Instant, id RequestID, name string) {
	l := g.leases[name]
	why := ""
	switch {
	case l == nil:
		why = "no such lease"
	case l.rec.State == RecordFree:
		why = "nobody holds the lease: there is no pause to end"
	case l.rec.State != RecordPaused:
		why = fmt.Sprintf("the lease is not paused: %s holds it", l.rec.Holder.Node)
	}
	if why != "" {
		g.reply(id, Answer{Verdict: Refused, Reason: why})
		return
	}
	l.resumeAsk = true
	node, reason := l.rec.Holder.Node, "its holder is asked with its next renewal; only it can end the pause"
	ago, heard := g.silence(now, l.rec.Holder)
	switch {
	case l.pauseOver:
		reason = fmt.Sprintf("its holder %s has booted anew or stands by: the pause on record ends in %v", node,
			left(now, l.holdEnd).Round(time.Second/10))
	case !heard || ago > g.renewWindow(l):
		reason = fmt.Sprintf("nothing changed; its holder %s was %s: it must be reachable to end the pause, and is asked when "+
			"it is, or, if it is off: leasedog-arbiter free %s %s --holder-is-off %s", node, lastHeard(ago, heard), g.opt.Cluster, name, node)
	}
	g.reply(id, Answer{Verdict: OK, Epoch: l.rec.Epoch, Holder: node, Paused: true, Reason: reason})
}

// silence is how long a boot has not been heard; heard is false if it was not, since this arbiter started.
func (g *Grantor) silence(now Instant, p Party) (ago time.Duration, heard bool) {
	if n := g.nodes[p.Node]; n != nil {
		for _, b := range n.boots {
			if b.id == p.BootID {
				return now.Sub(b.last), true
			}
		}
	}
	return 0, false
}

// renewWindow is L of the grant: a holder that is reachable is heard several times within it. In a pause it has no
// deadline to renew for, and speaks less often (Holder.keepPaused).
func (g *Grantor) renewWindow(l *grantLease) time.Duration {
	window := l.rec.LossAfter
	if window == 0 { // taken back from a claim
		window = defaultWindow
	}
	if l.rec.State == RecordPaused {
		window += 2 * RetryAfterFailure
	}
	return window
}

func lastHeard(ago time.Duration, heard bool) string {
	if !heard {
		return "not heard since this arbiter started"
	}
	return fmt.Sprintf("last heard %v ago", ago.Round(time.Second/10))
}
