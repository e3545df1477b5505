package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// roundState is where the world stands between attack and rest.
type roundState struct {
	number  int
	calm    bool          // the faults are over
	limit   lease.Instant // the world must have come to rest by then
	whole   lease.Instant // since when every lease is held and runs, 0: it is not so
	settled lease.Instant // since when that counts, 0: not yet
	drawn   int           // faults so far
	over    bool
	healed  lease.Instant // the faults of the last round have no effect any more
	rng     *rand.Rand    // of the plan
}

func (w *world) begin() {
	w.round.rng = rand.New(rand.NewPCG(w.seed, 3))
	if !w.steady() {
		w.drawTheme(w.round.rng)
		w.after(5*time.Second, w.attack)
		return
	}
	w.beginSteady()
	w.after(w.cfg.Span, func() { w.round.over = true })
}

// attack begins a round: faults are drawn, and happen within a few holds.
func (w *world) attack() {
	r := &w.round
	r.number++
	w.stats.Rounds++
	r.calm, r.settled, r.whole = false, 0, 0
	span := time.Duration(2+r.rng.IntN(5)) * w.budget.Hold()
	most := w.cfg.PerRound
	if most == 0 {
		most = 8
	}
	w.log("round %d: attacks for %v", r.number, span)
	for range 1 + r.rng.IntN(most) {
		f := Fault{Index: r.drawn, Round: r.number, At: time.Duration(r.rng.Int64N(int64(span))), Node: r.rng.IntN(len(w.nodes)),
			For: w.duration(r.rng)}
		f.Kind, f.Seed = w.drawKind(r.rng), r.rng.Uint64()
		r.drawn++
		if w.cfg.Only == nil || contains(w.cfg.Only, f.Index) {
			w.plan = append(w.plan, f)
			w.after(f.At, func() { w.strike(f) })
		}
	}
	w.after(span, w.endFaults)
	// What is waited for: a hold, a recovery, two machines of one name (a late message of a dead boot), a win that failed
	// once, a pause that was begun just now.
	w.round.limit = w.now.Add(span + 2*w.maxHold + 2*20*time.Second + lease.WinWithin + 25*time.Second +
		w.budget.HardDeadline() + w.quiet())
	limit, number := w.round.limit, r.number
	w.at(limit, func() {
		if w.round.number == number && w.round.settled == 0 {
			w.violate("I9", "the world does not come to rest: %s", w.unrest())
		}
	})
}

func contains(list []int, x int) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// duration is drawn from those that matter: the budget's own, and a little less or more.
func (w *world) duration(r *rand.Rand) time.Duration {
	b := w.budget
	all := [...]time.Duration{b.RenewEvery, b.RequestTimeout, b.LossAfter, b.HardDeadline(), b.Hold(), 2 * b.Hold()}
	return time.Duration(float64(all[r.IntN(len(all))]) * (0.3 + r.Float64()))
}

// strike lets a fault happen.
func (w *world) strike(f Fault) {
	n := w.nodes[f.Node]
	if w.round.calm || !n.alive {
		return
	}
	for _, k := range w.kinds {
		if k.name == f.Kind {
			if !k.mild {
				w.check.ill = lease.Later(w.check.ill, w.now.Add(f.For+3*w.budget.Hold()))
			}
			w.log("FAULT #%d %s: %s for %v", f.Index, n.name, f.Kind, f.For)
			k.run(w, n, f.For, rand.New(rand.NewPCG(f.Seed, 4)))
		}
	}
}

// endFaults heals everything; from then on the world must come to rest.
func (w *world) endFaults() {
	w.log("all faults end")
	w.round.calm = true
	w.round.healed = w.now.Add(2 * w.budget.Hold())
	w.healArbiters()
	for _, n := range w.nodes {
		n.heal()
		n.badDisk, n.badGuard, n.slowTools, n.cannotRun, n.forcible = false, false, false, false, false
		maintained := n.maintain
		n.maintain = false
		if n.clone {
			n.die("the clone is switched off")
			n.gone = true
			continue
		}
		if !n.alive {
			n.boot()
			continue
		}
		n.healStops()
		n.agent.thaw()
		if n.agent.dead && !n.paused() {
			n.startAgent()
		}
		if n.guard != nil {
			n.guard.thaw()
		}
		n.each(func(k *keeper) { k.step(lease.AcquireAsked{}) })
		if maintained {
			n.agent.survey()
		}
	}
	w.rest()
}

func (w *world) healArbiters() {
	if a := w.arbiter; a != nil {
		a.badDisk = false
		a.thaw()
		if a.g == nil {
			a.start()
		}
		return
	}
	for _, d := range w.doors {
		r := d.(*replica)
		w.heal(&r.way)
		r.stale = false
		r.thaw()
		if !r.alive {
			r.start()
		}
	}
}

// rest ends pauses, as administrators do when everything is well again.
func (w *world) rest() {
	if !w.round.calm || w.round.settled != 0 {
		return
	}
	for _, n := range w.nodes {
		if n.clone || !n.alive {
			continue
		}
		if n.agent.dead && !n.paused() {
			n.after(0, func() {
				if n.agent.dead {
					n.startAgent()
				}
			})
		}
		n.each(func(k *keeper) {
			if k.phase == lease.Paused {
				k.step(lease.ResumeAsked{})
			}
		})
	}
	w.afterClones()
	w.settle()
	w.after(2*time.Second, w.rest)
}

// afterClones: where two machines spoke under one name, their boots end no pause and no bar. The administrators, whom an alarm told,
// switched the other one off, and know which boot is over.
func (w *world) afterClones() {
	if w.arbiter == nil {
		return
	}
	for _, d := range w.arbiter.disk.Nodes {
		n := w.nodes[slices.IndexFunc(w.nodes, func(n *node) bool { return n.name == d.Node && !n.clone })]
		over := func(boot string) bool { return d.Beside != "" && (!n.alive || n.agent.self.BootID != boot) }
		if d.BarredBoot != "" && over(d.BarredBoot) {
			w.operate(func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorUnbar{ID: id, Node: d.Node} })
		}
		for _, r := range w.arbiter.disk.Leases {
			if r.State == lease.RecordPaused && r.Holder.Node == d.Node && over(r.Holder.BootID) {
				w.free(n, r.Lease)
			}
		}
	}
}

// heldBy counts the leases that are held and whose resources run.
func (w *world) heldBy() int {
	held := 0
	for _, n := range w.nodes {
		if !n.alive || n.agent.dead || n.doomed || n.paused() {
			continue
		}
		for _, k := range n.agent.keepers {
			if k.phase == lease.Held && n.res[k.name].runs {
				held++
			}
		}
	}
	return held
}

// unsettled: something is on its way that will change a lease.
func (w *world) unsettled() bool {
	for _, n := range w.nodes {
		if !n.alive {
			continue
		}
		if n.doomed || n.clone || n.paused() {
			return true
		}
		for _, k := range n.agent.keepers {
			switch k.phase {
			case "", lease.Standby, lease.Acquiring, lease.Held:
			default:
				return true
			}
		}
	}
	return false
}

// quiet is for how long what was begun before the faults ended may still end a lease.
func (w *world) quiet() time.Duration {
	return w.budget.HardDeadline() + w.budget.Watchdog + w.budget.ResetLatency + 8*time.Second
}

// settle looks whether every lease is held and runs. What was begun before the faults ended may still end a lease: for as
// long as a reset may take. After that nothing may happen any more.
func (w *world) settle() {
	r := &w.round
	if !r.calm || r.settled != 0 {
		return
	}
	if w.heldBy() != len(w.leases) || w.unsettled() {
		r.whole = 0
		return
	}
	if r.whole != 0 {
		return
	}
	r.whole = w.now
	since := w.now
	w.after(w.quiet(), func() {
		if r.whole != since || r.settled != 0 {
			return
		}
		r.settled = w.now
		w.log("every lease is held and runs")
		w.after(w.budget.Hold()+5*time.Second, w.nextRound)
	})
}

func (w *world) nextRound() {
	if time.Duration(w.now) >= w.cfg.Span {
		w.round.over = true
		return
	}
	w.unbarAll()
	w.attack()
}
