package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// A stop may be over before its job is seen. One that crashed, or was started by hand, is not stopped.
func TestPacemakerIsStopped(t *testing.T) {
	const main = 50
	for _, tc := range []struct {
		name    string
		units   fakeUnits
		process string // of Pacemaker, "" for none
		want    bool
		asked   int
	}{
		{"runs", fakeUnits{active: "active", main: main}, controlled, false, 1},
		{"runs, and is asked for with every look", fakeUnits{active: "active", main: 51}, controlled, false, 2},
		{"is being stopped", fakeUnits{active: "deactivating", job: "stop", main: main}, controlled, true, 0},
		{"is being restarted", fakeUnits{active: "deactivating", job: "restart", main: main}, controlled, true, 2},
		{"is about to be restarted", fakeUnits{active: "active", job: "restart", main: main}, controlled, true, 2},
		{"was stopped before anybody looked", fakeUnits{active: "inactive"}, "", true, 2},
		{"crashed, and systemd restarts it", fakeUnits{active: "activating", job: "restart"}, "", false, 2},
		{"crashed and is started again", fakeUnits{active: "activating"}, "", false, 2},
		{"crashed for good", fakeUnits{active: "failed"}, "", false, 2},
		{"was started by hand", fakeUnits{active: "inactive"}, controlled, false, 2},
		{"systemd does not answer", fakeUnits{err: errDown}, "", false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var processes []string
			if tc.process != "" {
				processes = append(processes, tc.process)
			}
			k := testKeeper(t, idleCluster(), procDir(t, processes...))
			k.a.opt.Units = &tc.units
			for range 2 {
				got, err := k.a.lookAtStop(t.Context())
				if got != tc.want || (err != nil) != (tc.units.err != nil) || k.a.stops.now.Load() != tc.want {
					t.Errorf("got %v, %v, noted %v", got, err, k.a.stops.now.Load())
				}
			}
			if tc.units.asked != tc.asked {
				t.Errorf("the unit was read %d times, expected %d", tc.units.asked, tc.asked)
			}
		})
	}
}

// hungTools is a cluster of which nothing is answered.
type hungTools struct{ *fakeCluster }

func (hungTools) CIB(ctx context.Context) (*pcmk.CIB, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hungTools) Status(ctx context.Context) (pcmk.Status, error) {
	<-ctx.Done()
	return pcmk.Status{}, ctx.Err()
}

// The end of a planned stop must not wait for a tool that asks a daemon which ends.
func TestLook_AtAPacemakerThatIsBeingStopped(t *testing.T) {
	proc := procDir(t, controlled)
	synctest.Test(t, func(t *testing.T) {
		k := testKeeper(t, idleCluster(), proc)
		k.a.opt.Cluster = hungTools{idleCluster()}
		for stops, want := range map[bool]time.Duration{true: stopLook, false: surveyTime} {
			k.a.stops.now.Store(stops)
			ctx, cancel := context.WithTimeout(t.Context(), surveyTime)
			began := time.Now()
			c := k.a.look(ctx, []lease.Phase{lease.Held})
			cancel()
			if took := time.Since(began); took != want || c.stopping != stops || c.statusErr == nil {
				t.Errorf("stopping %v: a look took %v, expected %v (%+v)", stops, took, want, c)
			}
		}
	})
}

// A slower pace is only for who is told what happens, and only while nothing is being decided.
func TestPace(t *testing.T) {
	cib := func(alerts string) *pcmk.CIB {
		c, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources/><constraints/><alerts>` + alerts +
			`</alerts></configuration></cib>`))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tc := range []struct {
		restless, peace bool
		alerts          string
		want            time.Duration
	}{
		{true, true, pcmk.AlertXML, pollFast},
		{true, false, "", pollFast},
		{false, false, pcmk.AlertXML, pollEvery},
		{false, true, "", pollEvery},
		{false, true, pcmk.AlertXML, pollHeard},
	} {
		if got := (&Agent{lastCIB: cib(tc.alerts)}).pace(tc.restless, tc.peace); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
	if !inPeace([]lease.Phase{lease.Held, lease.Paused}) || inPeace([]lease.Phase{lease.Held, lease.Standby}) || inPeace([]lease.Phase{""}) {
		t.Error("peace is when every lease is held or paused")
	}
}
