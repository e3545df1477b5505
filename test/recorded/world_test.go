package recorded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	bbolt "go.etcd.io/bbolt"

	"github.com/leasedog/leasedog/arbiter"
	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/arbiter/store/bolt"
	"github.com/leasedog/leasedog/lease"
)

// world is an arbiter of today on a store in a file, which can be restarted, and whose disk can fail.
type world struct {
	t       *testing.T
	path    string
	ids     int
	full    atomic.Bool // the disk
	server  *arbiter.Server
	stop    func()
	handler atomic.Pointer[http.Handler]
	url     string
	// kept is the store as it was at the restart.
	kept map[string]map[string]json.RawMessage
}

const machine = "m1"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "arbiter.db")}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*w.handler.Load()).ServeHTTP(rw, r) }))
	t.Cleanup(front.Close)
	w.url = front.URL
	return w
}

func (w *world) start() {
	w.t.Helper()
	store, err := bolt.Open(bolt.Options{Path: w.path, MachineID: machine, History: 100, Wall: time.Now, BeforeSync: func() error {
		if w.full.Load() {
			return errors.New("no space left on device")
		}
		return nil
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	if store.Aside() != "" {
		w.t.Fatal("the store is not understood, and was moved aside")
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	w.server, err = arbiter.New(arbiter.Options{Store: store, Log: log, Insecure: true,
		AllowInsecureFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MinHold: time.Second, MaxHold: time.Hour,
		MaxPause: 2 * time.Hour, DriftPPM: 1000, NewStoreID: func() string { w.ids++; return fmt.Sprint("store-", w.ids) }})
	if err != nil {
		w.t.Fatal(err)
	}
	h := w.server.Handler()
	w.handler.Store(&h)
	w.stop = func() {
		w.server.Close()
		if err := store.Close(); err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
	w.t.Cleanup(func() { w.stop() })
}

// do is what a tape has between two exchanges.
func (w *world) do(what string) {
	w.t.Helper()
	switch what {
	case "the recovery ends":
		for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
			var s api.Status
			w.get(strings.Replace(api.PathCluster, "{cluster}", cluster, 1), &s)
			if len(s.Clusters) == 1 && s.Clusters[0].Recovery == "" {
				return
			}
			if time.Now().After(deadline) {
				w.t.Fatalf("the recovery does not end: %+v", s)
			}
		}
	case "the disk fills up":
		w.full.Store(true)
	case "the arbiter restarts":
		w.stop()
		w.kept = w.dump()
		w.start()
	default:
		w.t.Fatalf("nobody knows how to do %q", what)
	}
}

// get asks at the control socket, which has no limits.
func (w *world) get(path string, v any) {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.server.ControlHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	if err := json.NewDecoder(rec.Body).Decode(v); err != nil || rec.Code != http.StatusOK {
		w.t.Fatal(rec.Code, err)
	}
}

// send sends a recorded request with this body.
func (w *world) send(x tape, body []byte) (status int, says http.Header, answer []byte) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, x.Method, w.url+x.Path, strings.NewReader(string(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range x.Headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer
}

// raw opens the file of a store that nobody has open.
func (w *world) raw(f func(tx *bbolt.Tx) error) {
	w.t.Helper()
	db, err := bbolt.Open(w.path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// dump is what the file holds but the history, which is for humans: each key of each cluster, and of the file itself as
// cluster "". A value that is no JSON becomes a string of it.
func (w *world) dump() map[string]map[string]json.RawMessage {
	w.t.Helper()
	out := map[string]map[string]json.RawMessage{}
	keep := func(name string, b *bbolt.Bucket) error {
		out[name] = map[string]json.RawMessage{}
		return b.ForEach(func(k, v []byte) error {
			text := append([]byte(nil), v...)
			if !strings.HasPrefix(string(v), "{") {
				text, _ = json.Marshal(string(v))
			}
			out[name][string(k)] = text
			return nil
		})
	}
	w.raw(func(tx *bbolt.Tx) error {
		all := tx.Bucket([]byte("clusters"))
		return errors.Join(keep("", tx.Bucket([]byte("meta"))),
			all.ForEachBucket(func(name []byte) error { return keep(string(name), all.Bucket(name)) }))
	})
	return out
}

// load makes the file that a release left. add is put into every object of it.
func (w *world) load(store map[string]map[string]json.RawMessage, change func([]byte) []byte) {
	w.t.Helper()
	w.start()
	w.stop()
	w.raw(func(tx *bbolt.Tx) error {
		for name, keys := range store {
			b := tx.Bucket([]byte("meta"))
			if name != "" {
				var err error
				if b, err = tx.Bucket([]byte("clusters")).CreateBucket([]byte(name)); err != nil {
					return err
				}
			}
			for k, v := range keys {
				text := []byte(change(v))
				if v[0] == '"' {
					var s string
					if err := json.Unmarshal(v, &s); err != nil {
						return err
					}
					text = []byte(s)
				}
				if err := b.Put([]byte(k), text); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

const cluster = "erp"

// party is a node of the story. Its boot id and instance are those of the agent of that number.
func party(node string, agent int) lease.Party {
	return lease.Party{Node: node, BootID: "boot-of-" + node, Instance: lease.Instance{Start: lease.Instant(agent) * 1000, Nonce: 0xabc}}
}
