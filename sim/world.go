package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// world is everything. All hosts have clocks of their own; the world's time is real time.
type world struct {
	cfg     Config
	seed    uint64
	rng     *rand.Rand
	now     lease.Instant // real time
	queue   queue
	order   uint64
	running uint64 // the order of the event that happens now
	idle    []*hostTask
	events  int
	trace   *strings.Builder // nil: no timeline
	budget  lease.Budget
	maxHold time.Duration
	leases  []string
	nodes   []*node
	arbiter *arbiter   // nil in a world of several arbiters
	store   *sharedKV  // nil in a world of one
	doors   []endpoint // where a request may be sent
	ids     lease.RequestID
	direct  director // a test decides what is left to chance else
	harsh   bool     // agents are also killed and stopped between two actions of one step
	round   roundState
	check   checks
	stats   Stats
	plan    []Fault
	kinds   []kind
	bad     []Violation
}

// director decides, in a directed world, what is left to chance else: nothing happens by chance, and what a crash cuts in
// the middle (half the cases) is done or not as it says.
type director interface {
	half() bool
	carry(n *node, m message, what task)
	cut(k *keeper) bool // before each action of a step: was the agent killed just now?
}

// asker takes the answer to a request.
type asker interface{ answered(lease.Answer) }

// endpoint is an arbiter as the network reaches it.
type endpoint interface {
	ask(id lease.RequestID, name string, body any, from asker)
	gone(id lease.RequestID)
	waits(id lease.RequestID) bool
	number() int
	listens() bool
	starts() int // of its process, so far
}

func (w *world) at(t lease.Instant, run func()) { w.plans(t, do(run)) }

func (w *world) after(d time.Duration, run func()) { w.plans(w.now.Add(d), do(run)) }

// plans puts a task into the queue and returns its order.
func (w *world) plans(t lease.Instant, what task) uint64 {
	if t == lease.Never {
		return 0
	}
	w.order++
	w.queue.push(event{lease.Later(t, w.now), w.order, what})
	return w.order
}

// next lets the next event happen.
func (w *world) next() {
	e := w.queue.pop()
	w.now, w.running = e.at, e.order
	e.task.happen()
}

// chance is true in so many of 100 cases. In a directed world, see director.
func (w *world) chance(percent float64) bool {
	if w.direct != nil {
		return percent == 50 && w.direct.half()
	}
	return w.rng.Float64()*100 < percent
}

func (w *world) between(lo, hi time.Duration) time.Duration {
	if w.direct != nil || hi <= lo {
		return lo
	}
	return lo + time.Duration(w.rng.Uint64N(uint64(hi-lo)+1))
}

func (w *world) within(r Range) time.Duration { return w.between(r.Min, r.Max) }

func (w *world) id() lease.RequestID {
	w.ids++
	return w.ids
}

// newWorld draws a world. Nothing in it has happened yet.
func newWorld(seed uint64, cfg Config) *world {
	w := &world{cfg: cfg, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), now: lease.Instant(time.Second), kinds: kinds()}
	if cfg.Timeline {
		w.trace = &strings.Builder{}
	}
	w.check.begin()
	w.budget = w.drawBudget()
	if v := w.budget.Violations(); len(v) > 0 {
		panic(fmt.Sprintf("sim: a budget that violates %v", v[0]))
	}
	w.maxHold = w.budget.WithWatchdog(w.budget.Watchdog+3*time.Second).Hold() + 2*time.Second
	all := []string{"pg", "web", "nfs"}
	w.leases = all[:w.draw(cfg.Leases, 1, 70, 20)]
	w.harsh = !w.steady() && w.chance(30)
	if w.cfg.Network.Latency == (Range{}) {
		w.cfg.Network.Latency = Range{500 * time.Microsecond, 3 * time.Millisecond}
	}
	if w.cfg.Stop == (Range{}) {
		w.cfg.Stop = Range{50 * time.Millisecond, 400 * time.Millisecond}
	}
	if w.cfg.Span == 0 {
		w.cfg.Span = DefaultSpan
	}
	w.addArbiters()
	nodes := w.draw(cfg.Nodes, 2, 90, 10)
	for i := range nodes {
		n := w.addNode(fmt.Sprintf("n%d", i+1), w.budget)
		w.vary(n, i)
		w.after(w.between(0, 3*time.Second), n.boot)
	}
	return w
}

// steady is a user's world: no rounds of faults that end.
func (w *world) steady() bool { return len(w.cfg.Rates) > 0 || len(w.cfg.Outages) > 0 }

// draw is want, or else least, or more of it: with these percentages least, least+1, and the rest least+2.
func (w *world) draw(want, least int, percent, more float64) int {
	p := w.rng.Float64() * 100
	switch {
	case want > 0:
		return want
	case w.steady() || p < percent:
		return least
	case p < percent+more:
		return least + 1
	}
	return least + 2
}

func (w *world) drawBudget() lease.Budget {
	p := w.rng.IntN(100)
	name := w.cfg.Profile
	switch {
	case w.cfg.Budget != nil:
		return *w.cfg.Budget
	case name != "":
	case p < 1:
		name = "fast"
	case p < 8:
		name = "lan"
	case p < 40:
		name = lease.DefaultProfile
	default:
		name = "wan"
	}
	b, err := lease.Profile(name)
	if err != nil {
		panic("sim: " + err.Error())
	}
	return b
}

func (w *world) addArbiters() {
	count := w.cfg.Arbiters
	if count == 0 {
		if count = 1; w.chance(6) && !w.steady() {
			count = 3
		}
	}
	if count == 1 {
		w.arbiter = &arbiter{w: w, clock: w.newClock()}
		w.arbiter.disk = lease.NewClusterSnapshot("storeA")
		w.doors = []endpoint{w.arbiter}
		w.arbiter.start()
		return
	}
	w.store = newSharedKV(w)
	for i := range count {
		r := &replica{w: w, n: i, kv: w.store, clock: w.newClock()}
		w.doors = append(w.doors, r)
		r.start()
	}
}

// vary makes some machines other than they should be.
func (w *world) vary(n *node, i int) {
	if w.steady() {
		return
	}
	if faster := slices.Index(lease.ProfileNames(), w.budget.Profile); faster > 0 && i == 1 && (w.cfg.Mixed || w.chance(6)) {
		b, err := lease.Profile(lease.ProfileNames()[w.rng.IntN(faster)])
		if err != nil {
			panic("sim: " + err.Error())
		}
		n.budget, n.device = b, b
	}
	n.keepsRun = w.chance(10)
	if w.chance(10) { // the device has a timeout of its own
		n.device = n.budget.WithWatchdog(n.budget.Watchdog + w.between(0, 3*time.Second))
	}
}

// newClock has randomness of its own: it draws ahead.
func (w *world) newClock() clock {
	return clock{rng: rand.New(rand.NewPCG(w.rng.Uint64(), 2))}
}

func (w *world) addNode(name string, b lease.Budget) *node {
	n := &node{w: w, name: name, clock: w.newClock(), budget: b, device: b}
	n.links = make([]wire, len(w.doors))
	w.nodes = append(w.nodes, n)
	return n
}

// woken bounds what one simulated second may cost: more is somebody who is woken again and again.
const woken = 20_000

// play runs until the span is over or something is violated.
func (w *world) play() {
	w.begin()
	for len(w.bad) == 0 && len(w.queue) > 0 && !w.round.over {
		if w.events++; w.events > woken*(60+int(w.now/lease.Instant(time.Second))) {
			w.violate("world", "somebody is woken again and again: %d events", w.events)
		}
		w.next()
	}
}

func (w *world) result() Result {
	r := Result{Seed: w.seed, Violations: w.bad, Plan: w.plan, Stats: w.stats, Events: w.events, Simulated: time.Duration(w.now)}
	if w.trace != nil {
		r.Timeline = w.trace.String()
	}
	return r
}

// log writes a line of the timeline.
func (w *world) log(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%9.3f  %s\n", time.Duration(w.now).Seconds(), fmt.Sprintf(format, args...))
	}
}
