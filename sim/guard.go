package sim

import (
	"slices"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// guard is the guard process of a node: a Deadman, its kill timer, and its socket. While it runs it feeds the watchdog
// several times within W; only the last feed before it stops feeding can matter, so no other is an event.
type guard struct {
	n      *node
	d      *lease.Deadman
	frozen bool
	race   bool // it was frozen between the look at the clock and the feed
	inbox  []func()
	timer  *localAlarm // the kill timer: it needs no instruction of the guard
	tick   *localAlarm
}

func (k *keeper) startGuard(report func(err string)) {
	n, w := k.a.n, k.a.n.w
	k.guard.add("", func(done func()) {
		n.after(w.between(10*time.Millisecond, 80*time.Millisecond), func() {
			err := ""
			switch {
			case n.badGuard && w.chance(50):
				err = "it does not start"
			case n.guard == nil && !k.a.dead:
				n.newGuard()
			}
			k.a.post(func() { done(); report(err) })
		})
	})
}

func (n *node) newGuard() {
	g := &guard{n: n, d: lease.NewDeadman(lease.DeadmanConfig{Born: n.now(), TimerSlack: n.device.TimerSlack})}
	g.timer = n.newAlarm(func() {
		if n.guard == g {
			n.reset("the kill timer ended the guard") // systemd resets the node when its process is dead
		}
	})
	g.tick = n.newAlarm(func() { g.receive(func() { g.step(lease.DeadmanTick{}) }) })
	n.guard = g
	g.schedule()
}

// guardCall is one call of an agent to its guard.
type guardCall struct {
	k        *keeper
	what     lease.DeadmanEvent
	deadline lease.Instant
	done     func()
	report   func(until lease.Instant, err string)
}

// callGuard is one call with its deadline of a second. A message that was sent is read even if its sender has gone.
func (k *keeper) callGuard(key string, ev lease.DeadmanEvent, report func(until lease.Instant, err string)) {
	n, w := k.a.n, k.a.n.w
	k.guard.add(key, func(done func()) {
		c := &guardCall{k, ev, n.now().Add(time.Second), done, report}
		k.asked = c
		n.after(w.between(100*time.Microsecond, 2*time.Millisecond), c.arrives)
	})
}

func (c *guardCall) arrives() {
	k, n := c.k, c.k.a.n
	g := n.guard
	switch {
	case g == nil:
		k.guardAnswers(c, 0, "no guard runs")
	case k.a.dead && n.w.chance(50): // its connection was dropped unread
	case g.frozen: // else the answer comes at once
		k.slow.set(c.deadline, 0)
		g.receive(func() { g.serve(c) })
	default:
		g.serve(c)
	}
}

// guardAnswers ends a call; what comes after its end is dropped.
func (k *keeper) guardAnswers(c *guardCall, until lease.Instant, err string) {
	if k.a.stopped {
		k.a.post(func() { k.guardAnswers(c, until, err) })
		return
	}
	if !k.a.dead && c != nil && k.asked == c {
		k.asked = nil
		k.slow.set(lease.Never, 0)
		c.done()
		c.report(until, err)
	}
}

// serve is one message on the guard's socket.
func (g *guard) serve(c *guardCall) {
	n := g.n
	g.step(lease.DeadmanClients{Open: 1})
	if answer := g.step(c.what); answer.Do != 0 {
		var jumps []lease.DeadmanJump
		if answer.Do == lease.DeadmanAccept {
			jumps = g.d.Jumps()
		}
		if n.w.direct != nil || n.w.chance(30) {
			n.after(time.Millisecond, func() { c.answered(jumps, answer) })
		} else {
			c.answered(jumps, answer)
		}
	}
	g.step(lease.DeadmanClients{})
}

// answered: the agent hears of found pauses before the answer. The text of an answer is why the guard refuses.
func (c *guardCall) answered(jumps []lease.DeadmanJump, answer lease.DeadmanAction) {
	c.k.a.noteJumps(jumps)
	c.k.guardAnswers(c, answer.At, answer.Text)
}

// noteJumps passes on what the guard has found, each once, as agent.noteJumps does: before the answer that told of it.
func (a *agent) noteJumps(found []lease.DeadmanJump) {
	for _, j := range found {
		if slices.Contains(a.jumps, j) {
			continue
		}
		a.jumps = append(a.jumps, j)
		for _, k := range a.keepers {
			a.post(func() {
				k.a.n.w.jumped(k, j)
				k.step(lease.Jumped{Until: j.S2, Size: j.Size})
			})
		}
	}
}

func (g *guard) receive(f func()) {
	switch {
	case g.n.guard != g:
	case g.frozen:
		g.inbox = append(g.inbox, f)
	default:
		f()
	}
}

// freeze stops the guard's process, perhaps just before a feed that it has decided on.
func (g *guard) freeze(d time.Duration, race bool) {
	if g.frozen {
		return
	}
	g.frozen, g.race, g.n.disturb = true, race, g.n.w.now
	g.n.w.log("%s: guard is frozen", g.n.name)
	g.n.dog.starve(g.n)
	g.n.after(d, g.thaw)
}

func (g *guard) thaw() {
	if !g.frozen || g.n.guard != g || g.n.paused() {
		return
	}
	n := g.n
	n.w.log("%s: guard goes on", n.name)
	g.frozen, n.disturb = false, n.w.now
	if g.race { // the feed that was decided on comes now
		g.race = false
		n.dog.feed()
		n.dog.starve(n)
	}
	queue := g.inbox
	g.inbox = nil
	for _, f := range queue {
		g.receive(f)
	}
	g.receive(func() { g.step(lease.DeadmanTick{}) })
}

// step carries the Deadman's actions out and returns the one that answers a call, if there is one.
func (g *guard) step(ev lease.DeadmanEvent) (answer lease.DeadmanAction) {
	if g.n.guard != g {
		return answer
	}
	n := g.n
	closes := false
	for _, act := range g.d.Step(n.now(), ev) {
		switch act.Do {
		case lease.DeadmanAccept, lease.DeadmanRefuse:
			answer = act
		case lease.DeadmanFeed:
			if n.now() <= act.At { // the clock is read again
				n.w.checkFeed(n)
				n.dog.feed()
			}
		case lease.DeadmanReset:
			if !n.doomed {
				n.w.checkReset(n, act)
			}
			n.reset(act.Text)
		case lease.DeadmanSetTimer:
			g.timer.set(act.At, 0)
		case lease.DeadmanCancelTimer:
			g.timer.set(lease.Never, 0)
		case lease.DeadmanCloseSocket:
			closes = true
		case lease.DeadmanExit:
			n.guard = nil // it closes the device in the way that stops the watchdog
			n.dog.feed()
		}
	}
	if closes { // the slice that Step returned is valid until the next one
		g.step(lease.DeadmanSocketClosed{})
	}
	g.schedule()
	return answer
}

// schedule lets the Deadman look at its clock, at most J late.
func (g *guard) schedule() {
	n, w := g.n, g.n.w
	next := g.d.Next()
	if n.guard != g || g.d.Resetting() || next == g.tick.local {
		return
	}
	if next <= n.now() { // it did nothing about a deadline that has passed: it looks again when it feeds next
		next = n.now().Add(n.device.Watchdog / 3)
	}
	late := w.between(0, time.Millisecond)
	if w.direct != nil || w.chance(30) {
		late = n.device.TimerSlack - w.between(0, n.device.TimerSlack)
	}
	g.tick.set(next, lease.Instant(late))
}

// watchdog is the kernel's: it resets the node when nobody has fed it for W. starving counts from the last moment at which
// the guard can have fed it.
type watchdog struct {
	turn int // a feed ends a countdown
}

func (d *watchdog) begin(*node) { d.turn++ }

func (d *watchdog) feed() { d.turn++ }

// starve begins the countdown: the last feed was just now. The device counts in steps of its own, and its clock may be
// slewed: up to q later.
func (d *watchdog) starve(n *node) {
	d.turn++
	turn := d.turn
	b := n.device
	n.atLocal(n.now().Add(b.Watchdog+b.Quantum-n.w.between(0, b.Quantum)), func() {
		if d.turn == turn {
			n.reset("the watchdog was not fed")
		}
	})
}

// reset makes the node die after it was decided: at once by the guard's own hand or by systemd, or when the watchdog fires
// for want of feeds; and K after that for the last I/O.
func (n *node) reset(why string) {
	if n.doomed || !n.alive {
		return
	}
	n.doomed = true
	n.dog.feed() // what follows is the only end
	w, b := n.w, n.device
	dog := n.clock.real(n.now().Add(b.Watchdog + b.Quantum))
	when, which := w.now, 0
	if w.direct == nil {
		which = w.rng.IntN(3)
	}
	switch which {
	case 0:
		when = dog // the guard's own way and systemd's both fail; its last feed came just before
	case 1:
		when = w.now.Add(w.between(0, dog.Sub(w.now)))
	}
	if why == "the watchdog was not fed" {
		when = w.now
	}
	k := b.ResetLatency
	if w.direct == nil && w.chance(50) {
		k = w.between(0, k)
	}
	w.log("%s will be reset: %s", n.name, why)
	w.stats.Resets++
	n.at(when.Add(k), func() { n.die("reset") })
}
