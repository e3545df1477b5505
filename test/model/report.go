package model

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

func word(holds bool) string {
	if holds {
		return "holds"
	}
	return "counterexample"
}

func (r Result) got() string {
	if r.Err != nil {
		return "no verdict"
	}
	return word(!r.Counterexample)
}

func (r Result) line() string {
	mark := "ok      "
	if !r.AsExpected() {
		mark = "SURPRISE"
	}
	s := fmt.Sprintf("%s %-38s expected %-14s got %-14s %9d states %6.1f s", mark, r.Name, word(r.Holds()), r.got(), r.States,
		r.Took.Seconds())
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Surprises counts the results that are not as expected.
func Surprises(results []Result) int {
	n := 0
	for _, r := range results {
		if !r.AsExpected() {
			n++
		}
	}
	return n
}

// Print prints the table.
func Print(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CONFIGURATION\tMODEL\tRULE\tTAKEN AWAY\tEXPECTED\tGOT\tSTATES\tSECONDS")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%.1f\n", r.Name, r.Model, r.Rule, r.Without, word(r.Holds()), r.got(), r.States,
			r.Took.Seconds())
	}
	return t.Flush()
}

// Markdown is the section Models of docs/VERIFICATION.md.
func Markdown(results []Result, took time.Duration) string {
	var b strings.Builder
	holds := 0
	for _, r := range results {
		if r.Holds() {
			holds++
		}
	}
	fmt.Fprintf(&b, `Two Promela models stand in [test/model](../test/model), checked exhaustively by spin; %[1]smake model%[1]s runs them all,
checks every verdict and writes this section. A configuration without anything taken away must hold: spin has seen every
state. One that takes a rule away must give a counterexample, or the model does not know the rule. The comments of the
models name the rules. "counterexample" counts states until it was found.

- %[1]slease.pml%[1]s: one grant against the clock. Requests and answers are lost, late, doubled; agent and guard are frozen or dead
  at any instant; a stop hangs; clocks drift; the arbiter restarts. Its hold is what %[1]slease.Terms.NeededHold%[1]s says for the same
  durations; one tick less fails, for every duration that the bound has.
- %[1]srecord.pml%[1]s: the arbiter's record, without a clock: epochs, overtaking and doubled requests, restarts of the arbiter and of
  an agent, resets and reboots, a rolled-back store and recovery, a clone, pause, resume, release. What lease.pml proves is
  its only notion of time: who has an acknowledged renewal is reset before a hold that was counted later ends.

Not in the models: leaving, switchover, bars, the classic listener, several arbiters on one store, machine pauses; a
store that is rolled back without anybody knowing it, when no node that speaks has seen more (DESIGN 4.3.7 excludes it).

%[2]d configurations, %[3]d must hold and %[4]d must not; %[5]d surprises; %.0[6]f s.

`, "`", len(results), holds, len(results)-holds, Surprises(results), took.Seconds())
	b.WriteString("| configuration | model | rule | taken away | expected | got | states | seconds |\n|---|---|---|---|---|---|---:|---:|\n")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %d | %.1f |\n", r.Name, r.Model, r.Rule, r.Without, word(r.Holds()), r.got(),
			r.States, r.Took.Seconds())
	}
	return b.String()
}
