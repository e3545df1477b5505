package lab

import (
	"slices"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	row := Scenario{Name: "row", Bound: 10 * time.Second}
	control := Scenario{Name: "control", Control: true}
	ok := Outcome{Gap: 3 * time.Second}
	for _, test := range []struct {
		name     string
		scenario Scenario
		runs     []Outcome
		pass     bool
		overlap  float64
		gap      float64
	}{
		{"good", row, []Outcome{ok, {Gap: 5 * time.Second}, ok}, true, 0, 5},
		{"one overlap spoils all", row, []Outcome{ok, {Overlap: time.Millisecond}, ok}, false, 0.001, 3},
		{"gone too long", row, []Outcome{{Gap: 11 * time.Second}, ok}, false, 0, 11},
		{"a problem", row, []Outcome{ok, {Problems: []string{"reset"}}}, false, 0, 3},
		{"a stall on the last try", row, []Outcome{{Stall: time.Second}}, false, 0, 0},
		{"a control overlaps each time", control, []Outcome{{Overlap: 3 * time.Second}, {Overlap: time.Second}}, true, 1, 0},
		{"a control that once did not", control, []Outcome{{Overlap: 3 * time.Second}, {}}, false, 0, 0},
		{"a control's gap has no bound", control, []Outcome{{Overlap: time.Second, Gap: time.Hour}}, true, 1, 3600},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Result{Pass: true}
			for i, o := range test.runs {
				(&Cluster{}).judge(&res, test.scenario, i, o)
			}
			if res.Pass != test.pass || res.Overlap != test.overlap || res.Gap != test.gap {
				t.Errorf("got pass %v, overlap %v, gap %v; want %v, %v, %v", res.Pass, res.Overlap, res.Gap, test.pass,
					test.overlap, test.gap)
			}
			if !res.Pass && len(res.Evidence) == 0 {
				t.Error("it failed and says nothing of why")
			}
		})
	}
}

// A stall may excuse silence, never a second copy that was seen.
func TestVoid(t *testing.T) {
	for _, test := range []struct {
		outcome Outcome
		want    bool
	}{
		{Outcome{Stall: observerGap}, false},
		{Outcome{Stall: observerGap + 1}, true},
		{Outcome{Stall: time.Second, Gap: time.Hour}, true},
		{Outcome{Stall: time.Second, Overlap: 1}, false},
		{Outcome{Stall: time.Second, Problems: []string{"reset"}}, false},
	} {
		if got := test.outcome.void(); got != test.want {
			t.Errorf("%+v: void is %v", test.outcome, got)
		}
	}
}

func TestTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	controls := 0
	for _, s := range Scenarios() {
		if seen[s.Name] {
			t.Errorf("two scenarios are called %s", s.Name)
		}
		seen[s.Name] = true
		if s.Run == nil || s.About == "" {
			t.Errorf("%s is not whole", s.Name)
		}
		if s.Control != (s.Bound == 0) {
			t.Errorf("%s: controls, and only they, have no bound", s.Name)
		}
		if s.Control {
			controls++
		}
		ours := s.Config.Stack == StackLeasedog || s.Config.Stack == StackClassic || s.Config.Bare // the row installs it
		if (s.Config.Mutant != "" || !ours) && !s.Control {
			t.Errorf("%s runs something that is not leasedog and is no control", s.Name)
		}
	}
	if controls < 4 {
		t.Errorf("there are %d controls, the tests of this harness need four kinds", controls)
	}
}

func TestSelect(t *testing.T) {
	if _, err := Select([]string{"no-such-row"}, false); err == nil {
		t.Error("an unknown name was taken")
	}
	one, err := Select([]string{"plain-pair"}, false)
	if err != nil || len(one) != 1 {
		t.Errorf("got %d, %v", len(one), err)
	}
	short, err := Select([]string{"all"}, true)
	if err != nil || len(short) == 0 || len(short) >= len(Scenarios()) {
		t.Errorf("short selects %d of %d, %v", len(short), len(Scenarios()), err)
	}
}

func TestDemoActsExist(t *testing.T) {
	if _, acts, err := demoActs(); err != nil || len(acts) != 4 {
		t.Errorf("%d acts, %v", len(acts), err)
	}
}

// A cluster stays with its configuration while there is any of it, and no row is handed out twice.
func TestRowQueue(t *testing.T) {
	a, b := Config{Profile: "a"}, Config{Profile: "b"}
	q := newRowQueue([]Scenario{{Name: "a1", Config: a}, {Name: "b1", Config: b}, {Name: "b2", Config: b}, {Name: "a2", Config: a},
		{Name: "b3", Config: b}})
	var got []string
	have := map[int]Config{}
	for i := 0; ; i++ {
		s, ok := q.next(have[i%2])
		if !ok {
			break
		}
		have[i%2] = s.Config
		got = append(got, s.Name)
	}
	// The first begins with the larger group, the second with what is the largest then; each stays with its own.
	if want := []string{"b1", "a1", "b2", "a2", "b3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
