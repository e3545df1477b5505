package model

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

func source(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The table must name what the models know, and every rule that a model can do without must be taken away once.
func TestTableFitsTheModels(t *testing.T) {
	models, err := filepath.Glob("*.pml")
	if err != nil || len(models) != 2 {
		t.Fatalf("models: %v, %v", models, err)
	}
	macro := regexp.MustCompile(`\b(?:NO|BAD)_[A-Z_]+\b`)
	for _, name := range models {
		text := source(t, name)
		for _, m := range macro.FindAllString(text, -1) {
			taken := func(c Config) bool { return c.Model == name && slices.Contains(c.Defines, m) }
			if m != "NO_" && m != "BAD_" && !slices.ContainsFunc(Table(), taken) {
				t.Errorf("%s: no configuration defines %s", name, m)
			}
		}
		for _, c := range Table() {
			if c.Model != name {
				continue
			}
			for _, d := range c.Defines {
				key, _, _ := strings.Cut(d, "=")
				if !regexp.MustCompile(`\b` + key + `\b`).MatchString(text) {
					t.Errorf("%s: %s knows no %s", c.Name, name, key)
				}
			}
			if c.Rule == "" || !regexp.MustCompile(regexp.QuoteMeta(c.Rule)+`\b`).MatchString(text) {
				t.Errorf("%s: %s says nothing of rule %q", c.Name, name, c.Rule)
			}
		}
	}
}

func TestTable(t *testing.T) {
	names := map[string]bool{}
	count := map[string]map[bool]int{leaseModel: {}, recordModel: {}}
	for _, c := range Table() {
		if names[c.Name] {
			t.Errorf("two configurations are called %q", c.Name)
		}
		names[c.Name] = true
		count[c.Model][c.Holds()]++
		if c.Holds() && c.macro() != "" {
			t.Errorf("%s takes %s away and must hold all the same", c.Name, c.macro())
		}
	}
	for name, n := range count {
		if n[true] < 3 || n[false] < 8 {
			t.Errorf("%s: %d configurations hold and %d do not: at least 3 and 8 are wanted", name, n[true], n[false])
		}
	}
}

// A counterexample says something of a rule only if there is none with the rule.
func TestEveryCounterexampleHasItsPositive(t *testing.T) {
	for _, c := range Table() {
		if c.Model != recordModel || c.Holds() {
			continue
		}
		with := slices.DeleteFunc(slices.Clone(c.Defines), func(d string) bool {
			return strings.HasPrefix(d, "BAD_")
		})
		if !slices.ContainsFunc(Table(), func(p Config) bool { return p.Holds() && covers(p.Defines, with) }) {
			t.Errorf("%s: no positive configuration covers %v", c.Name, with)
		}
	}
}

// covers reports whether a positive configuration allows all that the other one does: the same faults, no fewer requests.
func covers(positive, other []string) bool {
	value := func(defines []string, key string) string {
		for _, d := range defines {
			if k, v, _ := strings.Cut(d, "="); k == key {
				return "=" + v
			}
		}
		return ""
	}
	for _, key := range []string{"SEQS", "PEERSEQS", "EPOCHS", "BOOTS", "AGENTS", "RESTARTS", "PAUSE", "CLONE", "ROLLBACK"} {
		if value(positive, key) < value(other, key) {
			return false
		}
	}
	for _, key := range []string{"DECLARED", "EMPTY", "BEGINS_HELD"} {
		if value(positive, key) != value(other, key) {
			return false
		}
	}
	return true
}

// The bound in the table is that of the production code, and each pair differs by one tick.
func TestBounds(t *testing.T) {
	pairs := bounds()
	for i := 0; i < len(pairs); i += 2 {
		holds, fails := pairs[i], pairs[i+1]
		n := len(holds.Defines) - 1
		if !holds.Holds() || fails.Holds() || !slices.Equal(holds.Defines[:n], fails.Defines[:n]) {
			t.Errorf("%s and %s are no pair", holds.Name, fails.Name)
		}
	}
	if got := base().Hold(); got != 9 {
		t.Errorf("the base configuration needs a hold of %d ticks, want L+S+J+W+Q+K = 9", got)
	}
	drift := base()
	drift.Rho = 10
	terms := lease.Terms{LossAfter: 2 * tick, StopBudget: 2 * tick, TimerSlack: tick, Watchdog: 2 * tick, Quantum: tick, Chances: 1,
		ResetLatency: tick, DriftPPM: 100_000}
	if need := terms.NeededHold(); time.Duration(drift.Hold())*tick < need || time.Duration(drift.Hold()-1)*tick >= need {
		t.Errorf("a hold of %d ticks is not %v rounded up", drift.Hold(), need)
	}
}

func TestVerdict(t *testing.T) {
	const end = "State-vector 28 byte, depth reached 950, errors: %\n    91940 states, stored\n"
	clean := strings.Replace(end, "%", "0", 1)
	found := strings.Replace(end, "%", "1", 1)
	for _, c := range []struct {
		name, out      string
		counterexample bool
		bad            bool
	}{
		{"holds", clean, false, false},
		{"counterexample", "pan:1: assertion violated  !(running) (at depth 3)\nWarning: Search not completed\n" + found, true, false},
		{"blocked", "pan:1: invalid end state (at depth 3)\nWarning: Search not completed\n" + found, false, true},
		{"cut short", "Warning: Search not completed\n" + clean, false, true},
		{"too deep", "error: max search depth too small\n" + clean, false, true},
		{"out of memory", "pan: reached -DMEMLIM bound\nWarning: Search not completed\n" + clean, false, true},
		{"killed", "", false, true},
	} {
		counterexample, states, err := verdict([]byte(c.out))
		if counterexample != c.counterexample || (err != nil) != c.bad || err == nil && states != 91940 {
			t.Errorf("%s: counterexample %v, %d states, %v", c.name, counterexample, states, err)
		}
	}
}

func TestSurprises(t *testing.T) {
	positive, negative := Config{Name: "p"}, Config{Name: "n", Without: "a rule"}
	for _, c := range []struct {
		r    Result
		want int
	}{
		{Result{Config: positive}, 0},
		{Result{Config: positive, Counterexample: true}, 1},
		{Result{Config: negative, Counterexample: true}, 0},
		{Result{Config: negative}, 1},
		{Result{Config: positive, Err: errors.New("killed")}, 1},
		{Result{Config: negative, Err: errors.New("killed")}, 1},
		{Result{Config: negative, Counterexample: true, Err: errors.New("killed")}, 1},
	} {
		if got := Surprises([]Result{c.r}); got != c.want {
			t.Errorf("%+v: %d surprises, want %d", c.r, got, c.want)
		}
	}
	var out bytes.Buffer
	if err := Print(&out, []Result{{Config: negative}}); err != nil || !strings.Contains(out.String(), "a rule") {
		t.Errorf("%q, %v", out.String(), err)
	}
	if s := Markdown([]Result{{Config: negative}}, time.Second); !strings.Contains(s, "| n |") || strings.Contains(s, "%!") {
		t.Error(s)
	}
}
