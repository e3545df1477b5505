package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Both bounds of a stall. A row that fails while the host stood still for longer proves nothing and is played again.
const (
	// observerGap is how long this program itself may be kept from running, as in the laboratory.
	observerGap = 50 * time.Millisecond
	// starvedFor is how long the emulator's threads may wait for a processor in all while a row plays.
	starvedFor = 300 * time.Millisecond
	beatPeriod = 10 * time.Millisecond
)

// observer beats on the host, so that a stall of the host is seen as one.
type observer struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration // since the last call of reset
	stop    chan struct{}
	done    chan struct{}
}

func newObserver() *observer {
	o := &observer{last: time.Now(), stop: make(chan struct{}), done: make(chan struct{})}
	go o.beat()
	return o
}

func (o *observer) beat() {
	defer close(o.done)
	tick := time.NewTicker(beatPeriod)
	defer tick.Stop()
	for {
		select {
		case <-o.stop:
			return
		case <-tick.C:
		}
		o.mu.Lock()
		now := time.Now()
		o.longest = max(o.longest, now.Sub(o.last))
		o.last = now
		o.mu.Unlock()
	}
}

// reset begins a new measurement and returns the longest gap of the one before.
func (o *observer) reset() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	longest := max(o.longest, time.Since(o.last))
	o.longest = 0
	return longest
}

func (o *observer) close() { close(o.stop); <-o.done }

// waited returns how long the threads of a process have waited for a processor since they began (the second number of
// schedstat, Documentation/scheduler/sched-stats).
func waited(pid int) (time.Duration, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(paths) == 0 {
		return 0, fmt.Errorf("read how long process %d waited: no threads", pid)
	}
	var total time.Duration
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		d, err := parseWaited(string(text))
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		total += d
	}
	return total, nil
}

func parseWaited(text string) (time.Duration, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("%q is no schedstat", text)
	}
	ns, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no schedstat", text)
	}
	return time.Duration(ns), nil
}
