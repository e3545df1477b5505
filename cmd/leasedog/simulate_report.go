package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"time"
)

const barWidth = 40

// text is the answer for a terminal.
func (a answer) text() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, line := range a.head() {
		p("%s", line)
	}
	for _, t := range a.Tries {
		p("\nIf %s (%d times)", t.What, t.Samples)
		for _, line := range t.lines() {
			p("  %s", line)
		}
		high := 0
		bars := buckets(t.Failovers, 12)
		for _, k := range bars {
			high = max(high, k.Count)
		}
		for _, k := range bars {
			p("    %6.2f s  %s %d", k.From.Seconds(), strings.Repeat("#", (k.Count*barWidth+high-1)/high), k.Count)
		}
	}
	p("\nOn ordinary days, with this latency and loss alone (%v simulated)", a.Quiet)
	for _, line := range a.ordinary() {
		p("  %s", line)
	}
	p("")
	for _, line := range a.foot() {
		p("%s", line)
	}
	return b.String()
}

func (a answer) head() []string {
	q := a.Question
	return []string{
		fmt.Sprintf("Budget from %s: renewed each %v, lost after %v, reset at %v, hold %v", q.Source, q.Budget.RenewEvery,
			q.Budget.LossAfter, q.Budget.HardDeadline(), q.Budget.Hold()),
		fmt.Sprintf("Network: %v to %v one way, %g %% lost, %g %% twice; token %v", q.Network.Latency.Min, q.Network.Latency.Max,
			q.Network.Loss, q.Network.Twice, q.Token),
		fmt.Sprintf("Resources: stop in %v to %v, start in %v to %v", q.Stop.Min, q.Stop.Max, q.Start.Min, q.Start.Max),
	}
}

func (t try) lines() []string {
	var out []string
	if len(t.Failovers) > 0 {
		at := func(percent int) float64 { return percentile(t.Failovers, percent).Seconds() }
		out = append(out, fmt.Sprintf("the service is gone for %.2f s (least %.2f, 95 %% %.2f, 99 %% %.2f, most %.2f; %d failovers)",
			at(50), at(0), at(95), at(99), at(100), len(t.Failovers)))
	} else if t.Every > 0 {
		out = append(out, "the service goes on")
	}
	if t.Every == 0 {
		at := func(percent int) float64 { return percentile(t.Since, percent).Seconds() }
		out = append(out, fmt.Sprintf("another node runs it %.2f s after the fault (least %.2f, most %.2f)", at(50), at(0), at(100)))
		return append(out, fmt.Sprintf("resets of a node that lived: %d", t.Resets))
	}
	in := time.Duration(t.Samples) * t.Every
	return append(out, "stops of the service: "+often(t.FalseStops, in), "resets: "+often(t.Resets, in))
}

func (a answer) ordinary() []string {
	return []string{"stops of the service: " + often(a.FalseStops, a.Quiet), "resets: " + often(a.Resets, a.Quiet)}
}

func often(seen int, in time.Duration) string {
	rate, most := aYear(seen, in)
	if seen == 0 {
		return fmt.Sprintf("none seen (at most %.0f a year, at 95 %% confidence)", most)
	}
	return fmt.Sprintf("%.3g a year (%d seen)", rate, seen)
}

func (a answer) foot() []string {
	out := []string{"No other node was granted the lease while resources ran."}
	if a.Margins > 0 {
		out = append(out, fmt.Sprintf("Of %d times that a node got the lease after another one, the resources had stopped %.2f s before at least.",
			a.Margins, a.Margin.Seconds()))
	}
	if len(a.Violations) > 0 {
		out[0] = "BROKEN: " + strings.Join(a.Violations, "; ")
	}
	return append(out, fmt.Sprintf("Simulated: %v.", a.Simulated.Round(time.Minute)))
}

type simulateJSON struct {
	Schema     int       `json:"schema"`
	Budget     string    `json:"budget"`
	HoldS      float64   `json:"hold_s"`
	Seed       uint64    `json:"seed"`
	SimulatedS float64   `json:"simulated_s"`
	Tries      []tryJSON `json:"tries"`
	Ordinary   rateJSON  `json:"ordinary"`
	MarginS    *float64  `json:"worst_margin_s"` // null: no lease changed hands
	Violations []string  `json:"violations"`
}

type rateJSON struct {
	OverS           float64 `json:"over_s"`
	FalseStops      int     `json:"false_stops"`
	Resets          int     `json:"resets"`
	FalseStopsAYear float64 `json:"false_stops_a_year"`
	ResetsAYear     float64 `json:"resets_a_year"`
}

type tryJSON struct {
	What      string    `json:"what"`
	Samples   int       `json:"samples"`
	FailoverS []float64 `json:"failover_s"` // sorted: the service is gone, from the begin of its stop
	SinceS    []float64 `json:"since_s"`    // sorted: another node runs it, after the fault
	P50S      float64   `json:"p50_s"`
	P99S      float64   `json:"p99_s"`
	Resets    int       `json:"resets"`
	Rate      *rateJSON `json:"rate"` // null: how often it happens is not known
}

func rateOf(stops, resets int, in time.Duration) rateJSON {
	s, _ := aYear(stops, in)
	r, _ := aYear(resets, in)
	return rateJSON{in.Seconds(), stops, resets, s, r}
}

func (a answer) json() simulateJSON {
	out := simulateJSON{Schema: 1, Budget: a.Question.Source, HoldS: a.Question.Budget.Hold().Seconds(), Seed: a.Question.Seed,
		SimulatedS: a.Simulated.Seconds(), Tries: []tryJSON{}, Ordinary: rateOf(a.FalseStops, a.Resets, a.Quiet),
		Violations: append([]string{}, a.Violations...)}
	if a.Margins > 0 {
		s := a.Margin.Seconds()
		out.MarginS = &s
	}
	for _, t := range a.Tries {
		j := tryJSON{What: t.What, Samples: t.Samples, FailoverS: []float64{}, SinceS: []float64{}, Resets: t.Resets,
			P50S: percentile(t.Failovers, 50).Seconds(), P99S: percentile(t.Failovers, 99).Seconds()}
		for _, d := range t.Failovers {
			j.FailoverS = append(j.FailoverS, d.Seconds())
		}
		for _, d := range t.Since {
			j.SinceS = append(j.SinceS, d.Seconds())
		}
		if t.Every > 0 {
			r := rateOf(t.FalseStops, t.Resets, time.Duration(t.Samples)*t.Every)
			j.Rate = &r
		}
		out.Tries = append(out.Tries, j)
	}
	return out
}

//go:embed simulate.html
var simulatePage string

// bar is a rectangle of a plot, in its coordinates.
type bar struct {
	X, Y, W, H float64
	Title      string
}

type plot struct {
	Title string
	Lines []string
	Bars  []bar
	Ticks []tick
}

type tick struct {
	X    float64
	Text string
}

// Size of a plot.
const (
	plotWidth  = 640.0
	plotHeight = 160.0
)

func plotOf(t try) plot {
	p := plot{Title: fmt.Sprintf("If %s (%d times)", t.What, t.Samples), Lines: t.lines()}
	bars := buckets(t.Failovers, 40)
	high := 0
	for _, k := range bars {
		high = max(high, k.Count)
	}
	for i, k := range bars {
		w := plotWidth / float64(len(bars))
		h := plotHeight * float64(k.Count) / float64(high)
		p.Bars = append(p.Bars, bar{X: w * float64(i), Y: plotHeight - h, W: w - 1, H: h,
			Title: fmt.Sprintf("%.2f to %.2f s: %d", k.From.Seconds(), k.To.Seconds(), k.Count)})
		if i%max(1, len(bars)/8) == 0 {
			p.Ticks = append(p.Ticks, tick{w * float64(i), fmt.Sprintf("%.2f s", k.From.Seconds())})
		}
	}
	return p
}

// html is the answer as a page of its own: no script, nothing from elsewhere.
func (a answer) html() ([]byte, error) {
	page, err := template.New("simulate").Parse(simulatePage)
	if err != nil {
		return nil, err
	}
	data := struct {
		Head, Ordinary, Foot []string
		Quiet                time.Duration
		Plots                []plot
		Width, Height        float64
	}{a.head(), a.ordinary(), a.foot(), a.Quiet, nil, plotWidth, plotHeight}
	for _, t := range a.Tries {
		data.Plots = append(data.Plots, plotOf(t))
	}
	var b bytes.Buffer
	err = page.Execute(&b, data)
	return b.Bytes(), err
}
