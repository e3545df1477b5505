package sim

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// orders directs a world: nothing happens by chance, and the test decides for every message whether
// it is delivered at once (as if no rule says otherwise), kept to be delivered later, twice or in another order, or
// lost. The clocks are the worst that the drift bound allows (nodes slow, arbiter fast), and so is every reset: the
// guard is frozen, the watchdog fires at the last moment, and the last write comes K later.
type orders struct {
	t  *testing.T
	w  *world
	n1 *node // holds pg when the story begins, unless it says otherwise
	n2 *node

	rules    []orderRule
	kept     []*orderLetter
	halfDone bool // what a crash cuts in the middle was done
	points   int  // every event, and every action of the victim
	victim   *node
	strikeAt int    // the point at which strike happens; 0: never
	strike   func() // a crash
	struck   bool
}

// orderRule says what becomes of messages. The newest that matches counts.
type orderRule struct {
	node string
	kind string // "renew", "renew answer" for the answer to it, "web renew" for that lease's only; "" for all
	keep bool
}

// orderLetter is a message that was kept. Its kind begins with the lease.
type orderLetter struct {
	node, kind string
	task
}

func newOrders(t *testing.T, change ...func(*orders)) *orders {
	t.Helper()
	o := &orders{t: t}
	w := &world{rng: rand.New(rand.NewPCG(1, 1)), now: lease.Instant(time.Second), trace: &strings.Builder{}, leases: []string{"pg"},
		direct: o}
	w.cfg.Stop.Min = 50 * time.Millisecond
	w.check.begin()
	w.budget, _ = lease.Profile("lan")
	w.maxHold = w.budget.Hold() + 2*time.Second
	o.w = w
	w.arbiter = &arbiter{w: w, clock: clock{rate: 1000}}
	w.doors = []endpoint{w.arbiter}
	for i, name := range []string{"n1", "n2"} {
		n := w.addNode(name, w.budget)
		n.clock, n.base = clock{rate: -1000}, time.Duration(i)*500*time.Second
	}
	o.n1, o.n2 = w.nodes[0], w.nodes[1]
	w.arbiter.disk = lease.NewClusterSnapshot("storeA")
	for _, c := range change {
		c(o)
	}
	w.arbiter.start()
	return o
}

// holding is a world in which n1 holds every lease and runs, and n2 waits.
func holding(t *testing.T, change ...func(*orders)) *orders {
	t.Helper()
	o := newOrders(t, change...)
	o.n1.boot()
	o.until(5*time.Second, "n1 holds", o.holds(o.n1))
	o.n2.boot()
	o.until(5*time.Second, "n2 waits", o.waits(o.n2))
	o.run(time.Second)
	return o
}

// carry is the network.
func (o *orders) carry(n *node, m message, what task) {
	kind := m.kind()
	if m.answer {
		kind += " answer"
	}
	full := m.lease + " " + kind
	for _, r := range slices.Backward(o.rules) {
		if r.node == n.name && (r.kind == "" || r.kind == kind || r.kind == full) {
			if r.keep {
				o.kept = append(o.kept, &orderLetter{n.name, full, what})
				o.w.log("%s: the network keeps %s", n.name, full)
			}
			return
		}
	}
	o.w.plans(o.w.now.Add(time.Millisecond), what)
}

// lose makes the network lose every message of n of these kinds from now on; none: all.
func (o *orders) lose(n *node, kinds ...string) { o.rule(n, false, kinds) }

// keep makes the network keep them.
func (o *orders) keep(n *node, kinds ...string) { o.rule(n, true, kinds) }

func (o *orders) rule(n *node, keep bool, kinds []string) {
	if len(kinds) == 0 {
		kinds = []string{""}
	}
	for _, k := range kinds {
		o.rules = append(o.rules, orderRule{n.name, k, keep})
	}
}

// heal ends every rule for n. What is kept stays kept.
func (o *orders) heal(n *node) {
	o.rules = slices.DeleteFunc(o.rules, func(r orderRule) bool { return r.node == n.name })
}

// letters are those of a kind that are kept, the oldest first.
func (o *orders) letters(n *node, kind string) []*orderLetter {
	var out []*orderLetter
	for _, l := range o.kept {
		if l.node == n.name && (l.kind == kind || l.kind == "pg "+kind) {
			out = append(out, l)
		}
	}
	return out
}

// letter is the oldest one of a kind that is kept.
func (o *orders) letter(n *node, kind string) *orderLetter {
	o.t.Helper()
	all := o.letters(n, kind)
	if len(all) == 0 {
		o.fail("the network keeps no %s of %s", kind, n.name)
	}
	return all[0]
}

// deliver hands kept letters over, one after the other; they stay kept, so that a copy can follow.
func (o *orders) deliver(letters ...*orderLetter) {
	for _, l := range letters {
		o.w.log("%s: %s is delivered late", l.node, l.kind)
		o.w.after(time.Millisecond, l.happen)
	}
	o.run(10 * time.Millisecond)
}

// one runs one event.
func (o *orders) one() {
	o.t.Helper()
	w := o.w
	if len(w.queue) == 0 {
		o.fail("nothing happens any more")
	}
	if w.events++; w.events > 500_000 {
		o.fail("somebody is woken again and again")
	}
	o.point()
	w.next()
	if len(w.bad) > 0 {
		o.fail("%s", w.bad[0])
	}
}

// point is a place at which something may crash.
func (o *orders) point() {
	if o.victim == nil || o.struck {
		return
	}
	if o.points++; o.points == o.strikeAt {
		o.struck = true
		o.strike()
	}
}

// crashes is a story in which something crashes: played once for every point of it at which strike may happen, and for
// what it cuts in the middle done and not done.
type crashes struct {
	begin  func(t *testing.T) *orders
	story  func(o *orders)
	ended  func(o *orders) bool // what the story comes to when nothing crashes
	strike func(o *orders)
	after  func(o *orders) // what must hold then
}

func (c crashes) play(t *testing.T) {
	t.Helper()
	for _, half := range []bool{false, true} {
		for at := 1; ; at++ {
			o := c.begin(t)
			o.halfDone, o.victim, o.strikeAt, o.points = half, o.n1, at, 0
			o.strike = func() { c.strike(o) }
			o.w.log("strikes at point %d, half done: %v", at, half)
			c.story(o)
			if !o.struck {
				o.want(c.ended(o), "the story did not come to its end")
				break
			}
			c.after(o)
		}
	}
}

// cut reports whether an agent is killed just before an action.
func (o *orders) cut(k *keeper) bool {
	if k.a.n == o.victim {
		o.point()
	}
	return k.a.dead
}

// half: what a crash cuts in the middle was done.
func (o *orders) half() bool { return o.halfDone }

// run lets real time pass.
func (o *orders) run(d time.Duration) {
	o.t.Helper()
	end := o.w.now.Add(d)
	for len(o.w.queue) > 0 && o.w.queue[0].at <= end {
		o.one()
	}
	o.w.now = end
}

// until runs event by event until cond holds.
func (o *orders) until(limit time.Duration, what string, cond func() bool) {
	o.t.Helper()
	end := o.w.now.Add(limit)
	for !cond() {
		if len(o.w.queue) == 0 || o.w.queue[0].at > end {
			o.fail("not within %v: %s", limit, what)
		}
		o.one()
	}
}

// during runs for d and fails as soon as cond does not hold.
func (o *orders) during(d time.Duration, what string, cond func() bool) {
	o.t.Helper()
	end := o.w.now.Add(d)
	for len(o.w.queue) > 0 && o.w.queue[0].at <= end {
		o.one()
		if !cond() {
			o.fail("no longer: %s", what)
		}
	}
	o.w.now = end
}

func (o *orders) fail(format string, args ...any) {
	o.t.Helper()
	o.w.log("FAILED: "+format, args...)
	o.t.Fatalf(format+"\n%s", append(args, o.w.trace.String())...)
}

func (o *orders) want(ok bool, format string, args ...any) {
	o.t.Helper()
	if !ok {
		o.fail(format, args...)
	}
}

// pg is the keeper of the lease pg on n, of the agent that runs now.
func (o *orders) pg(n *node) *keeper { return n.agent.keeper("pg") }

func (o *orders) phase(n *node) lease.Phase {
	if !n.alive || n.agent.dead {
		return ""
	}
	return o.pg(n).h.View().Phase
}

func (o *orders) epoch(n *node) lease.Epoch { return o.pg(n).h.View().Epoch }

// in tells whether n is in a phase.
func (o *orders) in(n *node, p lease.Phase) func() bool {
	return func() bool { return o.phase(n) == p }
}

// holds tells whether n holds every lease and runs what they guard.
func (o *orders) holds(n *node) func() bool {
	return func() bool {
		for _, l := range o.w.leases {
			if !n.alive || n.agent.dead || n.agent.keeper(l).h.View().Phase != lease.Held || !n.res[l].runs {
				return false
			}
		}
		return true
	}
}

// waits tells whether n's poll is parked.
func (o *orders) waits(n *node) func() bool {
	return func() bool {
		if !n.alive || n.agent.dead {
			return false
		}
		return slices.ContainsFunc(o.pg(n).calls, func(c *call) bool {
			return c.poll && slices.ContainsFunc(c.ids[:c.count], o.w.arbiter.waits)
		})
	}
}

// under is n's oldest request for pg that has no answer yet.
func (o *orders) under(n *node) lease.Send {
	for _, c := range o.pg(n).calls {
		if !c.answered && n.now() <= c.s.Deadline {
			return c.s
		}
	}
	o.fail("%s has no request under way", n.name)
	return lease.Send{}
}

// asks tells whether n waits for the answer to such a request for pg.
func (o *orders) asks(n *node, like any) bool {
	return slices.ContainsFunc(o.pg(n).calls, func(c *call) bool {
		return !c.answered && n.now() <= c.s.Deadline && reflect.TypeOf(c.body) == reflect.TypeOf(like)
	})
}

func (o *orders) runs(n *node) func() bool {
	return func() bool { return n.alive && n.res["pg"].runs }
}

// guarded tells whether a guard of n has anything armed.
func (o *orders) guarded(n *node) bool { return n.guard != nil && n.guard.d.Armed() > 0 }

func not(cond func() bool) func() bool { return func() bool { return !cond() } }

func both(a, b func() bool) func() bool { return func() bool { return a() && b() } }

// view is what the arbiter shows; nothing if it is down.
func (o *orders) view() lease.ClusterView {
	if a := o.w.arbiter; a.g != nil {
		return a.g.View(a.now())
	}
	return lease.ClusterView{}
}

// holdEnd is when the hold of pg ends, by the arbiter's clock.
func (o *orders) holdEnd() lease.Instant {
	for _, l := range o.view().Leases {
		if l.Lease == "pg" {
			return o.w.arbiter.now().Add(l.EndsIn)
		}
	}
	return 0
}

func (o *orders) record() lease.Record {
	if o.w.arbiter.g == nil {
		return lease.Record{}
	}
	return recordIn(o.w.arbiter.disk, "pg")
}

// recorded tells whether the arbiter's record is in a state.
func (o *orders) recorded(s lease.RecordState) func() bool {
	return func() bool { return o.record().State == s }
}

// tell gives the agent of n an event for pg.
func (o *orders) tell(n *node, ev lease.Event) {
	o.w.log("%s: told %T", n.name, ev)
	n.agent.post(func() { o.pg(n).step(ev) })
}

// gone is a node that dies and does not come back.
func (o *orders) gone(n *node) {
	n.outage = 1000 * time.Hour
	n.die("gone for good")
}

// cutAndHang is the worst a holder can meet: no message comes through, and its resources cannot be stopped. Its
// guard has to reset it before anybody else may run; it does not come back.
func (o *orders) cutAndHang(n *node) {
	o.w.log("%s: is cut off, and stops hang", n.name)
	n.stops, n.outage = "hang", 1000*time.Hour
	o.lose(n)
}

// restartArbiter changes the disk while the arbiter is down for d.
func (o *orders) restartArbiter(d time.Duration, change func(*lease.Snapshot)) {
	o.w.arbiter.crash(d, func() {
		if change != nil {
			change(&o.w.arbiter.disk)
		}
	})
	o.run(d + time.Millisecond)
}

// heard is an asker that no network is between.
type heard func(lease.Answer)

func (f heard) answered(ans lease.Answer) { f(ans) }

// operator asks the arbiter as an administrator does and returns its answer.
func (o *orders) operator(event func(lease.RequestID) lease.GrantorEvent) lease.Answer {
	a, id := o.w.arbiter, o.w.id()
	var got *lease.Answer
	a.waiting[id] = caller{name: "pg", from: heard(func(ans lease.Answer) { got = &ans })}
	a.receive(func() { a.step(event(id)) })
	o.until(time.Second, "the arbiter answers an administrator", func() bool { return got != nil })
	o.w.log("administrator: %T: %s %s", event(id), got.Verdict, got.Reason)
	return *got
}

// ask gives the arbiter a request that no node of this world sent.
func (o *orders) ask(body any) lease.Answer {
	return o.operator(func(id lease.RequestID) lease.GrantorEvent { return lease.Request{ID: id, Lease: "pg", Body: body} })
}

// stopMachine stops a virtual machine for d. Its guard finds the pause at its next look; the promise is judged all the same.
func (o *orders) stopMachine(n *node, d time.Duration) {
	o.t.Helper()
	n.suspend(d, true)
	n.excused = 0
	o.run(d)
}
