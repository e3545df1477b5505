package arbiter

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/leasedog/leasedog/arbiter/store/bolt"
	"github.com/leasedog/leasedog/lease"
)

const clientA, clientB = "127.0.0.1", "127.0.0.2"

// oldService is an arbiter with classic locks, asked without a network.
type oldService struct {
	t    *testing.T
	s    *Server
	stop func()
}

// newOldService starts one that has listened for longer than any hold of before, unless early.
func newOldService(t *testing.T, store Store, hold time.Duration, early bool) *oldService {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s, err := New(Options{Store: store, Log: log, Insecure: true, AllowInsecureFrom: local, MinHold: time.Second, MaxHold: time.Minute,
		MaxPause: time.Hour, DriftPPM: 1000, NewStoreID: func() string { return "s-new" }, Classic: Classic{From: local, Hold: hold}})
	if err != nil {
		t.Fatal(err)
	}
	o := &oldService{t: t, s: s, stop: sync.OnceFunc(func() {
		s.Close()
		if file, ok := store.(io.Closer); ok {
			_ = file.Close()
		}
	})}
	if !early {
		o.later()
	}
	t.Cleanup(o.stop)
	return o
}

// later lets the time be over for which a lock of an earlier process may stand. The Grantors' own clocks do not move.
func (o *oldService) later() {
	o.s.classic.started = o.s.classic.started.Add(-2 * o.s.classic.opt.Hold)
}

func (o *oldService) ask(method, path, client string) (int, string) {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = client + ":40000"
	if strings.Contains(client, ":") {
		r.RemoteAddr = "[" + client + "]:40000"
	}
	w := httptest.NewRecorder()
	o.s.ClassicHandler().ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

type askOf struct {
	path, client string
	want         int
}

func (o *oldService) expect(what string, list ...askOf) {
	o.t.Helper()
	for i, a := range list {
		method := []string{"GET", "POST"}[i%2]
		if code, text := o.ask(method, a.path, a.client); code != a.want {
			o.t.Errorf("%s, step %d: %s %s by %s: %d %s, want %d", what, i, method, a.path, a.client, code, text, a.want)
		}
	}
}

// soon asks until it is answered with 200: something that was granted runs out by itself.
func (o *oldService) soon(path, client string) {
	o.t.Helper()
	limit := time.Now().Add(time.Minute)
	for {
		code, text := o.ask("POST", path, client)
		if code == 200 {
			return
		}
		if time.Now().After(limit) {
			o.t.Fatalf("%s by %s: still %d %s", path, client, code, text)
		}
	}
}

func fileStore(t *testing.T, path, machine string) *bolt.Store {
	t.Helper()
	store, err := bolt.Open(bolt.Options{Path: path, MachineID: machine, History: 100, Wall: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// The three URLs mean what they meant, and one lock has one holder.
func TestClassic_OldService(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	o := newOldService(t, &memory{}, time.Hour, false)
	o.expect("nobody holds", askOf{"/updatelock", clientA, 403}, askOf{"/unlock", clientA, 403})
	o.expect("a takes it", askOf{"/lock", clientA, 200}, askOf{"/lock", clientA, 200}, askOf{"/updatelock", clientA, 200})
	o.expect("b does not", askOf{"/lock", clientB, 403}, askOf{"/updatelock", clientB, 403}, askOf{"/unlock", clientB, 403},
		askOf{"/lock", clientB, 403}, askOf{"/updatelock", clientA, 200})
	o.expect("a is one client in both notations", askOf{"/updatelock", "::ffff:127.0.0.1", 200})
	o.expect("handed over", askOf{"/unlock", clientA, 200}, askOf{"/updatelock", clientA, 403}, askOf{"/lock", clientB, 200},
		askOf{"/lock", clientA, 403}, askOf{"/unlock", clientA, 403}, askOf{"/updatelock", clientB, 200})
	o.expect("another lock", askOf{"/lock?name=other", clientA, 200}, askOf{"/lock?name=Other_2.x", clientB, 200},
		askOf{"/lock?name=default", clientA, 403}, askOf{"/unlock?name=other", clientB, 403})
	o.expect("what is no lock", askOf{"/lock?name=", clientA, 400}, askOf{"/lock?name=a/b", clientA, 400}, askOf{"/lock?name=a%20b", clientA, 400},
		askOf{"/lock?name=" + strings.Repeat("x", 65), clientA, 400}, askOf{"/", clientA, 404}, askOf{"/lock/x", clientA, 404})
	o.expect("who may not speak", askOf{"/updatelock", "10.0.0.1", 403}, askOf{"/lock?name=theirs", "10.0.0.1", 403},
		askOf{"/lock", "::1", 403})
	for _, method := range []string{"HEAD", "PUT", "DELETE"} {
		if code, _ := o.ask(method, "/unlock", clientB); code != 405 {
			t.Errorf("%s: %d, want 405", method, code)
		}
	}
	o.expect("nothing of that changed anything", askOf{"/updatelock", clientB, 200}, askOf{"/lock?name=theirs", clientA, 200})
}

func TestClassic_RunsOut(t *testing.T) {
	o := newOldService(t, &memory{}, time.Millisecond, false)
	o.soon("/lock", clientA)
	o.soon("/lock", clientB) // a does not update
	o.expect("a has lost it", askOf{"/updatelock", clientA, 403}, askOf{"/unlock", clientA, 403})
}

// After a restart the holder goes on, and nobody else is let in for a hold: neither by the record nor beside it.
func TestClassic_Restart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	o := newOldService(t, fileStore(t, path, "m1"), time.Hour, false)
	o.expect("before", askOf{"/lock", clientA, 200}, askOf{"/updatelock", clientA, 200}, askOf{"/lock?name=free", clientA, 200},
		askOf{"/unlock?name=free", clientA, 200})
	o.stop()

	o = newOldService(t, fileStore(t, path, "m1"), time.Hour, true)
	o.expect("the peer, first of all", askOf{"/lock", clientB, 403}, askOf{"/updatelock", clientB, 403}, askOf{"/unlock", clientB, 403})
	o.expect("a lock that is free by the record", askOf{"/lock?name=free", clientB, 403})
	o.expect("a lock that the record does not know", askOf{"/lock?name=new", clientB, 403})
	o.expect("the holder", askOf{"/updatelock", clientA, 200}, askOf{"/lock", clientA, 200})
	o.later()
	o.expect("a hold later", askOf{"/lock", clientB, 403}, askOf{"/lock?name=free", clientB, 200}, askOf{"/lock?name=new", clientB, 200},
		askOf{"/unlock", clientA, 200}, askOf{"/lock", clientB, 200})
	o.stop()

	// Numbers go on after a second restart too, with the records of the new holder.
	o = newOldService(t, fileStore(t, path, "m1"), time.Hour, true)
	o.expect("again", askOf{"/lock", clientA, 403}, askOf{"/updatelock", clientB, 200}, askOf{"/unlock", clientB, 200}, askOf{"/lock", clientA, 403})
}

// Without a record that can be trusted nobody is let in for a hold, the holder of before neither: it may have lost the
// lock since that record was written.
func TestClassic_StoreLostOrForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	o := newOldService(t, fileStore(t, path, "m1"), time.Hour, false)
	o.expect("before", askOf{"/lock", clientA, 200})
	o.stop()

	for name, store := range map[string]Store{"lost": &memory{}, "foreign": fileStore(t, path, "m2")} {
		o := newOldService(t, store, time.Hour, true)
		o.expect(name, askOf{"/updatelock", clientA, 403}, askOf{"/lock", clientA, 403}, askOf{"/lock", clientB, 403}, askOf{"/unlock", clientA, 403})
		o.stop()
	}
	o = newOldService(t, fileStore(t, filepath.Join(t.TempDir(), "b.db"), "m1"), time.Millisecond, true)
	o.soon("/lock", clientB)
}

func TestClassic_ForeignStoreRunsOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	o := newOldService(t, fileStore(t, path, "m1"), time.Millisecond, false)
	o.soon("/lock", clientA)
	o.stop()
	o = newOldService(t, fileStore(t, path, "m2"), time.Millisecond, true)
	o.soon("/lock", clientB)
}

// An unlock whose sender gave up may be older than a lock that it took since.
func TestClassic_UnlockOfOneThatIsGone(t *testing.T) {
	o := newOldService(t, &memory{}, time.Hour, false)
	o.expect("a holds", askOf{"/lock", clientA, 200})
	gone := make(chan struct{})
	close(gone)
	k := classicCall{cluster: "classic/default", lock: o.s.classic.lock("classic/default"), gone: gone,
		party: lease.Party{Node: clientA, BootID: "classic", Instance: lease.Instance{Start: 1, Nonce: 1}}}
	if why, err := o.s.classic.unlock(context.Background(), k); err == nil || why != "" {
		t.Errorf("unlock: %q, %v", why, err)
	}
	o.expect("a still holds", askOf{"/lock", clientB, 403}, askOf{"/updatelock", clientA, 200})
}

// Requests of one client that come side by side reach the record in the order of their numbers.
func TestClassic_SideBySide(t *testing.T) {
	o := newOldService(t, &memory{}, time.Hour, false)
	o.expect("a holds", askOf{"/lock", clientA, 200})
	var wait sync.WaitGroup
	for range 64 {
		wait.Go(func() {
			for _, path := range []string{"/updatelock", "/lock"} {
				if code, text := o.ask("POST", path, clientA); code != 200 {
					t.Errorf("%s: %d %s", path, code, text)
				}
			}
			if code, _ := o.ask("POST", "/lock", clientB); code != 403 {
				t.Errorf("the other one: %d", code)
			}
		})
	}
	wait.Wait()
}

// A disk that fails stops new grants, and not what is held.
func TestClassic_WriteError(t *testing.T) {
	m := &memory{}
	o := newOldService(t, m, time.Hour, false)
	o.expect("a holds", askOf{"/lock", clientA, 200}, askOf{"/lock?name=two", clientA, 200}, askOf{"/unlock?name=two", clientA, 200})
	m.set(false, errors.New("disk full"))
	o.expect("the disk fails", askOf{"/lock?name=two", clientB, 503}, askOf{"/lock?name=new", clientB, 503}, askOf{"/updatelock", clientA, 200},
		askOf{"/lock", clientB, 403})
}

// Nodes cannot reach a classic lock, and classic clients no node's lease.
func TestClassic_ClusterOfItsOwn(t *testing.T) {
	s, _, url := newTestServer(t)
	for _, name := range []string{"classic%2Fdefault", "classic/default"} {
		if status, _, text := post(url+"/v1/clusters/"+name+"/leases/lock/acquire", acquire("a", 1)); status == http.StatusOK {
			t.Errorf("%s: %s", name, text)
		}
	}
	if c := s.cluster("classic/default", false); c != nil {
		t.Error("a node has made a classic lock")
	}
	o := newOldService(t, &memory{snaps: map[string]lease.Snapshot{"erp": lease.NewClusterSnapshot("s1")}}, time.Hour, false)
	o.expect("a lock that is called like a cluster", askOf{"/lock?name=erp", clientA, 200})
	v, err := o.s.cluster("erp", false).status(context.Background())
	if err != nil || len(v.Leases) != 0 || len(v.Nodes) != 0 {
		t.Errorf("cluster erp: %+v, %v", v, err)
	}
}

// Whoever asks for ever new names cannot use up what nodes need.
func TestClassic_Limits(t *testing.T) {
	o := newOldService(t, &memory{}, time.Hour, false)
	for i := range maxClassic {
		o.expect("within", askOf{"/lock?name=" + strings.Repeat("x", 1+i%60) + string(rune('a'+i/60)), clientA, 200})
	}
	o.expect("one more", askOf{"/lock?name=more", clientA, 503})
}
