package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// act is the agent's drivers: one action of the Holder.
func (k *keeper) act(act lease.Action) {
	n := k.a.n
	switch act := act.(type) {
	case lease.Send:
		k.send(act)
	case lease.SaveKnown:
		k.save(act)
	case lease.WriteRun:
		k.writeRun(act.Record)
	case lease.Watch:
		k.watch(act)
	case lease.Unwatch:
		k.callGuard("unwatch", lease.DeadmanDisarm{Lease: k.name + found, Epoch: 1, Instance: k.a.self.Instance},
			func(_ lease.Instant, err string) {
				if n.guard == nil {
					err = ""
				}
				k.step(lease.Unwatched{Err: err})
			})
	case lease.StartGuard:
		k.startGuard(func(err string) { k.step(lease.GuardStarted{Epoch: act.Epoch, Err: err}) })
	case lease.Arm:
		k.arm(act)
	case lease.Disarm:
		n.w.checkDisarm(k, act.Epoch)
		k.callGuard("", lease.DeadmanDisarm{Lease: k.name, Epoch: act.Epoch, Instance: k.a.self.Instance},
			func(_ lease.Instant, err string) {
				if n.guard == nil {
					err = "" // no guard runs: systemd says so
				}
				k.step(lease.Disarmed{Epoch: act.Epoch, Err: err})
			})
	case lease.OpenGate:
		k.setGate(act.Epoch)
	case lease.CloseGate:
		k.setGate(0)
	case lease.Stop:
		k.ladder = &act
		k.force()
		k.prove()
	case lease.Enter:
		k.entered(act)
	case lease.Note:
		n.w.log("%s: %s: note: %s", n.name, k.name, act.Text)
	case lease.Retire:
		k.a.kill(time.Second)
	case lease.Fenced:
		k.a.fenced()
	default:
		panic(fmt.Sprintf("sim: unknown action %T", act))
	}
}

func (k *keeper) watch(act lease.Watch) {
	k.startGuard(func(err string) {
		if err != "" {
			k.step(lease.Watched{Err: err})
			return
		}
		k.callGuard("", lease.DeadmanArm{Lease: k.name + found, Epoch: 1, Instance: k.a.self.Instance, Sent: act.Sent, Until: act.Until},
			func(until lease.Instant, err string) { k.step(lease.Watched{Until: until, Err: err}) })
	})
}

func (k *keeper) arm(act lease.Arm) {
	who := k.a.self.Instance
	k.a.n.w.checkArm(k, act)
	var ev lease.DeadmanEvent = lease.DeadmanArm{Lease: k.name, Epoch: act.Epoch, Instance: who, Sent: act.Sent, Until: act.Until}
	if act.Shorten {
		ev = lease.DeadmanShorten{Lease: k.name, Epoch: act.Epoch, Instance: who, Sent: act.Sent, Until: act.Until}
	}
	n, epoch, sent := k.a.n, act.Epoch, act.Sent
	k.callGuard("arm", ev, func(until lease.Instant, err string) {
		if n.device.Watchdog > n.budget.Watchdog && n.w.direct == nil { // the next preflight reads what the guard has read
			n.budget = n.device
			for _, o := range k.a.keepers {
				o.h.SetBudget(n.device)
			}
		}
		k.step(lease.Armed{Epoch: epoch, Sent: sent, Until: until, Watchdog: k.a.n.device.Watchdog, Err: err})
	})
}

// setGate is the wish of the agent; the tool that carries it out may be slow, and may be killed half way.
func (k *keeper) setGate(want lease.Epoch) {
	if k.wished && k.wish == want {
		return
	}
	n, w := k.a.n, k.a.n.w
	if k.put != nil {
		put := k.put
		k.put = nil
		if w.chance(50) {
			put()
		}
	}
	k.wished, k.wish, k.turn = true, want, k.turn+1
	turn := k.turn
	d := w.between(5*time.Millisecond, 60*time.Millisecond)
	if n.slowTools {
		d = w.between(0, 3*time.Second)
	}
	if w.now < n.frozen {
		d += n.frozen.Sub(w.now)
	}
	apply := func() { n.attribute(k.name, want) }
	k.put = apply
	n.after(d, func() {
		if k.turn != turn || k.put == nil {
			return
		}
		k.put = nil
		apply()
		n.after(w.between(time.Millisecond, 50*time.Millisecond), func() {
			k.a.post(func() {
				if k.turn != turn {
					return
				}
				if want != 0 {
					k.step(lease.GateOpened{Epoch: want})
				} else {
					k.prove()
				}
			})
		})
	})
}

// force is the ladder's second step, after Pacemaker's own stop was waited for.
func (k *keeper) force() {
	n, r, s := k.a.n, k.a.n.res[k.name], k.ladder
	if !n.forcible || s.From == lease.Never {
		return
	}
	at := s.From
	if s.Until != lease.Never {
		at = at.Add(s.Until.Sub(s.From) * 2 / 5)
	}
	n.atLocal(at, func() {
		if k.ladder == s && n.res[k.name] == r && r.attr == 0 && r.runs {
			n.w.log("%s: %s is forced to stop", n.name, k.name)
			n.stopped(k.name, r)
			k.a.post(k.prove)
		}
	})
}

// stands: a proof would succeed now.
func (r *resource) stands() bool { return r.attr == 0 && !r.runs && r.pending == 0 }

// prove reports a proof once the resource is really stopped behind a closed gate; it may come late.
func (k *keeper) prove() {
	n, r, s := k.a.n, k.a.n.res[k.name], k.ladder
	if s == nil || !r.stands() {
		return
	}
	d := n.w.between(20*time.Millisecond, 150*time.Millisecond)
	if n.lateProof {
		d = n.w.between(0, 2*n.w.budget.HardDeadline())
	}
	n.after(d, func() {
		k.a.post(func() {
			if k.ladder != nil && k.ladder.Ladder == s.Ladder && n.res[k.name] == r && r.stands() {
				n.after(n.w.between(0, 5*time.Millisecond), func() {
					k.a.post(func() { k.step(lease.Proven{Ladder: s.Ladder}) })
				})
			}
		})
	})
}

// call is a request on its way: to every arbiter side by side, sometimes twice by a second address, with one seq.
type call struct {
	k        *keeper
	s        lease.Send
	body     any
	ids      [4]lease.RequestID
	count    int
	first    copied // of the copies; the others are made when they are needed
	answered bool
	poll     bool
}

// send gives the request to the network.
func (k *keeper) send(s lease.Send) {
	w := k.a.n.w
	w.checkSend(k, s)
	k.sent = s
	c := &call{k: k, s: s, body: s.Body}
	if k.shift != 0 {
		c.body = shifted(s.Body, k.shift)
	}
	for _, to := range w.doors {
		c.copyTo(to)
		if w.chance(5) {
			c.copyTo(to)
		}
	}
	if acq, ok := s.Body.(lease.Acquire); ok && acq.Claim == nil {
		c.poll = true
	}
	k.calls = append(k.calls, c)
}

func (c *call) copyTo(to endpoint) {
	if c.count == len(c.ids) {
		return
	}
	n := c.k.a.n
	d := &c.first
	if c.count > 0 {
		d = &copied{}
	}
	*d = copied{c: c, to: to, id: n.w.id(), life: to.starts(), boot: n.boots, dials: n.w.now.Add(n.w.dialing())}
	c.ids[c.count] = d.id
	c.count++
	n.w.carry(n, to, message{c.k.name, c.body, false}, d)
}

// copied is one copy of a call.
type copied struct {
	c      *call
	to     endpoint
	id     lease.RequestID
	served bool
	life   int           // of the arbiter's process when it was sent
	boot   int           // of the machine that sends it
	dials  lease.Instant // until then the connection that it goes by may be made
}

// lost: the process that it was sent to has ended, or the machine that sends it, and its connection with it. Only one that had no
// connection yet finds another process, for as long as a connection is tried, and a machine that is off sends nothing again. A test
// that directs the network lets everything arrive.
func (d *copied) lost() bool {
	n := d.c.k.a.n
	return n.w.direct == nil && (d.to.starts() != d.life || n.boots != d.boot || !n.alive) && n.w.now > d.dials
}

// happen: it arrives.
func (d *copied) happen() {
	w := d.c.k.a.n.w
	if d.lost() {
		return
	}
	if d.served { // the network has made another one of it
		d.id = w.id()
	}
	d.served = true
	if d.to.listens() {
		d.c.k.a.n.isHeard()
	}
	d.to.ask(d.id, d.c.k.name, d.c.body, d)
}

func (d *copied) answered(ans lease.Answer) {
	k := d.c.k
	k.a.n.w.carry(k.a.n, d.to, message{k.name, d.c.body, true}, &reply{d.c, ans})
}

// reply is an answer on its way to the agent.
type reply struct {
	c   *call
	ans lease.Answer
}

// happen: it arrives, perhaps twice.
func (r *reply) happen() {
	if a := r.c.k.a; a.dead || a.stopped {
		a.post(r.arrived)
		return
	}
	r.arrived()
}

func (r *reply) arrived() {
	c := r.c
	c.answered = true
	c.k.acknowledged(c.s, r.ans)
	c.k.step(lease.Answered{Seq: c.s.Seq, Answer: r.ans})
}

// gone tells the arbiters that nobody waits any more.
func (c *call) gone() {
	n := c.k.a.n
	for _, to := range n.w.doors {
		for _, id := range c.ids[:c.count] {
			if !c.answered || to.waits(id) { // else it would find nothing to end
				n.w.carry(n, to, message{lease: c.k.name}, &farewell{to, id})
			}
		}
	}
}

// farewell tells an arbiter that nobody waits for an answer any more.
type farewell struct {
	to endpoint
	id lease.RequestID
}

// happen: it arrives.
func (f *farewell) happen() { f.to.gone(f.id) }

// timeouts ends the calls whose deadline is over. The Holder wakes the agent then.
func (k *keeper) timeouts() {
	now := k.a.n.now()
	over := func(c *call) bool { return now >= c.s.Deadline }
	if !slices.ContainsFunc(k.calls, over) {
		return
	}
	calls := k.calls
	k.calls = nil
	for _, c := range calls {
		if !over(c) {
			k.calls = append(k.calls, c)
			continue
		}
		if c.gone(); !c.answered {
			k.step(lease.Failed{Seq: c.s.Seq, Err: "no answer"})
		}
	}
}

// shifted is a request whose number is moved.
func shifted(body any, by uint64) any {
	switch b := body.(type) {
	case lease.Acquire:
		b.Seq += by
		return b
	case lease.Renew:
		b.Seq += by
		return b
	case lease.Release:
		b.Seq += by
		return b
	}
	return body
}

func (k *keeper) save(act lease.SaveKnown) {
	a, n := k.a, k.a.n
	key := "behind"
	if act.Wait {
		key = ""
	}
	a.serially(&a.disk, key, func() { n.disk = act.Known }, func(err string) {
		if act.Wait {
			k.step(lease.KnownSaved{Epoch: act.Epoch, Err: err})
		}
	})
}

func (k *keeper) writeRun(r lease.RunRecord) {
	n := k.a.n
	k.a.serially(&k.files, "", func() {
		n.w.checkRun(n, r)
		if r.State == lease.RunNone {
			delete(n.run, r.Lease)
			return
		}
		n.run[r.Lease] = r
	}, func(err string) { k.step(lease.RunWritten{State: r.State, Epoch: r.Epoch, Err: err}) })
}

// serially writes a file: done, or not done with an error, or done with an error.
func (a *agent) serially(s *serial, key string, effect func(), report func(err string)) {
	n, w := a.n, a.n.w
	s.add(key, func(done func()) {
		d := w.between(200*time.Microsecond, 10*time.Millisecond)
		if n.badDisk {
			d = w.between(0, 3*time.Second)
		}
		s.effect = effect
		n.after(d, func() {
			a.post(func() {
				err := ""
				if n.badDisk && w.chance(40) {
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
