package lab

import (
	"sort"
	"time"
)

// serveGap is how long a canary may be silent before its service counts as gone. Ten missed beats: less is scheduling.
const serveGap = 100 * time.Millisecond

// observerGap is how long the machine itself may stall near a decisive moment before a run proves nothing.
const observerGap = 50 * time.Millisecond

// decisive is how near to a start or an end of a canary a stall is held against the run.
const decisive = time.Second

// Interval is a span of time in which something lived: [From, To).
type Interval struct{ From, To Monotonic }

// Length is never negative.
func (i Interval) Length() time.Duration { return i.To.Sub(i.From) }

// Alive returns one interval for each process: from its first beat to one period after its last. A process that was
// silent in between was still there, so silence never hides an overlap. Beats may come unordered.
func Alive(beats []Beat) []Interval {
	at := map[string]int{}
	var alive []Interval
	for _, b := range beats {
		end := b.At.Add(beatPeriod)
		i, known := at[b.Instance]
		if !known {
			at[b.Instance] = len(alive)
			alive = append(alive, Interval{b.At, end})
			continue
		}
		alive[i].From, alive[i].To = min(alive[i].From, b.At), max(alive[i].To, end)
	}
	sort.Slice(alive, func(i, j int) bool { return alive[i].From < alive[j].From })
	return alive
}

// Served returns the spans in which somebody beat without a silence longer than serveGap. It takes the beats of all
// nodes together: who serves does not matter.
func Served(beats []Beat) []Interval {
	sorted := append([]Beat(nil), beats...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].At < sorted[j].At })
	var served []Interval
	for _, b := range sorted {
		end := b.At.Add(beatPeriod)
		if n := len(served); n > 0 && b.At.Sub(served[n-1].To) <= serveGap {
			served[n-1].To = max(served[n-1].To, end)
			continue
		}
		served = append(served, Interval{b.At, end})
	}
	return served
}

// Overlap returns for how long in all some interval of a and some interval of b both held. Intervals of one side may
// overlap each other; that is not counted twice.
func Overlap(a, b []Interval) time.Duration {
	a, b = merge(a), merge(b)
	var total time.Duration
	for _, x := range a {
		for _, y := range b {
			if from, to := max(x.From, y.From), min(x.To, y.To); from < to {
				total += to.Sub(from)
			}
		}
	}
	return total
}

func merge(in []Interval) []Interval {
	sorted := append([]Interval(nil), in...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].From < sorted[j].From })
	var out []Interval
	for _, x := range sorted {
		if n := len(out); n > 0 && x.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, x.To)
			continue
		}
		out = append(out, x)
	}
	return out
}

// Gap returns the longest time within window in which nobody served. The window's own ends count: nothing served at
// all is a gap as long as the window.
func Gap(served []Interval, window Interval) time.Duration {
	longest, at := time.Duration(0), window.From
	for _, s := range merge(served) {
		if s.To <= window.From || s.From >= window.To {
			continue
		}
		longest = max(longest, s.From.Sub(at))
		at = max(at, s.To)
	}
	if at < window.To {
		longest = max(longest, window.To.Sub(at))
	}
	return longest
}

// Stall returns the observer's longest silence that touches a decisive moment: within a second of an edge of any
// interval inside of the window. A stall elsewhere cannot hide that two copies ran or shorten a gap.
func Stall(observed []Beat, intervals []Interval, window Interval) time.Duration {
	var edges []Monotonic
	for _, i := range intervals {
		edges = append(edges, i.From, i.To)
	}
	sort.Slice(edges, func(i, j int) bool { return edges[i] < edges[j] })
	var longest time.Duration
	last := window.From
	consider := func(next Monotonic) {
		silence := Interval{last, next}
		last = max(last, next)
		if silence.Length() <= longest {
			return
		}
		for _, edge := range edges {
			inside := edge > window.From && edge < window.To
			if inside && silence.From <= edge.Add(decisive) && silence.To >= edge.Add(-decisive) {
				longest = silence.Length()
				return
			}
		}
	}
	for _, b := range observed {
		if b.At > window.From && b.At < window.To {
			consider(b.At)
		}
	}
	consider(window.To)
	return longest
}
