package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// caller waits for an answer.
type caller struct {
	name string
	body any
	from asker // nil: nobody
}

// arbiter is a Grantor with a disk. What it has not synced when it ends may or may not be on disk.
type arbiter struct {
	w       *world
	clock   clock
	g       *lease.Grantor
	life    int
	stalled bool
	still   lease.Instant // its machine is paused until then
	inbox   []func()
	waiting map[lease.RequestID]caller
	stores  int
	disk    lease.Snapshot
	writing *lease.StoreChange
	wakeUp  *alarm
	due     lease.Instant // on its clock
	badDisk bool
}

func (a *arbiter) storeID() string {
	a.stores++
	return "store" + string(rune('A'+a.stores%26)) + string(rune('a'+a.stores/26))
}

func (a *arbiter) start() {
	w := a.w
	a.life++
	a.clock.start(w.now, lease.Instant(w.between(time.Second, 1000*time.Second)))
	a.due, a.still = lease.Never, 0
	life := a.life
	a.wakeUp = w.newAlarm(func() {
		if a.life == life {
			a.receive(a.wake)
		}
	})
	a.waiting, a.stalled, a.inbox, a.writing = map[lease.RequestID]caller{}, false, nil, nil
	a.g = lease.NewGrantor(lease.GrantorOptions{Cluster: "erp", MinHold: 100 * time.Millisecond, MaxHold: w.maxHold,
		MaxPause: time.Hour, Grace: w.budget.Grace, DriftPPM: 1000, RetryWrite: time.Second, NewStoreID: a.storeID}, a.disk, a.now())
	clear(w.check.numbers)
	w.log("arbiter starts with %v, suspect %v", a.disk.Cluster.Stamp, a.disk.Suspect)
	w.checkArbiterStart(a)
	a.schedule()
}

func (a *arbiter) now() lease.Instant { return a.clock.at(a.w.now) }

func (a *arbiter) crash(d time.Duration, change func()) {
	if a.g == nil {
		return
	}
	a.w.log("arbiter is down")
	a.g = nil
	if a.writing != nil && a.w.chance(50) {
		a.w.checkChange(a, a.writing.Change)
		a.disk = applied(a.disk, a.writing.Change)
	}
	life := a.life
	a.w.after(d, func() {
		if a.life == life {
			change()
			a.start()
		}
	})
}

// stall stops the arbiter's process; with its machine, its clock stands still too.
func (a *arbiter) stall(d time.Duration, machine bool) {
	if a.g == nil || a.stalled {
		return
	}
	a.w.log("arbiter is stopped, with its machine: %v", machine)
	a.stalled = true
	if machine {
		a.clock.pause(a.w.now, d)
		a.still = a.w.now.Add(d)
	}
	a.w.after(d, a.thaw)
}

func (a *arbiter) thaw() {
	if !a.stalled || a.w.now < a.still {
		return
	}
	a.w.log("arbiter goes on")
	a.stalled = false
	queue := a.inbox
	a.inbox = nil
	for _, f := range queue {
		a.receive(f)
	}
	a.receive(func() { a.step(lease.GrantorTick{}) })
}

func (a *arbiter) receive(f func()) {
	switch {
	case a.g == nil:
	case a.stalled:
		a.inbox = append(a.inbox, f)
	default:
		f()
	}
}

func (a *arbiter) number() int { return 0 }

func (a *arbiter) starts() int { return a.life }

func (a *arbiter) listens() bool { return a.g != nil && !a.stalled }

func (a *arbiter) waits(id lease.RequestID) bool { return a.waiting[id].from != nil }

func (a *arbiter) ask(id lease.RequestID, name string, body any, from asker) {
	if a.listens() {
		a.asked(id, caller{name, body, from})
		return
	}
	a.receive(func() { a.asked(id, caller{name, body, from}) })
}

func (a *arbiter) asked(id lease.RequestID, c caller) {
	a.waiting[id] = c
	a.w.checkRepeat(a, c.name, c.body, func() { a.step(lease.Request{ID: id, Lease: c.name, Body: c.body}) })
}

func (a *arbiter) gone(id lease.RequestID) {
	a.receive(func() {
		if a.waits(id) {
			delete(a.waiting, id)
			a.step(lease.Gone{ID: id})
		}
	})
}

func (a *arbiter) step(ev lease.GrantorEvent) {
	w := a.w
	for _, act := range a.g.Step(a.now(), ev) {
		switch act := act.(type) {
		case lease.StoreChange:
			a.store(act)
		case lease.Reply:
			c := a.waiting[act.ID]
			w.checkReply(a, c, act.Answer)
			if c.from != nil {
				delete(a.waiting, act.ID)
				c.from.answered(act.Answer)
			}
		case lease.GrantorNote:
			w.log("arbiter: %s %s e%d %s %s", act.Level, act.Lease, act.Epoch, act.Node, act.Text)
		}
	}
	a.schedule()
}

func (a *arbiter) store(s lease.StoreChange) {
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
			w.checkChange(a, s.Change)
			a.disk = applied(a.disk, s.Change)
		}
		a.writing = nil
		a.receive(func() { a.step(lease.Stored{Txn: s.Txn, Err: err}) })
	})
}

// applied is a store after one transaction.
func applied(d lease.Snapshot, c lease.Change) lease.Snapshot {
	d.Cluster, d.Suspect = c.Cluster, false
	d.Leases, d.Nodes = slices.Clone(d.Leases), slices.Clone(d.Nodes)
	for _, r := range c.Leases {
		d.Leases = append(slices.DeleteFunc(d.Leases, func(o lease.Record) bool { return o.Lease == r.Lease }), r)
	}
	for _, n := range c.Nodes {
		d.Nodes = append(slices.DeleteFunc(d.Nodes, func(o lease.NodeRecord) bool { return o.Node == n.Node }), n)
	}
	return d
}

// recordIn is what a store says about a lease.
func recordIn(d lease.Snapshot, name string) lease.Record {
	for _, r := range d.Leases {
		if r.Lease == name {
			return r
		}
	}
	return lease.Record{Lease: name, State: lease.RecordFree}
}

// schedule decides expiries after what has arrived by then was read: what arrives is read at once here, and what waits
// while the process is stopped is read first.
func (a *arbiter) schedule() {
	next := a.g.Next()
	if next == a.due {
		return
	}
	a.due = next
	if next == lease.Never {
		a.wakeUp.set(next)
		return
	}
	a.wakeUp.set(lease.Later(a.clock.real(next), a.w.now).Add(a.w.between(0, 5*time.Millisecond)))
}

func (a *arbiter) wake() {
	if a.due = lease.Never; a.now() >= a.g.Next() {
		a.step(lease.Drained{})
		return
	}
	a.schedule()
}
