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
