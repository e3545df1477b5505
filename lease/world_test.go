package lease

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A small deterministic world: an arbiter with a disk, two nodes with agent, guard and resources, and everything
// between them. It joins the production Holder, Grantor and Deadman and has no rule of its own. All hosts have
// clocks of their own; the world's time is real time, which nobody in it can read. Everything that the drivers of
// agent/, guard/ and arbiter/ do asynchronously is an event here, so that it can be late, lost, or cut in the middle.
type world struct {
	rng     *rand.Rand
	now     Instant // real time
	queue   worldQueue
	order   uint64
	mutant  string // a wrong rule, to prove that the world sees it
	trace   *strings.Builder
	budget  Budget
	maxHold time.Duration
	leases  []string
	arbiter *worldArbiter
	nodes   []*worldNode
	events  int
	quiet   int     // how many seconds every lease was held
	calm    bool    // the faults are over
	settled Instant // since when every lease is held and runs; 0: not yet
	harsh   bool    // agents are also killed and stopped between two actions of one step
	direct  *orders // a test decides what is left to chance else

	won    map[string]Epoch // highest epoch that any node won
	paused map[string]bool  // lease/epoch of which a pause was ever on disk
	bad    string           // the first violation
}

type worldEvent struct {
	at    Instant
	order uint64
	run   func()
}

type worldQueue []worldEvent

func (q worldQueue) Len() int { return len(q) }
func (q worldQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q worldQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *worldQueue) Push(x any)   { *q = append(*q, x.(worldEvent)) }
func (q *worldQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = worldEvent{}
	*q = (*q)[:last]
	return e
}

func (w *world) at(t Instant, run func()) {
	if t == Never {
		return
	}
	w.order++
	heap.Push(&w.queue, worldEvent{Later(t, w.now), w.order, run})
}

func (w *world) after(d time.Duration, run func()) { w.at(w.now.Add(d), run) }

// chance is true in so many of 100 cases. In a directed world nothing happens by chance, and what a crash cuts in the
// middle (half the cases) is done or not as the test says.
func (w *world) chance(percent float64) bool {
	if w.direct != nil {
		return percent == 50 && w.direct.halfDone
	}
	return w.rng.Float64()*100 < percent
}

func (w *world) between(lo, hi time.Duration) time.Duration {
	if w.direct != nil {
		return lo
	}
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

func (w *world) log(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%9.3f  %s\n", time.Duration(w.now).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (w *world) violate(format string, args ...any) {
	if w.bad == "" && (w.mutant == "" || strings.HasPrefix(format, "overlap")) {
		w.bad = fmt.Sprintf(format, args...)
		w.log("VIOLATION: %s", w.bad)
	}
}

// worldClock is a host's CLOCK_BOOTTIME: begun at some reading, never steered, off by ppm for ever.
type worldClock struct {
	base, since Instant
	ppm         int64
}

func (c worldClock) at(real Instant) Instant {
	d := int64(real - c.since)
	return c.base + Instant(d+d/1_000_000*c.ppm)
}

// real is the earliest real time at which the clock shows local.
func (c worldClock) real(local Instant) Instant {
	if local == Never {
		return Never
	}
	r := c.since + Instant(int64(local-c.base)/(1_000_000+c.ppm)*1_000_000)
	for step := Instant(1 << 20); step > 0; step >>= 1 {
		for c.at(r+step) < local {
			r += step
		}
	}
	return r + 1
}

// worldSerial runs jobs one after the other, like the agent's queues. effect is what a killed agent may leave done.
type worldSerial struct {
	jobs   []worldJob
	busy   bool
	effect func()
}

type worldJob struct {
	key string
	run func(done func())
}

func (s *worldSerial) add(key string, run func(done func())) {
	i := slices.IndexFunc(s.jobs, func(j worldJob) bool { return key != "" && j.key == key })
	if i >= 0 {
		s.jobs[i].run = run
		return
	}
	s.jobs = append(s.jobs, worldJob{key, run})
	s.next()
}

func (s *worldSerial) next() {
	if s.busy || len(s.jobs) == 0 {
		return
	}
	j := s.jobs[0]
	s.jobs, s.busy = s.jobs[1:], true
	j.run(func() { s.busy, s.effect = false, nil; s.next() })
}

// worldLink is one direction of a node's way to the arbiter. What meets a cut is lost, or comes when it is healed.
type worldLink struct {
	cut  bool
	loss float64 // percent
	slow time.Duration
	held []func()
}

// worldMessage says what is on its way; a test that directs the network decides by it.
type worldMessage struct {
	lease  string
	kind   string // acquire, adopt, renew, release, pause, resume, gone
	answer bool
}

func worldKind(body any) string {
	if a, ok := body.(Acquire); ok && a.Claim != nil {
		return "adopt"
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", body), "lease."))
}

func (w *world) carry(n *worldNode, m worldMessage, run func()) {
	if w.direct != nil {
		w.direct.carry(n, m, run)
		return
	}
	l := &n.up
	if m.answer {
		l = &n.down
	}
	d := w.between(500*time.Microsecond, 3*time.Millisecond)
	switch {
	case l.cut && w.chance(50):
		l.held = append(l.held, run)
		return
	case l.cut, w.chance(l.loss):
		return
	case l.slow > 0:
		d += w.between(0, l.slow)
	}
	w.after(d, run)
}

func (w *world) heal(l *worldLink) {
	l.cut, l.loss, l.slow = false, 0, 0
	for _, run := range l.held {
		w.after(w.between(0, time.Second), run)
	}
	l.held = nil
}

// worldNode is a machine. What dies with it is in its guard, its agent, run and the resources.
type worldNode struct {
	w        *world
	name     string
	clock    worldClock
	boots    int
	alive    bool
	doomed   bool // it dies at a time that is set; until then it goes on
	up, down worldLink
	disk     Known
	run      map[string]RunRecord
	res      map[string]*worldResource
	agent    *worldAgent
	guard    *worldGuard
	disturb  Instant // real time of the last fault inside this node
	budget   Budget  // as configured
	device   Budget  // what watchdog and timers really do
	base     time.Duration
	// faults
	stops     string // quick, slow, hang
	lateProof bool
	slowTools bool
	badDisk   bool
	badGuard  bool
	cannotRun bool
	forcible  bool          // a stop that hangs gives way when the ladder forces it
	outage    time.Duration // how long a reboot takes at least
}

// worldResource is what one lease guards, on one node. runs is the worst case: from the moment the gate opens until
// the stop is really done.
type worldResource struct {
	attr     Epoch
	runs     bool
	stopping int // counts stops; a gate that opens again cancels one
}

func (n *worldNode) now() Instant { return n.clock.at(n.w.now) }

// atLocal runs f when this node's clock shows local, which may have stood still meanwhile.
func (n *worldNode) atLocal(local Instant, f func()) {
	boot := n.boots
	n.w.at(n.clock.real(local), func() {
		if n.boots == boot && n.now() < local {
			n.atLocal(local, f)
			return
		}
		f()
	})
}

func (n *worldNode) boot() {
	n.boots++
	n.alive, n.doomed, n.run, n.res = true, false, map[string]RunRecord{}, map[string]*worldResource{}
	n.clock.base, n.clock.since = Instant(n.w.between(n.base+5*time.Second, n.base+1000*time.Second)), n.w.now
	for _, l := range n.w.leases {
		n.res[l] = &worldResource{}
	}
	n.disturb = n.w.now
	n.w.log("%s boots (boot %d)", n.name, n.boots)
	n.startAgent()
}

// die ends everything on the node at once, and boots it again later.
func (n *worldNode) die(why string) {
	if !n.alive {
		return
	}
	n.w.log("%s is dead: %s", n.name, why)
	if n.w.settled != 0 {
		n.w.violate("%s dies in a world without faults: %s", n.name, why)
	}
	n.alive, n.guard = false, nil
	n.agent.dead = true
	for _, r := range n.res {
		*r = worldResource{}
	}
	outage := n.w.between(2*time.Second, 4*time.Second) + n.outage
	if n.w.calm {
		outage = 2 * time.Second
	}
	n.w.after(outage, func() {
		if !n.alive {
			n.boot()
		}
	})
}

// reset makes the node die after it was decided: at once by the guard's own hand, or as late as the watchdog may
// fire after its last legal feed, and K after that for the last I/O.
func (n *worldNode) reset(why string, until Instant) {
	if n.doomed || !n.alive {
		return
	}
	n.doomed = true
	w, b := n.w, n.device
	latest := n.clock.real(until.Add(b.TimerSlack + b.Watchdog + b.Quantum))
	when, which := w.now, 0
	if w.direct == nil {
		which = w.rng.IntN(3)
	}
	switch which {
	case 0:
		when = latest
	case 1:
		when = w.now.Add(time.Duration(w.rng.Float64() * float64(latest.Sub(w.now))))
	}
	k := b.ResetLatency
	if w.direct == nil && w.chance(50) {
		k = w.between(0, k)
	}
	w.log("%s will be reset: %s", n.name, why)
	boot := n.boots
	w.at(when.Add(k), func() {
		if n.boots == boot {
			n.die("reset")
		}
	})
}

// setGate is the wish of the agent; the tool that carries it out may be slow, and may be killed half way.
func (k *worldKeeper) setGate(want Epoch) {
	if k.wished && k.wish == want {
		return
	}
	a, w := k.a, k.a.n.w
	if k.put != nil {
		put := k.put
		k.put = nil
		if w.chance(50) {
			put()
		}
	}
	k.wished, k.wish, k.turn = true, want, k.turn+1
	turn, boot := k.turn, a.n.boots
	d := w.between(5*time.Millisecond, 60*time.Millisecond)
	if a.n.slowTools {
		d = w.between(0, 3*time.Second)
	}
	apply := func() { a.n.attribute(k.name, want) }
	k.put = apply
	w.after(d, func() {
		if k.turn != turn || k.put == nil || !a.n.alive || a.n.boots != boot {
			return
		}
		k.put = nil
		apply()
		w.after(w.between(time.Millisecond, 50*time.Millisecond), func() {
			a.post(func() {
				if k.turn != turn {
					return
				}
				if want != 0 {
					k.step(GateOpened{Epoch: want})
				} else {
					k.prove()
				}
			})
		})
	})
}

// attribute is Pacemaker's side of the gate.
func (n *worldNode) attribute(lease string, e Epoch) {
	r := n.res[lease]
	if !n.alive || r.attr == e {
		return
	}
	r.attr = e
	n.w.log("%s: gate of %s is %d", n.name, lease, e)
	if e != 0 {
		r.runs = true
		r.stopping++
		return
	}
	n.stop(lease)
}

func (n *worldNode) stop(lease string) {
	r, w := n.res[lease], n.w
	if !r.runs || n.stops == "hang" {
		return
	}
	d := w.between(50*time.Millisecond, 400*time.Millisecond)
	if n.stops == "slow" {
		d = w.between(0, 2*w.budget.HardDeadline())
	}
	r.stopping++
	turn := r.stopping
	w.after(d, func() {
		if n.res[lease] != r || r.stopping != turn {
			return
		}
		r.runs = false
		w.log("%s: %s is stopped", n.name, lease)
		if k := n.agent.keeper(lease); k != nil {
			n.agent.post(k.prove)
		}
	})
}

// worldAgent is one start of the agent. It is dead, or stopped (SIGSTOP: what comes meanwhile waits), or runs.
type worldAgent struct {
	n       *worldNode
	self    Party
	known   *Known
	disk    worldSerial
	keepers []*worldKeeper
	dead    bool
	stopped bool
	waiting []func()
	due     Instant // local time of the next wake-up that is on its way
	jumps   []DeadmanJump
}

// worldKeeper is one lease of an agent: its Holder and what its drivers do.
type worldKeeper struct {
	a      *worldAgent
	name   string
	h      *Holder
	begun  bool
	files  worldSerial
	guard  worldSerial
	wished bool
	wish   Epoch
	turn   int
	put    func() // the attribute tool that runs
	ladder *Stop
	polls  map[uint64]func()
	acked  Instant // Sent of the newest renewal whose ok came in time
}

func (n *worldNode) startAgent() {
	w := n.w
	if !n.alive {
		return
	}
	a := &worldAgent{n: n, due: Never}
	n.agent = a
	known := n.disk.Clone()
	known.DeadStores = slices.Clone(known.DeadStores)
	a.known = &known
	a.self = Party{Node: n.name, BootID: fmt.Sprintf("%s-boot%d", n.name, n.boots), Instance: Instance{Start: n.now(), Nonce: w.rng.Uint64()}}
	w.log("%s: agent starts", n.name)
	for _, l := range w.leases {
		k := &worldKeeper{a: a, name: l, polls: map[uint64]func(){}}
		k.h = NewHolder(HolderOptions{Lease: l, Self: a.self, Budget: n.budget, GiveUpAfter: 5 * time.Second,
			LeaveTimeout: 20 * time.Second}, a.known)
		a.keepers = append(a.keepers, k)
	}
	for _, k := range a.keepers {
		k.takeUp()
	}
	a.survey()
}

// takeUp gives what /run and the guard show, as agent.takeUp does: a guard that does not answer shows nothing.
func (k *worldKeeper) takeUp() {
	f := Found{Guard: k.a.n.guardShows(k.name), Watched: k.a.n.guardShows(k.name + worldFound)}
	if r, ok := k.a.n.run[k.name]; ok {
		f.Record = &r
	}
	if f.Record != nil || f.Guard != nil {
		k.step(f)
	}
}

// worldFound is the name under which the guard is armed for resources without a lease.
const worldFound = "/found"

func (n *worldNode) guardShows(name string) *GuardState {
	if g := n.guard; g != nil && !g.frozen {
		for i := range g.d.Armed() {
			if l := g.d.Lease(i); l.Lease == name {
				return &GuardState{Epoch: l.Epoch, Sent: l.Sent, Until: l.Until}
			}
		}
	}
	return nil
}

func (a *worldAgent) keeper(lease string) *worldKeeper {
	i := slices.IndexFunc(a.keepers, func(k *worldKeeper) bool { return k.name == lease })
	if i < 0 {
		return nil
	}
	return a.keepers[i]
}

// post runs f in the agent: never if it is dead, later if it is stopped.
func (a *worldAgent) post(f func()) {
	switch {
	case a.dead:
	case a.stopped:
		a.waiting = append(a.waiting, f)
	default:
		f()
	}
}

// kill leaves half of what was under way done. A successor starts after d.
func (a *worldAgent) kill(d time.Duration) {
	if a.dead {
		return
	}
	a.n.w.log("%s: agent is killed", a.n.name)
	a.dead, a.n.disturb = true, a.n.w.now
	left := []func(){a.disk.effect}
	for _, k := range a.keepers {
		left = append(left, k.files.effect, k.put)
		k.put = nil
	}
	for _, effect := range left {
		if effect != nil && a.n.w.chance(50) {
			effect()
		}
	}
	n, boot := a.n, a.n.boots
	n.w.after(d, func() {
		if n.boots == boot && n.agent == a {
			n.startAgent()
		}
	})
}

func (a *worldAgent) pause(d time.Duration) {
	if a.dead || a.stopped {
		return
	}
	a.stopped, a.n.disturb = true, a.n.w.now
	a.n.w.log("%s: agent is stopped by a signal", a.n.name)
	a.n.w.after(d, a.thaw)
}

func (a *worldAgent) thaw() {
	if a.dead || !a.stopped {
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
func (a *worldAgent) schedule() {
	next := Never
	for _, k := range a.keepers {
		if k.begun {
			next = Earlier(next, k.h.Next())
		}
	}
	if next == a.due {
		return
	}
	a.due = next
	w := a.n.w
	w.at(Later(a.n.clock.real(next), w.now).Add(w.between(0, 2*time.Millisecond)), func() {
		if a.due == next {
			a.post(func() {
				a.due = Never
				for _, k := range a.keepers {
					if k.begun && k.h.Next() <= a.n.now() {
						k.step(Tick{})
					}
				}
				a.schedule()
			})
		}
	})
}

// survey looks at the cluster every 5 s; what it found may reach the Holder seconds later.
func (a *worldAgent) survey() {
	w := a.n.w
	if a.dead {
		return
	}
	d := w.between(20*time.Millisecond, 200*time.Millisecond)
	if a.n.slowTools {
		d = w.between(0, 8*time.Second)
	}
	a.post(func() {
		for _, k := range a.keepers {
			r := a.n.res[k.name]
			reading := Reading{Proven: No, Running: No, FreshUntil: a.n.now().Add(15 * time.Second)}
			active := No
			if r.runs {
				active, reading.Running = Yes, Yes
			} else if r.attr == 0 {
				reading.Proven = Yes
			}
			if a.n.cannotRun {
				reading.Running, reading.CannotRun = No, "it fails to start"
			}
			w.after(d, func() {
				a.post(func() {
					if !k.begun {
						k.step(Found{Active: active, Watched: a.n.guardShows(k.name + worldFound)})
					}
					k.step(reading)
				})
			})
		}
	})
	w.after(5*time.Second, a.survey)
}

// step gives the Holder one event and carries out what it says.
func (k *worldKeeper) step(ev Event) {
	if _, found := ev.(Found); !k.a.dead && (found || k.begun) {
		k.begun = true
		from, armed := k.h.phase, k.h.armed
		acts := k.h.Step(k.a.n.now(), ev)
		for _, act := range acts {
			if e, ok := act.(Enter); ok {
				k.a.n.w.checkEnter(k, from, armed, e)
				from = e.Phase
			}
		}
		k.carryOut(acts)
	}
}

func (k *worldKeeper) carryOut(acts []Action) {
	a, w := k.a, k.a.n.w
	for i, act := range acts {
		if w.direct != nil && w.direct.cut(k) {
			return
		}
		if w.harsh && w.chance(0.2) && !w.calm {
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

func (k *worldKeeper) act(act Action) {
	n := k.a.n
	switch act := act.(type) {
	case Send:
		k.send(act)
	case SaveKnown:
		k.save(act)
	case WriteRun:
		k.writeRun(act.Record)
	case Watch:
		k.startGuard(func(err string) {
			if err != "" {
				k.step(Watched{Err: err})
				return
			}
			k.callGuard("", DeadmanArm{k.name + worldFound, 1, k.a.self.Instance, act.Sent, act.Until},
				func(until Instant, err string) { k.step(Watched{Until: until, Err: err}) })
		})
	case Unwatch:
		k.callGuard("unwatch", DeadmanDisarm{k.name + worldFound, 1, k.a.self.Instance}, func(_ Instant, err string) {
			if n.guard == nil {
				err = ""
			}
			k.step(Unwatched{Err: err})
		})
	case StartGuard:
		k.startGuard(func(err string) { k.step(GuardStarted{Epoch: act.Epoch, Err: err}) })
	case Arm:
		var ev DeadmanEvent = DeadmanArm{k.name, act.Epoch, k.a.self.Instance, act.Sent, act.Until}
		if act.Shorten {
			ev = DeadmanShorten{k.name, act.Epoch, k.a.self.Instance, act.Sent, act.Until}
		}
		k.callGuard("arm", ev, func(until Instant, err string) {
			k.step(Armed{Epoch: act.Epoch, Sent: act.Sent, Until: until, Watchdog: n.device.Watchdog, Err: err})
		})
	case Disarm:
		n.w.checkDisarm(k, act.Epoch)
		k.callGuard("", DeadmanDisarm{k.name, act.Epoch, k.a.self.Instance}, func(_ Instant, err string) {
			if n.guard == nil {
				err = "" // no guard runs: systemd says so
			}
			k.step(Disarmed{Epoch: act.Epoch, Err: err})
		})
	case OpenGate:
		k.setGate(act.Epoch)
	case CloseGate:
		k.setGate(0)
	case Stop:
		k.ladder = &act
		k.force()
		k.prove()
	case Enter:
		k.entered(act)
	case Note:
		n.w.log("%s: %s: note: %s", n.name, k.name, act.Text)
	case Retire:
		k.a.kill(time.Second)
	default:
		panic(fmt.Sprintf("unknown action %T", act))
	}
}

func (k *worldKeeper) entered(act Enter) {
	n := k.a.n
	n.w.log("%s: %s e%d %s (%s)", n.name, k.name, act.Epoch, act.Phase, act.Cause)
	if act.Phase == Stopped {
		k.ladder = nil
	}
	if act.Phase != Acquiring {
		for _, seq := range slices.Sorted(maps.Keys(k.polls)) {
			k.polls[seq]()
		}
		clear(k.polls)
	}
}

// force is the ladder's second step, after Pacemaker's own stop was waited for.
func (k *worldKeeper) force() {
	n, r, s := k.a.n, k.a.n.res[k.name], k.ladder
	if !n.forcible || s.From == Never {
		return
	}
	at := s.From
	if s.Until != Never {
		at = at.Add(s.Until.Sub(s.From) * 2 / 5)
	}
	n.atLocal(at, func() {
		if k.ladder == s && n.res[k.name] == r && r.attr == 0 && r.runs {
			n.w.log("%s: %s is forced to stop", n.name, k.name)
			r.runs = false
			k.a.post(k.prove)
		}
	})
}

// prove reports a proof once the resource is really stopped behind a closed gate; it may come late.
func (k *worldKeeper) prove() {
	n, r, s := k.a.n, k.a.n.res[k.name], k.ladder
	if n.w.mutant == "the proof does not wait" && s != nil {
		k.a.post(func() { n.w.after(0, func() { k.step(Proven{Ladder: s.Ladder}) }) })
	}
	if s == nil || r.attr != 0 || r.runs {
		return
	}
	d := n.w.between(20*time.Millisecond, 150*time.Millisecond)
	if n.lateProof {
		d = n.w.between(0, 2*n.w.budget.HardDeadline())
	}
	n.w.after(d, func() {
		k.a.post(func() {
			if k.ladder != nil && k.ladder.Ladder == s.Ladder && n.res[k.name] == r && r.attr == 0 && !r.runs {
				n.w.after(n.w.between(0, 5*time.Millisecond), func() { k.a.post(func() { k.step(Proven{Ladder: s.Ladder}) }) })
			}
		})
	})
}

// send gives the request to the network, sometimes twice: by a second address, with the same seq.
func (k *worldKeeper) send(s Send) {
	a, n, w := k.a, k.a.n, k.a.n.w
	w.checkSend(k, s)
	copies := 1
	if w.chance(5) {
		copies = 2
	}
	var ids []RequestID
	for range copies {
		w.arbiter.ids++
		id := w.arbiter.ids
		ids = append(ids, id)
		served := false
		w.carry(n, worldMessage{k.name, worldKind(s.Body), false}, func() {
			if served { // a copy on the way
				w.arbiter.ids++
				id = w.arbiter.ids
			}
			served = true
			w.arbiter.ask(id, k.name, s.Body, func(ans Answer) {
				w.carry(n, worldMessage{k.name, worldKind(s.Body), true}, func() { a.post(func() { k.answer(s, ans) }) })
			})
		})
	}
	gone := func() {
		for _, id := range ids {
			w.carry(n, worldMessage{k.name, "gone", false}, func() { w.arbiter.gone(id) })
		}
	}
	if acq, ok := s.Body.(Acquire); ok && acq.Claim == nil {
		k.polls[s.Seq] = gone
	}
	n.atLocal(s.Deadline, func() {
		gone()
		a.post(func() { k.step(Failed{Seq: s.Seq, Err: "no answer"}) })
	})
}

func (k *worldKeeper) answer(s Send, ans Answer) {
	now := k.a.n.now()
	if _, renew := s.Body.(Renew); renew && ans.Verdict == OK && now <= s.Deadline && now < k.h.loseAt() {
		k.acked = Later(k.acked, s.Sent)
	}
	if k.a.n.w.mutant == "counts from the reply" {
		for i := range k.h.out {
			if k.h.out[i].seq == s.Seq && k.h.out[i].kind == kindRenew {
				k.h.out[i].sent, k.h.out[i].deadline = now, now
			}
		}
	}
	k.step(Answered{Seq: s.Seq, Answer: ans})
}

func (k *worldKeeper) save(act SaveKnown) {
	a, n := k.a, k.a.n
	key := "behind"
	if act.Wait {
		key = ""
	}
	n.w.serially(a, &a.disk, key, func() { n.disk = act.Known }, func(err string) {
		if act.Wait {
			k.step(KnownSaved{Epoch: act.Epoch, Err: err})
		}
	})
}

func (k *worldKeeper) writeRun(r RunRecord) {
	n := k.a.n
	n.w.serially(k.a, &k.files, "", func() {
		if r.State == RunNone {
			delete(n.run, r.Lease)
			return
		}
		n.run[r.Lease] = r
	}, func(err string) { k.step(RunWritten{State: r.State, Epoch: r.Epoch, Err: err}) })
}

// serially writes a file: done, or not done with an error, or done with an error.
func (w *world) serially(a *worldAgent, s *worldSerial, key string, effect func(), report func(err string)) {
	s.add(key, func(done func()) {
		d := w.between(200*time.Microsecond, 10*time.Millisecond)
		if a.n.badDisk {
			d = w.between(0, 3*time.Second)
		}
		s.effect = effect
		w.after(d, func() {
			a.post(func() {
				err := ""
				if a.n.badDisk && w.chance(40) {
					err = "no space left on device"
				}
				if err == "" || w.chance(30) {
					effect()
				}
				done()
				report(err)
			})
		})
	})
}
