package agent

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/config"
)

// jobs is a systemd that answers one question for the agent's job after the other, the last answer for ever. "hangs" is none.
type jobs struct {
	Units
	answers []string
	asked   int
	asking  func() // while a question is out
}

func (j *jobs) JobType(ctx context.Context, _ string) (string, error) {
	answer := j.answers[min(j.asked, len(j.answers)-1)]
	j.asked++
	if j.asking != nil {
		j.asking()
	}
	if answer == "hangs" {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return answer, nil
}

// An armed guard refuses to be stopped, so that a stop which is taken for a restart ends in a reset of the node.
func TestSignalled(t *testing.T) {
	for _, tc := range []struct {
		name     string
		answers  []string
		second   bool // another signal comes while systemd is asked
		stop     bool // else it hands over
		at       time.Duration
		question int
	}{
		{"a stop", []string{"stop"}, false, true, 0, 1},
		{"a restart", []string{"restart"}, false, false, 0, 1},
		{"a kill", []string{""}, false, false, 0, 1},
		{"a stop, and PID 1 is slow", []string{"hangs", "hangs", "stop"}, false, true, 2 * (jobAsk + settlePace), 3},
		{"PID 1 hangs", []string{"hangs"}, false, false, jobTime, 4},
		{"a kill, then a stop", []string{"", "stop"}, true, true, 0, 2},
		{"two kills", []string{"", ""}, true, false, 0, 2},
		{"two signals of one stop", []string{"stop", ""}, true, true, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				k := testKeeper(t, idleCluster(), proc)
				withLoop(t, k, config.AcquireManual)
				units := &jobs{answers: tc.answers}
				if tc.second {
					units.asking = func() {
						units.asking = nil
						k.a.inLoop(func() { k.a.signalled(syscall.SIGTERM) })
					}
				}
				k.a.opt.Units = units
				began := time.Now()
				k.a.inLoop(func() { k.a.signalled(syscall.SIGTERM) })
				stops, ends := false, false
				for !stops && !ends && time.Since(began) < time.Minute { // the loop goes on meanwhile, or this would not either
					time.Sleep(time.Millisecond)
					k.a.inLoop(func() { stops, ends = k.a.leaving, k.a.handsOver })
				}
				if stops != tc.stop || ends == tc.stop {
					t.Errorf("leaves every lease %v, hands over %v", stops, ends)
				}
				if took := time.Since(began).Truncate(10 * time.Millisecond); took != tc.at || units.asked != tc.question {
					t.Errorf("decided after %v and %d questions, expected %v and %d", took, units.asked, tc.at, tc.question)
				}
				synctest.Wait() // what was asked to leave has been
				k.a.inLoop(func() {
					k.begun = true // and has not left its lease
					if end, _ := k.a.finished(); end == tc.stop {
						t.Errorf("the agent ends %v", end)
					}
				})
				if tc.stop { // an administrator who changes his mind and restarts it
					units.answers = []string{"restart"}
					k.a.inLoop(func() { k.a.signalled(syscall.SIGTERM) })
					synctest.Wait()
					k.a.inLoop(func() {
						if end, _ := k.a.finished(); !end {
							t.Error("a restart after the stop does not hand over")
						}
					})
				}
			})
		})
	}
}
