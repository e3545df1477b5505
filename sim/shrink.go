package sim

// Shrink looks for the fewest faults of a failing seed that still break the same invariant, by leaving out more and more
// of them. It returns the Config that plays them, and what comes of it. A seed that does not fail is returned as it is.
func Shrink(seed uint64, cfg Config) (Config, Result) {
	best := Run(seed, cfg)
	if len(best.Violations) == 0 {
		return cfg, best
	}
	invariant := best.Violations[0].Invariant
	cfg.Only = smallest(indices(best.Plan), func(only []int) []int {
		c := cfg
		c.Only = only
		r := Run(seed, c)
		if len(r.Violations) == 0 || r.Violations[0].Invariant != invariant {
			return nil
		}
		best = r
		return indices(r.Plan)
	})
	return cfg, best
}

// smallest leaves out runs of a list, long ones first, as long as it still fails. fails returns what of the list was played
// (the world may have ended before the rest), nil if it does not fail.
func smallest(keep []int, fails func(only []int) []int) []int {
	for size := (len(keep) + 1) / 2; size >= 1; {
		smaller := false
		for from := 0; from < len(keep); from += size {
			if played := fails(without(keep, from, size)); played != nil {
				keep, smaller = played, true
				break
			}
		}
		switch {
		case smaller:
			size = min(size, max(1, len(keep)/2))
		case size == 1:
			return keep
		default:
			size = (size + 1) / 2
		}
	}
	return keep
}

func indices(plan []Fault) []int {
	out := []int{}
	for _, f := range plan {
		out = append(out, f.Index)
	}
	return out
}

func without(list []int, from, count int) []int {
	out := append([]int{}, list[:from]...)
	return append(out, list[min(len(list), from+count):]...)
}
