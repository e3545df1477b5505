package arbiter

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

// memory is a store whose writes a test may hold or fail.
type memory struct {
	mu    sync.Mutex
	snaps map[string]lease.Snapshot
	err   error
	held  []func()
	hold  bool
}

func (m *memory) Load() (map[string]lease.Snapshot, error) { return m.snaps, nil }

func (m *memory) History(string, int) ([]api.Transition, error) { return nil, nil }

func (m *memory) Write(_ string, _ lease.Change, done func(error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hold {
		m.held = append(m.held, func() { done(m.err) })
		return
	}
	done(m.err)
}

func (m *memory) set(hold bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold, m.err = hold, err
	for _, f := range m.held {
		f()
	}
	m.held = nil
}

func newTestServer(t *testing.T, networks ...string) (*Server, *memory, string) {
	t.Helper()
	m := &memory{snaps: map[string]lease.Snapshot{"erp": lease.NewClusterSnapshot("s1"), "web": lease.NewClusterSnapshot("s2")}}
	t.Cleanup(func() { goleak.VerifyNone(t) })
	s, url := serveStore(t, m, networks...)
	return s, m, url
}

// serveStore serves what is in a store until the test ends.
func serveStore(t *testing.T, store Store, networks ...string) (*Server, string) {
	t.Helper()
	s, url, stop := startServer(t, store, networks...)
	t.Cleanup(stop)
	return s, url
}

// startServer serves what is in a store until stop is called.
func startServer(t *testing.T, store Store, networks ...string) (s *Server, url string, stop func()) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	var nets []netip.Prefix
	for _, n := range append(networks, "127.0.0.0/8")[:max(1, len(networks))] {
		nets = append(nets, netip.MustParsePrefix(n))
	}
	s, err := New(Options{Store: store, Log: log, Insecure: true, AllowInsecureFrom: nets, MinHold: time.Second, MaxHold: time.Minute,
		MaxPause: time.Hour, DriftPPM: 1000, NewStoreID: rand.Text})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return s, "http://" + l.Addr().String(), func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

func who(node string, seq uint64) api.Who {
	return api.Who{Proto: api.Proto, Node: node, BootID: "b1", Instance: lease.Instance{Start: 1, Nonce: 1}.String(), Seq: seq}
}

func acquire(node string, seq uint64) api.Acquire {
	b, _ := lease.Profile("lan")
	return api.Acquire{Who: who(node, seq), HoldNS: int64(b.Hold()), Ready: true, Terms: api.Terms{LossAfterNS: int64(b.LossAfter),
		StopBudgetNS: int64(b.StopBudget), TimerSlackNS: int64(b.TimerSlack), WatchdogNS: int64(b.Watchdog), QuantumNS: int64(b.Quantum),
		Chances: b.Chances, ResetLatencyNS: int64(b.ResetLatency), DriftPPM: b.DriftPPM}}
}

func post(url string, body any) (int, api.Answer, string) {
	text, ok := body.(string)
	if !ok {
		raw, _ := json.Marshal(body)
		text = string(raw)
	}
	resp, err := http.Post(url, "application/json", strings.NewReader(text))
	if err != nil {
		return 0, api.Answer{}, err.Error()
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	var a api.Answer
	_ = json.Unmarshal(raw, &a)
	return resp.StatusCode, a, string(bytes.TrimSpace(raw))
}

const leasePath = "/v1/clusters/erp/leases/pg/"

func TestAcquireRenewReleaseOverHTTP(t *testing.T) {
	_, _, url := newTestServer(t)
	for _, c := range []struct {
		verb string
		body any
		want string
	}{
		{"acquire", acquire("a", 1), "granted"},
		{"renew", api.Renew{Who: who("a", 2), Epoch: 1}, "ok"},
		{"acquire", acquire("b", 1), "denied"},
		{"switchover", api.Switchover{Proto: api.Proto, Node: "a", To: "b"}, "ok"},
		{"renew", api.Renew{Who: who("b", 2), Epoch: 1}, "refused"},
		{"resume-ask", api.ResumeAsk{Proto: api.Proto, Node: "b"}, "refused"},
		{"pause", api.Pause{Who: who("a", 3), Epoch: 1}, "ok"},
		{"resume-ask", api.ResumeAsk{Proto: api.Proto, Node: "b"}, "ok"},
		{"resume-ask", `{"proto":1}`, "ok"},
		{"resume", api.Resume{Who: who("a", 4), Epoch: 1}, "ok"},
		{"release", api.Release{Who: who("a", 5), Epoch: 1}, "ok"},
		{"renew", api.Renew{Who: who("a", 6), Epoch: 1}, "lost"},
	} {
		if status, a, text := post(url+leasePath+c.verb, c.body); status != 200 || a.Verdict != c.want {
			t.Errorf("%s: %d %s, want %s", c.verb, status, text, c.want)
		}
	}
}

// TestStandingByEndsAPauseOnRecord: what a node says of its resources is heard over the wire.
func TestStandingByEndsAPauseOnRecord(t *testing.T) {
	_, _, url := newTestServer(t)
	post(url+leasePath+"acquire", acquire("a", 1))
	post(url+leasePath+"renew", api.Renew{Who: who("a", 2), Epoch: 1})
	post(url+leasePath+"pause", api.Pause{Who: who("a", 3), Epoch: 1})
	if _, a, text := post(url+leasePath+"acquire", acquire("a", 4)); a.Verdict != "denied" || a.FreeInNS != 0 {
		t.Errorf("what runs may be paused: %s", text)
	}
	ask := acquire("a", 5)
	ask.Stopped = true
	if _, a, text := post(url+leasePath+"acquire", ask); a.Verdict != "denied" || a.FreeInNS == 0 {
		t.Errorf("stopped: %s", text)
	}
}

// TestLongPollIsAnsweredByTheRelease: the parked poll gets the lease with the release, not at its own end.
// Every answer says what the arbiter's clock showed when the request came and when the answer left, also to who holds nothing.
func TestAnswersTellTheClock(t *testing.T) {
	other := ""
	t.Run("another", func(t *testing.T) {
		s, _, _ := newTestServer(t)
		other = s.clockID
	})
	_, _, url := newTestServer(t)
	before := boottime.Now()
	_, first, _ := post(url+leasePath+"acquire", acquire("a", 1))
	const wait = 30 * time.Millisecond
	poll := acquire("b", 1)
	poll.WaitNS = int64(wait)
	_, second, _ := post(url+leasePath+"acquire", poll)
	took := boottime.Now().Sub(before)
	if first.Verdict != "granted" || second.Verdict != "denied" || first.Clock == nil || second.Clock == nil {
		t.Fatalf("%+v, %+v", first, second)
	}
	a, b := *first.Clock, *second.Clock
	if a.ID == "" || a.ID != b.ID || a.InNS < 0 || a.InNS > a.OutNS || a.OutNS > b.InNS || time.Duration(b.OutNS-b.InNS) < wait ||
		time.Duration(b.OutNS-a.InNS) > took {
		t.Errorf("%+v, then %+v within %v", a, b, took)
	}
	if a.ID == other {
		t.Errorf("another arbiter's clock has the same name: %+v", a)
	}
}

func TestLongPollIsAnsweredByTheRelease(t *testing.T) {
	s, _, url := newTestServer(t)
	post(url+leasePath+"acquire", acquire("a", 1))
	post(url+leasePath+"renew", api.Renew{Who: who("a", 2), Epoch: 1})
	poll := acquire("b", 1)
	poll.WaitNS = int64(lease.MaxWait)
	got := make(chan api.Answer, 1)
	go func() { _, a, _ := post(url+leasePath+"acquire", poll); got <- a }()
	for waits := false; !waits; { // until the poll is parked
		st, err := s.cluster("erp", false).status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits = len(st.Leases[0].Waiters) == 1
	}
	post(url+leasePath+"release", api.Release{Who: who("a", 3), Epoch: 1})
	if a := <-got; a.Verdict != "granted" || a.Epoch != 2 {
		t.Errorf("the poll was answered %+v", a)
	}
}

// TestSlowDiskDelaysNoRenewal: a grant whose write hangs is not answered; renewals of its cluster and of others are.
func TestSlowDiskDelaysNoRenewal(t *testing.T) {
	_, m, url := newTestServer(t)
	post(url+leasePath+"acquire", acquire("a", 1))
	m.set(true, nil)
	got := make(chan api.Answer, 1)
	go func() { _, a, _ := post(url+"/v1/clusters/erp/leases/two/acquire", acquire("a", 2)); got <- a }()
	for held := 0; held == 0; {
		m.mu.Lock()
		held = len(m.held)
		m.mu.Unlock()
	}
	if _, a, text := post(url+leasePath+"renew", api.Renew{Who: who("a", 3), Epoch: 1}); a.Verdict != "ok" {
		t.Errorf("a renewal during a write: %s", text)
	}
	select {
	case a := <-got:
		t.Errorf("answered before it was on disk: %+v", a)
	default:
	}
	m.set(false, nil)
	if a := <-got; a.Verdict != "granted" || a.Stamp.Generation != 3 {
		t.Errorf("after the write: %+v", a)
	}
}

func TestWriteErrorGrantsNothing(t *testing.T) {
	_, m, url := newTestServer(t)
	m.set(false, errors.New("no space left on device"))
	if _, a, text := post(url+leasePath+"acquire", acquire("a", 1)); a.Verdict != "unavailable" || a.Stamp.Generation != 1 {
		t.Errorf("a grant that cannot be written: %s", text)
	}
}

func TestBadRequests(t *testing.T) {
	_, _, url := newTestServer(t)
	good, _ := json.Marshal(api.Renew{Who: who("a", 1), Epoch: 1})
	change := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("%s is not in %s", old, good)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for _, c := range []struct{ name, path, body, want string }{
		{"too large", leasePath + "renew", `{"x":"` + strings.Repeat("y", api.MaxBody) + `"}`, "larger than 8192 bytes"},
		{"twice", leasePath + "renew", change(`"seq":1`, `"seq":1,"seq":2`), `field "seq" stands there twice`},
		{"twice by case", leasePath + "renew", change(`"seq":1`, `"seq":1,"SEQ":2`), `field "SEQ" stands there twice`},
		{"wrong type", leasePath + "renew", change(`"epoch":1`, `"epoch":"1"`), "cannot unmarshal string"},
		{"negative", leasePath + "renew", change(`"epoch":1`, `"epoch":-1`), "cannot unmarshal number"},
		{"no epoch", leasePath + "renew", change(`"epoch":1`, `"epoch":0`), "epoch must be above 0"},
		{"two values", leasePath + "renew", string(good) + "{}", "something stands after"},
		{"no object", leasePath + "renew", "[]", "not a JSON object"},
		{"empty", leasePath + "renew", "", "EOF"},
		{"deep", leasePath + "renew", strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20), "nested too deeply"},
		{"proto", leasePath + "renew", change(`"proto":1`, `"proto":2`), "this arbiter speaks 1"},
		{"node", leasePath + "renew", change(`"node":"a"`, `"node":"a b"`), "not a node's name"},
		{"instance", leasePath + "renew", change(`"instance":"1-`, `"instance":"0-`), "want START-NONCE"},
		{"lease", "/v1/clusters/erp/leases/PG/renew", string(good), "is not a name"},
		{"claim", leasePath + "renew", change(`"epoch":1`, `"epoch":1,"claim":{"epoch":1,"state":"lost","hold_ns":1}`), "must be held, leaving or paused"},
		{"duration", leasePath + "renew", change(`"epoch":1`, `"epoch":1,"claim":{"epoch":1,"state":"held","hold_ns":9223372036854775807}`), "claim.hold_ns"},
	} {
		status, _, text := post(url+c.path, c.body)
		var e api.Error
		if err := json.Unmarshal([]byte(text), &e); err != nil || status != 400 || e.Code != api.CodeBadRequest || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s: %d %s, want 400 and %q", c.name, status, text, c.want)
		}
	}
	for _, c := range []struct{ verb, body, want string }{
		{"resume-ask", `{"proto":2}`, "this arbiter speaks 1"}, {"resume-ask", `{"proto":1,"node":"a b"}`, "not a node's name"},
		{"switchover", `{"proto":1,"node":"a"}`, "to \"\" is not"},
	} {
		if status, _, text := post(url+leasePath+c.verb, c.body); status != 400 || !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), c.want) {
			t.Errorf("%s %s: %d %s, want %s", c.verb, c.body, status, text, c.want)
		}
	}
	if status, _, text := post(url+leasePath+"renew", change(`"epoch":1`, `"epoch":1,"later":{"version":[1]}`)); status != 200 {
		t.Errorf("an unknown field: %d %s", status, text)
	}
	if status, _, _ := post(url+"/v1/clusters/erp/leases/pg/steal", string(good)); status != 404 {
		t.Errorf("an unknown verb: %d", status)
	}
}

func TestOnlyListedNetworksMaySpeak(t *testing.T) {
	_, _, url := newTestServer(t, "192.0.2.0/24")
	status, _, text := post(url+leasePath+"acquire", acquire("a", 1))
	if status != 403 || !strings.Contains(text, "allow_insecure_from") {
		t.Errorf("from elsewhere: %d %s", status, text)
	}
	resp, err := http.Get(url + api.PathClusters)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("status from elsewhere: %d", resp.StatusCode)
	}
}

// TestOperatorVerbsAreOnTheControlSocketOnly: nobody on the network can end a recovery.
func TestOperatorVerbsAreOnTheControlSocketOnly(t *testing.T) {
	s, _, url := newTestServer(t)
	post(url+"/v1/clusters/new/leases/pg/acquire", acquire("a", 1))
	if status, _, text := post(url+"/v1/clusters/new/recover", "{}"); status != 404 {
		t.Errorf("recover from the network: %d %s", status, text)
	}
	w := httptest.NewRecorder()
	s.ControlHandler().ServeHTTP(w, httptest.NewRequest("POST", "/v1/clusters/new/recover", strings.NewReader("{}")))
	if !strings.Contains(w.Body.String(), `"verdict":"ok"`) {
		t.Errorf("recover at the socket: %d %s", w.Code, w.Body)
	}
}

// TestAskingForAnUnknownClusterMakesNone: what a node passes on for a human brings no cluster into being.
func TestAskingForAnUnknownClusterMakesNone(t *testing.T) {
	s, _, url := newTestServer(t)
	for verb, body := range map[string]any{
		"switchover": api.Switchover{Proto: api.Proto, Node: "a", To: "b"}, "resume-ask": api.ResumeAsk{Proto: api.Proto, Node: "a"},
	} {
		if status, _, text := post(url+"/v1/clusters/nobody/leases/pg/"+verb, body); status != 404 || s.cluster("nobody", false) != nil {
			t.Errorf("%s: %d %s", verb, status, text)
		}
	}
}

func TestStatusAndReport(t *testing.T) {
	_, _, url := newTestServer(t)
	post(url+leasePath+"acquire", acquire("a", 1))
	if status, _, text := post(url+"/v1/clusters/erp/nodes/a/report", api.Report{Who: api.Who{Proto: 1, Node: "a", BootID: "b1"}, Version: "v9", Alarms: []string{"no rule"}}); status != 200 {
		t.Errorf("report: %d %s", status, text)
	}
	me := api.Who{Proto: 1, Node: "a", BootID: "b1", Instance: "9-0000000000000009", Seq: 9}
	if status, _, text := post(url+"/v1/clusters/erp/nodes/a/report", api.Report{Who: me, Version: "v9"}); status != 200 {
		t.Errorf("report about leases: %d %s", status, text)
	}
	for _, alarms := range [][]string{{"a\x1b[2J"}, {"a\nb"}, {strings.Repeat("x", api.MaxAlarm+1)}, make([]string, api.MaxAlarms+1)} {
		who := api.Who{Proto: 1, Node: "a"}
		if status, _, text := post(url+"/v1/clusters/erp/nodes/a/report", api.Report{Who: who, Alarms: alarms}); status != 400 {
			t.Errorf("alarms %q: %d %s", alarms, status, text)
		}
	}
	resp, err := http.Get(url + "/v1/clusters/erp")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s api.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	c := s.Clusters[0]
	got := fmt.Sprintf("%v %s %s %d %s %s %s %s", s.Insecure, c.Cluster, c.Leases[0].State, c.Leases[0].Epoch, c.Leases[0].Holder,
		c.Nodes[0].Node, c.Nodes[0].Report.Version, c.Nodes[0].Report.Alarms)
	if got != "true erp granted 1 a a v9 [no rule]" {
		t.Errorf("status = %s", got)
	}
}

// A fencing: who holds is not fenced, who stands by is barred and told so, and only a known cluster has anything to fence.
func TestFence(t *testing.T) {
	s, _, url := newTestServer(t)
	post(url+leasePath+"acquire", acquire("a", 1))
	post(url+leasePath+"renew", api.Renew{Who: who("a", 2), Epoch: 1})
	post(url+leasePath+"acquire", acquire("b", 1))
	for _, c := range []struct {
		path    string
		body    any
		status  int
		verdict string
		text    string
	}{
		{"erp/nodes/a/fence", api.Fence{Who: who("b", 2), Guarded: true}, 200, "denied", `"holder":"a","free_in_ns":`},
		{"erp/nodes/b/fence", api.Fence{Who: who("a", 3), Check: true, Guarded: true}, 200, "denied", `"quiet_ns":`},
		{"erp/nodes/b/fence", api.Fence{Who: who("a", 4)}, 200, "denied", `"boot_mark":"`},
		{"erp/nodes/b/fence", api.Fence{Who: who("a", 5), Guarded: true, Off: true}, 200, "ok", ""},
		{"erp/nodes/b/fence", api.Fence{Who: who("a", 6), Check: true}, 200, "ok", "is barred"},
		{"erp/nodes/a/fence", api.Fence{Who: who("b", 3), Guarded: true}, 200, "barred", `"off":true`},
		{"erp/nodes/b/fence", api.Fence{Who: who("a", 7), Boot: strings.Repeat("x", 200)}, 400, "", "boot"},
		{"erp/nodes/b!/fence", api.Fence{Who: who("a", 8)}, 400, "", "not a name"},
		{"erp/nodes/b/fence", "[]", 400, "", "object"},
		{"nobody/nodes/b/fence", api.Fence{Who: who("a", 9)}, 404, "", ""},
	} {
		status, a, text := post(url+"/v1/clusters/"+c.path, c.body)
		if status != c.status || a.Verdict != c.verdict || !strings.Contains(text, c.text) {
			t.Errorf("%s %+v: %d %s", c.path, c.body, status, text)
		}
	}
	if s.cluster("nobody", false) != nil {
		t.Error("a fencing made a cluster")
	}
}

// A report with an instance is heard by the Grantor: a new cluster whose second node only reports is no longer waited for.
func TestReportIsHeard(t *testing.T) {
	_, _, url := newTestServer(t)
	report := func(seen api.Stamp, seq uint64) api.Answer {
		who := acquire("b", seq).Who
		who.Seen = seen
		status, a, text := post(url+"/v1/clusters/young/nodes/b/report", api.Report{Who: who, Leases: []api.LeaseReport{{Lease: "pg"}}})
		if status != http.StatusOK {
			t.Fatalf("report: %d %s", status, text)
		}
		return a
	}
	ask := func(seen api.Stamp, seq uint64) api.Answer {
		req := acquire("a", seq)
		req.Seen = seen
		_, a, _ := post(url+"/v1/clusters/young/leases/pg/acquire", req)
		return a
	}
	first := ask(api.Stamp{}, 1)
	if first.Verdict != "recovery" {
		t.Fatalf("the first node alone: %+v", first)
	}
	if a := ask(first.Stamp, 2); a.Verdict != "recovery" {
		t.Fatalf("the first node alone, which knows the store: %+v", a)
	}
	if a := report(api.Stamp{}, 1); a.Verdict != "recovery" || a.Echo == nil {
		t.Fatalf("the second node's first report: %+v", a)
	}
	if a := report(first.Stamp, 2); a.Verdict != "ok" || a.Seq != 2 {
		t.Fatalf("the second node's second report: %+v", a)
	}
	if a := ask(first.Stamp, 3); a.Verdict != "granted" {
		t.Fatalf("both were heard: %+v", a)
	}
	for name, bad := range map[string]api.Report{
		"lease":    {Who: acquire("b", 3).Who, Leases: []api.LeaseReport{{Lease: "P G"}}},
		"instance": {Who: api.Who{Proto: 1, Node: "b", BootID: "b1", Instance: "x", Seq: 4}},
		"number":   {Who: acquire("b", 0).Who},
	} {
		if status, _, text := post(url+"/v1/clusters/young/nodes/b/report", bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}
