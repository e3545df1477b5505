package agent

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/leasedog/leasedog/lease"
)

// pacemakerUnit is Pacemaker's, on every distribution.
const pacemakerUnit = "pacemaker.service"

const (
	// stopsEvery is how often systemd is asked whether Pacemaker is being stopped, while a lease is held: a planned stop
	// is to cost no more than stop and start.
	stopsEvery = 400 * time.Millisecond
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

// watchPacemaker notices at once that Pacemaker is being stopped, or was. What cannot be asked changes nothing.
func (a *Agent) watchPacemaker(ctx context.Context) {
	for pid := 0; pause(ctx, stopsEvery) == nil; {
		if !a.holding.Load() {
			a.pacemakerStops.Store(false)
			continue
		}
		one, cancel := context.WithTimeout(ctx, toolTime)
		stops, err := a.pacemakerIsStopped(one, &pid)
		cancel()
		if err == nil && a.pacemakerStops.Swap(stops) != stops {
			a.pokeSurvey()
		}
	}
}

// pacemakerIsStopped tells whether an administrator stops Pacemaker or has stopped it. A stop of an idle Pacemaker takes
// less time than passes between two questions, so its job may never be seen; then its unit is inactive and no daemon
// runs. (One that crashed is failed, or about to be started again.) The unit is read only when the process pid, its main
// one, is not there: that is dear.
func (a *Agent) pacemakerIsStopped(ctx context.Context, pid *int) (bool, error) {
	job, err := a.opt.Units.JobType(ctx, pacemakerUnit)
	if err != nil || job == "stop" || job == "restart" {
		return err == nil, err
	}
	if *pid != 0 {
		if _, err := os.Stat(filepath.Join(a.opt.Proc, strconv.Itoa(*pid))); err == nil {
			return false, nil
		}
	}
	u, err := a.opt.Units.Unit(ctx, pacemakerUnit)
	if err != nil {
		return false, err
	}
	*pid = u.MainPID
	if u.Active != "inactive" {
		return false, nil
	}
	return a.pacemakerDown() // started by hand it has no active unit either
}

// noteHolding is the loop's.
func (a *Agent) noteHolding() {
	holding := false
	for _, k := range a.keepers {
		holding = holding || k.begun && k.holder.View().Phase == lease.Held
	}
	a.holding.Store(holding)
}
