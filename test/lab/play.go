package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// PlayAll plays scenarios on several clusters side by side and returns their results in the order of the scenarios.
// Scenarios of one configuration stay on one cluster, which then boots once. Those that are marked Alone come last,
// when the other clusters are down. One that could not be played is a failed row, not the end. When ctx ends, what has
// not been played has no result.
func PlayAll(ctx context.Context, clusters []*Cluster, rows []Scenario, suite string, n int, seed uint64,
	say func(*Cluster, string)) []Result {
	var (
		mu      sync.Mutex
		results = make(map[string]Result, len(rows))
		begun   int
		workers sync.WaitGroup
	)
	play := func(c *Cluster, s Scenario) {
		mu.Lock()
		begun++
		say(c, fmt.Sprintf("[%d/%d] %s: %s", begun, len(rows), s.Name, s.About))
		mu.Unlock()
		tell := func(line string) {
			mu.Lock()
			defer mu.Unlock()
			say(c, "  "+line)
		}
		res, err := c.Play(ctx, s, suite, n, seed, tell)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			res.Pass = false
			res.Evidence = append(res.Evidence, err.Error())
			tell(err.Error())
		}
		mu.Lock()
		results[s.Name] = res
		mu.Unlock()
	}
	shared, alone := divide(rows)
	queue := newRowQueue(shared)
	for _, c := range clusters {
		workers.Go(func() {
			for last := (Config{}); ctx.Err() == nil; {
				s, ok := queue.next(last)
				if !ok {
					return
				}
				last = s.Config
				play(c, s)
			}
		})
	}
	workers.Wait()
	if len(alone) > 0 && ctx.Err() == nil {
		if err := DownAll(ctx, clusters[1:]); err != nil {
			say(clusters[0], err.Error())
		}
		for _, s := range alone {
			if ctx.Err() == nil {
				play(clusters[0], s)
			}
		}
	}
	var out []Result
	for _, s := range rows {
		if res, ok := results[s.Name]; ok {
			out = append(out, res)
		}
	}
	return out
}

// DownAll ends several clusters.
func DownAll(ctx context.Context, clusters []*Cluster) error {
	var errs []error
	for _, c := range clusters {
		errs = append(errs, c.Down(ctx))
	}
	return errors.Join(errs...)
}

// divide takes out the scenarios that must have the machine to themselves.
func divide(rows []Scenario) (shared, alone []Scenario) {
	for _, s := range rows {
		if s.Alone {
			alone = append(alone, s)
		} else {
			shared = append(shared, s)
		}
	}
	return shared, alone
}

// rowQueue hands out scenarios to clusters, so that a cluster stays with one configuration while there is any of it.
type rowQueue struct {
	mu     sync.Mutex
	groups [][]Scenario // of one configuration each
}

func newRowQueue(rows []Scenario) *rowQueue {
	q := &rowQueue{}
	for _, s := range rows {
		i := slices.IndexFunc(q.groups, func(g []Scenario) bool { return g[0].Config == s.Config })
		if i < 0 {
			q.groups = append(q.groups, []Scenario{s})
			continue
		}
		q.groups[i] = append(q.groups[i], s)
	}
	return q
}

// next returns a row of the configuration that the cluster has, or of the one with the most rows left.
func (q *rowQueue) next(have Config) (Scenario, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.groups) == 0 {
		return Scenario{}, false
	}
	i := slices.IndexFunc(q.groups, func(g []Scenario) bool { return g[0].Config == have })
	if i < 0 {
		i = 0
		for j, g := range q.groups {
			if len(g) > len(q.groups[i]) {
				i = j
			}
		}
	}
	s := q.groups[i][0]
	if q.groups[i] = q.groups[i][1:]; len(q.groups[i]) == 0 {
		q.groups = slices.Delete(q.groups, i, i+1)
	}
	return s, true
}
