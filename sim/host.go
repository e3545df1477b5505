package sim

import (
	"fmt"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// node is a machine. What dies with it is in its guard, its agent, run and the resources.
type node struct {
	w       *world
	name    string
	clock   clock
	boots   int
	alive   bool
	doomed  bool          // it dies at a time that is set; until then it goes on
	gone    bool          // it does not come back
	clone   bool          // a second machine with another one's name
	twin    bool          // there was one with this one's name, in this boot
	heard   lease.Instant // by an arbiter, last
	usurped bool          // it was copied, until its pause ends
	links   []wire
	disk    lease.Known
	run     map[string]lease.RunRecord
	res     map[string]*resource
	agent   *agent
	guard   *guard
	dog     watchdog
	still   lease.Instant // the machine is paused until then
	excused lease.Instant // it was paused: that a paused machine cannot wake up late is not promised
	disturb lease.Instant // real time of the last fault inside this node
	budget  lease.Budget  // as configured
	device  lease.Budget  // what watchdog and timers really do
	base    time.Duration // what its clocks show after a boot, at least
	outage  time.Duration // how long a reboot takes at least
	// keepsRun: its /run is on a disk, so that what it says outlives a boot.
	keepsRun bool
	ills
}

// ills are what may be wrong with a machine and what runs on it.
type ills struct {
	stops     string // "", slow, hang, lie
	lateProof bool
	slowTools bool
	badDisk   bool
	badGuard  bool
	cannotRun bool
	forcible  bool          // a stop that hangs gives way when the ladder forces it
	frozen    lease.Instant // Pacemaker's daemons are stopped until then
	inFlight  bool          // Pacemaker has ordered starts that arrive after the gate was closed
	maintain  bool
}

// resource is what one lease guards, on one node. runs is the worst case: from the moment the gate opens until the stop is
// really done. serves is what a client sees.
type resource struct {
	attr     lease.Epoch
	runs     bool
	serves   bool
	pending  int // starts that Pacemaker has ordered and that have not arrived
	stopping int // counts stops; a gate that opens again cancels one
	lost     lease.Epoch
	acked    lease.Instant // Sent of the newest renewal whose ok came in time, on this boot's clock
}

func (n *node) now() lease.Instant { return n.clock.at(n.w.now) }

// paused: a machine that stands still does nothing at all.
func (n *node) paused() bool { return n.w.now < n.still }

// after runs f in this boot of the machine, after d of real time, and not while it is paused.
func (n *node) after(d time.Duration, f func()) { n.at(n.w.now.Add(d), f) }

func (n *node) at(real lease.Instant, f func()) {
	if real == lease.Never {
		return
	}
	w := n.w
	if len(w.idle) == 0 {
		w.idle = append(w.idle, &hostTask{})
	}
	t := w.idle[len(w.idle)-1]
	w.idle = w.idle[:len(w.idle)-1]
	*t = hostTask{n, n.boots, f}
	w.plans(real, t)
}

// hostTask is something that happens in one boot of a machine. It happens once, and is used again for another one then.
type hostTask struct {
	n    *node
	boot int
	run  func()
}

func (t *hostTask) happen() {
	n, boot, run := t.n, t.boot, t.run
	t.run = nil
	n.w.idle = append(n.w.idle, t)
	switch {
	case n.boots != boot || !n.alive:
	case n.paused():
		n.at(n.still, run)
	default:
		run()
	}
}

// atLocal runs f when this node's clock shows local, which may have stood still meanwhile.
func (n *node) atLocal(local lease.Instant, f func()) {
	if local == lease.Never {
		return
	}
	n.at(n.clock.real(local), func() {
		if n.now() < local {
			n.atLocal(local, f)
			return
		}
		f()
	})
}

func (n *node) boot() {
	if n.alive || n.gone {
		return
	}
	w := n.w
	n.boots++
	n.alive, n.doomed, n.res = true, false, map[string]*resource{}
	if !n.keepsRun || n.run == nil {
		n.run = map[string]lease.RunRecord{}
	}
	n.clock.start(w.now, lease.Instant(w.between(n.base+5*time.Second, n.base+1000*time.Second)))
	n.still, n.excused, n.frozen, n.twin = 0, 0, 0, false
	n.dog.begin(n)
	for _, l := range w.leases {
		n.res[l] = &resource{}
	}
	n.disturb = w.now
	w.log("%s boots (boot %d)", n.name, n.boots)
	n.startAgent()
}

// die ends everything on the node at once, and boots it again later.
func (n *node) die(why string) {
	if !n.alive {
		return
	}
	w := n.w
	w.log("%s is dead: %s", n.name, why)
	w.checkDeath(n, why)
	n.alive, n.guard = false, nil
	n.agent.dead = true
	for _, l := range w.leases {
		n.stopped(l, n.res[l])
		*n.res[l] = resource{}
	}
	w.settle()
	outage := w.between(2*time.Second, 4*time.Second) + n.outage
	if w.round.calm {
		outage = 2 * time.Second
	}
	if !n.clone {
		w.after(outage, n.boot)
	}
}

// attribute is Pacemaker's side of the gate.
func (n *node) attribute(name string, e lease.Epoch) {
	r := n.res[name]
	if !n.alive || r.attr == e {
		return
	}
	if e == 0 && n.agent != nil && !n.agent.dead { // whoever closes the gate has lost the lease, or leaves it
		r.lost = max(r.lost, r.attr)
	}
	r.attr = e
	n.w.log("%s: gate of %s is %d", n.name, name, e)
	if e == 0 {
		n.stop(name)
		return
	}
	r.runs = true
	n.w.checkGate(n, name, e)
	n.w.checkOverlap()
	r.stopping++
	turn := r.stopping
	n.after(n.w.within(n.w.cfg.Start), func() {
		if n.res[name] == r && r.stopping == turn {
			r.serves = true
			n.w.served(name)
		}
	})
	n.w.settle()
}

// untold: an agent that is killed before /run says that it lost or left the lease has not given it back either, and its successor,
// which finds it held, renewed and guarded, may go on.
func (n *node) untold(name string) {
	if r, said := n.res[name], n.run[name]; said.State == lease.RunHeld && said.Epoch == r.lost {
		r.lost--
	}
}

// stop is Pacemaker's own, ordered when the gate is closed.
func (n *node) stop(name string) {
	r, w := n.res[name], n.w
	if !r.runs {
		return
	}
	r.serves = false
	w.unserved(name)
	if n.stops == "hang" || n.stops == "lie" {
		return
	}
	d := w.within(w.cfg.Stop)
	if n.stops == "slow" {
		d = w.between(0, 2*w.budget.HardDeadline())
	}
	if w.now < n.frozen {
		d += n.frozen.Sub(w.now)
	}
	r.stopping++
	turn := r.stopping
	if n.inFlight && w.chance(60) {
		n.lateStart(name, r)
	}
	n.after(d, func() {
		if n.res[name] == r && r.stopping == turn {
			w.log("%s: %s is stopped", n.name, name)
			n.stopped(name, r)
			n.proves(name)
		}
	})
}

// lateStart is an operation that was under way when the gate was closed: it starts the resource again after it was stopped,
// and Pacemaker then stops it anew. As long as it has not arrived nothing is proven.
func (n *node) lateStart(name string, r *resource) {
	w := n.w
	r.pending++
	d := w.between(0, w.budget.StopBudget)
	if w.now < n.frozen {
		d += n.frozen.Sub(w.now)
	}
	n.after(d, func() {
		if n.res[name] != r {
			return
		}
		r.pending--
		if r.attr == 0 && !r.runs {
			w.log("%s: a start of %s arrives late", n.name, name)
			r.runs = true
			w.checkOverlap()
			n.stop(name)
		}
		n.proves(name)
	})
}

// stopped: nothing of a lease's resources runs any more.
func (n *node) stopped(name string, r *resource) {
	if r.runs {
		n.w.ended(n, name)
	}
	if r.serves {
		r.serves = false
		n.w.unserved(name)
	}
	r.runs = false
	n.w.settle()
}

// proves lets the agent try its proof.
func (n *node) proves(name string) {
	if k := n.agent.keeper(name); k != nil {
		n.agent.post(k.prove)
	}
}

func (n *node) healStops() {
	n.stops, n.lateProof, n.inFlight, n.frozen = "", false, false, 0
	for _, l := range n.w.leases {
		if n.alive && n.res[l].attr == 0 {
			n.stop(l)
		}
	}
}

// suspend stops a virtual machine with everything in it, its clocks too, for d. Its guard finds the pause at its next look
// if it can (Found), the agent hears of it with the guard's next answer.
func (n *node) suspend(d time.Duration, found bool) {
	if !n.alive || n.paused() {
		return
	}
	w := n.w
	s1 := n.now()
	w.log("%s: the machine is stopped for %v", n.name, d)
	n.clock.pause(w.now, d)
	n.still, n.disturb = w.now.Add(d), w.now.Add(d)
	b := n.device
	until := max(b.HardDeadline(), n.armedFor())
	if found && n.guard != nil && n.guard.d.Armed() > 0 {
		until = 1200 * time.Millisecond
	}
	// One that is found says nothing of an earlier one that was not.
	n.excused = lease.Later(n.excused, n.still.Add(until+b.TimerSlack+b.Watchdog+b.Quantum+b.ResetLatency))
	w.at(n.excused, w.checkOverlap)
	agent, guard := n.agent, n.guard
	wasStopped, wasFrozen := agent.stopped, guard != nil && guard.frozen
	agent.stopped = true
	if guard != nil {
		guard.frozen = true
	}
	n.at(n.still, func() {
		w.log("%s: the machine goes on", n.name)
		if guard != nil && n.guard == guard && !wasFrozen {
			guard.thaw()
		}
		if n.agent == agent && !wasStopped {
			agent.thaw()
		}
		s2 := s1.Add(w.between(100*time.Millisecond, time.Second))
		n.atLocal(s2, func() {
			if found && guard != nil && n.guard == guard {
				w.log("%s: the guard finds that the machine was stopped", n.name)
				guard.receive(func() { guard.step(lease.DeadmanJump{S1: s1, S2: s2, Size: d + time.Second}) }) // rounded up
			}
		})
	})
}

// armedFor is for how long the guard is armed: in a pause with an end, for longer than any renewal arms it.
func (n *node) armedFor() time.Duration {
	until := n.now()
	if g := n.guard; g != nil {
		for i := range g.d.Armed() {
			until = lease.Later(until, g.d.Lease(i).Until)
		}
	}
	return until.Sub(n.now())
}

func (n *node) String() string { return fmt.Sprintf("%s (boot %d)", n.name, n.boots) }
