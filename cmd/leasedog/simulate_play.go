package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/sim"
)

const (
	year = 365 * 24 * time.Hour
	// settleTime is simulated before anything is to go wrong, and after it: a new pair needs some seconds to its first grant.
	settleTime = time.Minute
	// quietWorld is how long a world without outages is simulated; there are as many hours of it as samples, at most a week.
	quietWorld = time.Hour
	quietMost  = 168
	// rarely is an interval that no world reaches.
	rarely = 100 * year
)

// answer is what came of a question.
type answer struct {
	Question   question
	Tries      []try
	Quiet      time.Duration // simulated without any outage
	FalseStops int           // in it
	Resets     int
	Margin     time.Duration // the least time from the end of a holder's resources to the next grant
	Margins    int           // of so many
	Simulated  time.Duration
	Violations []string
}

// try is one thing that was tried Samples times.
type try struct {
	What       string
	Every      time.Duration // how often it happens; 0: not known
	Samples    int
	FalseStops int
	Resets     int
	Failovers  []time.Duration // sorted: for how long the service was gone, from the begin of its stop
	Since      []time.Duration // sorted: when another node ran it, after the fault
}

// play simulates everything on that many processors. The worlds do not depend on how they are spread.
func (q question) play(processors int) answer {
	a := answer{Question: q}
	span := settleTime + 3*q.Budget.Hold() + q.Stop.Max + q.Start.Max + 30*time.Second
	a.try(processors, q, "the holder loses power", 0, sim.Config{Span: span, Rates: map[string]time.Duration{"crash": 5 * span}}, 10)
	// A cut for longer than a hold, of one node: it is the holder in half of the worlds.
	long := 2*q.Budget.Hold() + q.Budget.HardDeadline()
	a.try(processors, q, "the holder loses every link", 0, worldOf(outage{For: long, Node: 1}, span), 2)
	for _, o := range q.Outages {
		a.try(processors, q, o.String(), o.Every, worldOf(o, span), 1)
	}
	hours := min(q.Samples, quietMost)
	results := q.worlds(processors, sim.Config{Span: quietWorld, Outages: []sim.Outage{{Every: rarely, For: time.Second}}}, hours)
	a.Quiet = time.Duration(hours) * quietWorld
	for _, r := range results {
		a.FalseStops += r.Stats.FalseStops
		a.Resets += r.Stats.Resets
		a.count(r)
	}
	return a
}

// worldOf makes a world in which one outage falls somewhere into the span.
func worldOf(o outage, span time.Duration) sim.Config {
	span += o.For
	return sim.Config{Span: span, Outages: []sim.Outage{{Every: span, For: o.For, Node: o.Node}}}
}

// try plays each world of which one in odds is expected to show it.
func (a *answer) try(processors int, q question, what string, every time.Duration, cfg sim.Config, odds int) {
	t := try{What: what, Every: every, Samples: q.Samples}
	for _, r := range q.worlds(processors, cfg, q.Samples*odds) {
		t.FalseStops += r.Stats.FalseStops
		t.Resets += r.Stats.Resets
		if len(r.Stats.Failover) > 0 && len(t.Failovers) < q.Samples {
			// The first one: what comes after it in the same world met a pair that was not at rest.
			gone, since := r.Stats.Failover[0], r.Stats.Since[0]
			if every == 0 { // the nodes have lost each other: nothing is started before Corosync has noticed
				noticed := lease.Notice(q.Token) + q.Start.Min
				gone, since = max(gone, noticed), max(since, noticed)
			}
			t.Failovers, t.Since = append(t.Failovers, gone), append(t.Since, since)
		}
		a.count(r)
	}
	slices.Sort(t.Failovers)
	slices.Sort(t.Since)
	a.Tries = append(a.Tries, t)
}

func (a *answer) count(r sim.Result) {
	a.Simulated += r.Simulated
	if s := r.Stats; s.Margins > 0 {
		if a.Margins == 0 || s.WorstMargin < a.Margin {
			a.Margin = s.WorstMargin
		}
		a.Margins += s.Margins
	}
	for _, v := range r.Violations {
		a.Violations = append(a.Violations, fmt.Sprintf("seed %d: %v", r.Seed, v))
	}
}

// worlds plays n of them, in the order of their seeds.
func (q question) worlds(processors int, cfg sim.Config, n int) []sim.Result {
	budget := q.Budget
	cfg.Budget, cfg.Nodes, cfg.Leases, cfg.Arbiters = &budget, 2, 1, 1
	cfg.Network, cfg.Stop, cfg.Start = q.Network, q.Stop, q.Start
	results := make([]sim.Result, n)
	var all sync.WaitGroup
	for p := range processors {
		all.Go(func() {
			for i := p; i < n; i += processors {
				results[i] = sim.Run(q.Seed*1_000_003+uint64(i), cfg)
			}
		})
	}
	all.Wait()
	return results
}

// percentile is by the nearest rank; 0 without any.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// aYear is how often a year something happens that was seen so often in this time, and the most that can be ruled out with
// 95 % confidence when it was not seen (the rule of three).
func aYear(seen int, in time.Duration) (rate, most float64) {
	rate = float64(seen) * float64(year) / float64(in)
	if seen == 0 {
		most = 3 * float64(year) / float64(in)
	}
	return rate, most
}

// bucket is one bar of a histogram.
type bucket struct {
	From, To time.Duration
	Count    int
}

// buckets divides what was seen into bars of a round width.
func buckets(sorted []time.Duration, most int) []bucket {
	if len(sorted) == 0 {
		return nil
	}
	low, high := sorted[0], sorted[len(sorted)-1]
	width := 10 * time.Millisecond
	for steps := []int64{2, 5, 10}; (high-low)/width >= time.Duration(most)-1; {
		next := width
		for _, s := range steps {
			if next = width * time.Duration(s); (high-low)/next < time.Duration(most)-1 {
				break
			}
		}
		width = next
	}
	var out []bucket
	for from := low.Truncate(width); from <= high; from += width {
		out = append(out, bucket{From: from, To: from + width})
	}
	for _, d := range sorted {
		out[(d-out[0].From)/width].Count++
	}
	return out
}
