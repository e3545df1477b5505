package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// kind is one kind of fault. It lasts for d and is healed then, or when all faults end.
type kind struct {
	name   string
	weight int
	mild   bool // it keeps no renewal from coming through
	run    func(w *world, n *node, d time.Duration, r *rand.Rand)
}

// FaultKinds lists the names of all kinds of faults.
func FaultKinds() []string {
	var out []string
	for _, k := range kinds() {
		out = append(out, k.name)
	}
	return out
}

// drawTheme gives half of the worlds a few kinds of faults that they prefer: what needs the same thing twice is rare else.
func (w *world) drawTheme(r *rand.Rand) {
	if len(w.cfg.Faults) > 0 || len(w.cfg.Prefer) > 0 || r.IntN(2) == 0 {
		return
	}
	for range 2 + r.IntN(3) {
		w.cfg.Prefer = append(w.cfg.Prefer, w.kinds[r.IntN(len(w.kinds))].name)
	}
}

func (w *world) drawKind(r *rand.Rand) string {
	from := w.cfg.Faults
	if len(w.cfg.Prefer) > 0 && r.IntN(2) == 0 {
		from = w.cfg.Prefer
	}
	if len(from) > 0 {
		return from[r.IntN(len(from))]
	}
	sum := 0
	for _, k := range w.kinds {
		sum += k.weight
	}
	x := r.IntN(sum)
	for _, k := range w.kinds {
		if x -= k.weight; x < 0 {
			return k.name
		}
	}
	panic("sim: no kind of fault")
}

func kinds() []kind {
	out := networkFaults()
	out = append(out, hostFaults()...)
	out = append(out, arbiterFaults()...)
	return append(out, administrators()...)
}

func networkFaults() []kind {
	// which says whether all arbiters are concerned, or one of them.
	which := func(r *rand.Rand) int {
		if r.IntN(2) == 0 {
			return -1
		}
		return r.IntN(8)
	}
	return []kind{
		{"cut", 3, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			how := r.IntN(3)
			n.eachLink(which(r), func(l *wire) { l.up.cut, l.down.cut = how != 1, how != 0 })
			w.after(d, n.heal)
		}},
		{"cut all nodes", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			for _, n := range w.nodes {
				n.eachLink(-1, func(l *wire) { l.up.cut, l.down.cut = true, true })
				w.after(d+time.Duration(r.Int64N(int64(time.Second))), n.heal)
			}
		}},
		{"flapping", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			end, turns := w.now.Add(d), 0
			var flap func()
			flap = func() {
				if turns++; w.now >= end || w.round.calm || turns > 50 {
					n.heal()
					return
				}
				n.eachLink(-1, func(l *wire) { l.up.cut = !l.up.cut })
				w.after(time.Duration(r.Int64N(int64(w.budget.LossAfter))), flap)
			}
			flap()
		}},
		{"lossy", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			up, down := r.Float64()*80, r.Float64()*80
			n.eachLink(-1, func(l *wire) { l.up.loss, l.down.loss = up, down })
			w.after(d, n.heal)
		}},
		{"slow", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			up, down := w.duration(r), w.duration(r)
			n.eachLink(which(r), func(l *wire) { l.up.slow, l.down.slow, l.up.twice = up, down, 30 })
			w.after(d, n.heal)
		}},
	}
}

func hostFaults() []kind {
	return append(processFaults(), []kind{
		{"crash", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.outage = d
			n.die("crash")
			n.outage = 0
		}},
		{"machine pause", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) { n.suspend(d, r.IntN(2) == 0) }},
		{"clone", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) { w.cloneOf(n, d) }},
		{"wall clock step", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			// Nobody reads the wall clock but the pause detector, which at worst takes its step for a pause.
			if g := n.guard; g != nil && r.IntN(2) == 0 {
				n.disturb = w.now
				now := n.now()
				g.receive(func() { g.step(lease.DeadmanJump{S1: now - 1, S2: now, Size: d}) })
			}
		}},
		{"node's disk", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.badDisk = true
			w.after(d, func() { n.badDisk = false })
		}},
		{"slow tools", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.slowTools = true
			w.after(d, func() { n.slowTools = false })
		}},
		{"stops are slow", 1, true, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.stops = [...]string{"slow", "hang"}[r.IntN(2)]
			w.after(d, n.healStops)
		}},
		{"cannot run", 1, true, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.cannotRun = true
			w.after(d+10*time.Second, func() { n.cannotRun = false })
		}},
		{"maintenance", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.maintain = true
			w.after(d, func() { n.maintain = false })
		}},
		{"Pacemaker freezes", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.frozen, n.inFlight = w.now.Add(d), true
			w.after(d+w.budget.HardDeadline(), func() { n.inFlight = false })
		}},
		{"stops hang, and a cut", 4, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.stops = [...]string{"slow", "hang", "lie"}[r.IntN(3)]
			n.lateProof = r.IntN(10) < 3
			n.inFlight = r.IntN(4) == 0
			slow := time.Duration(r.IntN(2)) * w.budget.RequestTimeout * 5 / 4
			n.eachLink(-1, func(l *wire) { l.down.slow = slow })
			w.after(time.Duration(r.Int64N(int64(w.budget.HardDeadline()))), func() {
				n.eachLink(-1, func(l *wire) { l.up.cut = !w.round.calm })
			})
			w.after(w.duration(r)+w.budget.HardDeadline(), n.heal)
			w.after(d+2*w.budget.Hold(), n.healStops)
		}},
	}...)
}

func processFaults() []kind {
	return []kind{
		{"kill agent", 2, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			if r.IntN(10) < 7 {
				d = 20*time.Millisecond + time.Duration(r.Int64N(int64(w.budget.LossAfter)))
			}
			n.agent.kill(d)
		}},
		{"stop agent", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) { n.agent.pause(d) }},
		{"freeze guard", 2, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			if n.guard != nil {
				n.guard.freeze(d, r.IntN(2) == 0)
			}
		}},
		{"kill guard", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			if n.guard != nil && n.guard.d.Armed() > 0 {
				n.disturb = w.now
				n.reset("guard is killed")
			}
		}},
		{"guard does not start", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			n.badGuard = true
			w.after(d, func() { n.badGuard = false })
		}},
	}
}

// cloneOf switches a second machine on that was made from n's disk: the same name, another boot.
func (w *world) cloneOf(n *node, d time.Duration) {
	for _, o := range w.nodes {
		if o.clone && o.alive || n.clone {
			return
		}
	}
	c := w.addNode(n.name, n.budget)
	c.clone, n.twin = true, true
	c.disk = n.disk.Clone()
	c.keepsRun = w.chance(50) // its image was made with a /run
	if c.keepsRun {
		c.run = maps.Clone(n.run)
	}
	c.boots = n.boots * 100
	c.boot()
	w.after(d+w.budget.Hold(), func() {
		c.die("the clone is switched off")
		c.gone = true
	})
}

func arbiterFaults() []kind {
	one := func(f func(w *world, a *arbiter, d time.Duration, r *rand.Rand)) func(*world, *node, time.Duration, *rand.Rand) {
		return func(w *world, n *node, d time.Duration, r *rand.Rand) {
			if w.arbiter != nil {
				f(w, w.arbiter, d, r)
				return
			}
			w.replicaFault(d, r)
		}
	}
	return []kind{
		{"restart arbiter", 2, false, one(func(w *world, a *arbiter, d time.Duration, r *rand.Rand) {
			if r.IntN(2) == 0 {
				d = 10*time.Millisecond + time.Duration(r.Int64N(int64(time.Second)))
			}
			a.crash(d, func() {})
		})},
		{"stall arbiter", 1, false, one(func(w *world, a *arbiter, d time.Duration, r *rand.Rand) { a.stall(d, r.IntN(3) == 0) })},
		{"lose store", 1, false, one(func(w *world, a *arbiter, d time.Duration, r *rand.Rand) {
			if !w.unknowable() {
				a.crash(d, func() { a.disk = lease.Snapshot{} })
			}
		})},
		{"restore store", 1, false, one(func(w *world, a *arbiter, d time.Duration, r *rand.Rand) {
			old, down := a.disk, w.duration(r)
			w.after(d, func() {
				if !w.round.calm && !w.unknowable() {
					a.crash(down, func() { a.disk = old; a.disk.Suspect = true })
				}
			})
		})},
		{"roll store back", 1, false, one(func(w *world, a *arbiter, d time.Duration, r *rand.Rand) {
			old := a.disk
			w.after(d, func() {
				if !w.round.calm && !w.unknowable() && w.wouldBeSeen(old) {
					w.log("the store goes back to %v", old.Cluster.Stamp)
					a.crash(w.dialing()+20*time.Millisecond, func() { a.disk = old })
				}
			})
		})},
		{"arbiter's disk", 1, false, one(func(w *world, a *arbiter, d time.Duration, r *rand.Rand) {
			a.badDisk = true
			w.after(d, func() { a.badDisk = false })
		})},
	}
}

// unknowable: with three nodes a recovery that has heard two of them cannot know that a third one is paused. leasedog is
// for two nodes.
func (w *world) unknowable() bool { return len(w.nodes) > 2 }

// wouldBeSeen: whoever could be granted something knows more than the old store, and says so. Where nobody does, no rule
// can help.
func (w *world) wouldBeSeen(old lease.Snapshot) bool {
	for _, n := range w.nodes {
		if n.clone || n.disk.Stamp.StoreID != old.Cluster.Stamp.StoreID || n.disk.Stamp.Generation <= old.Cluster.Stamp.Generation {
			return false
		}
	}
	return true
}

func (w *world) replicaFault(d time.Duration, r *rand.Rand) {
	x := w.doors[r.IntN(len(w.doors))].(*replica)
	switch r.IntN(5) {
	case 0:
		x.crash(d)
	case 1:
		x.stall(d)
	case 2:
		x.way.cut = true
	case 3:
		x.way.slow = w.duration(r)
	case 4:
		x.stale = true
	}
	w.after(d, func() { w.heal(&x.way); x.stale = false })
}

func administrators() []kind {
	return []kind{
		{"leave", 1, true, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			retire := r.IntN(2) == 0
			n.each(func(k *keeper) { k.step(lease.LeaveAsked{Cause: "an administrator asks", Retire: retire}) })
			w.after(d, func() { n.each(func(k *keeper) { k.step(lease.AcquireAsked{}) }) })
		}},
		{"switchover", 1, true, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			w.operate(func(id lease.RequestID) lease.GrantorEvent {
				return lease.Request{ID: id, Lease: w.leases[r.IntN(len(w.leases))], Body: lease.Switchover{To: n.name}}
			})
		}},
		{"pause", 2, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			length := time.Duration(0)
			if r.IntN(2) == 0 {
				length = w.budget.LossAfter + w.duration(r) // a shorter one cannot be resumed in time, and is refused
			}
			n.each(func(k *keeper) { k.step(lease.PauseAsked{For: length}) })
			w.after(d, func() { n.each(func(k *keeper) { k.step(lease.ResumeAsked{}) }) })
		}},
		{"resume asked elsewhere", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			w.operate(func(id lease.RequestID) lease.GrantorEvent {
				return lease.OperatorResume{ID: id, Lease: w.leases[r.IntN(len(w.leases))]}
			})
		}},
		{"bar", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) {
			w.operate(func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorBar{ID: id, Node: n.name} })
			w.after(d, w.unbarAll)
		}},
		{"free", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) { w.free(n, w.leases[r.IntN(len(w.leases))]) }},
		{"recover", 1, false, func(w *world, n *node, d time.Duration, r *rand.Rand) { w.recover() }},
	}
}

// operate is an administrator at the arbiter: who asks, and does not wait for the answer.
func (w *world) operate(event func(lease.RequestID) lease.GrantorEvent) {
	if a := w.arbiter; a != nil {
		a.receive(func() { a.step(event(w.id())) })
	}
}

func (w *world) unbarAll() {
	if w.arbiter == nil {
		return
	}
	for _, n := range w.arbiter.disk.Nodes {
		if n.BarredBoot != "" {
			w.operate(func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorUnbar{ID: id, Node: n.Node} })
		}
	}
}

// free is a human's word that the holder is off. It may be wrong, but not about a paused lease: nothing but that word
// protects it.
func (w *world) free(n *node, name string) {
	if w.arbiter == nil {
		return
	}
	for _, o := range w.nodes {
		if o.alive && o.res[name].runs && recordIn(w.arbiter.disk, name).State == lease.RecordPaused {
			return
		}
		if o.alive && o.agent.paused(name) {
			return
		}
	}
	w.operate(func(id lease.RequestID) lease.GrantorEvent {
		return lease.OperatorFree{ID: id, Lease: name, Node: n.name}
	})
}

func (a *agent) paused(name string) bool {
	k := a.keeper(name)
	return k != nil && (k.phase == lease.Paused || k.phase == lease.Resuming)
}

// recover is a human's word that nobody holds what no node has claimed, which is true.
func (w *world) recover() {
	if w.arbiter == nil {
		return
	}
	for _, n := range w.nodes {
		for _, l := range w.leases {
			if n.alive && (n.res[l].runs || n.res[l].attr != 0 || n.guard != nil) {
				return
			}
		}
	}
	w.operate(func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorRecover{ID: id} })
}

// each lets an administrator speak to every keeper.
func (n *node) each(f func(*keeper)) {
	if !n.alive || n.paused() {
		return
	}
	n.agent.post(func() {
		for _, k := range n.agent.keepers {
			f(k)
		}
	})
}

// beginSteady schedules the faults and outages of a user's world.
func (w *world) beginSteady() {
	r := w.round.rng
	for _, name := range FaultKinds() {
		mean, ok := w.cfg.Rates[name]
		if !ok {
			continue
		}
		if mean <= 0 {
			panic(fmt.Sprintf("sim: %q cannot happen every %v", name, mean))
		}
		var next func()
		next = func() {
			f := Fault{Index: w.round.drawn, At: time.Duration(w.now), Kind: name, Node: r.IntN(len(w.nodes)), For: w.duration(r), Seed: r.Uint64()}
			w.round.drawn++
			w.check.struck = w.now
			w.strike(f)
			w.after(time.Duration(r.ExpFloat64()*float64(mean)), next)
		}
		w.after(time.Duration(r.ExpFloat64()*float64(mean)), next)
	}
	for _, o := range w.cfg.Outages {
		var next func()
		next = func() {
			w.check.struck = w.now
			for i, n := range w.nodes {
				if o.Node == 0 || o.Node == i+1 {
					n.eachLink(-1, func(l *wire) { l.up.cut, l.down.cut = true, true })
					w.after(o.For, n.heal)
				}
			}
			w.after(o.Every, next)
		}
		w.after(time.Duration(r.Int64N(int64(o.Every))), next)
	}
}
