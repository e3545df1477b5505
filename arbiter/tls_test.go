package arbiter

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

const year = 365 * 24 * time.Hour

// wall is a wall clock that a test sets, for several goroutines.
type wall struct {
	mu sync.Mutex
	t  time.Time
}

func (w *wall) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.t
}

func (w *wall) move(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = w.t.Add(d)
}

// logs keeps what was logged.
type logs struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed by the next line
}

func (l *logs) Levels() []logrus.Level { return logrus.AllLevels }

func (l *logs) Fire(e *logrus.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%s identity=%v reason=%v address=%v", e.Message, e.Data["identity"], e.Data["reason"], e.Data["address"]))
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return nil
}

// await waits for a line: a peer may hear of its refusal before it is written down.
func (l *logs) await(parts ...string) bool {
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	for {
		l.mu.Lock()
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		if l.find(parts...) {
			return true
		}
		select {
		case <-more:
		case <-late.C:
			return false
		}
	}
}

func (l *logs) find(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}

// secure is an arbiter with TLS, a CA of its own and clients.
type secure struct {
	t      testing.TB
	server *Server
	folder pki.Folder
	live   *pki.Live
	wall   *wall
	log    *logs
	addr   string
	store  *memory
	closes []func()
}

// newSecure serves clusters erp and web, or what clusters allows.
func newSecure(t testing.TB, clusters map[string]Scope) *secure {
	t.Helper()
	return newSecureOn(t, clusters, nil)
}

// newSecureOn serves what is in a store, or with nil in memory.
func newSecureOn(t testing.TB, clusters map[string]Scope, store Store) *secure {
	t.Helper()
	if _, bench := t.(*testing.B); !bench { // which has goroutines of its own
		t.Cleanup(func() { goleak.VerifyNone(t) })
	}
	s := &secure{t: t, wall: &wall{t: time.Now()}, log: &logs{}, folder: newFolder(t),
		store: &memory{snaps: map[string]lease.Snapshot{"erp": lease.NewClusterSnapshot("s1"), "web": lease.NewClusterSnapshot("s2")}}}
	var err error
	s.live, err = pki.Open(s.folder.Files(), pki.RoleArbiter, pki.NewClock(s.wall.now, boottime.Now))
	if err != nil {
		t.Fatal(err)
	}
	s.start(Options{Store: store, TLS: s.live, Folder: s.folder, CertLife: year, Clusters: clusters})
	return s
}

func newFolder(t testing.TB) pki.Folder {
	t.Helper()
	f := pki.Folder{Dir: filepath.Join(t.TempDir(), "pki")}
	// Old enough to have issued what is over by now.
	if err := f.Init("test", 20*year, 5*year, time.Now().Add(-2*year)); err != nil {
		t.Fatal(err)
	}
	return f
}

// newPlain serves plain HTTP to a network.
func newPlain(t *testing.T, network string) *secure {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	s := &secure{t: t, wall: &wall{t: time.Now()}, log: &logs{}, folder: newFolder(t),
		store: &memory{snaps: map[string]lease.Snapshot{"erp": lease.NewClusterSnapshot("s1")}}}
	s.start(Options{Insecure: true, AllowInsecureFrom: []netip.Prefix{netip.MustParsePrefix(network)}})
	return s
}

func (s *secure) start(opt Options) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(s.log)
	if opt.Store == nil {
		opt.Store = s.store
	}
	opt.Log, opt.NewStoreID = log, rand.Text
	opt.MinHold, opt.MaxHold, opt.MaxPause, opt.DriftPPM = time.Second, time.Minute, time.Hour, 1000
	server, err := New(opt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = server
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	s.t.Cleanup(func() {
		for _, f := range s.closes {
			f()
		}
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
		server.Close()
	})
}

// credentials issues a certificate by a folder.
func (s *secure) credentials(f pki.Folder, id pki.Identity, life time.Duration, made time.Time) *pki.Live {
	s.t.Helper()
	l, err := pki.Open(s.files(f, id, life, made), id.Role, pki.NewClock(s.wall.now, boottime.Now))
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// files is where the credentials are.
func (s *secure) files(f pki.Folder, id pki.Identity, life time.Duration, made time.Time) pki.Files {
	s.t.Helper()
	files := credentialsIn(s.t.TempDir() + "/p")
	key, err := pki.NewKey()
	if err != nil {
		s.t.Fatal(err)
	}
	keyText, _ := pki.EncodeKey(key)
	cert, err := f.Issue(pki.Request{Identity: id, Key: key.Public(), Life: life, How: "test"}, made)
	if err != nil {
		s.t.Fatal(err)
	}
	cas, err := f.CAs()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := pki.Install(files, id, keyText, pki.EncodeCerts(cas...), pki.EncodeCerts(cert)); err != nil {
		s.t.Fatal(err)
	}
	return files
}

func credentialsIn(dir string) pki.Files {
	return pki.Files{CA: dir + "/ca.pem", Cert: dir + "/c.pem", Key: dir + "/k"}
}

func node(cluster, name string) pki.Identity {
	return pki.Identity{Role: pki.RoleNode, Cluster: cluster, Node: name}
}

func (s *secure) as(id pki.Identity) *http.Client {
	s.t.Helper()
	return s.with(s.credentials(s.folder, id, year, s.wall.now()).Client())
}

// with returns a client of a TLS configuration; nil speaks plain HTTP.
func (s *secure) with(conf *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf}
	s.closes = append(s.closes, tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// call sends one request. Status 0 says that there was no answer, and text why.
func (s *secure) call(c *http.Client, scheme, method, path string, body any) (status int, a api.Answer, text string) {
	raw, ok := body.(string)
	if !ok {
		b, _ := json.Marshal(body)
		raw = string(b)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, scheme+"://"+s.addr+path, strings.NewReader(raw))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, a, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	_ = json.Unmarshal(b, &a)
	return resp.StatusCode, a, string(bytes.TrimSpace(b))
}

// epoch is what erp/a holds pg with after hold, and its last number is 5.
const epoch = 2

// me is the agent that holds; an older one of its boot has an instance that began before.
func me(name string, seq uint64) api.Who {
	w := who(name, seq)
	w.Instance = lease.Instance{Start: 5, Nonce: 5}.String()
	return w
}

func acquireAs(name string, seq uint64) api.Acquire {
	a := acquire(name, seq)
	a.Who = me(name, seq)
	return a
}

// hold has erp/a hold pg, for the second time.
func (s *secure) hold(c *http.Client, scheme string) {
	s.t.Helper()
	for _, x := range []struct {
		verb string
		body any
		want string
	}{
		{"acquire", acquireAs("a", 1), "granted"}, {"renew", renew("a", 2, 1), "ok"}, {"release", release("a", 3, 1), "ok"},
		{"acquire", acquireAs("a", 4), "granted"}, {"renew", renew("a", 5, epoch), "ok"},
	} {
		if status, a, text := s.call(c, scheme, "POST", leasePath+x.verb, x.body); status != 200 || a.Verdict != x.want {
			s.t.Fatalf("%s: %d %s", x.verb, status, text)
		}
	}
}

func renew(name string, seq, epoch uint64) api.Renew {
	return api.Renew{Who: me(name, seq), Epoch: epoch}
}

func release(name string, seq, epoch uint64) api.Release {
	return api.Release{Who: me(name, seq), Epoch: epoch}
}

// view is what must not change: the lease as the arbiter has it.
func (s *secure) view() string {
	s.t.Helper()
	v, err := s.server.cluster("erp", false).status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	out := ""
	for _, l := range v.Leases {
		out += fmt.Sprintf("%s %s %d %s %s;", l.Lease, l.State, l.Epoch, l.Holder, l.MoveTo)
	}
	return out
}

func (s *secure) counted(reason string) uint64 { return s.server.refusals.snapshot()[reason] }

// Everything that a node does works over TLS with its certificate, and the status says who is there.
func TestOverTLS(t *testing.T) {
	s := newSecure(t, nil)
	a, b := s.as(node("erp", "a")), s.as(node("erp", "b"))
	for _, c := range []struct {
		client *http.Client
		verb   string
		body   any
		want   string
	}{
		{a, "acquire", acquire("a", 1), "granted"},
		{a, "renew", api.Renew{Who: who("a", 2), Epoch: 1}, "ok"},
		{b, "acquire", acquire("b", 1), "denied"},
		{b, "switchover", api.Switchover{Proto: api.Proto, Node: "b", To: "b"}, "ok"},
		{a, "pause", api.Pause{Who: who("a", 3), Epoch: 1}, "ok"},
		{b, "resume-ask", api.ResumeAsk{Proto: api.Proto, Node: "b"}, "ok"},
		{s.as(pki.Identity{Role: pki.RoleAdmin}), "resume-ask", api.ResumeAsk{Proto: api.Proto}, "ok"},
		{a, "resume", api.Resume{Who: who("a", 4), Epoch: 1}, "ok"},
		{a, "release", api.Release{Who: who("a", 5), Epoch: 1}, "ok"},
	} {
		if status, got, text := s.call(c.client, "https", "POST", leasePath+c.verb, c.body); status != 200 || got.Verdict != c.want {
			t.Errorf("%s: %d %s, want %s", c.verb, status, text, c.want)
		}
	}
	for path, c := range map[string]*http.Client{api.PathClusters: s.as(pki.Identity{Role: pki.RoleReader}), "/v1/clusters/erp": a,
		"/v1/history?cluster=erp": b, api.PathReady: a, api.PathCA: s.as(pki.Identity{Role: pki.RoleReader})} {
		if status, _, text := s.call(c, "https", "GET", path, ""); status != 200 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	_, _, text := s.call(a, "https", "GET", "/v1/clusters/erp", "")
	var st api.Status
	if err := json.Unmarshal([]byte(text), &st); err != nil || st.Insecure || st.Certificates == nil || !st.Certificates.Issues ||
		len(st.Certificates.CAs) != 1 || st.Clusters[0].Nodes[0].Certificate == nil || st.Clusters[0].Nodes[0].Certificate.CA == "" {
		t.Errorf("status: %v %s", err, text)
	}
}

// An existing connection outlives the certificate: what is held is kept, nothing new is granted. So does a wall clock
// that is stepped by decades. A new certificate is had in the days after the end.
func TestExpiryCostsNoHeldLease(t *testing.T) {
	for name, step := range map[string]time.Duration{"expired an hour ago": year + time.Hour, "a clock far ahead": 30 * year, "a clock behind": -300 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := newSecure(t, nil)
			c := s.as(node("erp", "a"))
			s.hold(c, "https")
			fresh := s.as(node("erp", "a"))
			s.wall.move(step)
			for i, c := range []*http.Client{c, fresh} { // the second one connects only now
				if _, a, text := s.call(c, "https", "POST", leasePath+"renew", renew("a", uint64(6+i), epoch)); a.Verdict != "ok" {
					t.Errorf("a renewal: %s", text)
				}
			}
			adopt := acquireAs("a", 8)
			adopt.Claim = &api.Claim{Epoch: epoch, State: "held", HoldNS: int64(9 * time.Second)}
			adopt.SeenEpoch = epoch
			if _, a, text := s.call(c, "https", "POST", leasePath+"acquire", adopt); a.Verdict != "adopted" {
				t.Errorf("an agent that was restarted: %s", text)
			}
			if status, _, text := s.call(c, "https", "POST", "/v1/clusters/erp/leases/new/acquire", acquireAs("a", 9)); status != 403 {
				t.Errorf("a new lease: %d %s", status, text)
			}
			csr := s.csr(node("erp", "a"))
			if status, _, text := s.call(c, "https", "POST", api.PathCert, api.Renewal{Proto: 1, CSR: csr}); status != 200 && step < 20*year {
				t.Errorf("a new certificate: %d %s", status, text)
			}
		})
	}
}

func (s *secure) csr(id pki.Identity) string {
	s.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		s.t.Fatal(err)
	}
	csr, err := pki.NewCSR(id, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(csr)
}

// newCode asks for a code as pki code does.
func (s *secure) newCode(cluster, name string) (int, pki.Code, string) {
	s.t.Helper()
	w := record0()
	s.server.ControlHandler().ServeHTTP(w, newRequest("POST", strings.NewReplacer("{cluster}", cluster, "{node}", name).Replace(api.PathCode)))
	var c api.Code
	_ = json.Unmarshal(w.Body.Bytes(), &c)
	code, _ := pki.ParseCode(c.Code)
	return w.Code, code, w.Body.String()
}

func joinBody(code pki.Code, id pki.Identity, csr string) api.Join {
	return api.Join{Proto: api.Proto, Cluster: id.Cluster, Node: id.Node, Secret: code.Secret[:], CSR: csr}
}

// A code gets one certificate, for its node, and lets nobody else in.
func TestJoin(t *testing.T) {
	s := newSecure(t, nil)
	id := node("erp", "a")
	_, code, _ := s.newCode("erp", "a")
	c := s.with(code.Joining(pki.NewClock(time.Now, boottime.Now)))
	if status, _, text := s.call(c, "https", "GET", api.PathClusters, ""); status != 403 {
		t.Errorf("without a certificate, while a code is open: %d %s", status, text)
	}
	if status, _, text := s.call(c, "https", "POST", leasePath+"acquire", acquire("a", 1)); status != 403 || s.view() != "" {
		t.Errorf("acquire without a certificate: %d %s", status, text)
	}
	body := joinBody(code, id, s.csr(id))
	status, _, text := s.call(c, "https", "POST", api.PathJoin, body)
	var got api.Certificate
	if err := json.Unmarshal([]byte(text), &got); status != 200 || err != nil {
		t.Fatalf("join: %d %s", status, text)
	}
	leaf, err := pki.DecodeCerts([]byte(got.Certificate))
	if err != nil || len(leaf) != 1 {
		t.Fatal(err)
	}
	if is, err := pki.IdentityOf(leaf[0]); err != nil || is != id {
		t.Errorf("%v %v", is, err)
	}
	if status, _, text := s.call(c, "https", "POST", api.PathJoin, body); status != 403 {
		t.Errorf("the same code again: %d %s", status, text)
	}
	again := s.with(code.Joining(pki.NewClock(time.Now, boottime.Now)))
	if status, _, text := s.call(again, "https", "POST", api.PathJoin, body); status != 0 {
		t.Errorf("no code is open, and one without a certificate is let in: %d %s", status, text)
	}
	if entries, err := s.folder.Index(); err != nil || entries[len(entries)-1].How != "join" {
		t.Errorf("%+v %v", entries, err)
	}
}
