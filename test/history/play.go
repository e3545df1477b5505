package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

// Options of Play.
type Options struct {
	Arbiter *Process // started
	Seed    uint64
	For     time.Duration
	Kills   int
	Leases  int
	Nodes   int // of each lease
	// Blind has the nodes not say what they have seen, so that what the arbiter grants rests on its store alone. Otherwise
	// an arbiter that has forgotten something hears of it from them, and enters recovery.
	Blind bool
}

// The numbers of the game: as short as a real process can be asked to keep them.
const (
	Hold       = 400 * time.Millisecond
	renewEvery = 40 * time.Millisecond
	timeout    = 250 * time.Millisecond
	cluster    = "play"
)

func terms() lease.Terms {
	return lease.Terms{LossAfter: 150 * time.Millisecond, StopBudget: 50 * time.Millisecond, TimerSlack: 10 * time.Millisecond,
		Watchdog: 20 * time.Millisecond, Quantum: 10 * time.Millisecond, Chances: 1, ResetLatency: 10 * time.Millisecond, DriftPPM: 1000}
}

// recorder keeps what happened.
type recorder struct {
	mu         sync.Mutex
	ops        []Op
	recoveries int
}

func (r *recorder) add(o Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

// Result is what Play saw.
type Result struct {
	Ops        []Op
	Recoveries int // answers that said recovery: the arbiter found itself behind what a node had seen
}

// Play lets nodes acquire, renew, release and abandon leases while the arbiter is killed and frozen, and returns what
// they saw. The error is one of the game, not of the arbiter's answers.
func Play(opt Options) (Result, error) {
	rec := &recorder{}
	nodes, err := newNodes(opt, rec)
	if err != nil {
		return Result{}, err
	}
	if err := introduce(nodes); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), opt.For)
	defer cancel()
	var wait sync.WaitGroup
	for _, n := range nodes {
		wait.Go(func() { n.play(ctx) })
	}
	err = disturb(ctx, opt, rec)
	if err != nil {
		cancel()
	}
	wait.Wait()
	return Result{rec.ops, rec.recoveries}, err
}

// introduce ends the recovery of a cluster that is new: two nodes have to say that they have seen nothing.
func introduce(nodes []*node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	heard := map[string]bool{}
	for ctx.Err() == nil && len(heard) < len(nodes) {
		for _, n := range nodes {
			body := lease.Report{Party: n.party, Seq: n.next(), Seen: n.seen}
			a, err := n.client.Ask(ctx, "", body)
			if err != nil {
				return fmt.Errorf("introduce the nodes: %w", err)
			}
			n.seen = a.Stamp
			if a.Verdict == lease.OK {
				heard[n.lease+n.party.Node] = true
			}
		}
	}
	// The end of the recovery may still be on its way to the disk.
	one := nodes[0]
	for ctx.Err() == nil {
		body := lease.Acquire{Party: one.party, Seq: one.next(), Seen: one.seen, Terms: terms(), Hold: Hold}
		a, err := one.client.Ask(ctx, "introduction", body)
		if err != nil || a.Verdict != lease.Recovery {
			return err
		}
		wait(ctx, renewEvery)
	}
	return ctx.Err()
}

// disturb kills and freezes the arbiter at random times, and starts it again.
func disturb(ctx context.Context, opt Options, rec *recorder) error {
	rnd := rand.New(rand.NewPCG(opt.Seed, 0))
	slice := opt.For / time.Duration(opt.Kills+1)
	for range opt.Kills {
		if !wait(ctx, slice/2+time.Duration(rnd.Int64N(int64(slice/4)))) {
			return nil
		}
		if err := opt.Arbiter.Freeze(); err != nil {
			return err
		}
		wait(ctx, time.Duration(rnd.Int64N(int64(timeout))))
		if err := opt.Arbiter.Thaw(); err != nil {
			return err
		}
		wait(ctx, time.Duration(rnd.Int64N(int64(slice/4))))
		if err := opt.Arbiter.Kill(); err != nil {
			return err
		}
		wait(ctx, time.Duration(rnd.Int64N(int64(Hold/2))))
		o := Op{Verb: Restart, Outcome: Done, Node: "-", Call: boottime.Now()}
		if err := opt.Arbiter.Start(); err != nil {
			return err
		}
		o.Return = boottime.Now()
		rec.add(o)
	}
	return nil
}

// wait reports whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// node is one node and one lease.
type node struct {
	lease  string
	party  lease.Party
	client *arbiterclient.Client
	blind  bool
	rnd    *rand.Rand
	rec    *recorder
	seen   lease.Stamp
	epoch  lease.Epoch // highest that it saw
	seq    uint64
}

func newNodes(opt Options, rec *recorder) ([]*node, error) {
	var out []*node
	for l := range opt.Leases {
		for i := range opt.Nodes {
			name := fmt.Sprintf("l%dn%d", l, i)
			client, err := arbiterclient.New(arbiterclient.Options{URLs: []string{opt.Arbiter.URL}, Cluster: cluster, Node: name,
				RequestTimeout: timeout, Insecure: true})
			if err != nil {
				return nil, err
			}
			out = append(out, &node{
				lease: fmt.Sprintf("l%d", l), client: client, blind: opt.Blind, rec: rec,
				party: lease.Party{Node: name, BootID: "boot-" + name, Instance: lease.Instance{Start: boottime.Now(), Nonce: opt.Seed}},
				rnd:   rand.New(rand.NewPCG(opt.Seed, uint64(l*100+i+1))),
			})
		}
	}
	return out, nil
}

func (n *node) next() uint64 {
	n.seq = max(n.seq+1, uint64(boottime.Now()))
	return n.seq
}

func (n *node) upTo(d time.Duration) time.Duration { return time.Duration(n.rnd.Int64N(int64(d))) }

// play goes on until ctx ends.
func (n *node) play(ctx context.Context) {
	for ctx.Err() == nil {
		epoch, granted := n.acquire(ctx)
		if !granted {
			wait(ctx, n.upTo(renewEvery))
			continue
		}
		for range n.rnd.IntN(12) {
			if n.renew(ctx, epoch) == Lost || !wait(ctx, renewEvery) {
				break
			}
		}
		switch n.rnd.IntN(8) {
		case 0, 1, 2, 3:
			n.release(ctx, epoch)
		case 4: // abandoned, and found again too late or not
			wait(ctx, n.upTo(Hold*3/2))
			n.renew(ctx, epoch)
			n.release(ctx, epoch)
		case 5: // abandoned; nobody renews
			wait(ctx, n.upTo(Hold*3/2))
		case 6: // an old epoch
			n.renew(ctx, max(1, epoch-1))
			n.release(ctx, max(1, epoch-1))
		} // 7: asks again at once
	}
}

func (n *node) acquire(ctx context.Context) (lease.Epoch, bool) {
	body := lease.Acquire{Party: n.party, Seq: n.next(), Terms: terms(), Hold: Hold, Wait: n.upTo(Hold), Ready: true}
	if !n.blind {
		body.Seen, body.SeenEpoch = n.seen, n.epoch
	}
	o := n.ask(ctx, body, body.Wait, Op{Verb: Acquire, Seq: body.Seq, Hold: Hold})
	return o.Epoch, o.Outcome == Granted
}

func (n *node) renew(ctx context.Context, epoch lease.Epoch) Outcome {
	body := lease.Renew{Party: n.party, Epoch: epoch, Seq: n.next()}
	if !n.blind {
		body.Seen = n.seen
	}
	return n.ask(ctx, body, 0, Op{Verb: Renew, Seq: body.Seq, Asked: epoch}).Outcome
}

// release repeats one number until it is answered, as an agent does.
func (n *node) release(ctx context.Context, epoch lease.Epoch) {
	body := lease.Release{Party: n.party, Epoch: epoch, Seq: n.next()}
	if !n.blind {
		body.Seen = n.seen
	}
	for range 20 {
		if n.ask(ctx, body, 0, Op{Verb: Release, Seq: body.Seq, Asked: epoch}).Outcome != Unknown || !wait(ctx, renewEvery) {
			return
		}
	}
}

// ask sends one request and records what is known of it then. A request that ctx would cut short is not sent: its
// outcome would be unknown for no reason.
func (n *node) ask(ctx context.Context, body any, kept time.Duration, o Op) Op {
	if ctx.Err() != nil {
		o.Outcome = Nothing
		return o
	}
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), kept+timeout)
	defer cancel()
	o.Lease, o.Node, o.Call = n.lease, n.party.Node, boottime.Now()
	a, err := n.client.Ask(one, n.lease, body)
	o.Return = boottime.Now()
	o.Outcome = outcome(a, err)
	switch o.Outcome {
	case Granted, Held, Lost:
		o.Epoch, o.Holder = a.Epoch, a.Holder
	}
	if err == nil {
		n.learn(a)
	}
	n.rec.add(o)
	return o
}

func outcome(a lease.Answer, err error) Outcome {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED): // nobody was there to hear it
		return Nothing
	case err != nil:
		return Unknown
	}
	switch a.Verdict {
	case lease.Granted:
		return Granted
	case lease.OK:
		return Done
	case lease.Denied:
		return Held
	case lease.Lost:
		return Lost
	case lease.Unavailable: // neither yes nor no
		return Unknown
	}
	return Nothing
}

func (n *node) learn(a lease.Answer) {
	n.epoch = max(n.epoch, a.Epoch)
	if a.Verdict == lease.Recovery {
		n.rec.mu.Lock()
		n.rec.recoveries++
		n.rec.mu.Unlock()
	}
	if a.Stamp.StoreID == n.seen.StoreID {
		n.seen.Generation = max(n.seen.Generation, a.Stamp.Generation)
	} else if a.Verdict == lease.Recovery {
		n.seen = a.Stamp
	}
}

// ErrQuiet says that too little happened for a verdict to mean anything.
var ErrQuiet = errors.New("too little happened")

// Busy is ErrQuiet unless each lease was granted by release and by expiry, and something was unknown.
func Busy(ops []Op, kills int) error {
	grants, expired, releases, unknown, restarts := map[string]int{}, map[string]int{}, map[string]int{}, 0, 0
	last := map[string]string{}
	for _, o := range ops {
		switch {
		case o.Outcome == Unknown:
			unknown++
		case o.Outcome == Granted:
			grants[o.Lease]++
			if holder := last[o.Lease]; holder != "" && holder != o.Node {
				expired[o.Lease]++
			}
			last[o.Lease] = o.Node
		case o.Verb == Release && o.Outcome == Done:
			releases[o.Lease]++
			last[o.Lease] = ""
		case o.Verb == Restart:
			restarts++
		}
	}
	for name, n := range grants {
		if n < 5 || expired[name] < 1 || releases[name] < 1 {
			return fmt.Errorf("%w: lease %s was granted %d times, %d of them after an expiry, and released %d times", ErrQuiet, name, n,
				expired[name], releases[name])
		}
	}
	if len(grants) == 0 || restarts != kills || kills > 0 && unknown == 0 {
		return fmt.Errorf("%w: %d leases granted, %d restarts, %d answers unknown", ErrQuiet, len(grants), restarts, unknown)
	}
	return nil
}
