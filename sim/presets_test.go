package sim

import (
	"flag"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

var simPreset = flag.String("sim.preset", "", "play the worlds of this preset; TestFirstViolation: until one is violated")

// presets are worlds in which a mistake shows soon: the faults that it needs are drawn more often. The invariants are the
// same everywhere.
func presets() map[string]Config {
	const hang = "stops hang, and a cut"
	lan := func(prefer ...string) Config { return Config{Profile: "lan", Arbiters: 1, Prefer: prefer} }
	several := lan(hang, "cut", "restart arbiter")
	several.Arbiters = 3
	wide := Config{Arbiters: 1, Nodes: 2, Faults: []string{hang}}
	wide.Budget = withoutMargin()
	mixed := Config{Profile: "standard", Arbiters: 1, Nodes: 2, Mixed: true, Prefer: []string{hang, "cut", "crash"}}
	leases := lan(hang, "leave", "switchover", "cut")
	leases.Leases = 3
	return map[string]Config{
		"leases":   leases,
		"mixed":    mixed,
		"slow":     lan("slow", "lossy", "cut", hang),
		"recover":  two(lan("recover", "recover", "lose store", "crash", "crash", "stop agent", "leave")),
		"resumes":  lan("pause", "pause", "resume asked elsewhere", "resume asked elsewhere", "cut", "stop agent"),
		"lost":     two(lan("lose store", "pause", "cut", "stop agent")),
		"bars":     lan("bar", "bar", "restore store", "restore store"),
		"paused":   lan("pause", "pause", "roll store back", "restore store", "crash", "leave"),
		"any":      lan(),
		"hang":     lan(hang, "cut"),
		"restarts": lan(hang, "restart arbiter", "restart arbiter", "cut"),
		"agents":   lan(hang, "kill agent", "leave", "stop agent", "cut"),
		"pauses":   lan(hang, "pause", "pause", "restart arbiter", "kill agent", "cut", "resume asked elsewhere"),
		"clones":   lan("clone", "clone", "pause", "leave"),
		"guards":   lan(hang, "freeze guard", "freeze guard"),
		"stores":   lan(hang, "lose store", "restore store", "roll store back", "cut", "crash", "leave", "pause"),
		"moves":    lan("leave", "switchover", "stops are slow"),
		"machines": lan(hang, "machine pause", "machine pause"),
		"free":     lan(hang, "free", "free", "cut"),
		"several":  several,
		"drift":    wide,
	}
}

func two(c Config) Config {
	c.Nodes = 2
	return c
}

// withoutMargin is a budget whose hold is what is needed, if clocks were perfect. Its deadlines are long, so that what clocks
// that are not come to is longer than a message takes. Without the mutation that ignores drift it is refused.
func withoutMargin() *lease.Budget {
	b, err := lease.Profile("lan")
	if err != nil {
		panic(err)
	}
	b.RenewEvery, b.RequestTimeout, b.LossAfter, b.StopBudget = 90*time.Second, 20*time.Second, 300*time.Second, 300*time.Second
	b.TTL = b.LossAfter + b.StopBudget + b.TimerSlack + b.Watchdog + b.Quantum + b.ResetLatency - b.Grace
	return &b
}

// TestFirstViolation plays the seeds of a preset until one is violated, and prints the lowest one that is. TestMutation runs
// it, with a mistake compiled in.
func TestFirstViolation(t *testing.T) {
	if *simPreset == "" {
		t.Skip("for TestMutation")
	}
	cfg, ok := presets()[*simPreset]
	if !ok {
		t.Fatalf("there is no preset %q", *simPreset)
	}
	var found []Result
	var mu sync.Mutex
	var next atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				seed := next.Add(1)
				if seed > *simSeeds {
					return
				}
				if r := Run(seed, cfg); len(r.Violations) > 0 {
					stop.Store(true)
					mu.Lock()
					found = append(found, r)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(found) == 0 {
		t.Logf("SURVIVED %d seeds", *simSeeds)
		return
	}
	slices.SortFunc(found, func(a, b Result) int { return int(a.Seed) - int(b.Seed) })
	t.Logf("CAUGHT %d %s", found[0].Seed, found[0].Violations[0])
}

// TestPresetsAreSafe: without a mistake none of these worlds is violated.
func TestPresetsAreSafe(t *testing.T) {
	for name, cfg := range presets() {
		if name == "drift" {
			continue // its budget is refused
		}
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 4; seed++ {
				for _, v := range Run(seed, cfg).Violations {
					t.Errorf("seed %d of preset %s: %s", seed, name, v)
				}
			}
		})
	}
}
