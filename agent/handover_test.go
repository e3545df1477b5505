package agent

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

func TestDelaysStop(t *testing.T) {
	for p, want := range map[lease.Phase][2]bool{ // patient, not patient
		"": {}, lease.Standby: {}, lease.Acquiring: {}, lease.Paused: {}, lease.Resuming: {}, lease.Stopped: {},
		lease.Held: {true, false}, lease.Winning: {true, false},
		lease.Leaving: {true, true}, lease.Losing: {true, true},
	} {
		if got := [2]bool{delaysStop(p, true), delaysStop(p, false)}; got != want {
			t.Errorf("%q: got %v, expected %v", p, got, want)
		}
	}
}

// What was left is waited for until the peer runs it, and no longer than followTime.
func TestHandOver(t *testing.T) {
	elsewhere := func(st *pcmk.Status) {
		for i := range st.Resources[0].Children {
			member(st, i).Nodes = []string{"node2"}
		}
	}
	for _, tc := range []struct {
		name   string
		names  []string // of the leases that were in the way
		change func(*pcmk.Status)
		job    string
		wait   time.Duration
	}{
		{"nothing was held", nil, func(*pcmk.Status) {}, "stop", 0},
		{"the peer has not started it", []string{"pg"}, func(*pcmk.Status) {}, "stop", followTime},
		{"the peer runs it", []string{"pg"}, elsewhere, "stop", 0},
		{"the peer runs one of two", []string{"pg"}, func(st *pcmk.Status) { elsewhere(st); member(st, 0).Nodes = nil }, "stop", followTime},
		{"the peer fails to start it", []string{"pg"}, func(st *pcmk.Status) { elsewhere(st); member(st, 0).Failed = pcmk.Yes }, "stop", followTime},
		{"it is not to run", []string{"pg"}, func(st *pcmk.Status) {
			for i := range st.Resources[0].Children {
				member(st, i).Nodes, member(st, i).Target = nil, pcmk.RoleStopped
			}
		}, "stop", 0},
		{"there is no peer", []string{"pg"}, func(st *pcmk.Status) { st.Nodes = st.Nodes[:1] }, "stop", 0},
		{"the peer is away", []string{"pg"}, func(st *pcmk.Status) { st.Nodes[1].Online = pcmk.No }, "stop", 0},
		{"Pacemaker is not being stopped", []string{"pg"}, func(*pcmk.Status) {}, "start", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				f := idleCluster()
				f.status = servingStatus(tc.change)
				k := testKeeper(t, f, proc)
				k.learnPlan(twoPrimitives, nil)
				k.a.keepers = []*keeper{k}
				k.a.opt.Units = &fakeUnits{active: "active", job: tc.job, main: 50}
				close(k.a.done) // no loop: the lease counts as left
				_, err := k.a.lookAtStop(t.Context())
				must(t, err) // the stop begins
				k.a.handover.names = tc.names
				waited := time.Duration(0)
				for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
					waited = time.Since(began)
					_, err := (handler{k.a}).handOver(t.Context())
					var refusal *control.Error
					if err == nil {
						break
					}
					if !errors.As(err, &refusal) || refusal.Code != control.CodeTryAgain || waited > time.Minute {
						t.Fatal(err)
					}
				}
				if waited != tc.wait {
					t.Errorf("Pacemaker's stop waits %v, expected %v", waited, tc.wait)
				}
			})
		})
	}
}

// A second stop of Pacemaker is waited for like the first one; without an answer of systemd none is.
func TestHandOver_Again(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t, controlled))
	units := &fakeUnits{active: "active", main: 50}
	k.a.opt.Units = units
	close(k.a.done)
	o := &k.a.handover
	ask := func(job string) lease.Instant {
		units.job = job
		if _, err := (handler{k.a}).handOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		return o.since
	}
	first := ask("stop")
	if again := ask("stop"); first == 0 || again != first {
		t.Errorf("patience counts from %v, then from %v", first, again)
	}
	o.names = []string{"pg"}
	units.job = ""
	if stops, err := k.a.lookAtStop(t.Context()); stops || err != nil { // nobody asks for a handover when there is no stop
		t.Fatal(stops, err)
	}
	if second := ask("stop"); second == first || len(o.names) > 0 {
		t.Errorf("the second stop is waited for from %v (the first one from %v), for %v", second, first, o.names)
	}
	units.err = errDown
	if _, err := (handler{k.a}).handOver(t.Context()); err == nil {
		t.Error("no error when systemd does not answer")
	}
}

// A lease for which nobody waits stays held, and is started by no peer.
func TestHandOver_StaysHeld(t *testing.T) {
	proc := procDir(t, controlled)
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		f.status = servingStatus(nil)
		k := testKeeper(t, f, proc)
		k.a.opt.Arbiter = silentArbiter{}
		k.disk, k.a.knownDisk = newQueue(), newQueue()
		k.a.opt.Units = &fakeUnits{active: "active", job: "stop", main: 50}
		withLoop(t, k, config.AcquireOnDemand)
		now, b := k.a.opt.Now(), k.a.budget()
		b.LossAfter = time.Minute // nobody renews here
		k.post(lease.Found{Record: &lease.RunRecord{Lease: "pg", State: lease.RunHeld, Party: k.a.self, Epoch: 7, Hold: b.Hold(), Sent: now,
			Budget: b}, Guard: &lease.GuardState{Epoch: 7, Sent: now, Until: now.Add(b.HardDeadline())}})
		_, err := k.a.lookAtStop(t.Context())
		must(t, err)
		k.a.handover.names = []string{"other"}
		waited := time.Duration(0)
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			waited = time.Since(began)
			if _, err := (handler{k.a}).handOver(t.Context()); err == nil || waited > time.Minute {
				break
			}
		}
		var v lease.View
		k.a.inLoop(func() { v = k.holder.View() })
		if v.Phase != lease.Held || waited != peaceTime {
			t.Errorf("%s: Pacemaker's stop waits %v, expected %v", v.Phase, waited, peaceTime)
		}
		if want := []string{"other", "pg"}; !slices.Equal(k.a.handover.names, want) {
			t.Errorf("in the way were %v, expected %v", k.a.handover.names, want)
		}
	})
}
