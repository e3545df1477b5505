package lease

import (
	"fmt"
	"math/big"
	"sort"
	"strings"
	"time"
)

// Terms are the node's side of the safety inequality: everything that an arbiter must know to judge whether a
// hold outlasts the node's reset. They travel with every acquire.
type Terms struct {
	LossAfter    time.Duration // L: loss is decided this long after the last acknowledged renewal was sent
	StopBudget   time.Duration // S: time to stop and prove
	TimerSlack   time.Duration // J: how late the kill timer or a deadline check may run
	Watchdog     time.Duration // W: watchdog timeout, as read back from the device
	Quantum      time.Duration // q: the watchdog's own quantum and slew
	Chances      int           // c: 1 with the kill timer, 2 without
	ResetLatency time.Duration // K: from the reset to the last possible I/O
	DriftPPM     int           // ρ: bound of the clock rate error of either side
}

// HardDeadline is F = L + S: not proven stopped by then, the guard resets.
func (t Terms) HardDeadline() time.Duration { return t.LossAfter + t.StopBudget }

// NeededHold is the left side of the safety inequality, rounded up to the nanosecond:
//
//	(1+ρ)·[ (L + S + J + c·(W+q)) / (1−ρ) + K ]
//
// A model check found it tight to one tick.
func (t Terms) NeededHold() time.Duration {
	const million = 1_000_000
	sum := new(big.Int).SetInt64(int64(t.LossAfter))
	for _, d := range []time.Duration{t.StopBudget, t.TimerSlack} {
		sum.Add(sum, big.NewInt(int64(d)))
	}
	dog := new(big.Int).Add(big.NewInt(int64(t.Watchdog)), big.NewInt(int64(t.Quantum)))
	sum.Add(sum, dog.Mul(dog, big.NewInt(int64(t.Chances))))
	rat := new(big.Rat).SetFrac(sum.Mul(sum, big.NewInt(million)), big.NewInt(int64(million-t.DriftPPM)))
	rat.Add(rat, new(big.Rat).SetInt64(int64(t.ResetLatency)))
	rat.Mul(rat, big.NewRat(int64(million+t.DriftPPM), million))
	ceil := new(big.Int).Add(rat.Num(), new(big.Int).Sub(rat.Denom(), big.NewInt(1)))
	ceil.Quo(ceil, rat.Denom())
	if !ceil.IsInt64() {
		return time.Duration(Never)
	}
	return time.Duration(ceil.Int64())
}

// Validate reports what makes t unusable whatever the hold: negative or absurd numbers.
func (t Terms) Validate() []string {
	var bad []string
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"L (loss_after)", t.LossAfter}, {"S (stop_budget)", t.StopBudget}, {"J (timer_slack)", t.TimerSlack},
		{"W (watchdog timeout)", t.Watchdog}, {"q (watchdog quantum)", t.Quantum}, {"K (reset_latency)", t.ResetLatency},
	} {
		if d.v <= 0 || d.v > maxDuration {
			bad = append(bad, fmt.Sprintf("%s = %v: must be above 0 and at most %v", d.name, d.v, maxDuration))
		}
	}
	if t.Chances != 1 && t.Chances != 2 {
		bad = append(bad, fmt.Sprintf("c = %d: must be 1 (kill timer) or 2", t.Chances))
	}
	if t.DriftPPM < 0 || t.DriftPPM > maxDriftPPM {
		bad = append(bad, fmt.Sprintf("drift = %d ppm: must be 0 to %d", t.DriftPPM, maxDriftPPM))
	}
	return bad
}

const (
	maxDuration = 30 * 24 * time.Hour
	maxDriftPPM = 100_000
)

// Budget is every duration of one lease. It is the only place where durations are derived; ARCHITECTURE names them by
// the letters in the comments. Two Budgets are compared with ==.
type Budget struct {
	Profile        string
	RenewEvery     time.Duration // R
	RequestTimeout time.Duration // T
	Attempts       int           // n: renewals that may be tried before the loss is decided
	Terms
	TTL   time.Duration // how long after Sent the node must be silent at the latest
	Grace time.Duration // G: what the arbiter adds
}

// Hold is H = TTL + G: how long after the receipt of a renewal the arbiter refuses everybody else.
func (b Budget) Hold() time.Duration { return b.TTL + b.Grace }

// Violation is one line of the budget that does not hold: Left must be at most Right.
type Violation struct {
	Line        string // "safety", "liveness", "range"
	Formula     string
	Left, Right time.Duration
	Advice      string
}

// String prints the line with both sides' numbers.
func (v Violation) String() string {
	if v.Formula == "" {
		return v.Line + ": " + v.Advice
	}
	return fmt.Sprintf("%s: %s violated: %v > %v; %s", v.Line, v.Formula, v.Left, v.Right, v.Advice)
}

// CheckSafety checks one grant: terms of the node against the hold that the arbiter would keep. Both sides call
// it, the arbiter with the larger drift of the two.
func CheckSafety(t Terms, hold time.Duration) []Violation {
	var out []Violation
	for _, line := range t.Validate() {
		out = append(out, Violation{Line: "range", Advice: line})
	}
	if len(out) > 0 {
		return out
	}
	if need := t.NeededHold(); need > hold {
		out = append(out, Violation{
			Line: "safety", Formula: "(1+ρ)·[(L+S+J+c·(W+q))/(1−ρ)+K] ≤ H", Left: need, Right: hold,
			Advice: fmt.Sprintf("raise ttl by %v or more, or shorten stop_budget, loss_after or the watchdog timeout", need-hold),
		})
	}
	return out
}

// Violations lists every line that does not hold. An empty list means that the budget may be used. Nothing is
// ever moved to make it fit.
func (b Budget) Violations() []Violation {
	out := CheckSafety(b.Terms, b.Hold())
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"R (renew_every)", b.RenewEvery}, {"T (request_timeout)", b.RequestTimeout}, {"ttl", b.TTL}, {"G (grace)", b.Grace}} {
		if d.v <= 0 || d.v > maxDuration {
			out = append(out, Violation{Line: "range",
				Advice: fmt.Sprintf("%s = %v: must be above 0 and at most %v", d.name, d.v, maxDuration)})
		}
	}
	if b.Attempts < 1 || b.Attempts > 100 {
		out = append(out, Violation{Line: "range", Advice: fmt.Sprintf("n (attempts) = %d: must be 1 to 100", b.Attempts)})
	}
	if len(out) > 0 && out[0].Line == "range" {
		return out
	}
	if left := time.Duration(b.Attempts)*b.RenewEvery + b.RequestTimeout; left > b.LossAfter {
		out = append(out, Violation{
			Line: "liveness", Formula: "n·R + T ≤ L", Left: left, Right: b.LossAfter,
			Advice: "raise loss_after, or renew more often with a shorter request_timeout",
		})
	}
	return out
}

// Comfort tells whether an isolated holder can prove itself stopped before its hard deadline, given Corosync's
// token timeout and how long the group takes to stop: notice(token) + stop + 0.5 s ≤ F − R. Violated, such a
// holder is reset instead of stopping cleanly, which is safe, and worth saying.
func (b Budget) Comfort(token, stop time.Duration) (Violation, bool) {
	left, right := Notice(token)+stop+500*time.Millisecond, b.HardDeadline()-b.RenewEvery
	if left <= right {
		return Violation{}, true
	}
	return Violation{
		Line: "comfort", Formula: "notice(token) + stop + 0.5s ≤ F − R", Left: left, Right: right,
		Advice: "a holder that is cut off from everything is reset instead of stopping cleanly; " +
			"lower Corosync's token or take a slower profile",
	}, false
}

// Notice is how long Corosync and Pacemaker take at most to act on the loss of the peer, by Corosync's token
// timeout (measured: 3000 ms up to 7.6 s, 1000 ms up to 3.3 s, 500 ms up to 2.1 s).
func Notice(token time.Duration) time.Duration { return token*22/10 + 1100*time.Millisecond }

// WithWatchdog returns b for a watchdog whose real timeout is w: a longer one than the profile's makes the TTL
// (and so H) follow by as much; a shorter one changes nothing else, since a longer hold than needed is safe.
func (b Budget) WithWatchdog(w time.Duration) Budget {
	q := max(b.Quantum, w*84/1000)
	grow := time.Duration(b.Chances) * (w + q - b.Watchdog - b.Quantum)
	b.Watchdog, b.Quantum = w, q
	if grow > 0 {
		b.TTL += scale(grow, b.DriftPPM)
	}
	return b
}

// WithoutKillTimer returns b with c = 2: without the absolute kill timer a feed that was checked in time may land
// up to one watchdog timeout late.
func (b Budget) WithoutKillTimer() Budget {
	if b.Chances == 1 {
		b.Chances = 2
		b.TTL += scale(b.Watchdog+b.Quantum, b.DriftPPM)
	}
	return b
}

// scale stretches d by both clocks' drift, rounded up generously.
func scale(d time.Duration, ppm int) time.Duration {
	return d + time.Duration(int64(d)/1_000_000*int64(3*ppm)) + time.Microsecond
}

// PauseHold is the hold of a pause of length d: the lease with L := d. Drift grows with d, so it is more than
// d + H.
func (t Terms) PauseHold(d time.Duration) time.Duration {
	t.LossAfter = d
	return t.NeededHold()
}

// Pause returns b for a pause of length d: loss after d, hold to match.
func (b Budget) Pause(d time.Duration) Budget {
	b.TTL = b.Terms.PauseHold(d)
	b.LossAfter = d
	return b
}

// ProfileNames lists the profiles from the fastest to the slowest.
func ProfileNames() []string { return []string{"fast", "lan", "standard", "wan"} }

// DefaultProfile is the one that fits Corosync's default token and most groups' stop times.
const DefaultProfile = "standard"

// Profile returns a named row of the budget table, with the kill timer (c = 1).
func Profile(name string) (Budget, error) {
	const ms = time.Millisecond
	row := func(r, t time.Duration, n int, l, s, j, w, q, k, ttl, g time.Duration) Budget {
		return Budget{
			Profile: name, RenewEvery: r * ms, RequestTimeout: t * ms, Attempts: n,
			Terms: Terms{LossAfter: l * ms, StopBudget: s * ms, TimerSlack: j * ms, Watchdog: w * ms, Quantum: q * ms,
				Chances: 1, ResetLatency: k * ms, DriftPPM: 1000},
			TTL: ttl * ms, Grace: g * ms,
		}
	}
	switch name {
	case "fast":
		return row(200, 150, 3, 750, 400, 50, 1000, 90, 200, 2500, 100), nil
	case "lan":
		return row(750, 750, 3, 3000, 2500, 200, 2000, 200, 500, 8500, 250), nil
	case "standard":
		return row(2000, 2000, 4, 10000, 10000, 200, 5000, 420, 500, 26500, 500), nil
	case "wan":
		return row(5000, 5000, 3, 20000, 15000, 500, 5000, 420, 1000, 43000, 1000), nil
	}
	names := ProfileNames()
	sort.Strings(names)
	return Budget{}, fmt.Errorf("profile %q is unknown: choose one of %s", name, strings.Join(names, ", "))
}

// The paces that no profile changes.
const (
	// RetryAfterFailure is how long a node waits after it could not use a grant, or was refused one.
	RetryAfterFailure = 5 * time.Second
	// StandBackFirst and StandBackMax bound how long a node that gave up a lease because its resources fail
	// stands back. It doubles in between.
	StandBackFirst = 10 * time.Second
	StandBackMax   = 10 * time.Minute
	// ReportEvery is how often a node that does not compete lets the arbiter hear of it.
	ReportEvery = 10 * time.Second
	// HeadStart is how long a node that is not the preferred one waits, once after its start, before it competes.
	HeadStart = 5 * time.Second
	// WinWithin is how long everything from the grant to the attribute may take. After that the lease is left
	// again, so that a node whose Pacemaker takes no attribute does not starve its peer.
	WinWithin = 15 * time.Second
)

// Wait is how long a long poll for a lease with this budget lasts: short against the hold, so that a poll on a
// dead connection is soon replaced.
func (b Budget) Wait() time.Duration { return min(MaxWait, b.Hold()/3) }
