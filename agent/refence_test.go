package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// Pacemaker is told to try a failed fencing again once it can succeed, as long as it wants it, and not while it tries.
func TestRefence(t *testing.T) {
	at := func(v lease.Verdict, holder string) lease.Answer {
		return lease.Answer{Verdict: v, Stamp: lease.Stamp{StoreID: "s"}, Holder: holder}
	}
	for name, c := range map[string]struct {
		unclean pcmk.Bool
		later   lease.Answer // to the agent's own question
		asking  bool         // fence_leasedog goes on asking
		puts    bool
	}{
		"it holds nothing any more": {pcmk.Yes, at(lease.Denied, ""), false, true},
		"it is barred":              {pcmk.Yes, at(lease.OK, ""), false, true},
		"it holds":                  {pcmk.Yes, at(lease.Denied, "node2"), false, false},
		"recovery":                  {pcmk.Yes, at(lease.Recovery, ""), false, false},
		"another store says so":     {pcmk.Yes, lease.Answer{Verdict: lease.OK, Stamp: lease.Stamp{StoreID: "t"}}, false, false},
		"nobody wants it":           {pcmk.No, at(lease.OK, ""), false, false},
		"it is tried":               {pcmk.Yes, at(lease.OK, ""), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			proc := procDir(t, controlled)
			synctest.Test(t, func(t *testing.T) {
				f := planningCluster{idleCluster(), nil}
				f.cib = fencingCIB(t, `<group id="g"/>`)
				f.status.Nodes = []pcmk.Node{{Name: "node1", Unclean: pcmk.No}, {Name: "node2", Unclean: c.unclean}}
				k := testKeeper(t, f.fakeCluster, proc)
				withLoop(t, k, config.AcquireAuto)
				arbiter := &fencingArbiter{answer: at(lease.Denied, "node2")}
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
					arbiter.answer = c.later
					time.Sleep(30 * time.Second)
				}
				synctest.Wait()
				f.mu.Lock()
				puts := strings.Count(strings.Join(f.calls, "\n"), "put node2-")
				f.mu.Unlock()
				if (puts > 0) != c.puts || puts > 6 {
					t.Errorf("%d changes", puts)
				}
				if c.unclean == pcmk.No && k.a.refencing.due(k.a.opt.Now()) != "" {
					t.Error("a fencing that nobody wants is looked at for ever")
				}
				for _, q := range arbiter.asked[1:] {
					if !q.Check && !c.asking {
						t.Errorf("asked %+v: the agent itself bars nobody", q)
					}
				}
			})
		})
	}
	t.Run("it succeeded", func(t *testing.T) {
		var r refencing
		r.ended(0, "node2", false)
		r.ended(1, "node2", true)
		if r.due(lease.Instant(time.Hour)) != "" {
			t.Error("it is still missing")
		}
	})
}
