package arbiter

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

const (
	// settle is how long requests that are already in a socket get to reach the Grantor before an expiry is decided.
	settle = 10 * time.Millisecond
	// settleStalled is the same after this process stood still: then every renewal of that time waits in a socket.
	settleStalled = 500 * time.Millisecond
	// stalled is how late a wake-up is when it counts as such. An alarm sleeps for a second at most.
	stalled = 100 * time.Millisecond
	maxNap  = time.Second

	queueLength = 1024
)

// cluster owns one Grantor. Everything reaches it through events and calls.
type cluster struct {
	name    string
	log     *logrus.Entry
	grantor *lease.Grantor
	store   Store
	events  chan lease.GrantorEvent
	results chan lease.Stored // has room for the one write that may be outstanding, so the store never waits
	calls   chan call
	done    chan struct{}

	waiting map[lease.RequestID]chan<- lease.Answer
	reports map[string]api.Report
	reserve reserve // any goroutine may use it
}

// call is something that has to run in the goroutine of the cluster.
type call struct {
	run  func()
	done chan struct{}
}

func newCluster(name string, g *lease.Grantor, store Store, log *logrus.Logger) *cluster {
	return &cluster{
		name: name, grantor: g, store: store, log: log.WithField(keyCluster, name),
		events: make(chan lease.GrantorEvent, queueLength), calls: make(chan call), results: make(chan lease.Stored, 1), done: make(chan struct{}),
		waiting: map[lease.RequestID]chan<- lease.Answer{}, reports: map[string]api.Report{}, reserve: reserve{of: map[string]*share{}},
	}
}

// run serves until ctx ends.
func (c *cluster) run(ctx context.Context) {
	defer close(c.done)
	alarm := boottime.NewAlarm()
	defer alarm.Stop()
	last := boottime.Now()
	for {
		alarm.Set(c.grantor.Next())
		select {
		case <-ctx.Done():
			return
		case ev := <-c.events:
			if freesLease(ev) && !c.drain(ctx, settleStalled) {
				return
			}
			c.step(ev)
		case res := <-c.results:
			c.step(res)
		case call := <-c.calls:
			call.run()
			close(call.done)
		case <-alarm.C():
			now := boottime.Now()
			pause := settle
			if next := c.grantor.Next(); now.Sub(last) > maxNap+stalled || next != lease.Never && now.Sub(next) > stalled {
				pause = settleStalled
			}
			if now >= c.grantor.Next() && !c.drain(ctx, pause) {
				return
			}
		}
		last = boottime.Now()
	}
}

// freesLease reports whether ev is decided by who was heard, so that whatever has arrived must be read before it. This
// process may have stood still, with the holder's renewals in its sockets.
func freesLease(ev lease.GrantorEvent) bool {
	if r, ok := ev.(received); ok {
		ev = r.event
	}
	_, ok := ev.(lease.OperatorFree)
	return ok
}

// drain takes in what has arrived, and then lets expiries be decided. false: ctx has ended.
func (c *cluster) drain(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			return false
		case ev := <-c.events:
			c.step(ev)
		case res := <-c.results:
			c.step(res)
		case <-timer.C:
			waiting = false
		}
	}
	for {
		select {
		case ev := <-c.events:
			c.step(ev)
		default:
			c.step(lease.Drained{})
			return true
		}
	}
}

// step takes an event and carries out what follows from it.
func (c *cluster) step(ev lease.GrantorEvent) {
	if r, ok := ev.(received); ok {
		c.waiting[r.id] = r.answer
		ev = r.event
	}
	for _, a := range c.grantor.Step(boottime.Now(), ev) {
		switch a := a.(type) {
		case lease.StoreChange:
			c.reserve.record(a.Change.Leases) // at once: a grant that is not written is never answered, so nobody else renews
			c.store.Write(c.name, a.Change, func(err error) { c.results <- lease.Stored{Txn: a.Txn, Err: err} })
		case lease.Reply:
			if to := c.waiting[a.ID]; to != nil {
				to <- a.Answer // has room for one
				delete(c.waiting, a.ID)
			}
		case lease.GrantorNote:
			c.note(a)
		}
	}
	if gone, ok := ev.(lease.Gone); ok {
		delete(c.waiting, gone.ID)
	}
}

// received is a request together with who waits for its answer.
type received struct {
	lease.GrantorEvent
	id     lease.RequestID
	event  lease.GrantorEvent
	answer chan<- lease.Answer
}

// ask gives an event that is answered to the Grantor. The error is that of ctx, or errStopping.
func (c *cluster) ask(ctx context.Context, id lease.RequestID, ev lease.GrantorEvent) (lease.Answer, error) {
	answer := make(chan lease.Answer, 1)
	select {
	case c.events <- received{id: id, event: ev, answer: answer}:
	case <-ctx.Done():
		return lease.Answer{}, ctx.Err()
	case <-c.done:
		return lease.Answer{}, errStopping
	}
	select {
	case a := <-answer:
		return a, nil
	case <-c.done:
		return lease.Answer{}, errStopping
	case <-ctx.Done():
		select {
		case c.events <- lease.Gone{ID: id}:
		case <-c.done:
		}
		return lease.Answer{}, ctx.Err()
	}
}

// do runs f in the goroutine of the cluster.
func (c *cluster) do(ctx context.Context, f func()) error {
	x := call{run: f, done: make(chan struct{})}
	select {
	case c.calls <- x:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return errStopping
	}
	<-x.done
	return nil
}

// note writes a line of the log.
func (c *cluster) note(n lease.GrantorNote) {
	e := c.log
	if n.Lease != "" {
		e = e.WithFields(logrus.Fields{keyLease: n.Lease, keyEpoch: uint64(n.Epoch)})
	}
	if n.Node != "" {
		e = e.WithField(keyNode, n.Node)
	}
	switch n.Level {
	case lease.NoteAlarm:
		e.Error(n.Text)
	case lease.NoteWarn:
		e.Warn(n.Text)
	default:
		e.Info(n.Text)
	}
}

// status is what GET shows.
func (c *cluster) status(ctx context.Context) (api.ClusterStatus, error) {
	var out api.ClusterStatus
	err := c.do(ctx, func() {
		v := c.grantor.View(boottime.Now())
		out = api.ClusterStatus{Cluster: v.Cluster, Stamp: api.Stamp(v.Stamp), Recovery: v.Recovery, WriteError: v.WriteError,
			Leases: []api.LeaseStatus{}, Nodes: []api.NodeStatus{}}
		for _, l := range v.Leases {
			out.Leases = append(out.Leases, api.LeaseStatus{Lease: l.Lease, State: l.State, Epoch: uint64(l.Epoch),
				Holder: l.Holder.Node, HoldNS: int64(l.Hold), EndsInNS: int64(l.EndsIn), Waiters: waiters(l.Waiters), MoveTo: l.MoveTo,
				PausedForNS: int64(l.PausedFor), Alarm: l.Alarm})
		}
		for _, n := range v.Nodes {
			ns := api.NodeStatus{Node: n.Node, Boot: n.Boot, HeardAgoNS: int64(n.HeardAgo), Barred: n.Barred, Twins: n.Twins}
			if r, ok := c.reports[n.Node]; ok {
				ns.Report = &r
			}
			out.Nodes = append(out.Nodes, ns)
		}
	})
	return out, err
}
