package sim

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simSeed    = flag.Uint64("sim.seed", 0, "play this seed of TestSim only, and print its timeline")
	simOnly    = flag.String("sim.only", "", "with -sim.seed: of its faults only these, by number: 3,7")
	simSeeds   = flag.Uint64("sim.seeds", 300, "how many seeds TestSim plays")
	simFirst   = flag.Uint64("sim.first", 1, "the first of them")
	simArbiter = flag.Int("sim.arbiters", 0, "so many arbiters instead of a drawn number")
	simProfile = flag.String("sim.profile", "", "play this profile instead of a drawn one")
)

// TestSim attacks the protocol with random faults. A failing seed is shrunk to the fewest faults that still fail, and
// printed with its timeline and the line that replays it.
func TestSim(t *testing.T) {
	cfg := presets()[*simPreset]
	if *simProfile != "" {
		cfg.Profile = *simProfile
	}
	if *simArbiter != 0 {
		cfg.Arbiters = *simArbiter
	}
	if *simSeed != 0 {
		replay(t, *simSeed, cfg)
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(4000)) // worlds are small and short-lived: collect when they come to some 160 MB
	start := time.Now()
	sum := seeds(*simFirst, *simSeeds, cfg, func(r Result) bool {
		report(t, r.Seed, cfg)
		return true
	})
	took := time.Since(start)
	t.Logf("%d seeds, %v simulated in %v (%.0f s a second), %d events, %d rounds, %d grants, %d resets, worst margin %v",
		sum.seeds, sum.simulated, took.Round(time.Millisecond), sum.simulated.Seconds()/took.Seconds(), sum.events, sum.stats.Rounds,
		sum.stats.Grants, sum.stats.Resets, sum.stats.WorstMargin)
}

// total is what many seeds came to.
type total struct {
	seeds     uint64
	events    int
	simulated time.Duration
	stats     Stats
}

// seeds plays many worlds side by side. failed is called for the first five seeds that fail, one at a time; true: go on.
func seeds(first, count uint64, cfg Config, failed func(Result) bool) total {
	var next, bad atomic.Uint64
	var mu sync.Mutex
	var sum total
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= count || bad.Load() >= 5 {
					return
				}
				r := Run(first+n, cfg)
				mu.Lock()
				sum.add(r)
				if len(r.Violations) > 0 && bad.Load() < 5 {
					if bad.Add(1); !failed(r) {
						bad.Store(5)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sum
}

func (s *total) add(r Result) {
	s.seeds++
	s.events += r.Events
	s.simulated += r.Simulated
	s.stats.Rounds += r.Stats.Rounds
	s.stats.Grants += r.Stats.Grants
	s.stats.Resets += r.Stats.Resets
	if r.Stats.Margins > 0 {
		if s.stats.Margins == 0 || r.Stats.WorstMargin < s.stats.WorstMargin {
			s.stats.WorstMargin = r.Stats.WorstMargin
		}
		s.stats.Margins += r.Stats.Margins
	}
}

// replay plays one seed as it is asked for, twice: it must come to the same.
func replay(t *testing.T, seed uint64, cfg Config) {
	if *simOnly != "" {
		cfg.Only = []int{}
		for _, s := range strings.Split(*simOnly, ",") {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Only = append(cfg.Only, n)
		}
	}
	cfg.Timeline = true
	r := Run(seed, cfg)
	if again := Run(seed, cfg); again.Timeline != r.Timeline {
		t.Errorf("seed %d is not deterministic", seed)
	}
	for _, v := range r.Violations {
		t.Errorf("seed %d: %s", seed, v)
	}
	t.Logf("timeline of seed %d (real time in seconds):\n%s", seed, r.Timeline)
}

// report shrinks a failing seed and prints it.
func report(t *testing.T, seed uint64, cfg Config) {
	t.Helper()
	small, r := Shrink(seed, cfg)
	small.Timeline = true
	r = Run(seed, small)
	line := fmt.Sprintf("go test ./sim -run 'TestSim$' -sim.seed=%d", seed)
	if *simPreset != "" {
		line += " -sim.preset=" + *simPreset
	} else if cfg.Profile != "" {
		line += " -sim.profile=" + cfg.Profile
	}
	if *simArbiter != 0 {
		line += fmt.Sprintf(" -sim.arbiters=%d", cfg.Arbiters)
	}
	line += " -sim.only=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(small.Only), " ", ","), "[]")
	if len(r.Violations) == 0 {
		t.Errorf("seed %d failed, and does not fail again: it is not deterministic", seed)
		return
	}
	t.Errorf("seed %d: %s\nreplay: %s\nfaults: %v\n%s", seed, r.Violations[0], line, r.Plan, tail(r.Timeline, 150))
}

// tail is the end of a timeline.
func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// TestSeedsAreDeterministic: a seed is worth nothing that cannot be played again.
func TestSeedsAreDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		cfg := Config{Timeline: true}
		a, b := Run(seed, cfg), Run(seed, cfg)
		if a.Timeline != b.Timeline || a.Events != b.Events {
			t.Errorf("seed %d came to two ends", seed)
		}
		if !slices.Equal(a.Plan, b.Plan) {
			t.Errorf("seed %d has two plans", seed)
		}
	}
}

// BenchmarkSim reports how many simulated seconds a second of one processor is worth.
func BenchmarkSim(b *testing.B) {
	var simulated time.Duration
	seed := uint64(1)
	for b.Loop() {
		simulated += Run(seed, Config{}).Simulated
		seed++
	}
	b.ReportMetric(simulated.Seconds()/b.Elapsed().Seconds(), "sim-s/s")
}
