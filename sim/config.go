package sim

import (
	"time"

	"github.com/leasedog/leasedog/lease"
)

// Config says what world is played. The zero value is the attack: everything is drawn from the seed, and whatever can go
// wrong goes wrong, round after round; between the rounds all faults end, and the world has to come to rest. With Rates or
// Outages set there are no rounds: the world of a user, with faults as often as they say.
type Config struct {
	Profile string        // a row of the budget; "": drawn
	Budget  *lease.Budget // instead of a profile
	Span    time.Duration // simulated time; 0: ten minutes
	Nodes   int           // 0: two, now and then three
	Leases  int           // 0: one to three
	// Arbiters is how many share one store by compare-and-swap; 1: one with a disk of its own; 0: one, now and then three.
	Arbiters int
	Mixed    bool // the second node has a faster profile than the others, as in the middle of a change
	Network  Network
	Stop     Range // how long Pacemaker takes to stop the resources of a lease
	Start    Range // and to start them

	// Faults are drawn from these kinds; empty: all. Prefer are drawn half of the time.
	Faults   []string
	Prefer   []string
	PerRound int // at most so many a round; 0: eight

	Rates   map[string]time.Duration // mean time between two faults of a kind
	Outages []Outage

	Only     []int // of the drawn faults only these, by their Index; nil: all
	Timeline bool  // keep a timeline
}

// Network is every way between a node and an arbiter when nothing is wrong with it.
type Network struct {
	Latency Range   // one way; zero: 0.5 to 3 ms
	Loss    float64 // percent of the messages
	Twice   float64 // percent of the messages that arrive twice
}

// Range is a duration that is drawn between two ends.
type Range struct{ Min, Max time.Duration }

// Outage cuts nodes off the arbiters, regularly.
type Outage struct {
	Every, For time.Duration
	Node       int // from 1; 0: all nodes at once
}

// DefaultSpan is how much time a seed simulates.
const DefaultSpan = 10 * time.Minute

// Fault is one thing that goes wrong in a round.
type Fault struct {
	Index int
	Round int
	At    time.Duration // after the round's begin
	Kind  string
	Node  int           // whom it meets
	For   time.Duration // how long it lasts, where that means anything
	Seed  uint64        // of what else is drawn for it
}

// Violation is a broken invariant.
type Violation struct {
	Invariant string // I1 to I12, or "world" for what the simulator itself must not do
	At        time.Duration
	Text      string
}

func (v Violation) String() string { return v.Invariant + ": " + v.Text }

// Result is what came of one seed.
type Result struct {
	Seed       uint64
	Violations []Violation // the first one ends the world
	Plan       []Fault     // what was drawn, as far as it was played
	Stats      Stats
	Events     int
	Simulated  time.Duration
	Timeline   string
}

// Stats are what the world saw happen.
type Stats struct {
	Grants   int
	Rounds   int
	Failover []time.Duration // from when nobody ran a lease's resources until somebody did, moves and crashes alike
	// Since has an entry for each of Failover in a user's world: from when the fault before it began until somebody did.
	Since []time.Duration
	// FalseStops counts leases that were lost although the node lived and nothing but the network or the arbiter was ill.
	FalseStops int
	Resets     int // nodes that were reset by their guard or watchdog
	// WorstMargin is the shortest time from when a holder's resources had stopped until another node was granted its lease;
	// negative never. Margins counts what it is the least of.
	WorstMargin time.Duration
	Margins     int
}

// Run plays one seed. It panics on a budget that violates itself, or a fault of an unknown kind.
func Run(seed uint64, cfg Config) Result {
	w := newWorld(seed, cfg)
	w.play()
	return w.result()
}
