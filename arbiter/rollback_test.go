package arbiter

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/arbiter/store/bolt"
	"github.com/leasedog/leasedog/lease"
)

// speaker is a node that keeps what it knows, and judges answers as nodes do.
type speaker struct {
	t     *testing.T
	name  string
	seq   uint64
	known lease.Known
}

func (n *speaker) who() api.Who {
	n.seq++
	w := who(n.name, n.seq)
	w.Seen = api.Stamp(n.known.Stamp)
	return w
}

// ask returns the answer, which the node must be able to listen to.
func (n *speaker) ask(url, verb string, body any) api.Answer {
	n.t.Helper()
	left := n.known.Stamp
	status, w, text := post(url+leasePath+verb, body)
	if status != 200 {
		n.t.Fatalf("%s of %s: %d %s", verb, n.name, status, text)
	}
	a := lease.Answer{Verdict: lease.Verdict(w.Verdict), Epoch: lease.Epoch(w.Epoch), Stamp: lease.Stamp(w.Stamp)}
	if w.Echo != nil {
		echo := lease.Stamp(*w.Echo)
		a.Echo = &echo
	}
	if err := n.known.Judge(left, n.known.Epochs["pg"], a); err != nil {
		n.t.Fatalf("%s of %s: %s: %v", verb, n.name, text, err)
	}
	n.known.Learn("pg", a)
	return w
}

func (n *speaker) acquire(url string) api.Answer {
	a := acquire(n.name, 0)
	a.Who, a.SeenEpoch = n.who(), uint64(n.known.Epochs["pg"])
	return n.ask(url, "acquire", a)
}

func (n *speaker) renew(url string, epoch uint64) api.Answer {
	return n.ask(url, "renew", api.Renew{Who: n.who(), Epoch: epoch,
		Claim: &api.Claim{Epoch: epoch, State: string(lease.ClaimHeld), HoldNS: int64(8750 * time.Millisecond)}})
}

func (n *speaker) expect(what string, a api.Answer, verdict lease.Verdict) {
	n.t.Helper()
	if a.Verdict != string(verdict) {
		n.t.Fatalf("%s of %s: %+v, want %s", what, n.name, a, verdict)
	}
}

// TestRolledBackStore (attack 9): node2 holds epoch 2, and the arbiter comes back with a copy of its file: one from when
// node1 held epoch 1, which the nodes' generations tell, or the newest one on another machine, which may not be the only
// one in use. It has a new id then. node2 goes on without a gap; node1 gets nothing by the old
// record, neither as its holder nor anew.
func TestRolledBackStore(t *testing.T) {
	for _, c := range []struct {
		name      string
		older     bool
		machine   string
		peerFirst bool
	}{
		{"older, the holder speaks first", true, "m1", false},
		{"older, the peer speaks first", true, "m1", true},
		{"on another machine, the holder speaks first", false, "m2", false},
		{"on another machine, the peer speaks first", false, "m2", true},
		{"older and on another machine", true, "m2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			path := filepath.Join(t.TempDir(), "a.db")
			serve := func(machine string) (url string, stop func()) {
				store, err := bolt.Open(bolt.Options{Path: path, MachineID: machine, History: 100, Wall: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				_, url, end := startServer(t, store)
				return url, func() {
					end()
					if err := store.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			peer, holder := &speaker{t: t, name: "node1"}, &speaker{t: t, name: "node2"}
			url, stop := serve("m1")
			for _, n := range []*speaker{peer, holder, holder} { // a new cluster: both have to speak
				n.expect("acquire", n.acquire(url), lease.Recovery)
			}
			peer.expect("acquire", peer.acquire(url), lease.Granted)
			peer.expect("renew", peer.renew(url, 1), lease.OK)
			stop()
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			url, stop = serve("m1")
			peer.expect("renew", peer.renew(url, 1), lease.OK)
			peer.expect("release", peer.ask(url, "release", api.Release{Who: peer.who(), Epoch: 1}), lease.OK)
			holder.expect("acquire", holder.acquire(url), lease.Granted)
			holder.expect("renew", holder.renew(url, 2), lease.OK)
			peer.expect("acquire", peer.acquire(url), lease.Denied)
			stop()

			if c.older {
				if err := os.WriteFile(path, old, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			url, stop = serve(c.machine)
			defer stop()
			before := holder.known.Stamp
			if c.peerFirst {
				peer.expect("acquire", peer.acquire(url), lease.Recovery)
				peer.expect("acquire", peer.acquire(url), lease.Recovery)
			}
			a := holder.renew(url, 2)
			holder.expect("renew", a, lease.Recovery)
			if a.Echo == nil || lease.Stamp(*a.Echo) != before || a.Stamp.StoreID == before.StoreID || a.Stamp.Generation <= before.Generation {
				t.Errorf("the holder, which knows %v, is told %+v (echo %+v)", before, a, a.Echo)
			}
			if a = holder.renew(url, 2); a.Verdict != string(lease.OK) || a.Epoch != 2 {
				t.Errorf("the holder under the new id: %+v", a)
			}
			for range 3 {
				if a := peer.acquire(url); a.Verdict != string(lease.Recovery) {
					t.Errorf("the peer: %+v", a)
				}
			}
			if a := peer.acquire(url); a.Holder != "node2" || a.Epoch != 2 {
				t.Errorf("the peer is told %+v", a)
			}
			if a := peer.renew(url, 1); a.Verdict != string(lease.Lost) {
				t.Errorf("the peer renews what the old record says that it holds: %+v", a)
			}
			holder.expect("renew", holder.renew(url, 2), lease.OK)
		})
	}
}
