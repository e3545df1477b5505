package lease

import (
	"maps"
	"slices"
	"time"
)

// ClusterView is what a status shows of a cluster. It is a copy.
type ClusterView struct {
	Cluster    string
	Stamp      Stamp
	Recovery   string // what a recovery waits for; "" if none
	WriteError bool   // no new grant until a write succeeds
	Leases     []LeaseView
	Nodes      []NodeView
}

// LeaseView is one lease. State is free, held, paused, quarantine, granted (not renewed yet), lapsed or expired.
type LeaseView struct {
	Lease   string
	State   string
	Epoch   Epoch
	Holder  Party // zero when free
	Hold    time.Duration
	EndsIn  time.Duration // until the hold ends if nobody renews; 0 when it does not end or there is none
	Waiters []Waiter
	MoveTo  string
}

// NodeView is one node as the arbiter heard it.
type NodeView struct {
	Node     string
	BootID   string
	HeardAgo time.Duration // -1: not since this arbiter started
	Barred   bool
	Twins    bool // two machines speak under this name
}

// View returns what a status shows at now.
func (g *Grantor) View(now Instant) ClusterView {
	v := ClusterView{Cluster: g.opt.Cluster, Stamp: g.cluster.Stamp, WriteError: g.broken}
	for _, l := range g.sorted() {
		if g.cluster.Recovery && v.Recovery == "" {
			v.Recovery = g.recoveryReason(now, l)
		}
		lv := LeaseView{Lease: l.name, State: l.state(), Epoch: l.rec.Epoch, Hold: l.rec.Hold, Waiters: l.others(now, "")}
		if l.rec.State != RecordFree {
			lv.Holder, lv.EndsIn = l.rec.Holder, left(now, l.holdEnd)
		}
		if l.move.epoch == l.rec.Epoch && now < l.move.until {
			lv.MoveTo = l.move.to
		}
		v.Leases = append(v.Leases, lv)
	}
	if g.cluster.Recovery && v.Recovery == "" {
		v.Recovery = "recovery: no node has spoken yet"
	}
	for _, name := range slices.Sorted(maps.Keys(g.nodes)) {
		n := g.nodes[name]
		nv := NodeView{Node: name, BootID: n.record().BootID, HeardAgo: -1, Barred: n.record().BarredBoot != "", Twins: now < n.twin}
		if len(n.boots) > 0 {
			nv.HeardAgo = now.Sub(n.boots[len(n.boots)-1].last)
		}
		v.Nodes = append(v.Nodes, nv)
	}
	return v
}

func (l *grantLease) state() string {
	switch {
	case l.rec.State == RecordFree:
		return string(RecordFree)
	case l.lapsed:
		return "lapsed"
	case l.expired:
		return "expired"
	case l.rec.State == RecordPaused:
		return string(RecordPaused)
	case l.quarantine:
		return "quarantine"
	case l.lapseAt != 0:
		return "granted"
	}
	return string(RecordHeld)
}
