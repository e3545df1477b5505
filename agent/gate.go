package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// gate is the node attribute of one lease, on which Pacemaker's rules depend. What is wanted is asserted again and
// again and read back from the CIB, since attrd forgets its values when it crashes and its exit code 0 does not mean
// that anything was applied. One tool runs at a time: a put that is still out when the gate is to close is killed
// and reaped before the delete starts.
type gate struct {
	name    string // of the attribute
	node    string
	cluster Cluster
	down    func() (bool, error) // no Pacemaker daemon runs here
	opened  func(lease.Epoch)    // the attribute was read back with this epoch
	every   time.Duration

	tool sync.Mutex // held while a tool of this lease runs

	mu      sync.Mutex
	begun   bool // set was called: nothing is asserted before, since a lease may be about to be adopted
	want    lease.Epoch
	turn    uint64 // counts changes of want
	settled bool   // since the gate closed: the DC was seen idle once, so nothing ordered before can still arrive
	severed bool   // see sever
	aborted bool   // a put ended without its answer: attrd may still take it, in any order with what follows
	cancel  context.CancelFunc
	seen    pcmk.Attribute
	seenErr error
	wake    chan struct{}
}

// toolTime bounds one attribute tool. They take 20 ms when healthy and hang for ever when a daemon is frozen.
const toolTime = 2 * time.Second

// errOpen says that the gate is not to be closed now.
var errOpen = errors.New("the gate is open")

func newGate(name, node string, c Cluster, down func() (bool, error), every time.Duration, opened func(lease.Epoch)) *gate {
	return &gate{name: name, node: node, cluster: c, down: down, opened: opened, every: every,
		wake: make(chan struct{}, 1), seenErr: errors.New("not read yet")}
}

// set changes what the attribute must be; 0 is absent. It never blocks; a tool that still works for the old wish is
// killed.
func (g *gate) set(want lease.Epoch) {
	g.mu.Lock()
	first, want0 := !g.begun, g.want
	g.begun = true
	if g.want != want {
		g.want, g.settled, g.severed = want, false, false
		g.turn++
		if g.cancel != nil {
			g.cancel()
		}
	}
	changed := first || g.want != want0
	g.mu.Unlock()
	if changed {
		g.poke()
	}
}

func (g *gate) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// shown is what was last read back.
func (g *gate) shown() (pcmk.Attribute, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen, g.seenErr
}

// settle notes that the DC was seen idle while the gate was closed in the turn given.
func (g *gate) settle(turn uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if turn == g.turn && g.want == 0 {
		g.settled = true
	}
}

// sever notes that this node's controller and executor were killed after the attribute was read as absent in this
// turn: what was ordered before died with them, pending operations of the CIB included.
func (g *gate) sever(turn uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if turn == g.turn && g.want == 0 {
		g.settled, g.severed = true, true
	}
}

func (g *gate) state() (settled, severed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.settled, g.severed
}

// work asserts the wish until ctx ends: at once when it changes, soon again while it does not show, else at every
// interval.
func (g *gate) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-g.wake:
		}
		g.mu.Lock()
		begun := g.begun
		g.mu.Unlock()
		if !begun {
			timer.Reset(g.every)
			continue
		}
		wait := g.every
		if err := g.assert(ctx); err != nil {
			wait = min(g.every, 250*time.Millisecond)
		}
		timer.Reset(wait)
	}
}

// assert writes what is wanted and reads it back. An error means that it does not show (yet).
func (g *gate) assert(ctx context.Context) error {
	g.tool.Lock()
	defer g.tool.Unlock()
	ctx, want, _, done := g.begin(ctx)
	defer done()
	if want == 0 {
		return g.close(ctx)
	}
	if err := g.cluster.PutAttribute(ctx, g.name, strconv.FormatUint(uint64(want), 10)); err != nil {
		g.note(pcmk.Attribute{}, err)
		g.mu.Lock()
		g.aborted = true
		g.mu.Unlock()
		return err
	}
	for {
		a, err := g.read(ctx)
		if err == nil && a.State == pcmk.Present && a.Value == strconv.FormatUint(uint64(want), 10) {
			g.opened(want)
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("attribute %s does not show %d: %w", g.name, want, err)
		}
	}
}

// begin gives one assertion its context, which ends when the wish changes.
func (g *gate) begin(ctx context.Context) (context.Context, lease.Epoch, uint64, func()) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cancel = cancel
	return ctx, g.want, g.turn, func() {
		g.mu.Lock()
		g.cancel = nil
		g.mu.Unlock()
		cancel()
	}
}

// close deletes the attribute unless it already reads as absent, and reads it back.
func (g *gate) close(ctx context.Context) error {
	if a, err := g.read(ctx); err == nil && a.State == pcmk.Absent {
		return nil
	}
	if down, err := g.down(); err == nil && down {
		g.note(pcmk.Attribute{State: pcmk.Absent}, nil)
		return nil // a Pacemaker that starts later begins without transient attributes
	}
	if err := g.cluster.DeleteAttribute(ctx, g.name); err != nil {
		g.note(pcmk.Attribute{}, err)
		return err
	}
	for {
		a, err := g.read(ctx)
		if err == nil && a.State == pcmk.Absent {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("attribute %s does not read as absent: %w", g.name, err)
		}
	}
}

func (g *gate) read(ctx context.Context) (pcmk.Attribute, error) {
	a, err := g.cluster.ReadAttribute(ctx, g.node, g.name)
	g.note(a, err)
	return a, err
}

func (g *gate) note(a pcmk.Attribute, err error) {
	g.mu.Lock()
	g.seen, g.seenErr = a, err
	g.mu.Unlock()
}

// confirmClosed proves, now, that the attribute is absent: no tool of ours is out, and the CIB was read back. It
// returns the turn in which that is so. Without any Pacemaker daemon the absence counts as read.
func (g *gate) confirmClosed(ctx context.Context) (uint64, error) {
	g.tool.Lock()
	defer g.tool.Unlock()
	ctx, want, turn, done := g.begin(ctx)
	defer done()
	if want != 0 {
		return 0, errOpen
	}
	if err := g.close(ctx); err != nil {
		return 0, err
	}
	return turn, nil
}

// confirmStill is confirmClosed once more, at the end of a proof. After a put that got no answer it lets attrd come
// to rest first: two connections to attrd have no order.
func (g *gate) confirmStill(ctx context.Context, turn uint64) error {
	g.mu.Lock()
	rest := g.aborted
	g.mu.Unlock()
	if rest {
		if err := pause(ctx, attrdRest); err != nil {
			return err
		}
	}
	again, err := g.confirmClosed(ctx)
	if err != nil {
		return err
	}
	if again != turn {
		return errOpen
	}
	g.mu.Lock()
	g.aborted = false
	g.mu.Unlock()
	return nil
}

// attrdRest is how long a value that attrd took late may need until it shows in the CIB (0.2 s when healthy).
const attrdRest = 500 * time.Millisecond

// say sets the attribute that is for human eyes in crm_mon. Nothing depends on it.
func (g *gate) say(ctx context.Context, word string) {
	g.tool.Lock()
	defer g.tool.Unlock()
	ctx, _, _, done := g.begin(ctx)
	defer done()
	_ = g.cluster.PutAttribute(ctx, g.name+"-state", word)
}

// pause waits, but not beyond ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
