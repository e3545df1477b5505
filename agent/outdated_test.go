package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

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
		if got := (def{k.conf.Resources[0], k.outdated, k.after != nil}); got != want[k.name] {
			t.Errorf("%s: %+v, want %+v", k.name, got, want[k.name])
		}
		delete(want, k.name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	other := a.keepers[1]
	other.step(lease.Found{Record: &lease.RunRecord{Lease: "other", State: lease.RunHeld, Party: a.self, Epoch: 3, Budget: b,
		Sent: a.opt.Now()}, Guard: &lease.GuardState{Epoch: 3, Sent: a.opt.Now(), Until: a.opt.Now().Add(b.HardDeadline())}})
	other.step(asked(t, a))
	if p := other.holder.View().Phase; p != lease.Leaving {
		t.Fatalf("an outdated lease is %s, want leaving", p)
	}
	other.ladder.halt()
	a.adoptDefinitions()
	if !other.outdated {
		t.Fatal("the new definition begins before the old one was left")
	}
	close(a.done) // what still posts ends
}

// asked waits for the LeaveAsked of an outdated lease.
func asked(t *testing.T, a *Agent) lease.LeaveAsked {
	t.Helper()
	for {
		select {
		case l := <-a.mail:
			if ev, ok := l.ev.(lease.LeaveAsked); ok {
				return ev
			}
		case <-time.After(10 * time.Second):
			t.Fatal("an outdated lease is not left")
		}
	}
}

// outdatedKeeper is one lease that the configuration names with other resources, held since an earlier agent.
func outdatedKeeper(t *testing.T, f *fakeCluster, arbiter Arbiter) *keeper {
	t.Helper()
	a := testKeeper(t, f, procDir(t)).a
	b := a.budget()
	a.self = lease.Party{Node: "node1", BootID: "b", Instance: lease.Instance{Start: 1, Nonce: 1}}
	a.known, a.knownDisk, a.life = &lease.Known{}, newQueue(), t.Context()
	a.opt.Arbiter = arbiter
	k := newKeeper(a, config.Lease{Name: "pg", Resources: []string{"g"}, Acquire: config.AcquireManual})
	k.outdated, k.after = true, &config.Lease{Name: "pg", Resources: []string{"h"}, Acquire: config.AcquireAuto}
	a.keepers = []*keeper{k}
	k.watched = &lease.GuardState{Epoch: foundEpoch, Sent: 1, Until: 2}
	now := a.opt.Now()
	k.step(lease.Found{Record: &lease.RunRecord{Lease: "pg", State: lease.RunHeld, Party: a.self, Epoch: 3, Hold: b.Hold(), Budget: b,
		Sent: now}, Guard: &lease.GuardState{Epoch: 3, Sent: now, Until: now.Add(b.HardDeadline())}})
	return k
}

// Whoever removes the rules of a lease, then takes it out of the configuration, has nothing stopped. What cannot be read counts
// as guarded.
func TestOutdatedWithoutRules(t *testing.T) {
	cib := func(constraints string) *pcmk.CIB {
		c, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources/><constraints>` + constraints +
			`</constraints></configuration></cib>`))
		must(t, err)
		return c
	}
	rule := pcmk.Rule{Lease: "pg", Resource: "g", Role: pcmk.RoleStarted}
	for _, tc := range []struct {
		name string
		cib  *pcmk.CIB
		want lease.Phase
	}{
		{"no rule", cib(""), lease.Stopped},
		{"no rule, as far as this partition knows", cib(""), lease.Leaving},
		{"the rule", cib(rule.XML("2.1.5")), lease.Leaving},
		{"not readable", nil, lease.Leaving},
	} {
		f := idleCluster()
		f.cib = tc.cib
		f.status = servingStatus(func(st *pcmk.Status) {
			if strings.Contains(tc.name, "partition") {
				st.Nodes[1].Online = pcmk.No
			}
		})
		k := outdatedKeeper(t, f, silentArbiter{})
		k.step(asked(t, k.a))
		if p := k.holder.View().Phase; p != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, p, tc.want)
		}
		k.ladder.halt()
		close(k.a.done)
	}
}

// releases is an arbiter that passes on the numbers of releases and answers nothing.
type releases chan uint64

func (r releases) Ask(_ context.Context, _ string, body any) (lease.Answer, error) {
	if b, ok := body.(lease.Release); ok {
		r <- b.Seq
	}
	return lease.Answer{}, errors.New("nobody answers")
}

// The new definition begins while drivers of the old one still log and write (go test -race), and knows nothing of what was
// armed for the old one.
func TestAdoptDefinitionsBesideTheDrivers(t *testing.T) {
	released := make(releases, 1)
	k := outdatedKeeper(t, idleCluster(), released)
	ev := asked(t, k.a)
	ev.Unguarded = true
	k.step(ev)
	for _, ev := range []lease.Event{lease.RunWritten{State: lease.RunReleased, Epoch: 3}, lease.Disarmed{Epoch: 3}} {
		k.step(ev)
	}
	k.step(lease.Answered{Seq: <-released, Answer: lease.Answer{Verdict: lease.OK, Epoch: 3, Stamp: lease.Stamp{StoreID: "s", Generation: 1}}})
	if !k.over() {
		t.Fatalf("%s", k.holder.View().Phase)
	}
	var all sync.WaitGroup
	k.a.calls = make(chan func())
	all.Go(func() { (<-k.a.calls)() })
	k.a.phases()
	all.Wait()
	if !k.outdated {
		t.Fatal("who only asks how the leases stand began the new definition, beside the survey")
	}
	all.Go(func() { k.log().Info("a driver of the old definition") })
	k.a.adoptDefinitions()
	all.Wait()
	if k.conf.Resources[0] != "h" || k.watched != nil || k.begun {
		t.Fatalf("%+v, watched %v, begun %v", k.conf, k.watched, k.begun)
	}
	close(k.a.done)
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

// Why a lease has not begun is said: an outdated one that is paused holds it up for as long as the pause lasts.
func TestStatusOfALeaseThatHasNotBegun(t *testing.T) {
	k := outdatedKeeper(t, idleCluster(), silentArbiter{})
	defer close(k.a.done)
	fresh := newKeeper(k.a, config.Lease{Name: "new", Resources: []string{"g"}})
	if l := fresh.describe(k.a.opt.Now()); len(l.WhyNot) != 1 || !strings.Contains(l.WhyNot[0], "just started") {
		t.Fatalf("%q", l.WhyNot)
	}
	fresh.survey.whyNot = []string{"lease pg still guards a resource of this one"}
	if l := fresh.describe(k.a.opt.Now()); len(l.WhyNot) != 1 || !strings.Contains(l.WhyNot[0], "still guards") {
		t.Fatalf("%q", l.WhyNot)
	}
}
