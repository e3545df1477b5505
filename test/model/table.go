package model

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// Config is one run of one model.
type Config struct {
	Name    string
	Model   string   // the file
	Defines []string // KEY or KEY=VALUE
	Large   bool     // millions of states
	Rule    string   // of the design; for a positive configuration: which ones it is about
	Without string   // what is taken away, in words; empty: nothing, and no counterexample may exist
}

// Holds reports whether no counterexample may exist.
func (c Config) Holds() bool { return c.Without == "" }

const (
	leaseModel  = "lease.pml"
	recordModel = "record.pml"
)

// clocks are the durations of lease.pml, in ticks.
type clocks struct {
	L, S, J, W, Q, K int
	C                int // chances of the watchdog: 1 with the kill timer, else 2
	Rho              int // a clock is wrong by one tick in so many; 0: never
}

const tick = time.Second

// Hold is the smallest hold, in ticks, that the production code allows for these durations.
func (c clocks) Hold() int {
	of := func(n int) time.Duration { return time.Duration(n) * tick }
	terms := lease.Terms{LossAfter: of(c.L), StopBudget: of(c.S), TimerSlack: of(c.J), Watchdog: of(c.W), Quantum: of(c.Q),
		Chances: c.C, ResetLatency: of(c.K)}
	if c.Rho > 0 {
		terms.DriftPPM = (1_000_000 + c.Rho - 1) / c.Rho
	}
	return int((terms.NeededHold() + tick - 1) / tick)
}

func (c clocks) defines(hold int) []string {
	return []string{fmt.Sprintf("L=%d", c.L), fmt.Sprintf("S=%d", c.S), fmt.Sprintf("J=%d", c.J), fmt.Sprintf("W=%d", c.W),
		fmt.Sprintf("Q=%d", c.Q), fmt.Sprintf("K=%d", c.K), fmt.Sprintf("C=%d", c.C), fmt.Sprintf("RHO=%d", c.Rho),
		fmt.Sprintf("H=%d", hold)}
}

// base is what the other clocks differ from in one number.
func base() clocks { return clocks{L: 2, S: 2, J: 1, W: 2, Q: 1, K: 1, C: 1} }

// Table is every configuration, in the order in which it is printed.
func Table() []Config { return slices.Concat(bounds(), leaseRules(), recordTable()) }

// bounds are pairs: with the hold of the production code there is no counterexample, with one tick less there is.
func bounds() []Config {
	var out []Config
	for _, v := range []struct {
		name   string
		change func(*clocks)
	}{
		{"base", func(*clocks) {}},
		{"loss later", func(c *clocks) { c.L++ }},
		{"stop longer", func(c *clocks) { c.S++ }},
		{"timer slack longer", func(c *clocks) { c.J++ }},
		{"watchdog longer", func(c *clocks) { c.W++ }},
		{"quantum longer", func(c *clocks) { c.Q++ }},
		{"reset longer", func(c *clocks) { c.K++ }},
		// J is the lateness of the kill timer. Without one there is none: the model has no use for J there.
		{"no kill timer", func(c *clocks) { c.C, c.J = 2, 0 }},
		// Clocks of whole ticks lose a whole tick, perhaps one just before and one just after some span: for some durations
		// they err by a tick more than the formula, which is about clocks that err evenly. For these they do not.
		{"drift 1/10", func(c *clocks) { c.L, c.S, c.Rho = 1, 1, 10 }},
		{"drift 1/6", func(c *clocks) { c.Rho = 6 }},
	} {
		c := base()
		v.change(&c)
		hold := c.Hold()
		out = append(out,
			Config{Name: "bound: " + v.name, Model: leaseModel, Defines: c.defines(hold), Rule: "4.5"},
			Config{Name: "bound: " + v.name + ", one tick less", Model: leaseModel, Defines: c.defines(hold - 1), Rule: "4.5",
				Without: "one tick of the hold"})
	}
	return out
}

// leaseRules are the rules that have to do with time. A hold far above the bound shows that no hold would help.
func leaseRules() []Config {
	b := base()
	safe, huge := b.defines(b.Hold()), b.defines(3*b.Hold())
	drift := b
	drift.Rho = 6
	right := drift
	right.Rho = 0
	chance, free := b, b
	chance.C = 2
	free.C, free.J = 2, 0
	restart := func(quarantine int) []string {
		return append(slices.Clone(safe), "RESTART", fmt.Sprintf("QUAR=%d", quarantine))
	}
	p := clocks{L: 1, S: 1, J: 1, W: 2, Q: 1, K: 1, C: 1}
	long := p
	long.L = 4
	pause := func(hold int, more ...string) []string {
		return append(append(p.defines(p.Hold()), "PAUSE", fmt.Sprintf("D=%d", long.L), fmt.Sprintf("HP=%d", hold)), more...)
	}
	without := func(name, rule, what string, defines []string, more ...string) Config {
		return Config{Name: name, Model: leaseModel, Defines: append(slices.Clone(defines), more...), Rule: rule, Without: what}
	}
	return []Config{
		{Name: "arbiter restarts", Model: leaseModel, Defines: restart(b.Hold()), Rule: "4.3.6"},
		without("quarantine one tick short", "4.3.6", "one tick of the quarantine", restart(b.Hold()-1)),
		without("no quarantine", "4.3.6", "the quarantine", restart(0)),
		{Name: "pause with an end", Model: leaseModel, Defines: pause(long.Hold()), Rule: "4.4.9"},
		without("pause, one tick less", "4.4.9", "one tick of the pause's hold", pause(long.Hold()-1)),
		without("pause: guard first", "4.4.9", "longer: the arbiter first, then the guard", pause(long.Hold(), "BAD_PAUSE_GUARD_FIRST")),
		without("pause: resume first", "4.4.9", "shorter: the guard first, then the arbiter", pause(long.Hold(), "BAD_RESUME_FIRST")),
		without("renewal shortens", "4.3.3", "a renewal never brings the hold's end nearer", pause(long.Hold(), "BAD_RENEWAL_SHORTENS")),
		without("drift ignored", "4.5", "the drift in the bound", drift.defines(right.Hold())),
		without("late feed not counted", "5.2", "the kill timer, with the hold that needs one", chance.defines(b.Hold())),
		without("deadline from the reply", "4.4.1", "Sent is taken before the first copy leaves", huge, "BAD_SENT_IS_RECEIPT"),
		without("deadline from a copy", "4.4.1", "Sent is that of the first copy", huge, "BAD_SENT_OF_COPY"),
		without("no watchdog", "5.3", "the watchdog", huge, "NO_WATCHDOG"),
		without("fed on liveness", "5.2", "a feed is legal only while now ≤ until, and the kill timer", free.defines(3*free.Hold()),
			"BAD_FEED_ON_LIVENESS"),
		without("attribute before arm", "4.4.3", "armed and acknowledged, only then the attribute", huge, "BAD_PUT_BEFORE_ARM"),
		without("late attribute", "4.4.3", "an outstanding put is reaped before the proof", huge, "BAD_LATE_PUT"),
		without("disarmed before proof", "4.4.3", "proof, then disarm", huge, "BAD_DISARM_BEFORE_PROOF"),
		without("released before proof", "4.3.4", "release only after the proof", huge, "BAD_RELEASE_BEFORE_PROOF"),
		without("lapsed grant renewed", "4.3.1", "a grant without a first renewal lapses", huge, "BAD_LATE_RENEWAL"),
	}
}

// macro returns the macro by which c takes a rule away, "" if it does so by a number.
func (c Config) macro() string {
	for _, d := range c.Defines {
		if strings.HasPrefix(d, "NO_") || strings.HasPrefix(d, "BAD_") {
			return d
		}
	}
	return ""
}
