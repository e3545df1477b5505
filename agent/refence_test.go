package agent

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// lockedArbiter is asked by the agent beside the test.
type lockedArbiter struct {
	mu sync.Mutex
	of fencingArbiter
}

func (a *lockedArbiter) Ask(ctx context.Context, name string, body any) (lease.Answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of.Ask(ctx, name, body)
}

// Pacemaker is told to try a failed fencing again once it can succeed, as long as it wants it, and not while it tries.
func TestRefence(t *testing.T) {
	at := func(v lease.Verdict, boot string) lease.Answer {
		return lease.Answer{Verdict: v, Stamp: lease.Stamp{StoreID: "s"}, Boot: boot}
	}
	for name, c := range map[string]struct {
		unclean pcmk.Bool
		later   lease.Answer // to the agent's own question
		asking  bool         // fence_leasedog goes on asking
		puts    bool
	}{
		"it holds nothing any more":   {pcmk.Yes, at(lease.Denied, "b2"), false, true},
		"it is barred":                {pcmk.Yes, at(lease.OK, "b2"), false, true},
		"it holds, or an old arbiter": {pcmk.Yes, at(lease.Denied, ""), false, false},
		"recovery":                    {pcmk.Yes, at(lease.Recovery, ""), false, false},
		"another store says so":       {pcmk.Yes, lease.Answer{Verdict: lease.OK, Stamp: lease.Stamp{StoreID: "t"}, Boot: "b2"}, false, false},
		"nobody wants it":             {pcmk.No, at(lease.OK, "b2"), false, false},
		"it is tried":                 {pcmk.Yes, at(lease.OK, "b2"), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				f := planningCluster{idleCluster(), nil}
				f.cib = fencingCIB(t, `<group id="g"/>`)
				f.status.Nodes = []pcmk.Node{{Name: "node1", Unclean: pcmk.No}, {Name: "node2", Unclean: c.unclean}}
				k := testKeeper(t, f.fakeCluster, proc)
				withLoop(t, k, config.AcquireAuto)
				arbiter := &lockedArbiter{of: fencingArbiter{answer: at(lease.Denied, "")}}
				k.a.opt.Cluster, k.a.opt.Arbiter, k.a.knownDisk = f, arbiter, newQueue()
				k.a.known.Stamp = lease.Stamp{StoreID: "s"}
				go k.a.refence(t.Context())
				ask := func() {
					if got, err := (handler{k.a}).Fence(t.Context(), control.Request{To: "node2"}); err != nil || got.Done {
						t.Errorf("%+v, %v", got, err)
					}
				}
				ask()
				if c.asking {
					for range 50 {
						time.Sleep(time.Second)
						ask()
					}
				} else {
					arbiter.mu.Lock()
					arbiter.of.answer = c.later
					arbiter.mu.Unlock()
					time.Sleep(time.Hour)
				}
				synctest.Wait()
				f.mu.Lock()
				puts := strings.Count(strings.Join(f.calls, "\n"), "put node2-")
				f.mu.Unlock()
				if (puts > 0) != c.puts || puts > 20 {
					t.Errorf("%d changes", puts)
				}
				if c.unclean == pcmk.No && k.a.refencing.due(k.a.opt.Now()) != "" {
					t.Error("a fencing that nobody wants is looked at for ever")
				}
				arbiter.mu.Lock()
				defer arbiter.mu.Unlock()
				for _, q := range arbiter.of.asked[1:] {
					if !c.asking && (!q.Check || !q.Guarded) {
						t.Errorf("asked %+v: the agent itself bars nobody", q)
					}
				}
			})
		})
	}
}

// An agent that starts finds what is missing, and a node's fencing of itself is nobody's business.
func TestRefenceFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := idleCluster()
		f.status.Nodes = []pcmk.Node{{Name: "node1", Unclean: pcmk.Yes}, {Name: "node2", Unclean: pcmk.Yes}}
		k := testKeeper(t, f, procDir(t))
		k.a.node = "node1"
		f.status.StonithEnabled = pcmk.No
		k.a.findFencing(t.Context())
		time.Sleep(2 * refenceEvery)
		if got := k.a.refencing.due(k.a.opt.Now()); got != "" {
			t.Errorf("without fencing: due is %q", got)
		}
		f.status.StonithEnabled = pcmk.Yes
		k.a.findFencing(t.Context())
		time.Sleep(2 * refenceEvery)
		if got := k.a.refencing.due(k.a.opt.Now()); got != "node2" {
			t.Errorf("due is %q", got)
		}
		k.a.refencing.done("node1")
		if k.a.refencing.done("node2"); k.a.refencing.due(k.a.opt.Now()) != "" {
			t.Error("still due")
		}
	})
}
