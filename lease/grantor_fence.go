package lease

import (
	"fmt"
	"slices"
	"time"
)

// operatorBar bars the boot of a node. It is refused without any effect against a node that holds or may hold.
func (g *Grantor) operatorBar(now Instant, ev OperatorBar) {
	refuse := func(why string) { g.reply(ev.ID, Answer{Verdict: Refused, Reason: why}) }
	if n := g.nodes[ev.Node]; n == nil || n.record().BootID == "" {
		refuse("no boot of this node is known")
		return
	}
	if g.cluster.Recovery || g.suspect {
		refuse("the cluster is in recovery: whether the node holds is not known")
		return
	}
	if l := g.mayHold(now, ev.Node); l != nil {
		refuse(fmt.Sprintf("%s holds or may hold lease %s", ev.Node, l.name))
		return
	}
	if other := g.barredBeside(ev.Node); other != "" {
		refuse(other + " is barred already: one bar at a time")
		return
	}
	if why := g.nodes[ev.Node].unsure(); why != "" {
		refuse(why)
		return
	}
	if !g.bar(now, ev.Node, false, "an operator asked for it") {
		g.reply(ev.ID, Answer{Verdict: Unavailable, Reason: "the store cannot be written now: try again"})
		return
	}
	g.answerOnCommit(ev.ID, Answer{Verdict: OK})
}

// mayHold returns a lease that node holds or may hold, nil if there is none. A change that is being written may be a
// grant to it.
func (g *Grantor) mayHold(now Instant, node string) *grantLease {
	for _, l := range g.sorted() {
		if l.rec.State != RecordFree && l.rec.Holder.Node == node && !l.free(now) || l.writing {
			return l
		}
	}
	return nil
}

// unsure says why it is not known which boot of a node is to be barred: it would be another one, and the bar of a boot that may be
// alive would be lost.
func (n *grantNode) unsure() string {
	r := n.record()
	if r.BarredBoot != "" && r.BarredBoot != r.BootID {
		return fmt.Sprintf("another boot of %s is barred, and nothing proves that it is over: leasedog-arbiter unbar ends that", r.Node)
	}
	if len(n.boots) > 0 {
		if _, sure := n.current(); !sure {
			return fmt.Sprintf("which of two boots of %s came later is not known until one of them speaks again", r.Node)
		}
	}
	return ""
}

// barredBeside names another node that is barred. One bar at a time: of two nodes that are to fence each other the first
// one wins.
func (g *Grantor) barredBeside(node string) string {
	for name, o := range g.nodes {
		if name != node && o.record().BarredBoot != "" {
			return name
		}
	}
	return ""
}

// bar bars the boot in which node was heard last, and says why; false: it cannot be written now.
func (g *Grantor) bar(now Instant, node string, off bool, why string) bool {
	if !g.canAdd() || !g.mayWrite(now) {
		return false
	}
	alone := true
	for name, o := range g.nodes {
		if name != node && len(o.boots) > 0 && now.Sub(o.boots[len(o.boots)-1].last) <= g.opt.MaxHold {
			alone = false
		}
	}
	rec := g.nodes[node].record()
	rec.BarredBoot, rec.BarredOff = rec.BootID, off
	g.writeNode(rec, Transition{Node: node, What: "barred", Cause: why})
	if alone {
		g.note(NoteAlarm, nil, node, "%s is barred and no other node has spoken: nobody is left to run. "+
			"leasedog-arbiter unbar %s %s ends that", node, g.opt.Cluster, node)
	}
	return true
}

func (g *Grantor) operatorUnbar(now Instant, ev OperatorUnbar) {
	n := g.nodes[ev.Node]
	switch {
	case n == nil || n.rec.BarredBoot == "":
		g.reply(ev.ID, Answer{Verdict: Refused, Reason: "this node is not barred"})
	case g.suspect || !g.canAdd() || !g.mayWrite(now):
		g.reply(ev.ID, Answer{Verdict: Unavailable, Reason: "the store cannot be written now: try again"})
	default:
		rec := n.record()
		rec.BarredBoot, rec.BarredOff = "", false
		g.writeNode(rec, Transition{Node: ev.Node, What: "unbarred", Cause: "an operator asked for it"})
		g.answerOnCommit(ev.ID, Answer{Verdict: OK})
	}
}

// barred is the answer to whoever speaks in a boot that is barred, nil if it is not. Only what is on disk counts.
func (n *grantNode) barred(boot string, seq uint64) *Answer {
	if n.rec.BarredBoot == "" || n.rec.BarredBoot != boot {
		return nil
	}
	return &Answer{Verdict: Barred, Seq: seq, BarredBoot: true, Off: n.rec.BarredOff,
		Reason: "this boot is barred; only a new boot ends that"}
}

// mayBeBarred reports whether a bar of this boot stands or is being written: it gets no lease.
func (g *Grantor) mayBeBarred(p Party) bool {
	bars := func(r NodeRecord) bool { return r.Node == p.Node && r.BarredBoot != "" && r.BarredBoot == p.BootID }
	return bars(g.nodes[p.Node].rec) || g.inflight != nil && slices.ContainsFunc(g.inflight.change.Nodes, bars)
}

// dismissBarred takes whoever was just barred out of every queue: it waits no more, and hears at once of its bar.
func (g *Grantor) dismissBarred() {
	for _, l := range g.sorted() {
		l.waiters = slices.DeleteFunc(slices.Clone(l.waiters), func(w *grantWaiter) bool {
			if w.req.Node == "" {
				return false
			}
			a := g.nodes[w.node].barred(w.req.BootID, w.req.Seq)
			for _, id := range w.ids {
				if a != nil {
					g.reply(id, *a)
				}
			}
			return a != nil
		})
	}
}

// fence decides about a Fence. OK is a promise: the target's boot holds nothing, can never hold anything again, and, if
// something in the cluster is not guarded, is over. Denied is an answer for now, and says for how long it is; whatever
// cannot be told is not OK.
func (g *Grantor) fence(now Instant, r Request, f Fence) {
	a := Answer{Verdict: Denied, Seq: f.Seq}
	n := g.nodes[f.Target]
	switch {
	case f.Target == f.Node && !f.Check:
		a.Verdict, a.Reason = Refused, "a node does not fence itself"
	case g.cluster.Recovery || g.suspect:
		seen := f.Seen
		a.Verdict, a.Echo, a.Reason = Recovery, &seen, "the cluster is in recovery: whether "+f.Target+" holds is not known"
	case n == nil || n.record().BootID == "":
		a.Verdict, a.Reason = Refused, "this arbiter has never heard of "+f.Target
	case now < n.twin || now < g.nodes[f.Node].twin:
		a.Reason = "two machines speak under one name"
	case f.Check:
		a = g.checkFence(now, f, a)
	case f.Boot != "" && f.Boot != BootMark(n.record().BootID) && n.succeeds(n.record().BootID, f.Boot) && !g.heldIn(now, f.Target, f.Boot):
		a.Verdict, a.Reason = OK, f.Target+" has booted anew"
	default:
		g.fenceBoot(now, r.ID, f, a)
		return
	}
	g.reply(r.ID, a)
}

// checkFence says how a target stands. It names the target's boot if a fencing like this would be answered ok now.
func (g *Grantor) checkFence(now Instant, f Fence, a Answer) Answer {
	n := g.nodes[f.Target]
	ago, heard := g.quiet(now, f.Target)
	if a.Quiet = ago; !heard {
		a.Quiet = -1
	}
	l := g.mayHold(now, f.Target)
	switch {
	case n.barred(n.record().BootID, 0) != nil:
		a.Verdict, a.Reason = OK, f.Target+" is barred until it boots anew"
	case l != nil:
		a.Reason = g.whyHeld(now, l, f.Target)
	default:
		a.Reason = fmt.Sprintf("%s holds nothing, and was %s", f.Target, lastHeard(ago, heard))
	}
	if l == nil && f.Guarded && g.barredBeside(f.Target) == "" && n.unsure() == "" {
		a.Boot = BootMark(n.record().BootID)
	}
	return a
}

// heldIn reports whether that boot of node may hold a lease. A new boot is no proof while it may: two machines may speak
// under one name.
func (g *Grantor) heldIn(now Instant, node, boot string) bool {
	return slices.ContainsFunc(g.sorted(), func(l *grantLease) bool {
		return l.rec.State != RecordFree && l.rec.Holder.Node == node && BootMark(l.rec.Holder.BootID) == boot && !l.free(now) || l.writing
	})
}

// fenceBoot bars the boot of a target that holds nothing.
func (g *Grantor) fenceBoot(now Instant, id RequestID, f Fence, a Answer) {
	rec := g.nodes[f.Target].record()
	mark := BootMark(rec.BootID)
	other, unsure := g.barredBeside(f.Target), g.nodes[f.Target].unsure()
	if a.Boot = f.Boot; f.Boot == "" && unsure == "" {
		a.Boot = mark
	}
	l := g.mayHold(now, f.Target)
	switch {
	case l != nil:
		a.Reason = g.whyHeld(now, l, f.Target)
		if !l.writing {
			a.Epoch, a.Holder, a.Paused, a.FreeIn = l.rec.Epoch, f.Target, l.rec.State == RecordPaused && !l.pauseOver, left(now, l.holdEnd)
		}
	case other != "":
		a.Reason = other + " is barred: one bar at a time"
	case unsure != "":
		a.Reason = unsure
	case f.Guarded:
		a.Verdict, a.Reason = OK, f.Target+" holds nothing, and is barred until it boots anew"
	default:
		a.Reason = "not every resource is guarded, so only a new boot of " + f.Target + " proves that it runs nothing; it is barred and resets itself"
	}
	on := g.nodes[f.Target].rec // what is on disk
	former := f.Boot != "" && f.Boot != mark
	if former { // it has booted anew, and only its old boot's hold is waited for
		a.Verdict, a.Reason = Denied, f.Target+" has booted anew, and its former boot may hold a lease"
		switch n := g.nodes[f.Target]; {
		case len(n.boots) == 0:
			a.Reason = f.Target + " has not been heard since this arbiter started: which boot it is in is not known"
		case !n.succeeds(rec.BootID, a.Boot) && n.beside == "":
			a.Reason = "that the former boot of " + f.Target + " is over is not proven before the present one speaks again"
		case !n.succeeds(rec.BootID, a.Boot):
			a.Reason = "another machine speaks as " + f.Target + ", which proves nothing of its former boot"
		}
	}
	if l != nil || other != "" || unsure != "" || former || on.BarredBoot == rec.BootID && (on.BarredOff || !f.Off) {
		g.reply(id, a)
		return
	}
	if !g.bar(now, f.Target, f.Off, "fencing by "+f.Node) {
		g.reply(id, Answer{Verdict: Unavailable, Seq: f.Seq, Reason: "the arbiter cannot write its store now"})
		return
	}
	g.answerOnCommit(id, a)
}

// whyHeld says for how long a target may hold.
func (g *Grantor) whyHeld(now Instant, l *grantLease, target string) string {
	switch {
	case l.writing:
		return fmt.Sprintf("lease %s is being granted or given back", l.name)
	case l.rec.State == RecordPaused:
		return fmt.Sprintf("%s holds lease %s, paused", target, l.name)
	}
	ago, heard := g.silence(now, l.rec.Holder)
	return fmt.Sprintf("%s holds or may hold lease %s for %v, and was %s", target, l.name,
		left(now, l.holdEnd).Round(time.Second/10), lastHeard(ago, heard))
}
