// Package docs_test keeps the documents true where a program can: numbers are generated from the code, and every test,
// key, verb and folder that a document names must exist. It does not judge what the documents say.
package docs_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

var rewrite = flag.Bool("rewrite", false, "write docs/TIMING.md anew instead of comparing it")

// TestTiming compares TIMING.md with the budget. After a change of the budget: go test ./docs -rewrite, and read the diff.
func TestTiming(t *testing.T) {
	want := timing(t)
	if *rewrite {
		if err := os.WriteFile("TIMING.md", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile("TIMING.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("TIMING.md is not what lease.Budget says: go test ./docs -run TestTiming -rewrite, and read the diff")
	}
}

// tokens are the timeouts of Corosync for which TIMING.md says what they mean.
func tokens() []time.Duration {
	return []time.Duration{500 * time.Millisecond, time.Second, 3 * time.Second}
}

func timing(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	p("# Timing\n")
	p("Generated from `lease.Budget` by `docs/timing_test.go`; do not edit. `leasedog budget` prints the same arithmetic")
	p("for a configuration, or for other values.\n")
	p("| letter | key of `[budget]` | meaning |\n|---|---|---|")
	for _, row := range [][3]string{
		{"R", "`renew_every`", "the holder renews this often"},
		{"T", "`request_timeout`", "deadline of one request, over everything"},
		{"n", "`attempts`", "renewals that may be tried before the loss"},
		{"L", "`loss_after`", "the lease counts as lost this long after the last acknowledged renewal was sent"},
		{"S", "`stop_budget`", "time to stop the resources and to prove it"},
		{"F", "L + S", "not proven stopped this long after that renewal was sent: the guard resets the node"},
		{"J", "`timer_slack`", "how late a timer may fire"},
		{"W", "`watchdog_timeout`", "the watchdog's timeout, as read back from the device"},
		{"q", "`watchdog_quantum`", "granularity of the watchdog"},
		{"c", "", "1 with the kill timer and real-time priority, else 2; a node with 2 holds no lease"},
		{"K", "`reset_latency`", "from the reset to the last possible write"},
		{"ρ", "`drift_ppm`", "bound of the error of a clock's rate"},
		{"TTL", "`ttl`", "this long after that renewal was sent the node is silent at the latest"},
		{"G", "`grace`", "what is added for the arbiter"},
		{"H", "TTL + G", "the hold: nobody else is granted the lease this long after the receipt of a renewal"},
	} {
		p("| %s | %s | %s |", row[0], row[1], row[2])
	}
	p("\n## What must hold\n")
	p("    liveness  n·R + T ≤ L")
	p("    safety    (1+ρ)·[ (L + S + J + c·(W+q)) / (1−ρ) + K ] ≤ H\n")
	p("Both sides check the safety line before a grant. A line that does not hold is refused, with both sides' numbers.")
	p("Nothing is ever moved to make it fit.\n")
	profiles(t, p)
	comfort(t, p)
	clocks(t, p)
	return out.Bytes()
}

func budgets(t *testing.T) []lease.Budget {
	t.Helper()
	var all []lease.Budget
	for _, name := range lease.ProfileNames() {
		b, err := lease.Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		if v := b.Violations(); len(v) > 0 {
			t.Fatalf("profile %s: %v", name, v[0])
		}
		all = append(all, b)
	}
	return all
}

func profiles(t *testing.T, p func(string, ...any)) {
	t.Helper()
	p("## Profiles\n")
	p("| profile | R | T | n | L | S | F | J | W | q | K | TTL | G | **H** |")
	p("|---|%s", strings.Repeat("---|", 13))
	for _, b := range budgets(t) {
		name := "`" + b.Profile + "`"
		if b.Profile == lease.DefaultProfile {
			name += " (default)"
		}
		p("| %s | %v | %v | %d | %v | %v | %v | %v | %v | %v | %v | %v | %v | **%v** |", name, b.RenewEvery, b.RequestTimeout,
			b.Attempts, b.LossAfter, b.StopBudget, b.HardDeadline(), b.TimerSlack, b.Watchdog, b.Quantum, b.ResetLatency, b.TTL,
			b.Grace, b.Hold())
	}
	p("\nc = 1 and ρ = %d ppm in every row. The two sides of each line:\n", budgets(t)[0].DriftPPM)
	p("| profile | n·R + T | ≤ L | safety, left side | ≤ H | spare |")
	p("|---|---|---|---|---|---|")
	for _, b := range budgets(t) {
		need := b.NeededHold()
		p("| `%s` | %v | %v | %v | %v | %v |", b.Profile, time.Duration(b.Attempts)*b.RenewEvery+b.RequestTimeout, b.LossAfter,
			need.Round(time.Millisecond/10), b.Hold(), (b.Hold() - need).Round(time.Millisecond/10))
	}
	p("\nA watchdog whose smallest timeout is above W makes TTL, and so H, longer by as much; the log says so.")
	p("With `mode = \"systemd\"` W counts as 1s.\n")
}

func comfort(t *testing.T, p func(string, ...any)) {
	t.Helper()
	p("## With Corosync\n")
	p("`notice(token)` is how long Corosync and Pacemaker take at most to act on the loss of the peer. A takeover after a")
	p("crash or a cut takes at most max(H, notice) plus the start of the resources.\n")
	p("A holder that is cut off from everything can prove itself stopped only after its own half has noticed:\n")
	p("    comfort   notice(token) + stop + 0.5s ≤ F − R, and stop + 0.5s ≤ S\n")
	p("Where that does not hold such a holder is reset instead of stopping cleanly. That is safe; `leasedog budget` and")
	p("`leasedog status` say so (they print the first of the two).\n")
	head, line := "| profile | F − R |", "|---|---|"
	for _, token := range tokens() {
		head += fmt.Sprintf(" token %v (notice %v) |", token, lease.Notice(token))
		line += "---|"
	}
	p("%s\n%s", head, line)
	for _, b := range budgets(t) {
		row := fmt.Sprintf("| `%s` | %v |", b.Profile, b.HardDeadline()-b.RenewEvery)
		for _, token := range tokens() {
			v, ok := b.Comfort(token, 0)
			if ok {
				room := min(b.HardDeadline()-b.RenewEvery-lease.Notice(token), b.StopBudget) - 500*time.Millisecond
				row += fmt.Sprintf(" a stop of up to %v fits |", room)
			} else {
				row += fmt.Sprintf(" reset (%v) |", v.Left)
			}
		}
		p("%s", row)
	}
}

// holdsUpTo is the largest rate error of both sides, in steps of 100 ppm, for which a budget's safety line holds.
func holdsUpTo(b lease.Budget) int {
	for len(b.Violations()) == 0 {
		b.DriftPPM += 100
	}
	return b.DriftPPM - 100
}

func clocks(t *testing.T, p func(string, ...any)) {
	t.Helper()
	p("\n## Clocks\n")
	p("All this holds while no clock's rate is wrong by more than ρ. What time a clock shows does not matter, and it may be")
	p("stepped. Each node measures how fast its CLOCK_BOOTTIME runs: against the arbiter's clock, whose readings come with every")
	p("answer, and against NTP servers where `[clock]` names some.\n")
	p("Two exchanges a and b with another clock bound the rate in between, whatever the network did: of the other clock at most")
	p("b.in − a.out + e passed, and of this one at least b.sent − a.received; and the other way round. e is what both readings may")
	p("be wrong by, by the server's own word (root delay / 2 + root dispersion + precision). A window is made longer until its")
	p("interval is narrower than ρ/2, or wholly beyond ρ: with a doubt of d in each exchange (round trip + 2·e) that takes about")
	p("4·d/ρ, and against the arbiter 20s at least. A verdict needs three windows in a row, wholly beyond its bound:\n")
	p("| doubt of an exchange | arbiter: verdict after | NTP each 64s: verdict after |\n|---|---|---|")
	for _, d := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		need := 4 * d * 1_000_000 / time.Duration(budgets(t)[0].DriftPPM)
		const each = 64 * time.Second
		p("| %v | %v | %v |", d, 3*max(need, 20*time.Second), 3*((need+each-1)/each)*each)
	}
	p("\nWhat is further off is found sooner. Beyond ρ/2: an alarm. Beyond ρ: the node does not compete. NTP servers need a")
	p("majority of those that are configured, and a single one is overruled by an arbiter whose clock runs like this node's.\n")
	p("The spare of a profile is room beyond ρ, for who knows that a clock of his is bad (both sides may be wrong by as much):\n")
	p("| profile | ρ | safety holds up to |\n|---|---|---|")
	for _, b := range budgets(t) {
		p("| `%s` | %d ppm | %d ppm |", b.Profile, b.DriftPPM, holdsUpTo(b))
	}
}
