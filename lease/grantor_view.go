package lease

import (
	"fmt"
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

	PausedFor time.Duration // how long this arbiter, since it started, knows of the pause; 0 if there is none
	Alarm     string        // what a human must do
}

// longPause is after how long a pause without an end is an alarm: whoever works on a node for longer can say so again.
const longPause = 4 * time.Hour

// endless reports whether the lease is paused without an end.
func (l *grantLease) endless() bool {
	return l.rec.State == RecordPaused && l.rec.PauseHold == 0 && !l.pauseOver
}

// pauseAlarm says that a pause without an end lasts, and the ways out; "" if there is nothing to say.
func (g *Grantor) pauseAlarm(now Instant, l *grantLease) string {
	ago := now.Sub(l.pausedAt)
	if !l.endless() || ago < longPause {
		return ""
	}
	return fmt.Sprintf("paused without an end for %v: nobody else can have it, whatever happens to %s. leasedog resume %s asks it to end "+
		"the pause; if it is off: leasedog-arbiter free %s %s --holder-is-off %s", ago.Round(time.Minute), l.rec.Holder.Node, l.name,
		g.opt.Cluster, l.name, l.rec.Holder.Node)
}

// NodeView is one node as the arbiter heard it.
type NodeView struct {
	Node     string
	Boot     string        // BootMark
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
		lv := LeaseView{Lease: l.name, State: l.state(), Epoch: l.rec.Epoch, Hold: l.rec.Hold, Waiters: l.others(now, ""),
			Alarm: g.pauseAlarm(now, l)}
		if l.rec.State == RecordPaused {
			lv.PausedFor = now.Sub(l.pausedAt)
		}
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
		nv := NodeView{Node: name, Boot: BootMark(n.record().BootID), HeardAgo: -1, Barred: n.record().BarredBoot != "", Twins: now < n.twin}
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
