package arbiter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
)

const (
	inside  = "127.0.0.1:4711"
	outside = "203.0.113.9:4711"
	// maxAllocated is what one request may allocate: its body is 8 KiB at most.
	maxAllocated = 2 << 20
)

// counted is a store that counts.
type counted struct {
	memory
	writes int
}

func (c *counted) Write(cluster string, change lease.Change, done func(error)) {
	c.writes++
	c.memory.Write(cluster, change, done)
}

// fuzzServer has a cluster whose lease pg node1 holds by epoch 7, and whose lease web is free.
func fuzzServer(t *testing.T) (*Server, *counted) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	snap := lease.NewClusterSnapshot("s1")
	snap.Leases = []lease.Record{
		{Lease: "pg", Epoch: 7, State: lease.RecordHeld, Seq: 1, Hold: 8 * time.Second, LossAfter: 3 * time.Second,
			Holder: lease.Party{Node: "node1", BootID: "b1", Instance: lease.Instance{Start: 1, Nonce: 1}}},
		{Lease: "web", Epoch: 3, State: lease.RecordFree},
	}
	store := &counted{memory: memory{snaps: map[string]lease.Snapshot{"erp": snap}}}
	s, err := New(Options{Store: store, Log: log, Insecure: true, AllowInsecureFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		MinHold: time.Second, MaxHold: time.Minute, MaxPause: time.Hour, DriftPPM: 1000, NewStoreID: func() string { return "s9" }})
	if err != nil {
		t.Fatal(err)
	}
	return s, store
}

// facts are what may not change by a request that is refused.
func facts(t *testing.T, s *Server) []api.LeaseStatus {
	t.Helper()
	v, err := s.cluster("erp", false).status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []api.LeaseStatus
	for _, l := range v.Leases {
		if l.Epoch > 0 { // a lease that is asked for has a place, and no record
			out = append(out, api.LeaseStatus{Lease: l.Lease, State: l.State, Epoch: l.Epoch, Holder: l.Holder, MoveTo: l.MoveTo})
		}
	}
	return out
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// ask gives one request to a handler and checks what holds for each: whatever it says, the server lives, allocates little,
// answers JSON with a code, and has changed nothing unless the answer is 200.
func ask(t *testing.T, control bool, r *http.Request) {
	t.Helper()
	s, store := fuzzServer(t)
	defer s.Close()
	before := facts(t, s)
	h := s.Handler()
	if control {
		h = s.ControlHandler()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond) // a long poll ends here
	defer cancel()
	w := httptest.NewRecorder()
	start := allocated()
	h.ServeHTTP(w, r.WithContext(ctx))
	if n := allocated() - start; n > maxAllocated {
		t.Errorf("%d bytes allocated", n)
	}
	plainPath := r.URL.Path == api.PathHealthy || r.URL.Path == api.PathReady
	asterisk := r.RequestURI == "*"                                                          // the multiplexer answers that itself, with 400 and no words
	moved := w.Code == http.StatusMovedPermanently || w.Code == http.StatusTemporaryRedirect // a path that is not clean
	if w.Code != http.StatusOK && !plainPath && !moved && !asterisk {
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code == "" {
			t.Errorf("status %d with %q", w.Code, w.Body)
		}
	}
	after := facts(t, s) // waits for whatever the request has begun
	if w.Code == http.StatusOK || w.Code == http.StatusServiceUnavailable {
		return // it was understood; the rules of lease judge it
	}
	if d := cmp.Diff(before, after); d != "" || store.writes > 0 || s.cluster("erp", false) == nil {
		t.Errorf("status %d changed something (%d writes): %s", w.Code, store.writes, d)
	}
}

// requests are what agents and administrators have sent.
func requests() []string {
	who := `"proto":1,"node":"node2","boot_id":"0e6a1c4c-6e5c-4b0e-9f6e-5f7b7a3d9a11.5d1f","instance":"1201-00000000000000aa","seq":1300,` +
		`"seen":{"store_id":"s1","generation":1}`
	holder := strings.NewReplacer(`"node2"`, `"node1"`, `0e6a1c4c-6e5c-4b0e-9f6e-5f7b7a3d9a11.5d1f`, "b1", `1201-00000000000000aa`,
		"1-0000000000000001").Replace(who)
	terms := `"terms":{"loss_after_ns":3000000000,"stop_budget_ns":3000000000,"timer_slack_ns":100000000,"watchdog_ns":1000000000,` +
		`"quantum_ns":0,"chances":1,"reset_latency_ns":100000000,"drift_ppm":1000}`
	post := func(path, body string) string {
		return "POST /v1/clusters/" + path + " HTTP/1.1\r\nHost: arbiter:7443\r\nUser-Agent: Go-http-client/1.1\r\n" +
			"Content-Type: application/json\r\nContent-Length: " + itoa(len(body)) + "\r\n\r\n" + body
	}
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: arbiter\r\n\r\n" }
	return []string{
		post("erp/leases/web/acquire", `{`+who+`,"seen_epoch":3,`+terms+`,"hold_ns":8000000000,"wait_ns":2000000000,"ready":true}`),
		post("erp/leases/pg/acquire", `{`+holder+`,"claim":{"epoch":7,"state":"held","hold_ns":8000000000},"seen_epoch":7,`+terms+`,"hold_ns":8000000000,"ready":false}`),
		post("erp/leases/pg/renew", `{`+holder+`,"epoch":7}`),
		post("erp/leases/pg/release", `{`+holder+`,"epoch":7}`),
		post("erp/leases/pg/pause", `{`+holder+`,"epoch":7,"for_ns":600000000000,`+terms+`}`),
		post("erp/leases/pg/resume", `{`+holder+`,"epoch":7}`),
		post("erp/leases/pg/switchover", `{"proto":1,"node":"node2","to":"node2"}`),
		post("erp/leases/pg/resume-ask", `{"proto":1,"node":"node2"}`),
		post("erp/nodes/node2/report", `{`+who+`,"leases":[{"lease":"pg","seen_epoch":7}],"version":"1","config_digest":"ab"}`),
		post("erp/nodes/node2/report", `{"proto":1,"node":"node2","version":"1"}`),
		post("erp/nodes/node1/fence", `{`+who+`,"guarded":true}`),
		post("erp/nodes/node1/fence", `{`+who+`,"off":true,"boot":"b1","check":true}`),
		post("erp/recover", ``),
		post("erp/leases/pg/free", `{"holder_is_off":"node1","check":true}`),
		post("erp/nodes/node1/unbar", ``),
		post("neu/leases/pg/renew", `{`+holder+`,"epoch":99999}`),
		post("erp/leases/pg/renew", `{`+holder+`,"epoch":7,"EPOCH":8}`),
		get("/v1/clusters"), get("/v1/clusters/erp"), get("/v1/history?cluster=erp&limit=5"), get("/healthz"), get("/readyz"),
		get("/v1//clusters/%2e%2e/x"),
	}
}

func itoa(n int) string { text, _ := json.Marshal(n); return string(text) }

// FuzzRequest is whatever may arrive at the nodes' port, from a network that may speak and from one that may not.
func FuzzRequest(f *testing.F) {
	for _, r := range requests() {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, from := range []string{inside, outside, "", "[::1%lo]:1"} {
			r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
			if err != nil {
				return
			}
			r.RemoteAddr = from
			ask(t, false, r)
		}
	})
}

// FuzzControlRequest is the same at the local socket.
func FuzzControlRequest(f *testing.F) {
	for _, r := range requests() {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw))); err == nil {
			r.RemoteAddr = "@"
			ask(t, true, r)
		}
	})
}

// Who is in no network that may speak changes nothing, whatever it asks.
func FuzzStranger(f *testing.F) {
	for _, r := range requests() {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		r.RemoteAddr = outside
		s, store := fuzzServer(t)
		defer s.Close()
		before := facts(t, s)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		open := r.URL.Path == api.PathHealthy || r.URL.Path == api.PathReady
		if w.Code == http.StatusOK && !open {
			t.Errorf("a stranger is answered %q", w.Body)
		}
		if d := cmp.Diff(before, facts(t, s)); d != "" || store.writes > 0 || len(s.clusters) != 1 {
			t.Errorf("a stranger changed something (%d writes, %d clusters): %s", store.writes, len(s.clusters), d)
		}
	})
}

// FuzzBody goes deeper: a body that is read says what the Grantor gets, within every limit of the wire.
func FuzzBody(f *testing.F) {
	verbs := []string{api.VerbAcquire, api.VerbRenew, api.VerbRelease, api.VerbSwitchover, api.VerbPause, api.VerbResume, api.VerbResumeAsk}
	for i := range verbs {
		for _, r := range requests() {
			_, body, _ := strings.Cut(r, "\r\n\r\n")
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, verb uint8, text []byte) {
		msg, node, err := (&reader{names: newNames()}).request(verbs[int(verb)%len(verbs)], text)
		if err != nil {
			return
		}
		within := func(name string, ds ...time.Duration) {
			for _, d := range ds {
				if d < 0 || d > maxDuration {
					t.Errorf("%s of %v", name, d)
				}
			}
		}
		party := func(p lease.Party, seq uint64) {
			if p.Node != node || !newNames().node.MatchString(p.Node) || p.BootID == "" || p.Instance.IsZero() || seq == 0 {
				t.Errorf("%+v of %q with number %d", p, node, seq)
			}
		}
		switch m := msg.(type) {
		case lease.Acquire:
			party(m.Party, m.Seq)
			within("acquire", m.Hold, m.Wait, m.Terms.LossAfter, m.Terms.StopBudget, m.Terms.Watchdog, m.Terms.ResetLatency)
			if m.Claim != nil {
				within("claim", m.Claim.Hold, m.Claim.PauseFor)
			}
		case lease.Renew:
			party(m.Party, m.Seq)
		case lease.Release:
			party(m.Party, m.Seq)
		case lease.Pause:
			party(m.Party, m.Seq)
			within("pause", m.For)
		case lease.Resume:
			party(m.Party, m.Seq)
		case lease.Switchover, lease.ResumeAsk:
		default:
			t.Errorf("%T without an error", msg)
		}
	})
}
