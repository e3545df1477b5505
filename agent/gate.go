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

	tool chan struct{} // holds one token: whoever has it may run a tool of this lease

	mu       sync.Mutex
	begun    bool // set was called: nothing is asserted before, since a lease may be about to be adopted
	want     lease.Epoch
	turn     uint64 // counts changes of want
	openings uint64 // counts those that were to open the gate
	settled  bool   // since the gate closed: the DC was seen idle once, so nothing ordered before can still arrive
	severed  bool   // see sever
	flushed  uint64 // turn in which a delete was acknowledged and absence read
	aborted  bool   // a put ended without its answer: attrd may still take it, in any order with what follows
	cancel   context.CancelFunc
	seen     pcmk.Attribute
	seenErr  error
	wake     chan struct{}
}

// toolTime bounds one attribute tool. They take 20 ms when healthy and hang for ever when a daemon is frozen.
const toolTime = 2 * time.Second

// forgotten is how long an acknowledged value may take to show before it is deleted and put again (0.2 s when healthy).
const forgotten = 500 * time.Millisecond

// errOpen says that the gate is not to be closed now.
var errOpen = errors.New("the gate is open")

func newGate(name, node string, c Cluster, down func() (bool, error), every time.Duration, opened func(lease.Epoch)) *gate {
	return &gate{name: name, node: node, cluster: c, down: down, opened: opened, every: every,
		wake: make(chan struct{}, 1), tool: make(chan struct{}, 1), seenErr: errors.New("not read yet"),
		aborted: true} // an earlier agent's put may still be on its way
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
		if want != 0 {
			g.openings++
		}
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

// isClosed reports whether the attribute was read as absent, and is meant to be. Before the first wish there is nothing of
// ours.
func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.begun || g.want == 0 && g.seenErr == nil && g.seen.State == pcmk.Absent
}

// settle notes that the DC was seen idle while the gate was closed in the turn given.
func (g *gate) settle(turn uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if turn == g.turn && g.want == 0 {
		g.settled = true
	}
}

// timesOpened counts how often the gate was to open.
func (g *gate) timesOpened() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.openings
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
			wait = g.again()
		} else if g.wanted() != 0 {
			wait = openEvery
		}
		timer.Reset(wait)
	}
}

// The paces of asserting. While the gate is open the survey sees in Pacemaker's status whether the attribute still
// shows, and pokes; that saves two tools in each poll. While no daemon runs here there is nothing to hurry for.
const (
	openEvery  = time.Minute
	againFast  = 250 * time.Millisecond
	againQuiet = 2 * time.Second
)

func (g *gate) again() time.Duration {
	if down, err := g.down(); err == nil && down {
		return againQuiet
	}
	return againFast
}

func (g *gate) wanted() lease.Epoch {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.want
}

// saw is what the survey found in Pacemaker's status: anything but what is wanted has it asserted at once.
func (g *gate) saw(value string) {
	if want := g.wanted(); want != 0 && value != strconv.FormatUint(uint64(want), 10) {
		g.poke()
	}
}

// assert writes what is wanted and reads it back. An error means that it does not show (yet).
func (g *gate) assert(ctx context.Context) error {
	if err := g.take(ctx); err != nil {
		return err
	}
	defer g.give()
	ctx, want, _, done := g.begin(ctx)
	defer done()
	if want == 0 {
		return g.close(ctx)
	}
	began := time.Now()
	g.mu.Lock()
	before := g.aborted
	g.aborted = true // until it shows: attrd acknowledges before it applies
	g.mu.Unlock()
	if err := g.cluster.PutAttribute(ctx, g.name, strconv.FormatUint(uint64(want), 10)); err != nil {
		g.note(pcmk.Attribute{}, err)
		return err
	}
	for {
		a, err := g.read(ctx)
		if err == nil && a.State == pcmk.Present && a.Value == strconv.FormatUint(uint64(want), 10) {
			g.mu.Lock()
			g.aborted = before
			g.mu.Unlock()
			g.opened(want)
			return nil
		}
		if err == nil && a.State == pcmk.Absent && time.Since(began) > forgotten {
			// attrd remembers the value and the CIB has lost it: only a change is written.
			if err := g.cluster.DeleteAttribute(ctx, g.name); err != nil {
				return err
			}
			return fmt.Errorf("attribute %s was lost from the CIB; it is written anew", g.name)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("attribute %s does not show %d: %w", g.name, want, err)
		}
	}
}

// take waits for the right to run a tool, but not beyond ctx.
func (g *gate) take(ctx context.Context) error {
	select {
	case g.tool <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another tool of attribute %s does not end: %w", g.name, ctx.Err())
	}
}

func (g *gate) give() { <-g.tool }

// interrupt ends the tool that is out, if one is: what it asks has gone.
func (g *gate) interrupt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancel != nil {
		g.cancel()
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
	g.mu.Lock()
	must := g.aborted && g.flushed != g.turn
	g.mu.Unlock()
	if down, err := g.down(); err == nil && down {
		g.note(pcmk.Attribute{State: pcmk.Absent}, nil)
		return nil // a Pacemaker that starts later begins without transient attributes
	}
	if a, err := g.read(ctx); err == nil && a.State == pcmk.Absent && !must {
		return nil
	}
	g.mu.Lock()
	g.turn++ // it was, or may have been, there: what was seen before proves nothing
	g.settled, g.severed = false, false
	g.mu.Unlock()
	if err := g.cluster.DeleteAttribute(ctx, g.name); err != nil {
		g.note(pcmk.Attribute{}, err)
		return err
	}
	for {
		a, err := g.read(ctx)
		if err == nil && a.State == pcmk.Absent {
			g.mu.Lock()
			g.flushed = g.turn
			g.mu.Unlock()
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
	if err := g.take(ctx); err != nil {
		return 0, err
	}
	defer g.give()
	ctx, want, _, done := g.begin(ctx)
	defer done()
	if want != 0 {
		return 0, errOpen
	}
	if err := g.close(ctx); err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.want != 0 {
		return 0, errOpen
	}
	return g.turn, nil
}

// confirmStill is confirmClosed once more, at the end of a proof. After a put that got no answer it lets attrd come
// to rest first: two connections to attrd have no order.
func (g *gate) confirmStill(ctx context.Context, turn uint64) error {
	g.mu.Lock()
	rest := g.aborted
	g.mu.Unlock()
	if rest {
		if err := g.flush(ctx, turn); err != nil {
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

// flush writes a marker and waits until it shows in the CIB: what attrd took before it has then been applied too.
func (g *gate) flush(ctx context.Context, turn uint64) error {
	if err := g.take(ctx); err != nil {
		return err
	}
	defer g.give()
	ctx, _, _, done := g.begin(ctx)
	defer done()
	if down, err := g.down(); err == nil && down {
		return nil
	}
	mark := fmt.Sprintf("closed-%d", turn)
	if err := g.cluster.PutAttribute(ctx, g.name+stateSuffix, mark); err != nil {
		return err
	}
	for {
		a, err := g.cluster.ReadAttribute(ctx, g.node, g.name+stateSuffix)
		if err == nil && a.State == pcmk.Present && a.Value == mark {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("attrd has not come to rest: %w", err)
		}
	}
}

// stateSuffix makes the name of the attribute that no rule uses.
const stateSuffix = "-state"

// say sets the attribute that is for human eyes in crm_mon. Nothing depends on it.
func (g *gate) say(ctx context.Context, word string) {
	if err := g.take(ctx); err != nil {
		return
	}
	defer g.give()
	ctx, _, _, done := g.begin(ctx)
	defer done()
	_ = g.cluster.PutAttribute(ctx, g.name+stateSuffix, word)
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
