package agent

import (
	"context"
	"sync"
)

// queue runs jobs one after the other on a goroutine of its own, so that the loop never waits for them. A job given
// with a key replaces a waiting one of the same key.
type queue struct {
	mu   sync.Mutex
	jobs []job
	wake chan struct{}
}

type job struct {
	key string
	run func(context.Context)
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// add never blocks. An empty key replaces nothing.
func (q *queue) add(key string, run func(context.Context)) {
	q.mu.Lock()
	replaced := false
	if key != "" {
		for i := range q.jobs {
			if q.jobs[i].key == key {
				q.jobs[i].run, replaced = run, true
			}
		}
	}
	if !replaced {
		q.jobs = append(q.jobs, job{key, run})
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// work runs jobs until ctx ends.
func (q *queue) work(ctx context.Context) {
	for {
		q.mu.Lock()
		var next *job
		if len(q.jobs) > 0 {
			next, q.jobs = &q.jobs[0], q.jobs[1:]
		}
		q.mu.Unlock()
		if next != nil {
			next.run(ctx)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
	}
}
