package sim

import (
	"slices"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// sharedKV is a store that several arbiters share: one key a lease, changed by compare-and-swap on its revision. It is
// never down and loses nothing; the ways to it are slow, cut, or lead to a member that lags.
type sharedKV struct {
	w          *world
	keys       map[string][]kvRecord // every version of a lease's record, the newest last
	revision   int64
	generation uint64 // of changes that are no renewals
}

// kvRecord is one version of a key.
type kvRecord struct {
	revision   int64
	generation uint64
	rec        lease.Record
}

func newSharedKV(w *world) *sharedKV {
	s := &sharedKV{w: w, keys: map[string][]kvRecord{}, generation: 1}
	for _, l := range w.leases {
		s.revision++
		s.keys[l] = []kvRecord{{s.revision, 1, lease.Record{Lease: l, State: lease.RecordFree}}}
	}
	return s
}

func (s *sharedKV) newest(name string) kvRecord {
	v := s.keys[name]
	k := v[len(v)-1]
	k.generation = s.generation
	return k
}

// swap is the compare-and-swap.
func (s *sharedKV) swap(name string, revision int64, rec lease.Record) (kvRecord, bool) {
	old := s.newest(name)
	if old.revision != revision {
		return old, false
	}
	s.revision++
	if rec.Epoch != old.rec.Epoch || rec.State != old.rec.State || rec.Holder != old.rec.Holder {
		s.generation++
	}
	s.w.checkSwap(old.rec, rec)
	s.keys[name] = append(s.keys[name], kvRecord{s.revision, s.generation, rec})
	if v := s.keys[name]; len(v) > 16 {
		s.keys[name] = slices.Clone(v[len(v)-8:])
	}
	return s.newest(name), true
}

// replica is one of several arbiters over a sharedKV. It keeps nothing but what it has observed: lease.Observer says when
// it may take a lease away. The rest is as little as a Holder needs to be served.
type replica struct {
	w       *world
	n       int
	kv      *sharedKV
	clock   clock
	alive   bool
	life    int
	stalled bool
	inbox   []func()
	waiting map[lease.RequestID]asker
	watched map[string]*observation
	way     link // to the store
	stale   bool // its reads come from a member that lags
}

// observation is what a replica knows of one lease.
type observation struct {
	rule     lease.Observer
	revision int64
	looking  bool
	again    lease.Instant // its clock: when a look may find that the lease can be taken
	safe     lease.Acquire // the newest one with terms that are safe
	polls    []poll
}

type poll struct {
	id    lease.RequestID
	req   lease.Acquire
	until lease.Instant
}

func (r *replica) start() {
	r.life++
	r.alive, r.stalled, r.inbox = true, false, nil
	r.waiting, r.watched = map[lease.RequestID]asker{}, map[string]*observation{}
	r.clock.start(r.w.now, lease.Instant(r.w.between(time.Second, 1000*time.Second)))
	for _, l := range r.w.leases {
		r.watched[l] = &observation{again: lease.Never}
	}
	r.w.log("arbiter %d starts", r.n+1)
}

func (r *replica) now() lease.Instant { return r.clock.at(r.w.now) }

func (r *replica) number() int { return r.n }

func (r *replica) starts() int { return r.life }

func (r *replica) listens() bool { return r.alive && !r.stalled }

func (r *replica) waits(id lease.RequestID) bool { return r.waiting[id] != nil }

func (r *replica) crash(d time.Duration) {
	if !r.alive {
		return
	}
	r.w.log("arbiter %d is down", r.n+1)
	r.alive = false
	r.w.after(d, func() {
		if !r.alive {
			r.start()
		}
	})
}

func (r *replica) stall(d time.Duration) {
	if !r.alive || r.stalled {
		return
	}
	r.w.log("arbiter %d is stopped by a signal", r.n+1)
	r.stalled = true
	r.w.after(d, r.thaw)
}

func (r *replica) thaw() {
	if !r.stalled {
		return
	}
	r.w.log("arbiter %d goes on", r.n+1)
	r.stalled = false
	queue := r.inbox
	r.inbox = nil
	for _, f := range queue {
		r.receive(f)
	}
}

func (r *replica) receive(f func()) {
	switch {
	case !r.alive:
	case r.stalled:
		r.inbox = append(r.inbox, f)
	default:
		f()
	}
}

// after runs f in this life of the process.
func (r *replica) after(d time.Duration, f func()) {
	life := r.life
	r.w.after(d, func() {
		if r.life == life {
			r.receive(f)
		}
	})
}

// way takes one operation to the store and its answer back; on a cut one half of the operations are done all the same, and
// nobody hears of any.
func (r *replica) through(op func(), answer func()) {
	w := r.w
	there, back := w.between(500*time.Microsecond, 3*time.Millisecond), w.between(500*time.Microsecond, 3*time.Millisecond)
	if r.way.slow > 0 {
		there, back = there+w.between(0, r.way.slow), back+w.between(0, r.way.slow)
	}
	cut := r.way.cut
	if cut && w.chance(50) {
		return
	}
	w.after(there, func() {
		op()
		if !cut {
			r.after(back, answer)
		}
	})
}

// read asks the store for a key. sent is when the read left, by this replica's clock.
func (r *replica) read(name string, answer func(sent lease.Instant, k kvRecord)) {
	sent, k := r.now(), kvRecord{}
	r.through(func() {
		k = r.kv.newest(name)
		if v := r.kv.keys[name]; r.stale && len(v) > 1 && r.w.chance(50) {
			k = v[len(v)-2]
		}
	}, func() { answer(sent, k) })
}

func (r *replica) ask(id lease.RequestID, name string, body any, from asker) {
	if r.listens() {
		r.asked(id, name, body, from)
		return
	}
	r.receive(func() { r.asked(id, name, body, from) })
}

func (r *replica) asked(id lease.RequestID, name string, body any, from asker) {
	r.waiting[id] = from
	switch b := body.(type) {
	case lease.Acquire:
		if b.Claim == nil {
			r.park(id, name, b)
			return
		}
	case lease.Report:
		r.reply(id, r.kv.newest(r.w.leases[0]), lease.Answer{Verdict: lease.OK, Seq: b.Seq})
		return
	case lease.Pause, lease.Resume:
		r.reply(id, r.kv.newest(name), lease.Answer{Verdict: lease.Refused, Reason: "this arbiter pauses nothing"})
		return
	}
	r.change(id, name, body, 0)
}

func (r *replica) gone(id lease.RequestID) {
	r.receive(func() {
		delete(r.waiting, id)
		for _, o := range r.watched {
			o.polls = slices.DeleteFunc(o.polls, func(p poll) bool { return p.id == id })
		}
	})
}

func (r *replica) reply(id lease.RequestID, k kvRecord, a lease.Answer) {
	a.Stamp = lease.Stamp{StoreID: "kv", Generation: k.generation}
	if to := r.waiting[id]; to != nil {
		delete(r.waiting, id)
		to.answered(a)
	}
}

// change reads, decides, and swaps. A conflict is read again, and is never an answer.
func (r *replica) change(id lease.RequestID, name string, body any, tries int) {
	r.read(name, func(_ lease.Instant, k kvRecord) {
		rec, a, write := r.decide(name, k.rec, body)
		if !write {
			r.reply(id, k, a)
			return
		}
		r.swap(name, k.revision, rec, func(k kvRecord, ok bool) {
			switch {
			case ok:
				r.reply(id, k, a)
			case tries < 8:
				r.change(id, name, body, tries+1)
			}
		})
	})
}

func (r *replica) swap(name string, revision int64, rec lease.Record, answer func(kvRecord, bool)) {
	k, ok := kvRecord{}, false
	r.through(func() { k, ok = r.kv.swap(name, revision, rec) }, func() {
		if ok {
			r.observe(name, k)
		}
		answer(k, ok)
	})
}

// decide is what a message of a holder makes of a record.
func (r *replica) decide(name string, rec lease.Record, body any) (lease.Record, lease.Answer, bool) {
	var who lease.Party
	var epoch lease.Epoch
	var seq uint64
	a := lease.Answer{Verdict: lease.OK}
	switch b := body.(type) {
	case lease.Acquire:
		who, epoch, seq, a.Verdict = b.Party, b.Claim.Epoch, b.Seq, lease.Adopted
	case lease.Renew:
		who, epoch, seq = b.Party, b.Epoch, b.Seq
		a.Waiters = r.others(name, b.Node)
	case lease.Release:
		who, epoch, seq = b.Party, b.Epoch, b.Seq
	}
	a.Epoch, a.Seq, a.Hold = rec.Epoch, seq, rec.Hold
	_, renews := body.(lease.Renew)
	refused := func(v lease.Verdict, why string) (lease.Record, lease.Answer, bool) {
		a.Verdict, a.Reason = v, why
		return rec, a, false
	}
	switch {
	case epoch == rec.Epoch && rec.Holder == who && seq == rec.Seq: // another path was quicker
		return rec, a, false
	case epoch < rec.Epoch || epoch == rec.Epoch && rec.State == lease.RecordFree:
		return refused(lease.Lost, "another epoch was granted, or it was released")
	case epoch > rec.Epoch:
		return refused(lease.Unavailable, "the epoch is not known here")
	case !rec.Holder.SameBoot(who):
		return refused(lease.Refused, "another node or boot holds this epoch")
	case who.Instance.Older(rec.Holder.Instance):
		return refused(lease.Superseded, "a newer agent adopted this lease")
	case renews && rec.Holder != who:
		return refused(lease.Refused, "this agent has not adopted the lease")
	case rec.Holder == who && seq < rec.Seq:
		return refused(lease.Refused, "stale sequence number")
	}
	rec.Holder, rec.Seq = who, seq
	if _, gives := body.(lease.Release); gives {
		rec.State = lease.RecordFree
	}
	return rec, a, true
}

// observe takes in one version of a record, which this replica has heard of just now.
func (r *replica) observe(name string, k kvRecord) {
	o, now := r.watched[name], r.now()
	o.rule.Observe(now, k.revision, k.rec.Hold)
	if k.revision > o.revision {
		o.revision, o.again = k.revision, now.Add(k.rec.Hold+1)
	}
}

func (r *replica) others(name, node string) []lease.Waiter {
	var out []lease.Waiter
	for _, p := range r.watched[name].polls {
		if p.req.Node != node {
			out = append(out, lease.Waiter{Node: p.req.Node, Ready: p.req.Ready, LastResort: p.req.LastResort})
		}
	}
	return out
}

// park keeps a poll until the lease can be had or its time is over.
func (r *replica) park(id lease.RequestID, name string, acq lease.Acquire) {
	o := r.watched[name]
	if acq.Terms == o.safe.Terms && acq.Hold == o.safe.Hold {
		// asked for again, as a Grantor that has allowed it before
	} else if bad := lease.CheckSafety(acq.Terms, acq.Hold); len(bad) > 0 {
		r.reply(id, r.kv.newest(name), lease.Answer{Verdict: lease.Unsafe, Seq: acq.Seq, Reason: bad[0].String()})
		return
	}
	o.polls = slices.DeleteFunc(o.polls, func(p poll) bool { return p.req.Node == acq.Node && p.req.Seq < acq.Seq })
	o.safe = acq
	o.polls = append(o.polls, poll{id, acq, r.now().Add(min(acq.Wait, lease.MaxWait))})
	r.look(name)
	r.after(min(acq.Wait, lease.MaxWait), func() {
		if i := slices.IndexFunc(o.polls, func(p poll) bool { return p.id == id }); i >= 0 {
			o.polls = slices.Delete(o.polls, i, i+1)
			k := r.kv.newest(name)
			r.reply(id, k, lease.Answer{Verdict: lease.Denied, Seq: acq.Seq, Epoch: k.rec.Epoch, Holder: k.rec.Holder.Node,
				Reason: "held by " + k.rec.Holder.Node})
		}
	})
}

// look reads a lease for which somebody waits, and takes it if the rule allows; else it looks again when it may.
func (r *replica) look(name string) {
	o := r.watched[name]
	if o.looking || len(o.polls) == 0 {
		return
	}
	o.looking = true
	life := r.life
	r.w.after(time.Second, func() { // a read that was lost
		if r.life == life {
			o.looking = false
		}
	})
	r.read(name, func(sent lease.Instant, k kvRecord) {
		o.looking = false
		r.observe(name, k)
		i := slices.IndexFunc(o.polls, func(p poll) bool { return !p.req.LastResort || len(o.polls) == 1 })
		if i < 0 {
			return
		}
		p := o.polls[i]
		if k.rec.Holder.SameBoot(p.req.Party) && p.req.Seq <= k.rec.Seq {
			return // it is older than what its boot has done since
		}
		own := k.rec.Holder.SameBoot(p.req.Party) && p.req.Stopped
		if k.rec.State == lease.RecordFree || own || o.rule.MayTake(sent, k.revision) {
			r.take(name, k, p)
			return
		}
		if again := r.clock.real(lease.Later(o.again, r.now().Add(time.Millisecond))); o.again != lease.Never {
			r.after(again.Sub(r.w.now), func() { r.look(name) })
		}
	})
}

func (r *replica) take(name string, k kvRecord, p poll) {
	o := r.watched[name]
	rec := lease.Record{Lease: name, Epoch: max(k.rec.Epoch, p.req.SeenEpoch) + 1, State: lease.RecordHeld, Holder: p.req.Party,
		Seq: p.req.Seq, Hold: max(p.req.Hold, k.rec.Hold), LossAfter: p.req.Terms.LossAfter}
	r.swap(name, k.revision, rec, func(k kvRecord, ok bool) {
		if !ok {
			r.look(name)
			return
		}
		r.w.log("arbiter %d: grants %s e%d to %s", r.n+1, name, rec.Epoch, p.req.Node)
		o.polls = slices.DeleteFunc(o.polls, func(q poll) bool { return q.id == p.id })
		r.reply(p.id, k, lease.Answer{Verdict: lease.Granted, Seq: p.req.Seq, Epoch: rec.Epoch, Hold: rec.Hold})
	})
}
