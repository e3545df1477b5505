package agent

import (
	"context"
	"os"
	"syscall"
	"time"
)

const (
	// jobAsk bounds one question to systemd.
	jobAsk = 500 * time.Millisecond
	// jobTime bounds all of them about one signal: PID 1 is deaf for seconds in a daemon-reload. A successor of an agent that
	// ends this late still finds a lease to adopt, since it is renewed until then.
	jobTime = 2 * time.Second
)

// signalled is the loop's: it handles a signal. A stop of the unit leaves every lease in order; a restart, or what cannot be
// told apart from one, hands over: the guard counts on, and the new agent adopts. Only systemd knows which it is, and it is
// asked beside the loop, which renews meanwhile.
func (a *Agent) signalled(s os.Signal) {
	if s == syscall.SIGHUP {
		a.reload()
		return
	}
	a.signals++
	if a.signals == 1 {
		go a.askSystemd(s)
	}
}

// askSystemd finds out what a signal means. It must not be called by the loop.
func (a *Agent) askSystemd(s os.Signal) {
	ctx, cancel := context.WithTimeout(a.life, jobTime)
	defer cancel()
	job, err := a.ownJob(ctx)
	for err != nil && pause(ctx, settlePace) == nil {
		job, err = a.ownJob(ctx)
	}
	a.inLoop(func() { a.obey(s, job, err) })
}

func (a *Agent) ownJob(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, jobAsk)
	defer cancel()
	return a.opt.Units.JobType(ctx, UnitName)
}

// obey is the loop's: it does what a signal means.
func (a *Agent) obey(s os.Signal, job string, err error) {
	more := a.signals > 1
	a.signals = 0
	switch {
	case err == nil && job == "stop":
		a.log.Infof("%v: this is a stop: every lease is left in order", s)
		a.leaving = true
		for _, k := range a.keepers {
			go k.leave("the agent is stopped")
		}
	case more: // one that came after the question may be a stop
		a.signalled(s)
	default:
		a.log.WithField("job", job).WithError(err).Infof("%v: hands over to the next agent, nothing is stopped", s)
		a.handsOver = true
	}
}
