package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// wire is a node's way to one arbiter and back.
type wire struct{ up, down link }

// link is one direction. What meets a cut is lost, or comes when it is healed.
type link struct {
	cut   bool
	loss  float64 // percent
	slow  time.Duration
	twice float64 // percent
	held  []task
}

// message says what is on its way; a test that directs the network decides by it.
type message struct {
	lease  string
	body   any // nil: nobody waits for the answer any more
	answer bool
}

// kind is acquire, adopt, renew, release, pause, resume, report or gone; of an answer, what it answers.
func (m message) kind() string {
	if a, ok := m.body.(lease.Acquire); ok && a.Claim != nil {
		return "adopt"
	}
	if m.body == nil {
		return "gone"
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", m.body), "lease."))
}

// dialing is for how long a connection is tried at most: TCP_USER_TIMEOUT is T (package arbiterclient), looked at whenever a
// packet is sent again (tcp(7)).
func (w *world) dialing() time.Duration { return 2 * w.budget.RequestTimeout }

// carry takes a message from a node to an arbiter, or an answer back. Messages overtake each other as their delays fall.
func (w *world) carry(n *node, to endpoint, m message, what task) {
	if w.direct != nil {
		w.direct.carry(n, m, what)
		return
	}
	l := &n.links[to.number()].up
	if m.answer {
		l = &n.links[to.number()].down
	}
	d := w.within(w.cfg.Network.Latency)
	switch {
	case l.cut && w.chance(50):
		l.held = append(l.held, what)
		return
	case l.cut, w.chance(l.loss + w.cfg.Network.Loss):
		return
	case l.slow > 0:
		d += w.between(0, l.slow)
	}
	if w.chance(l.twice + w.cfg.Network.Twice) {
		w.plans(w.now.Add(d+w.between(0, min(100*d, w.budget.Hold()))), what)
	}
	w.plans(w.now.Add(d), what)
}

func (w *world) heal(l *link) {
	held := l.held
	*l = link{}
	for _, what := range held {
		w.plans(w.now.Add(w.between(0, time.Second)), what)
	}
}

func (n *node) heal() {
	for i := range n.links {
		n.w.heal(&n.links[i].up)
		n.w.heal(&n.links[i].down)
	}
}

// each does f with every way of n, or with one of them only.
func (n *node) eachLink(one int, f func(*wire)) {
	for i := range n.links {
		if one < 0 || one%len(n.links) == i {
			f(&n.links[i])
		}
	}
}
