package history

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/leasedog/leasedog/lease"
)

// Verb is what was asked, or what happened to the arbiter.
type Verb string

// Verbs.
const (
	Acquire Verb = "acquire"
	Renew   Verb = "renew"
	Release Verb = "release"
	Restart Verb = "restart" // the process was started again after it was killed; Lease is empty: it concerns each
)

// Outcome is what is known of it afterwards.
type Outcome string

// Outcomes.
const (
	Granted Outcome = "granted" // acquire: with Epoch
	Done    Outcome = "ok"      // renew, release, restart
	Held    Outcome = "denied"  // acquire: the record names Epoch and Holder, who is nobody if the lease is free
	Lost    Outcome = "lost"    // renew, release: the record names Epoch and Holder
	Nothing Outcome = "nothing" // refused: it has had no effect
	Unknown Outcome = "unknown" // it may have had its effect, or may have it at any time later
)

// Op is one request with what came of it.
type Op struct {
	Lease   string
	Node    string
	Verb    Verb
	Outcome Outcome
	Asked   lease.Epoch // renew, release: for which epoch
	Epoch   lease.Epoch // answered
	Holder  string      // answered
	Seq     uint64
	Hold    time.Duration // acquire: asked for
	Call    lease.Instant // before the first byte left
	Return  lease.Instant // after the answer was read
}

func (o Op) String() string {
	s := fmt.Sprintf("%10.4f %10.4f  %-6s %-7s", time.Duration(o.Call).Seconds(), time.Duration(o.Return).Seconds(), o.Node, o.Verb)
	if o.Asked != 0 {
		s += fmt.Sprintf(" of %d", o.Asked)
	}
	s += fmt.Sprintf(": %s", o.Outcome)
	if o.Epoch != 0 {
		s += fmt.Sprintf(" %d %s", o.Epoch, o.Holder)
	}
	return s
}

// state is the lease as a register. Every field is comparable: porcupine compares states with ==.
type state struct {
	epoch  lease.Epoch
	holder string        // of epoch; "": free
	hold   time.Duration // of the grant
	// until is the earliest end that the hold can have: that long after the last renewal that was acknowledged was sent.
	// The arbiter counts from the receipt, which is later.
	until lease.Instant
	freed uint64 // number of the release that freed it, whose copy is answered ok too
	// now is the earliest time that it can be: nothing happens before it was asked for, or before what happened earlier.
	now lease.Instant
}

// step says whether the lease can have done this to this op, and what it is then.
//
// Expiry is an event of its own that nobody sees. It may come at any time from until on, and is taken here together with
// the grant that needs it, which cannot have happened before until then.
func (s state) step(o Op, known grants) (state, bool) {
	s.now = lease.Later(s.now, o.Call)
	ok := true
	switch o.Verb {
	case Acquire:
		switch o.Outcome {
		case Granted, Unknown:
			if o.Outcome == Unknown {
				if s.epoch >= known.highest {
					break // what may happen later, or never, is placed last, where nobody notices
				}
				holder, hidden := known.hidden[s.epoch+1]
				if !hidden || holder != "" && holder != o.Node {
					return s, false // it would be seen, and was not
				}
			}
			if s.holder != "" && s.holder != o.Node {
				s.now = lease.Later(s.now, s.until)
			}
			ok = o.Outcome == Unknown || o.Epoch == s.epoch+1
			if s.holder != o.Node {
				s.until = 0
			}
			s.epoch, s.holder, s.hold = s.epoch+1, o.Node, o.Hold
		case Held:
			ok = s.says(o)
		}
	case Renew:
		switch o.Outcome {
		case Done: // one that is unknown obliges nobody
			ok = s.holder == o.Node && s.epoch == o.Asked
			s.until = lease.Later(s.until, o.Call.Add(s.hold))
		case Lost:
			ok = s.says(o) && s.ended(o)
		}
	case Release:
		mine := s.holder == o.Node && s.epoch == o.Asked
		switch o.Outcome {
		case Done, Unknown:
			again := s.epoch == o.Asked && s.holder == "" && s.freed == o.Seq
			ok = mine || again || o.Outcome == Unknown
			if mine {
				s.holder, s.until, s.freed = "", 0, o.Seq
			}
		case Lost:
			ok = s.says(o) && s.ended(o)
		}
	case Restart: // nothing is known of renewals: the whole hold from its start, at least
		if s.holder != "" {
			s.until = lease.Later(s.until, o.Call.Add(s.hold))
		}
	}
	return s, ok && s.now <= o.Return
}

// says reports whether an answer names what is on record.
func (s state) says(o Op) bool { return s.epoch == o.Epoch && s.holder == o.Holder }

// ended reports whether the epoch that was asked for is over for good.
func (s state) ended(o Op) bool { return o.Asked < s.epoch || o.Asked == s.epoch && s.holder == "" }

// first is a lease that nobody has ever had.
func first() any { return state{} }

func model(known grants) porcupine.Model {
	return porcupine.Model{
		Init: first,
		Step: func(s, in, _ any) (bool, any) {
			next, ok := s.(state).step(in.(Op), known)
			return ok, next
		},
	}
}

// Verdict is what came of a Check.
type Verdict struct {
	Lease string
	OK    bool
	Why   string // the operations around the first that no lease could have answered so
}

// Check judges a history, each lease for itself. What is not decided within the timeout is not OK.
func Check(ops []Op, timeout time.Duration) []Verdict {
	names := map[string]bool{}
	for _, o := range ops {
		if o.Lease != "" {
			names[o.Lease] = true
		}
	}
	var out []Verdict
	for name := range names {
		mine := relevant(ops, name)
		list := make([]porcupine.Operation, len(mine))
		for i, o := range mine {
			end := int64(o.Return)
			if o.Outcome == Unknown {
				end = math.MaxInt64
				mine[i].Return = lease.Never
			}
			list[i] = porcupine.Operation{ClientId: i, Input: mine[i], Call: int64(o.Call), Return: end}
		}
		result, inside := porcupine.CheckOperationsVerbose(model(grantsOf(mine)), list, timeout)
		v := Verdict{Lease: name, OK: result == porcupine.Ok}
		switch result {
		case porcupine.Unknown:
			v.Why = fmt.Sprintf("not decided within %v: %d operations", timeout, len(mine))
		case porcupine.Illegal:
			v.Why = explain(mine, inside)
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Verdict) int { return strings.Compare(a.Lease, b.Lease) })
	return out
}

// relevant are the ops of a lease, in the order of their calls, without those that can change and tell nothing.
func relevant(ops []Op, name string) []Op {
	var mine []Op
	for _, o := range ops {
		mute := o.Outcome == Nothing || o.Outcome == Unknown && o.Verb == Renew
		if (o.Lease == name || o.Verb == Restart) && !mute {
			mine = append(mine, o)
		}
	}
	slices.SortStableFunc(mine, func(a, b Op) int { return int(a.Call - b.Call) })
	known := grantsOf(mine)
	return slices.DeleteFunc(mine, func(o Op) bool {
		return o.Verb == Acquire && o.Outcome == Unknown && !known.mayHide(o)
	})
}

// grants is what a history says of epochs. One that was seen, or one below it, whose grant nobody was answered, is hidden:
// an acquire without an answer must have been it. No acquire without an answer was any other epoch that was seen, so one
// that can have been none of them had no effect that anybody saw, and may as well have had none. A search that tried it in
// every place would not end.
type grants struct {
	highest lease.Epoch
	hidden  map[lease.Epoch]string // who has it; "" if nobody said
}

func (g grants) mayHide(o Op) bool {
	for _, holder := range g.hidden {
		if holder == "" || holder == o.Node {
			return true
		}
	}
	return false
}

func grantsOf(ops []Op) grants {
	out := grants{hidden: map[lease.Epoch]string{}}
	answered, holder := map[lease.Epoch]bool{}, map[lease.Epoch]string{}
	for _, o := range ops {
		answered[o.Epoch] = answered[o.Epoch] || o.Outcome == Granted
		out.highest = max(out.highest, o.Epoch)
		if o.Holder != "" {
			holder[o.Epoch] = o.Holder
		}
	}
	for e := lease.Epoch(1); e <= out.highest && e < lease.Epoch(2*len(ops)); e++ {
		if !answered[e] {
			out.hidden[e] = holder[e]
		}
	}
	return out
}

// explain lists the ops around the end of the longest prefix that a lease could have answered.
func explain(ops []Op, inside porcupine.LinearizationInfo) string {
	longest := 0
	for _, part := range inside.PartialLinearizations() {
		for _, line := range part {
			longest = max(longest, len(line))
		}
	}
	from, to := max(0, longest-12), min(len(ops), longest+6)
	var b strings.Builder
	fmt.Fprintf(&b, "no lease could have answered so: of %d operations %d fit. Around the first that does not (call, answer):\n",
		len(ops), longest)
	for i, o := range ops[from:to] {
		mark := "  "
		if from+i >= longest {
			mark = "? "
		}
		fmt.Fprintf(&b, "%s%s\n", mark, o)
	}
	return b.String()
}
