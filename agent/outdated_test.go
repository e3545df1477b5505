package agent

import (
	"context"
	"errors"
	"testing"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

type silentArbiter struct{}

func (silentArbiter) Ask(context.Context, string, any) (lease.Answer, error) {
	return lease.Answer{}, errors.New("nobody answers")
}

// 4.4.7: what /run says is held goes on with what an earlier agent guarded, whatever the configuration says now.
func TestDefinitions(t *testing.T) {
	plan := func(ids ...string) pcmk.Plan {
		p := pcmk.Plan{Node: "node1"}
		for _, id := range ids {
			p.Resources = append(p.Resources, pcmk.Guarded{ID: id, Primitives: []pcmk.Primitive{{ID: id + "1", Class: "ocf"}}})
		}
		return p
	}
	a := testKeeper(t, idleCluster(), procDir(t)).a
	b := a.budget()
	a.base.Store(&b)
	a.self = lease.Party{Node: "node1", BootID: "b", Instance: lease.Instance{Start: 1, Nonce: 1}}
	a.known, a.life = &lease.Known{}, t.Context()
	a.opt.Arbiter = silentArbiter{}
	held := func(name string, ids ...string) {
		must(t, a.writeRecord(lease.RunRecord{Lease: name, State: lease.RunHeld, Party: a.self, Epoch: 3, Budget: b}))
		must(t, writeJSON(a.planPath(name), plan(ids...)))
	}
	held("same", "g2", "g1")
	held("other", "g3")
	held("gone", "g4")
	must(t, writeJSON(a.planPath("idle"), plan("g9"))) // a plan alone is of a lease that was released
	a.opt.Config.Leases = []config.Lease{{Name: "same", Resources: []string{"g1", "g2"}, Acquire: config.AcquireAuto},
		{Name: "other", Resources: []string{"g5"}, Acquire: config.AcquireAuto}, {Name: "idle", Resources: []string{"g8"}}}
	a.keepers = a.definitions()

	type def struct {
		resource string
		outdated bool
		after    bool
	}
	want := map[string]def{"same": {"g1", false, false}, "other": {"g3", true, true}, "gone": {"g4", true, false},
		"idle": {"g8", false, false}}
	for _, k := range a.keepers {
		if got := (def{k.conf.Resources[0], k.outdated, k.after != nil}); got != want[k.conf.Name] {
			t.Errorf("%s: %+v, want %+v", k.conf.Name, got, want[k.conf.Name])
		}
		delete(want, k.conf.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	other := a.keepers[1]
	other.step(lease.Found{Record: &lease.RunRecord{Lease: "other", State: lease.RunHeld, Party: a.self, Epoch: 3, Budget: b,
		Sent: a.opt.Now()}, Guard: &lease.GuardState{Epoch: 3, Sent: a.opt.Now(), Until: a.opt.Now().Add(b.HardDeadline())}})
	if p := other.holder.View().Phase; p != lease.Leaving {
		t.Fatalf("an outdated lease is %s, want leaving", p)
	}
	other.ladder.halt()
	close(a.done) // what still posts ends
	a.adoptDefinitions()
	if !other.outdated {
		t.Fatal("the new definition begins before the old one was left")
	}
}

// A lease of which the agent sees the cluster only after it was told to stop is not competed for: the stop would never end.
func TestFoundWhileTheAgentIsStopped(t *testing.T) {
	a := testKeeper(t, idleCluster(), procDir(t)).a
	a.self = lease.Party{Node: "node1", BootID: "b", Instance: lease.Instance{Start: 1, Nonce: 1}}
	a.known, a.life, a.leaving = &lease.Known{}, t.Context(), true
	a.opt.Arbiter = silentArbiter{}
	k := newKeeper(a, config.Lease{Name: "pg", Resources: []string{"g"}, Acquire: config.AcquireAuto})
	a.keepers = []*keeper{k}
	k.step(lease.Found{Active: lease.No})
	k.step(lease.Reading{Proven: lease.Yes, FreshUntil: lease.Never})
	if v := k.holder.View(); v.Phase != lease.Standby || !v.Retired || !v.MayEnd {
		t.Fatalf("%s, retired %v", v.Phase, v.Retired)
	}
}
