package lease

import (
	"errors"
	"slices"
	"time"
)

// worldGuard is the guard process of a node: a Deadman, its kill timer, and its socket.
type worldGuard struct {
	n      *worldNode
	d      *Deadman
	frozen bool
	inbox  []func()
	until  Instant // nearest deadline; what a reset is late against
	timer  int     // counts settings of the kill timer
	due    Instant
}

func (k *worldKeeper) startGuard(report func(err string)) {
	n, w := k.a.n, k.a.n.w
	k.guard.add("", func(done func()) {
		w.after(w.between(10*time.Millisecond, 80*time.Millisecond), func() {
			err := ""
			switch {
			case n.badGuard && w.chance(50):
				err = "it does not start"
			case n.alive && n.guard == nil && !k.a.dead:
				n.guard = &worldGuard{n: n, due: Never, d: NewDeadman(DeadmanConfig{Born: n.now(), TimerSlack: n.device.TimerSlack})}
				n.guard.schedule()
			}
			k.a.post(func() { done(); report(err) })
		})
	})
}

// callGuard is one call with its deadline of a second. A message that was sent is read even if its sender has gone.
func (k *worldKeeper) callGuard(key string, ev DeadmanEvent, report func(until Instant, err string)) {
	n, w := k.a.n, k.a.n.w
	k.guard.add(key, func(done func()) {
		answered, boot := false, n.boots
		reply := func(until Instant, err string) {
			k.a.post(func() {
				if !answered {
					answered = true
					done()
					report(until, err)
				}
			})
		}
		n.atLocal(n.now().Add(time.Second), func() { reply(0, "the guard does not answer") })
		w.after(w.between(100*time.Microsecond, 2*time.Millisecond), func() {
			g := n.guard
			switch {
			case n.boots != boot:
			case g == nil:
				reply(0, "no guard runs")
			case k.a.dead && w.chance(50): // its connection was dropped unread
			default:
				g.receive(func() {
					g.step(DeadmanClients{Open: 1})
					for _, act := range g.step(ev) {
						switch act.Do {
						case DeadmanAccept:
							jumps := g.d.Jumps()
							w.after(time.Millisecond, func() { k.a.noteJumps(jumps); reply(act.At, "") })
						case DeadmanRefuse:
							w.after(time.Millisecond, func() { reply(act.At, act.Text) })
						}
					}
					g.step(DeadmanClients{})
				})
			}
		})
	})
}

// noteJumps passes on what the guard has found, each once, as agent.noteJumps does: before the answer that told of it.
func (a *worldAgent) noteJumps(found []DeadmanJump) {
	for _, j := range found {
		if slices.Contains(a.jumps, j) {
			continue
		}
		a.jumps = append(a.jumps, j)
		for _, k := range a.keepers {
			a.post(func() {
				if k.acked < j.S2 {
					k.acked = k.acked.Add(-j.Size) // the world's own count
				}
				k.step(Jumped{Until: j.S2, Size: j.Size})
			})
		}
	}
}

func (g *worldGuard) receive(f func()) {
	switch {
	case g.n.guard != g:
	case g.frozen:
		g.inbox = append(g.inbox, f)
	default:
		f()
	}
}

func (g *worldGuard) freeze(d time.Duration) {
	g.frozen, g.n.disturb = true, g.n.w.now
	g.n.w.log("%s: guard is frozen", g.n.name)
	g.n.w.after(d, g.thaw)
}

func (g *worldGuard) thaw() {
	if !g.frozen || g.n.guard != g {
		return
	}
	g.n.w.log("%s: guard goes on", g.n.name)
	g.frozen, g.n.disturb = false, g.n.w.now
	queue := g.inbox
	g.inbox = nil
	for _, f := range queue {
		g.receive(f)
	}
	g.receive(func() { g.step(DeadmanTick{}) })
}

// step carries the Deadman's actions out and returns a copy of them.
func (g *worldGuard) step(ev DeadmanEvent) []DeadmanAction {
	if g.n.guard != g {
		return nil
	}
	n, w := g.n, g.n.w
	acts := slices.Clone(g.d.Step(n.now(), ev))
	for _, act := range acts {
		switch act.Do {
		case DeadmanReset:
			if w.mutant == "guard spares a hanging stop" && slices.ContainsFunc(w.leases, func(l string) bool { return n.res[l].runs }) {
				continue
			}
			if !n.doomed {
				w.checkReset(n, act)
			}
			n.reset(act.Text, g.until)
		case DeadmanSetTimer:
			g.timer++
			turn := g.timer
			g.until = g.d.Nearest()
			n.atLocal(act.At, func() { g.killed(turn) })
		case DeadmanCancelTimer:
			g.timer++
		case DeadmanCloseSocket:
			g.step(DeadmanSocketClosed{})
		case DeadmanExit:
			n.guard = nil
		}
	}
	g.schedule()
	return acts
}

// killed is the kill timer: it needs no instruction of the guard, and systemd resets the node when the guard is dead.
func (g *worldGuard) killed(turn int) {
	if g.n.guard != g || g.timer != turn || g.n.w.mutant == "guard spares a hanging stop" {
		return
	}
	g.n.reset("the kill timer ended the guard", g.until)
}

// schedule lets the Deadman look at its clock, at most J late.
func (g *worldGuard) schedule() {
	next := g.d.Next()
	if g.n.guard != g || g.d.Resetting() || next == g.due {
		return
	}
	g.due = next
	w := g.n.w
	late := w.between(0, time.Millisecond)
	if w.chance(30) {
		late = w.between(0, w.budget.TimerSlack)
	}
	w.at(Later(g.n.clock.real(next), w.now).Add(late), func() {
		if g.due == next {
			g.receive(func() { g.due = Never; g.step(DeadmanTick{}) })
		}
	})
}

// worldArbiter is a Grantor with a disk. What it has not synced when it ends may or may not be on disk.
type worldArbiter struct {
	w       *world
	clock   worldClock
	g       *Grantor
	life    int
	stalled bool
	inbox   []func()
	waiting map[RequestID]func(Answer)
	ids     RequestID
	stores  int
	disk    Snapshot
	writing *StoreChange
	due     Instant
	badDisk bool
}

func (a *worldArbiter) storeID() string {
	a.stores++
	return "store" + string(rune('A'+a.stores))
}

func (a *worldArbiter) start() {
	w := a.w
	a.life++
	a.clock.base, a.clock.since, a.due = Instant(w.between(time.Second, 1000*time.Second)), w.now, Never
	a.waiting, a.stalled, a.inbox, a.writing = map[RequestID]func(Answer){}, false, nil, nil
	a.g = NewGrantor(GrantorOptions{Cluster: "erp", MinHold: 100 * time.Millisecond, MaxHold: w.maxHold,
		MaxPause: time.Hour, Grace: w.budget.Grace, DriftPPM: 1000, RetryWrite: time.Second, NewStoreID: a.storeID}, a.disk, a.clock.at(w.now))
	w.log("arbiter starts with %v, suspect %v", a.disk.Cluster.Stamp, a.disk.Suspect)
	if w.mutant == "no quarantine" {
		for _, l := range a.g.leases {
			l.expired, l.quarantine = l.quarantine && l.rec.State == RecordHeld, false
		}
	}
	a.schedule()
}

func (a *worldArbiter) crash(d time.Duration, change func()) {
	if a.g == nil {
		return
	}
	a.w.log("arbiter is down")
	a.g = nil
	if a.writing != nil && a.w.chance(50) {
		a.disk = applyChange(a.disk, a.writing.Change)
	}
	life := a.life
	a.w.after(d, func() {
		if a.life == life {
			change()
			a.start()
		}
	})
}

func (a *worldArbiter) stall(d time.Duration) {
	if a.g == nil || a.stalled {
		return
	}
	a.w.log("arbiter is stopped by a signal")
	a.stalled = true
	a.w.after(d, a.thaw)
}

func (a *worldArbiter) thaw() {
	if !a.stalled {
		return
	}
	a.w.log("arbiter goes on")
	a.stalled = false
	queue := a.inbox
	a.inbox = nil
	for _, f := range queue {
		a.receive(f)
	}
	a.receive(func() { a.step(GrantorTick{}) })
}

func (a *worldArbiter) receive(f func()) {
	switch {
	case a.g == nil:
	case a.stalled:
		a.inbox = append(a.inbox, f)
	default:
		f()
	}
}

func (a *worldArbiter) ask(id RequestID, lease string, body any, answer func(Answer)) {
	a.receive(func() {
		short := a.w.mutant == "hold 2 s too short"
		if acq, ok := body.(Acquire); ok && short {
			acq.Hold, acq.Terms.StopBudget = acq.Hold-2*time.Second, 1
			body = acq
		}
		a.waiting[id] = func(ans Answer) {
			if short && ans.Hold != 0 {
				ans.Hold += 2 * time.Second
			}
			answer(ans)
		}
		a.step(Request{ID: id, Lease: lease, Body: body})
	})
}

func (a *worldArbiter) gone(id RequestID) {
	a.receive(func() {
		if a.waiting[id] != nil {
			delete(a.waiting, id)
			a.step(Gone{ID: id})
		}
	})
}

func (a *worldArbiter) step(ev GrantorEvent) {
	w := a.w
	for _, act := range a.g.Step(a.clock.at(w.now), ev) {
		switch act := act.(type) {
		case StoreChange:
			a.store(act)
		case Reply:
			if to := a.waiting[act.ID]; to != nil {
				delete(a.waiting, act.ID)
				to(act.Answer)
			}
		case GrantorNote:
			w.log("arbiter: %s %s e%d %s %s", act.Level, act.Lease, act.Epoch, act.Node, act.Text)
		}
	}
	a.schedule()
}

func (a *worldArbiter) store(s StoreChange) {
	w, life := a.w, a.life
	a.writing = &s
	d := w.between(time.Millisecond, 20*time.Millisecond)
	if a.badDisk {
		d = w.between(0, 3*time.Second)
	}
	w.after(d, func() {
		if a.life != life || a.g == nil {
			return
		}
		var err error
		if a.badDisk && w.chance(50) {
			err = errors.New("input/output error")
		}
		if err == nil || w.chance(50) { // an error does not tell what is on disk
			a.disk = applyChange(a.disk, s.Change)
			for _, r := range s.Change.Leases {
				if r.State == RecordPaused {
					w.paused[worldKey(r.Lease, r.Epoch)] = true
				}
			}
		}
		a.writing = nil
		a.receive(func() { a.step(Stored{Txn: s.Txn, Err: err}) })
	})
}

// schedule decides expiries after what has arrived by then was read: what arrives is read at once here, and what
// waits while the process is stopped is read first.
func (a *worldArbiter) schedule() {
	next := a.g.Next()
	if next == a.due {
		return
	}
	a.due = next
	w, life := a.w, a.life
	w.at(Later(a.clock.real(next), w.now).Add(w.between(0, 5*time.Millisecond)), func() {
		if a.life == life && a.due == next {
			a.receive(func() {
				a.due = Never
				a.step(Drained{})
			})
		}
	})
}
