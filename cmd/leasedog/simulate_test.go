package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/sim"
)

func TestBuckets(t *testing.T) {
	ms := func(all ...int) (out []time.Duration) {
		for _, x := range all {
			out = append(out, time.Duration(x)*time.Millisecond)
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		seen  []time.Duration
		width time.Duration
		first time.Duration
		count []int
	}{
		{"one value", ms(1234), 10 * time.Millisecond, 1230 * time.Millisecond, []int{1}},
		{"a round width", ms(1000, 1049, 1050, 1390), 50 * time.Millisecond, time.Second, []int{2, 1, 0, 0, 0, 0, 0, 1}},
		{"far apart", ms(10, 100_000), 10 * time.Second, 0, []int{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := buckets(tc.seen, 12)
			var count []int
			for i, b := range got {
				if b.From != tc.first+time.Duration(i)*tc.width || b.To != b.From+tc.width {
					t.Fatalf("bar %d is from %v to %v", i, b.From, b.To)
				}
				count = append(count, b.Count)
			}
			if d := cmp.Diff(tc.count, count); d != "" {
				t.Error(d)
			}
		})
	}
	if buckets(nil, 12) != nil {
		t.Error("bars of nothing")
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for percent, want := range map[int]time.Duration{0: 1, 1: 1, 50: 50, 99: 99, 100: 100} {
		if got := percentile(hundred, percent); got != want {
			t.Errorf("%d %%: got %d", percent, got)
		}
	}
}

func TestAYear(t *testing.T) {
	if rate, most := aYear(2, year/4); rate != 8 || most != 0 {
		t.Errorf("got %v, %v", rate, most)
	}
	if rate, most := aYear(0, year/4); rate != 0 || most != 12 {
		t.Errorf("nothing seen: got %v, %v", rate, most)
	}
}

func lanQuestion(t *testing.T) question {
	b, err := lease.Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	ms := time.Millisecond
	return question{Source: "profile lan", Budget: b, Token: time.Second, Samples: 15, Seed: 1,
		Network: sim.Network{Latency: sim.Range{Min: ms, Max: 3 * ms}}, Stop: sim.Range{Min: 100 * ms, Max: 200 * ms},
		Start:   sim.Range{Min: 100 * ms, Max: 200 * ms},
		Outages: []outage{{For: time.Second, Every: 12 * time.Hour}, {For: 10 * time.Second, Every: 12 * time.Hour}}}
}

// What is predicted agrees with the budget: a dead holder's hold is waited out, an outage below L costs nothing, one above L
// stops the service.
func TestSimulate_AgreesWithTheBudget(t *testing.T) {
	q := lanQuestion(t)
	a := q.play(2)
	if len(a.Violations) > 0 || len(a.Tries) != 4 {
		t.Fatalf("%d tries, %v", len(a.Tries), a.Violations)
	}
	b := q.Budget
	crash, isolated, short, long := a.Tries[0], a.Tries[1], a.Tries[2], a.Tries[3]
	if least := b.Hold() - b.RenewEvery; len(crash.Failovers) < 5 || crash.Failovers[0] < least ||
		percentile(crash.Failovers, 50) > b.Hold()+q.Start.Max+time.Second {
		t.Errorf("crash: %v", crash.Failovers)
	}
	if least := b.Hold() - b.RenewEvery - b.RequestTimeout; len(isolated.Since) != len(isolated.Failovers) ||
		isolated.Since[0] < least || isolated.Since[0] < isolated.Failovers[0] {
		t.Errorf("isolated, since the fault: %v, the service is gone for %v", isolated.Since, isolated.Failovers)
	}
	if len(isolated.Failovers) < 5 || percentile(isolated.Failovers, 50) > b.Hold()-b.LossAfter+time.Second {
		t.Errorf("isolated: %v", isolated.Failovers)
	}
	if short.FalseStops+short.Resets+len(short.Failovers) > 0 {
		t.Errorf("an outage of 1 s: %+v", short)
	}
	if long.FalseStops < q.Samples*9/10 || long.Resets > 0 {
		t.Errorf("an outage of 10 s: %d stops, %d resets", long.FalseStops, long.Resets)
	}
	if a.FalseStops+a.Resets > 0 || a.Margins == 0 || a.Margin <= 0 {
		t.Errorf("ordinary days: %d stops, %d resets; margin %v of %d", a.FalseStops, a.Resets, a.Margin, a.Margins)
	}
	q.Samples = 2
	if d := cmp.Diff(q.play(3).text(), q.play(1).text()); d != "" {
		t.Errorf("another number of processors gives another answer: %s", d)
	}
	checkPage(t, a)
}

// checkPage reads the report as XML, which it is apart from the declaration, and looks for what would load something.
func checkPage(t *testing.T, a answer) {
	page, err := a.html()
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(string(page)))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	rects := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if el, ok := token.(xml.StartElement); ok {
			switch el.Name.Local {
			case "rect":
				rects++
			case "script", "link", "img", "iframe":
				t.Errorf("the report has a %s", el.Name.Local)
			}
		}
	}
	if rects < 10 || strings.Contains(string(page), "http") {
		t.Errorf("%d bars, or an address, in the report", rects)
	}
}

func TestSimulate_Broken(t *testing.T) {
	a := answer{Question: lanQuestion(t), Quiet: time.Hour, Violations: []string{"seed 7: I1: twice"}}
	if text := a.text(); !strings.Contains(text, "BROKEN: seed 7: I1: twice") || strings.Contains(text, "No other node was granted") {
		t.Error(text)
	}
	data, err := json.Marshal(a.json())
	if err != nil || !strings.Contains(string(data), `"violations":["seed 7: I1: twice"]`) {
		t.Errorf("%s %v", data, err)
	}
}
