package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// agent is one start of the agent. It is dead, or stopped (SIGSTOP: what comes meanwhile waits), or runs.
type agent struct {
	n       *node
	self    lease.Party
	known   *lease.Known
	disk    serial
	keepers []*keeper
	dead    bool
	stopped bool
	waiting []func()
	wakeUp  *localAlarm
	jumps   []lease.DeadmanJump
	surveys func() // survey
}

// keeper is one lease of an agent: its Holder and what its drivers do.
type keeper struct {
	a      *agent
	name   string
	h      *lease.Holder
	phase  lease.Phase
	since  lease.Instant // of that phase, on this machine's clock
	begun  bool
	files  serial
	guard  serial
	wished bool
	wish   lease.Epoch
	turn   int
	put    func() // the attribute tool that runs
	ladder *lease.Stop
	calls  []*call     // that have no answer yet
	sent   lease.Send  // the newest one
	slow   *localAlarm // the deadline of the guard's answer
	asked  *guardCall
	acked  lease.Instant // Sent of the newest renewal whose ok came to this agent in time
	shift  uint64        // a directed test moves the numbers of this agent by so much
}

// serial runs jobs one after the other, like the agent's queues. effect is what a killed agent may leave done.
type serial struct {
	jobs   []job
	busy   bool
	effect func()
	done   func() // ends the job that runs; always the same one
}

type job struct {
	key string
	run func(done func())
}

func (s *serial) add(key string, run func(done func())) {
	i := slices.IndexFunc(s.jobs, func(j job) bool { return key != "" && j.key == key })
	if i >= 0 {
		s.jobs[i].run = run
		return
	}
	s.jobs = append(s.jobs, job{key, run})
	s.next()
}

func (s *serial) next() {
	if s.busy || len(s.jobs) == 0 {
		return
	}
	j := s.jobs[0]
	s.jobs, s.busy = slices.Delete(s.jobs, 0, 1), true
	if s.done == nil {
		s.done = func() { s.busy, s.effect = false, nil; s.next() }
	}
	j.run(s.done)
}

func (n *node) startAgent() {
	w := n.w
	if !n.alive {
		return
	}
	a := &agent{n: n}
	wake := a.wake
	a.wakeUp = n.newAlarm(func() { a.post(wake) })
	a.surveys = a.survey
	n.agent = a
	known := n.disk.Clone()
	a.known = &known
	boot := fmt.Sprintf("%s-boot%d", n.name, n.boots)
	if n.clone {
		boot = "clone-of-" + boot
	}
	a.self = lease.Party{Node: n.name, BootID: boot, Instance: lease.Instance{Start: n.now(), Nonce: w.rng.Uint64()}}
	w.log("%s: agent starts", n.name)
	for _, l := range w.leases {
		k := &keeper{a: a, name: l}
		k.slow = n.newAlarm(func() { k.guardAnswers(k.asked, 0, "the guard does not answer") })
		k.h = lease.NewHolder(lease.HolderOptions{Lease: l, Self: a.self, Budget: n.budget, GiveUpAfter: 5 * time.Second,
			LeaveTimeout: 20 * time.Second}, a.known)
		a.keepers = append(a.keepers, k)
	}
	for _, k := range a.keepers {
		k.takeUp()
	}
	a.survey()
}

// takeUp gives what /run and the guard show, as agent.takeUp does: a guard that does not answer shows nothing.
func (k *keeper) takeUp() {
	f := lease.Found{Guard: k.a.n.guardShows(k.name), Watched: k.a.n.guardShows(k.name + found)}
	if r, ok := k.a.n.run[k.name]; ok {
		f.Record = &r
	}
	if f.Record != nil || f.Guard != nil {
		k.step(f)
	}
}

// found is what is added to the name under which the guard is armed for resources without a lease.
const found = "/found"

func (n *node) guardShows(name string) *lease.GuardState {
	if g := n.guard; g != nil && !g.frozen {
		for i := range g.d.Armed() {
			if l := g.d.Lease(i); l.Lease == name {
				return &lease.GuardState{Epoch: l.Epoch, Sent: l.Sent, Until: l.Until, Watchdog: n.device.Watchdog}
			}
		}
	}
	return nil
}

func (a *agent) keeper(name string) *keeper {
	for _, k := range a.keepers {
		if k.name == name {
			return k
		}
	}
	return nil
}

// post runs f in the agent: never if it is dead, later if it is stopped.
func (a *agent) post(f func()) {
	switch {
	case a.dead:
	case a.stopped:
		a.waiting = append(a.waiting, f)
	default:
		f()
	}
}

// fenced resets the node, as its bar asks for, unless something of a lease is left here: then the next answer comes.
func (a *agent) fenced() {
	for _, k := range a.keepers {
		if k.phase != lease.Standby && k.phase != lease.Acquiring {
			return
		}
	}
	a.n.after(100*time.Millisecond, func() {
		if a.n.agent == a {
			a.n.die("it is barred")
		}
	})
}

// kill leaves half of what was under way done. A successor starts after d.
func (a *agent) kill(d time.Duration) {
	if a.dead {
		return
	}
	n := a.n
	n.w.log("%s: agent is killed", n.name)
	a.dead, n.disturb = true, n.w.now
	left := []func(){a.disk.effect}
	for _, k := range a.keepers {
		left = append(left, k.files.effect, k.put)
		k.put = nil
	}
	for _, effect := range left {
		if effect != nil && n.w.chance(50) {
			effect()
		}
	}
	for _, k := range a.keepers {
		n.untold(k.name)
	}
	n.w.settle()
	n.after(d, func() {
		if n.agent == a {
			n.startAgent()
		}
	})
}

func (a *agent) pause(d time.Duration) {
	if a.dead || a.stopped {
		return
	}
	a.stopped, a.n.disturb = true, a.n.w.now
	a.n.w.log("%s: agent is stopped by a signal", a.n.name)
	a.n.after(d, a.thaw)
}

func (a *agent) thaw() {
	if a.dead || !a.stopped || a.n.paused() {
		return
	}
	a.n.w.log("%s: agent goes on", a.n.name)
	a.stopped, a.n.disturb = false, a.n.w.now
	queue := a.waiting
	a.waiting = nil
	for _, f := range queue {
		a.post(f) // it may be stopped or killed again meanwhile
	}
	a.schedule()
}

// schedule sleeps until the next deadline of any Holder.
func (a *agent) schedule() {
	next := lease.Never
	for _, k := range a.keepers {
		if k.begun {
			next = lease.Earlier(next, k.h.Next())
		}
	}
	if next != a.wakeUp.local {
		a.wakeUp.set(next, lease.Instant(a.n.w.between(0, 2*time.Millisecond)))
	}
}

func (a *agent) wake() {
	for _, k := range a.keepers {
		k.timeouts()
		if k.begun && k.h.Next() <= a.n.now() {
			k.step(lease.Tick{})
		}
	}
	a.schedule()
}

// survey looks at the cluster every 5 s; what it found may reach the Holder seconds later.
func (a *agent) survey() {
	n, w := a.n, a.n.w
	if a.dead {
		return
	}
	d := w.between(20*time.Millisecond, 200*time.Millisecond)
	if n.slowTools {
		d = w.between(0, 8*time.Second)
	}
	a.post(func() {
		seen := make([]sight, 0, len(a.keepers))
		for _, k := range a.keepers {
			seen = append(seen, k.look())
		}
		tell := func() {
			for i := range seen {
				seen[i].tell()
			}
		}
		n.after(d, func() { a.post(tell) })
	})
	n.after(5*time.Second, a.surveys)
}

// sight is what was read of one lease.
type sight struct {
	k       *keeper
	active  lease.Tri
	reading lease.Reading
}

// tell tells the Holder.
func (s *sight) tell() {
	if k := s.k; !k.begun {
		k.step(lease.Found{Active: s.active, Watched: k.a.n.guardShows(k.name + found)})
	}
	s.k.step(s.reading)
}

// look reads the cluster for one lease.
func (k *keeper) look() sight {
	n, r := k.a.n, k.a.n.res[k.name]
	reading := lease.Reading{Proven: lease.No, Running: lease.No, Maintenance: lease.No, FreshUntil: n.now().Add(15 * time.Second)}
	active := lease.No
	if r.runs {
		active = lease.Yes
		if n.stops != "lie" || r.attr != 0 { // a resource agent that lies says stopped, and its monitor does not
			reading.Running = lease.Yes
		}
	} else if r.attr == 0 && r.pending == 0 {
		reading.Proven = lease.Yes
	}
	if n.cannotRun {
		reading.Running, reading.CannotRun = lease.No, "it fails to start"
	}
	if n.maintain {
		reading.Maintenance = lease.Yes
		reading.WhyNot = []string{"maintenance"}
	}
	if n.w.now < n.frozen { // what hangs is not known
		reading = lease.Reading{FreshUntil: reading.FreshUntil, WhyNot: []string{"Pacemaker does not answer"}}
	}
	return sight{k, active, reading}
}

// step gives the Holder one event and carries out what it says.
func (k *keeper) step(ev lease.Event) {
	if _, first := ev.(lease.Found); k.a.dead || !first && !k.begun {
		return
	}
	k.begun = true
	w := k.a.n.w
	acts := k.h.Step(k.a.n.now(), ev)
	for _, act := range acts {
		if e, ok := act.(lease.Enter); ok {
			w.checkEnter(k, k.phase, e)
			k.phase, k.since = e.Phase, k.a.n.now()
		}
	}
	if _, ok := ev.(lease.Answered); ok {
		w.checkAnswered(k)
	}
	k.carryOut(acts)
}

func (k *keeper) carryOut(acts []lease.Action) {
	a, w := k.a, k.a.n.w
	for i, act := range acts {
		if w.direct != nil && w.direct.cut(k) {
			return
		}
		if w.harsh && !w.round.calm && w.chance(0.2) {
			if w.chance(50) {
				a.kill(w.between(50*time.Millisecond, 2*w.budget.LossAfter))
				return
			}
			a.pause(w.between(0, 2*w.budget.HardDeadline()))
			a.post(func() { k.carryOut(acts[i:]) })
			return
		}
		k.act(act)
	}
	k.setGate(k.h.Gate())
	a.schedule()
}

func (k *keeper) entered(act lease.Enter) {
	n := k.a.n
	n.w.log("%s: %s e%d %s (%s)", n.name, k.name, act.Epoch, act.Phase, act.Cause)
	if act.Phase == lease.Stopped {
		k.ladder = nil
	}
	if act.Phase != lease.Acquiring {
		for _, c := range k.calls {
			if c.poll {
				c.gone()
				c.poll = false
			}
		}
	}
	n.w.settle()
}
