package lease

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The table of the design, number by number.
func TestProfiles(t *testing.T) {
	for _, tc := range []struct {
		name        string
		hard, hold  time.Duration
		left, right string
	}{
		{"fast", 1150 * ms, 2600 * ms, "", ""},
		{"lan", 5500 * ms, 8750 * ms, "", ""},
		{"standard", 20 * time.Second, 27 * time.Second, "", ""},
		{"wan", 35 * time.Second, 44 * time.Second, "", ""},
	} {
		b, err := Profile(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		if v := b.Violations(); len(v) > 0 {
			t.Errorf("%s: %v", tc.name, v)
		}
		if b.HardDeadline() != tc.hard || b.Hold() != tc.hold {
			t.Errorf("%s: F %v H %v, want %v %v", tc.name, b.HardDeadline(), b.Hold(), tc.hard, tc.hold)
		}
	}
	if _, err := Profile("quick"); err == nil || !strings.Contains(err.Error(), "fast, lan") {
		t.Errorf("unknown profile: %v", err)
	}
}

// exactHold recomputes the left side of the safety inequality on its own.
func exactHold(t Terms) *big.Rat {
	r := func(d time.Duration) *big.Rat { return new(big.Rat).SetInt64(int64(d)) }
	rho := big.NewRat(int64(t.DriftPPM), 1_000_000)
	one := big.NewRat(1, 1)
	dog := new(big.Rat).Mul(new(big.Rat).Add(r(t.Watchdog), r(t.Quantum)), big.NewRat(int64(t.Chances), 1))
	sum := new(big.Rat).Add(r(t.LossAfter), r(t.StopBudget))
	sum.Add(sum, r(t.TimerSlack)).Add(sum, dog)
	sum.Quo(sum, new(big.Rat).Sub(one, rho)).Add(sum, r(t.ResetLatency))
	return sum.Mul(sum, new(big.Rat).Add(one, rho))
}

func drawTerms(t *rapid.T) Terms {
	d := func(name string) time.Duration {
		return time.Duration(rapid.Int64Range(1, int64(maxDuration)).Draw(t, name))
	}
	return Terms{LossAfter: d("L"), StopBudget: d("S"), TimerSlack: d("J"), Watchdog: d("W"), Quantum: d("q"),
		Chances: rapid.IntRange(1, 2).Draw(t, "c"), ResetLatency: d("K"), DriftPPM: rapid.IntRange(0, maxDriftPPM).Draw(t, "ppm")}
}

// NeededHold is the exact value rounded up, for every allowed input; nothing overflows.
func TestNeededHoldIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := drawTerms(t)
		got, exact := new(big.Rat).SetInt64(int64(terms.NeededHold())), exactHold(terms)
		if got.Cmp(exact) < 0 || new(big.Rat).Sub(got, exact).Cmp(big.NewRat(1, 1)) >= 0 {
			t.Fatalf("needed %v, exact %v", got, exact.FloatString(3))
		}
	})
}

// Any hold that CheckSafety accepts satisfies the exact inequality, and the next smaller nanosecond is refused.
func TestCheckSafetyIsTight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := drawTerms(t)
		need := terms.NeededHold()
		if v := CheckSafety(terms, need); len(v) != 0 {
			t.Fatal(v)
		}
		if v := CheckSafety(terms, need-1); len(v) != 1 || v[0].Line != "safety" {
			t.Fatalf("one nanosecond less is accepted: %v", v)
		}
	})
}

func TestViolationsNameBothSides(t *testing.T) {
	b := lan
	b.StopBudget = 30 * time.Second
	v := b.Violations()
	if len(v) != 1 || !strings.Contains(v[0].String(), "H violated") || !strings.Contains(v[0].String(), "8.75s") {
		t.Errorf("%v", v)
	}
	b = lan
	b.LossAfter = 2 * time.Second
	v = b.Violations()
	if len(v) != 1 || v[0].Line != "liveness" || v[0].Left != 3*time.Second || v[0].Right != 2*time.Second {
		t.Errorf("%v", v)
	}
	b = lan
	b.StopBudget = -1
	b.Chances = 0
	if v = b.Violations(); len(v) != 2 || v[0].Line != "range" {
		t.Errorf("%v", v)
	}
}

// TestBudgetComfortLine: lan wants a token of 1000, 3000 wants standard, fast always resets an isolated holder.
func TestBudgetComfortLine(t *testing.T) {
	for _, tc := range []struct {
		profile string
		token   time.Duration
		ok      bool
	}{
		{"lan", time.Second, true}, {"lan", 3 * time.Second, false},
		{"standard", 3 * time.Second, true}, {"wan", 3 * time.Second, true},
		{"fast", 500 * ms, false}, {"fast", 300 * ms, false},
	} {
		b, _ := Profile(tc.profile)
		v, ok := b.Comfort(tc.token, 200*ms)
		if ok != tc.ok {
			t.Errorf("%s with a token of %v: %v %v", tc.profile, tc.token, ok, v)
		}
		if !ok && (v.Left <= v.Right || !strings.Contains(v.Advice, "reset instead of stopping")) {
			t.Errorf("%s: %v", tc.profile, v)
		}
	}
}

// A watchdog that is slower than asked for makes H follow, and the result still satisfies the inequality.
func TestWithWatchdog(t *testing.T) {
	for _, name := range ProfileNames() {
		b, _ := Profile(name)
		for _, w := range []time.Duration{time.Second, 3 * time.Second, 8 * time.Second, 60 * time.Second} {
			for _, b := range []Budget{b.WithWatchdog(w), b.WithWatchdog(w).WithoutKillTimer(), b.WithoutKillTimer().WithWatchdog(w)} {
				if v := b.Violations(); len(v) > 0 {
					t.Errorf("%s with W %v c %d: %v", name, w, b.Chances, v)
				}
			}
			if w > b.Watchdog && b.WithWatchdog(w).Hold() <= b.Hold() {
				t.Errorf("%s: H does not follow W %v", name, w)
			}
		}
	}
}

// FuzzPauseBudget: a pause of any length satisfies the inequality with the hold that Pause computes, and never
// with a plain D + H once drift has grown.
func FuzzPauseBudget(f *testing.F) {
	for _, d := range []time.Duration{time.Second, time.Hour, 8 * time.Hour, 7 * 24 * time.Hour} {
		f.Add(int64(d), 1000)
	}
	f.Fuzz(func(t *testing.T, d int64, ppm int) {
		if d <= 0 || time.Duration(d) > maxDuration || ppm < 0 || ppm > maxDriftPPM {
			return
		}
		terms := lan.Terms
		terms.DriftPPM = ppm
		hold := terms.PauseHold(time.Duration(d))
		terms.LossAfter = time.Duration(d)
		if v := CheckSafety(terms, hold); len(v) > 0 {
			t.Fatal(v)
		}
		if exactHold(terms).Cmp(new(big.Rat).SetInt64(int64(hold))) > 0 {
			t.Fatal("the hold of the pause is shorter than the bound")
		}
	})
	if plain := 8*time.Hour + lan.Hold(); lan.Terms.PauseHold(8*time.Hour) <= plain {
		f.Fatal("drift does not grow with the pause")
	}
}

func TestInstantSaturates(t *testing.T) {
	if Never.Add(time.Hour) != Never || Instant(5).Add(1<<63-1) != Never || Never.Sub(5) <= 0 {
		t.Fatal("Instant overflows")
	}
}

func TestInstanceRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := Instance{Start: Instant(rapid.Int64Range(1, 1<<62).Draw(t, "start")), Nonce: rapid.Uint64().Draw(t, "nonce")}
		j, err := ParseInstance(i.String())
		if err != nil || i != j {
			t.Fatalf("%v %v %v", i, j, err)
		}
	})
	for _, bad := range []string{"", "-", "1-", "0-0000000000000000", "1-2", "01-0000000000000001", "-5-0000000000000001"} {
		if _, err := ParseInstance(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	a, b := Instance{1, 1}, Instance{1, 2}
	if a.Older(b) == b.Older(a) || a.Older(a) {
		t.Error("of two different instances exactly one is the older")
	}
}
