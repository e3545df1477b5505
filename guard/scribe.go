package guard

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/leasedog/leasedog/agent/cause"
)

// scribe writes cause records on a goroutine of its own, which may hang with its disk for ever. Handing one over
// never waits.
type scribe struct {
	queue chan func() error
	done  chan struct{}
	lost  atomic.Int64
	mu    sync.Mutex
	last  error
	log   *cause.Log
	once  sync.Once
}

// scribeQueue is far more than a reset needs; with a hung disk the rest is dropped and counted.
const scribeQueue = 64

func newScribe(path string) *scribe {
	s := &scribe{queue: make(chan func() error, scribeQueue), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		var err error
		s.log, err = cause.Open(path)
		s.fail(err)
		for write := range s.queue {
			s.fail(write())
		}
	}()
	return s
}

func (s *scribe) put(r cause.Record) { s.do(func() error { return s.log.Put(r) }) }

func (s *scribe) do(write func() error) {
	select {
	case s.queue <- write:
	default:
		s.lost.Add(1)
	}
}

func (s *scribe) fail(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = err
	s.lost.Add(1)
}

// problem is the last error; without one the disk did not keep up.
func (s *scribe) problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return "the disk does not answer"
	}
	return s.last.Error()
}

// close waits at most limit for what is queued; nothing may be handed over any more.
func (s *scribe) close(limit time.Duration) {
	s.once.Do(func() { close(s.queue) })
	select {
	case <-s.done:
	case <-time.After(limit):
	}
}
