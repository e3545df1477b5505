package lease

import "fmt"

// operatorRecover ends a recovery by a human's word.
func (g *Grantor) operatorRecover(now Instant, ev OperatorRecover) {
	switch {
	case !g.cluster.Recovery && !g.suspect:
		g.reply(ev.ID, Answer{Verdict: Refused, Reason: "the cluster is not in recovery"})
	case g.suspect || !g.canAdd() || !g.mayWrite(now):
		g.reply(ev.ID, Answer{Verdict: Unavailable, Reason: "the store cannot be written now, or no node has spoken yet: try again"})
	default:
		g.finishRecovery("an operator's recover", []RequestID{ev.ID})
	}
}

// operatorFree gives a lease away whose holder is off.
func (g *Grantor) operatorFree(now Instant, ev OperatorFree) {
	l := g.leases[ev.Lease]
	switch {
	case l == nil || l.rec.State == RecordFree:
		g.reply(ev.ID, Answer{Verdict: Refused, Reason: "nobody holds this lease"})
	case l.rec.Holder.Node != ev.Node:
		g.reply(ev.ID, Answer{Verdict: Refused, Reason: fmt.Sprintf("its holder is %s, not %s", l.rec.Holder.Node, ev.Node)})
	case g.suspect || l.writing || !g.canAdd() || !g.mayWrite(now):
		g.reply(ev.ID, Answer{Verdict: Unavailable, Reason: "the store cannot be written now: try again"})
	default:
		rec := l.rec
		rec.State, rec.Carry, rec.PauseFor, rec.PauseHold = RecordFree, 0, 0, 0
		g.writeLease(grantOp{kind: opFree, rec: rec, ids: []RequestID{ev.ID},
			answer: Answer{Verdict: OK, Epoch: rec.Epoch}}, "freed", "an operator says that "+ev.Node+" is off")
	}
}

// operatorBar bars the boot of a node. It is refused without any effect against a node that holds or may hold.
func (g *Grantor) operatorBar(now Instant, ev OperatorBar) {
	n := g.nodes[ev.Node]
	refuse := func(why string) { g.reply(ev.ID, Answer{Verdict: Refused, Reason: why}) }
	switch {
	case n == nil || n.record().BootID == "":
		refuse("no boot of this node is known")
		return
	case g.cluster.Recovery || g.suspect:
		refuse("the cluster is in recovery: whether the node holds is not known")
		return
	}
	for _, l := range g.leases {
		if l.rec.State != RecordFree && l.rec.Holder.Node == ev.Node && !l.free(now) || l.writing {
			refuse(fmt.Sprintf("%s holds or may hold lease %s", ev.Node, l.name))
			return
		}
	}
	alone := true
	for name, o := range g.nodes {
		if name != ev.Node && o.record().BarredBoot != "" {
			refuse(name + " is barred already: one bar at a time")
			return
		}
		if name != ev.Node && len(o.boots) > 0 && now.Sub(o.boots[len(o.boots)-1].last) <= g.opt.MaxHold {
			alone = false
		}
	}
	if !g.canAdd() || !g.mayWrite(now) {
		g.reply(ev.ID, Answer{Verdict: Unavailable, Reason: "the store cannot be written now: try again"})
		return
	}
	rec := n.record()
	rec.BarredBoot = rec.BootID
	g.writeNode(rec, Transition{Node: ev.Node, What: "barred", Cause: "fencing asked for it"})
	g.answerOnCommit(ev.ID)
	if alone {
		g.note(NoteAlarm, nil, ev.Node, "%s is barred and no other node has spoken: nobody is left to run. "+
			"leasedog-arbiter unbar %s %s ends that", ev.Node, g.opt.Cluster, ev.Node)
	}
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
		rec.BarredBoot = ""
		g.writeNode(rec, Transition{Node: ev.Node, What: "unbarred", Cause: "an operator asked for it"})
		g.answerOnCommit(ev.ID)
	}
}

// answerOnCommit answers OK when the transaction that was just begun is on disk.
func (g *Grantor) answerOnCommit(id RequestID) {
	op := &g.inflight.ops[len(g.inflight.ops)-1]
	op.ids, op.answer = append(op.ids, id), Answer{Verdict: OK}
}

// operatorResume asks the holder; with a silent one nothing changes.
func (g *Grantor) operatorResume(ev OperatorResume) {
	l := g.leases[ev.Lease]
	if l == nil || l.rec.State != RecordPaused {
		g.reply(ev.ID, Answer{Verdict: Refused, Reason: "the lease is not paused"})
		return
	}
	l.resumeAsk = true
	g.reply(ev.ID, Answer{Verdict: OK, Epoch: l.rec.Epoch, Holder: l.rec.Holder.Node, Paused: true,
		Reason: "its holder is asked with its next renewal; only it can end the pause"})
}
