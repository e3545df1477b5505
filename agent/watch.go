package agent

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/leasedog/leasedog/lease"
)

// pacemakerUnit is Pacemaker's, on every distribution.
const pacemakerUnit = "pacemaker.service"

const (
	// askEvery is how often systemd is asked whether Pacemaker is being stopped, while a lease is held: a stop without
	// leasedog-handover.service is to cost little more than one with it.
	askEvery = 5 * time.Second
	// lookAgain is how long to wait for a folder that cannot be watched yet.
	lookAgain = 10 * time.Second
)

// watchConfiguration has the cluster looked at when Pacemaker writes a changed configuration to its disk: standby,
// maintenance, bans and rules are seen at once and not with the next poll. Nothing depends on it but how soon.
func (a *Agent) watchConfiguration(ctx context.Context) {
	for ctx.Err() == nil {
		if err := a.watchFolder(ctx); err != nil {
			a.log.WithError(err).Debug("Pacemaker's configuration is not watched; it is polled")
		}
		_ = pause(ctx, lookAgain)
	}
}

// watchFolder returns when ctx ends, or the folder cannot be watched (any more).
func (a *Agent) watchFolder(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Add(a.opt.CIBDir); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return nil
			}
			a.cibChanged.Store(true)
			a.pokeSurvey()
		case err := <-w.Errors:
			return err
		}
	}
}

// watchPacemaker notices soon that Pacemaker is being stopped, or was, when nobody asked for a handover before.
func (a *Agent) watchPacemaker(ctx context.Context) {
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-a.stops.gone:
		}
		if a.holding.Load() || a.stops.now.Load() {
			_, _ = a.lookAtStop(ctx)
		}
	}
}

// stopWatch is what is known about a stop of Pacemaker.
type stopWatch struct {
	asking sync.Mutex    // one question at a time: a late answer must not replace a newer one
	pid    atomic.Int64  // Pacemaker's main process as systemd last named it; 0: not known
	now    atomic.Bool   // its unit is being stopped or restarted, or was stopped
	gone   chan struct{} // its process is not there while a lease is held
}

// alive reports whether Pacemaker's main process is there. A look costs next to nothing, a question to systemd is dear.
func (s *stopWatch) alive(proc string) bool {
	pid := s.pid.Load()
	_, err := os.Stat(filepath.Join(proc, strconv.FormatInt(pid, 10)))
	return pid != 0 && err == nil
}

// lookAtStop asks systemd, and has the cluster looked at when the answer has changed. What cannot be asked changes nothing.
func (a *Agent) lookAtStop(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	a.stops.asking.Lock()
	defer a.stops.asking.Unlock()
	stops, err := a.pacemakerIsStopped(ctx)
	if err != nil {
		return false, err
	}
	if a.stops.now.Swap(stops) != stops {
		if stops {
			a.handover.begin()
		}
		a.pokeSurvey()
	}
	return stops, nil
}

// pacemakerIsStopped tells whether an administrator stops Pacemaker or has stopped it. A stop of an idle Pacemaker takes
// less time than passes between two questions, so its job may never be seen; then its unit is inactive and no daemon
// runs. The unit is read only when the process is not there: that is dear. One that crashed is failed, or has a restart job while it waits to be started again: that is no stop.
func (a *Agent) pacemakerIsStopped(ctx context.Context) (bool, error) {
	job, err := a.opt.Units.JobType(ctx, pacemakerUnit)
	if err != nil || job == "stop" {
		return err == nil, err
	}
	if job == "" && a.stops.alive(a.opt.Proc) {
		return false, nil
	}
	u, err := a.opt.Units.Unit(ctx, pacemakerUnit)
	if err != nil {
		return false, err
	}
	a.stops.pid.Store(int64(u.MainPID))
	switch u.Active {
	case "active", "deactivating":
		return job == "restart", nil
	case "inactive":
		return a.pacemakerDown() // started by hand it has no active unit either
	}
	return false, nil
}

// noteHolding is the loop's. While a lease is held each of its turns, one for a renewal at least, has a look at
// Pacemaker's process: a timer of its own would cost more than the look.
func (a *Agent) noteHolding() {
	holding := false
	for _, k := range a.keepers {
		holding = holding || k.begun && k.holder.View().Phase == lease.Held
	}
	a.holding.Store(holding)
	if holding && !a.stops.alive(a.opt.Proc) {
		select {
		case a.stops.gone <- struct{}{}:
		default:
		}
	}
}
