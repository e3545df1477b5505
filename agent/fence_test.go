package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// fencingArbiter answers every fencing the same way.
type fencingArbiter struct {
	answer lease.Answer
	err    error
	asked  []lease.Fence
}

func (a *fencingArbiter) Ask(_ context.Context, _ string, body any) (lease.Answer, error) {
	if f, ok := body.(lease.Fence); ok {
		a.asked = append(a.asked, f)
	}
	return a.answer, a.err
}

// planningCluster finds every guarded resource where it is named.
type planningCluster struct {
	*fakeCluster
	planErr error
}

func (c planningCluster) PlanFrom(_ *pcmk.CIB, _ string, ids []string) (p pcmk.Plan, err error) {
	for _, id := range ids {
		p.Resources = append(p.Resources, pcmk.Guarded{ID: id, Role: pcmk.RoleStarted})
	}
	return p, c.planErr
}

func fencingCIB(t *testing.T, resources string) *pcmk.CIB {
	t.Helper()
	cib, err := pcmk.ParseCIB([]byte(`<cib><configuration><crm_config/><nodes/><resources>` + resources + `</resources><constraints>` +
		pcmk.Rule{Lease: "pg", Resource: "g", Role: pcmk.RoleStarted}.XML("2.1.5") + `</constraints></configuration></cib>`))
	must(t, err)
	return cib
}

// Only the arbiter's ok is one, and only of the arbiter that this node knows. That everything is guarded is said only when
// it was just read.
func TestFence(t *testing.T) {
	known := lease.Stamp{StoreID: "s", Generation: 7}
	at := func(v lease.Verdict) lease.Answer {
		return lease.Answer{Verdict: v, Stamp: known, Reason: "because", Boot: "b9"}
	}
	guarded, more := `<group id="g"/>`, `<group id="g"/><primitive id="mail" class="systemd" type="postfix"/>`
	old, other, paused := at(lease.OK), at(lease.OK), at(lease.Denied)
	old.Stamp.Generation, other.Stamp.StoreID, paused.Paused = 6, "t", true
	for name, c := range map[string]struct {
		resources   string // "" cannot be read
		planErr     error
		arbiter     fencingArbiter
		guarded     bool
		done, final bool
		fails       string
	}{
		"fenced":               {guarded, nil, fencingArbiter{answer: at(lease.OK)}, true, true, false, ""},
		"not everything":       {more, nil, fencingArbiter{answer: at(lease.Denied)}, false, false, false, ""},
		"configuration hidden": {"", nil, fencingArbiter{answer: at(lease.Denied)}, false, false, false, ""},
		"a lease that is none": {guarded, errors.New("refused"), fencingArbiter{answer: at(lease.Denied)}, false, false, false, ""},
		"paused":               {guarded, nil, fencingArbiter{answer: paused}, true, false, true, ""},
		"refused":              {guarded, nil, fencingArbiter{answer: at(lease.Refused)}, true, false, true, ""},
		"itself barred":        {guarded, nil, fencingArbiter{answer: at(lease.Barred)}, true, false, true, ""},
		"unavailable":          {guarded, nil, fencingArbiter{answer: at(lease.Unavailable)}, true, false, false, ""},
		"recovery":             {guarded, nil, fencingArbiter{answer: at(lease.Recovery)}, true, false, false, ""},
		"superseded":           {guarded, nil, fencingArbiter{answer: at(lease.Superseded)}, true, false, false, ""},
		"a verdict of others":  {guarded, nil, fencingArbiter{answer: at(lease.Granted)}, true, false, true, ""},
		"no answer":            {guarded, nil, fencingArbiter{err: errors.New("no route to host")}, true, false, true, ""},
		"an old store":         {guarded, nil, fencingArbiter{answer: old}, true, false, false, "ignore generation 6"},
		"another store":        {guarded, nil, fencingArbiter{answer: other}, true, false, false, "ignore an answer from store t"},
		"no store":             {guarded, nil, fencingArbiter{answer: lease.Answer{Verdict: lease.OK}}, true, false, false, "without a store id"},
	} {
		t.Run(name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				f := planningCluster{idleCluster(), c.planErr}
				if c.resources != "" {
					f.cib = fencingCIB(t, c.resources)
				}
				k := testKeeper(t, f.fakeCluster, proc)
				withLoop(t, k, config.AcquireAuto)
				k.a.opt.Cluster, k.a.opt.Arbiter, k.a.knownDisk = f, &c.arbiter, newQueue()
				k.a.known.Stamp = known
				got, err := handler{k.a}.Fence(t.Context(), control.Request{To: "node2", Off: true, Boot: "b8"})
				asked := c.arbiter.asked[0]
				if asked.Guarded != c.guarded || asked.Target != "node2" || !asked.Off || asked.Boot != "b8" || asked.Party != k.a.self || asked.Seen != known || asked.Seq == 0 {
					t.Errorf("asked %+v", asked)
				}
				var refusal *control.Error
				if (err != nil) != (c.fails != "") || err != nil && (!errors.As(err, &refusal) || refusal.Code != control.CodeTryAgain || !strings.Contains(err.Error(), c.fails)) {
					t.Fatalf("%+v, %v", got, err)
				}
				if err == nil && (got.Done != c.done || got.Final != c.final || c.arbiter.err == nil && got.Boot != "b9" || got.Reason == "") {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// A node that is cut off does not wait for the arbiter: its own stop would wait for the fencing.
func TestFenceCutOff(t *testing.T) {
	proc := procDir(t, controlled)
	synctest.Test(t, func(t *testing.T) {
		f := planningCluster{idleCluster(), nil}
		f.cib = fencingCIB(t, `<group id="g"/>`)
		k := testKeeper(t, f.fakeCluster, proc)
		withLoop(t, k, config.AcquireAuto)
		arbiter := &fencingArbiter{answer: lease.Answer{Verdict: lease.OK, Stamp: lease.Stamp{StoreID: "s"}}}
		k.a.opt.Cluster, k.a.opt.Arbiter, k.a.knownDisk = f, arbiter, newQueue()
		k.a.contact = contact{at: k.a.opt.Now().Add(-2 * time.Second), err: "no answer in time"}
		got, err := handler{k.a}.Fence(t.Context(), control.Request{To: "node2"})
		if err != nil || got.Done || !got.Final || !strings.Contains(got.Reason, "no answer in time") || len(arbiter.asked) > 0 {
			t.Errorf("%+v, %v, asked %+v", got, err, arbiter.asked)
		}
		k.a.contact.at = k.a.opt.Now() // one request that was cut short says nothing
		if got, err := (handler{k.a}).Fence(t.Context(), control.Request{To: "node2"}); err != nil || !got.Done {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// What a fencing has made durable is remembered: an arbiter that has forgotten it is not believed.
func TestFenceIsLearnt(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	k.a.known, k.a.knownDisk = &lease.Known{Stamp: lease.Stamp{StoreID: "s", Generation: 7}}, newQueue()
	must(t, k.a.judgeFence(k.a.known.Stamp, lease.Answer{Verdict: lease.OK, Stamp: lease.Stamp{StoreID: "s", Generation: 9}}))
	if got := k.a.knownNew.Load(); k.a.known.Stamp.Generation != 9 || got == nil || got.Stamp.Generation != 9 {
		t.Errorf("known %v, on its way to the disk %v", k.a.known.Stamp, got)
	}
}

func TestFenceList(t *testing.T) {
	f := idleCluster()
	f.status.Nodes = []pcmk.Node{{Name: "node1"}, {Name: "node2"}}
	got, err := handler{testKeeper(t, f, procDir(t)).a}.Fence(t.Context(), control.Request{})
	if err != nil || !slices.Equal(got.Nodes, []string{"node1", "node2"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// armedGuard notes what it is armed with.
type armedGuard struct {
	Guard
	err   error
	armed []guardapi.Request
}

func (g *armedGuard) Arm(_ context.Context, r guardapi.Request) (guardapi.Reply, error) {
	g.armed = append(g.armed, r)
	return guardapi.Reply{Until: r.Until}, g.err
}
func (g *armedGuard) Note(context.Context, string, lease.Epoch, lease.Instance, string, string) (guardapi.Reply, error) {
	return guardapi.Reply{}, nil
}

// startedUnits can start the guard.
type startedUnits struct{ *fakeUnits }

func (startedUnits) StartUnit(context.Context, string) error { return nil }

// A barred node ends itself: by its guard, else by systemd; powered down only by systemd; and not while it holds anything.
func TestFenced(t *testing.T) {
	for name, c := range map[string]struct {
		off   bool
		guard error
		holds lease.Phase
		armed int
		ended string
	}{
		"reset":                {false, nil, "", 1, ""},
		"reset without guard":  {false, errors.New("no real-time priority"), "", 1, "reboot"},
		"powered down":         {true, nil, "", 0, "power off"},
		"holds":                {false, nil, lease.Held, 0, ""},
		"another lease leaves": {false, nil, lease.Losing, 0, ""},
	} {
		proc, run := procDir(t, controlled), t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			k := testKeeper(t, idleCluster(), proc)
			withLoop(t, k, config.AcquireAuto)
			units, guard := &fakeUnits{}, &armedGuard{err: c.guard}
			k.a.opt.Units, k.a.opt.Guard, k.disk = startedUnits{units}, guard, newQueue()
			k.a.opt.RunDir, k.a.opt.Config.Watchdog.Mode = run, config.WatchdogSystemd
			go k.guard.work(t.Context())
			k.post(lease.Found{Active: lease.No})
			other := &keeper{a: k.a, name: "other", begun: true, holder: k.newHolder()}
			k.a.inLoop(func() {
				now, b := k.a.opt.Now(), k.a.budget()
				found := func(state lease.RunState) lease.Found {
					return lease.Found{Guard: &lease.GuardState{Epoch: 3, Sent: now, Until: now.Add(b.HardDeadline())}, Record: &lease.RunRecord{
						Lease: "pg", State: state, Party: k.a.self, Epoch: 3, Budget: b, Hold: b.Hold(), Sent: now}}
				}
				switch c.holds {
				case lease.Held:
					other.holder.Step(now, found(lease.RunHeld))
				case lease.Losing:
					other.holder.Step(now, found(lease.RunLosing))
				default:
					other.holder.Step(k.a.opt.Now(), lease.Found{Active: lease.No})
				}
				k.a.keepers = []*keeper{k, other}
				if p := other.holder.View().Phase; (p != lease.Standby && p != lease.Acquiring) != (c.holds != "") {
					t.Errorf("%s: the other lease is %s", name, p)
				}
				for range 2 { // as often as it is told
					k.carryOut(lease.Fenced{Off: c.off, Cause: "this boot is barred"})
				}
			})
			synctest.Wait()
			if len(guard.armed) != c.armed || strings.Join(units.ended, ",") != c.ended {
				t.Errorf("%s: armed %+v, ended %v", name, guard.armed, units.ended)
			}
			for _, r := range guard.armed {
				if r.Lease != barName || r.Until <= r.Sent || r.Until.Sub(r.Sent) > fencedTime {
					t.Errorf("%s: armed with %+v", name, r)
				}
			}
		})
	}
}
