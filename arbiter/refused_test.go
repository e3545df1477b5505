package arbiter

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

func record0() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func newRequest(method, path string) *http.Request {
	return httptest.NewRequest(method, path, strings.NewReader("{}"))
}

// refusal is somebody who must not get what they ask for.
type refusal struct {
	name     string
	client   func(s *secure) *http.Client
	method   string
	path     string
	body     any
	status   int    // 0: not even a connection
	reason   string // as it is counted and logged
	identity string // as it is logged
}

const (
	nodeA = "leasedog://erp/a"
	nodeB = "leasedog://erp/b"
	webA  = "leasedog://web/a"
)

func is(cluster, name string) func(*secure) *http.Client {
	return func(s *secure) *http.Client { return s.as(node(cluster, name)) }
}

func role(r pki.Role) func(*secure) *http.Client {
	return func(s *secure) *http.Client { return s.as(pki.Identity{Role: r}) }
}

// presents believes this arbiter's CA and presents other credentials.
func presents(make func(s *secure) *pki.Live) func(*secure) *http.Client {
	return func(s *secure) *http.Client {
		conf := s.credentials(s.folder, node("erp", "a"), year, s.wall.now()).Client()
		conf.GetClientCertificate = make(s).Client().GetClientCertificate
		return s.with(conf)
	}
}

// handshakes are refused before any HTTP.
func handshakes() []refusal {
	steal := renew("a", 9, epoch)
	post := func(name string, client func(*secure) *http.Client, reason, identity string) refusal {
		return refusal{name, client, "POST", leasePath + "renew", steal, 0, reason, identity}
	}
	return []refusal{
		post("no certificate", func(s *secure) *http.Client { return s.with(&tls.Config{InsecureSkipVerify: true}) }, pki.ReasonNoCertificate, "nobody"),
		post("other CA", presents(func(s *secure) *pki.Live { return s.credentials(newFolder(s.t), node("erp", "a"), year, time.Now()) }),
			pki.ReasonOtherCA, nodeA),
		post("the arbiter's own certificate", presents(func(s *secure) *pki.Live {
			f := s.folder.Files()
			f.Revoked = ""
			l, err := pki.Open(f, pki.RoleArbiter, s.live.Clock())
			if err != nil {
				s.t.Fatal(err)
			}
			return l
		}), pki.ReasonOtherCA, "leasedog:arbiter"),
		post("expired", presents(func(s *secure) *pki.Live {
			return s.credentials(s.folder, node("erp", "a"), 24*time.Hour, s.wall.now().Add(-48*time.Hour+time.Hour))
		}), pki.ReasonExpired, nodeA),
		post("not yet valid", presents(func(s *secure) *pki.Live {
			return s.credentials(s.folder, node("erp", "a"), year, s.wall.now().Add(30*24*time.Hour))
		}), pki.ReasonNotYetValid, nodeA),
		post("revoked", presents(func(s *secure) *pki.Live {
			l := s.credentials(s.folder, node("erp", "a"), year, s.wall.now())
			s.revoke(l)
			return l
		}), pki.ReasonRevoked, nodeA),
		post("TLS 1.2", func(s *secure) *http.Client {
			conf := s.credentials(s.folder, node("erp", "a"), year, s.wall.now()).Client()
			conf.MinVersion, conf.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return s.with(conf)
		}, reasonHandshake, "nobody"),
	}
}

func (s *secure) revoke(l *pki.Live) {
	s.t.Helper()
	if err := s.folder.Revoke([]string{pki.Serial(l.Current().Leaf)}, "test", s.wall.now()); err != nil {
		s.t.Fatal(err)
	}
	if changed, err := s.live.Reload(); !changed || err != nil {
		s.t.Fatal(changed, err)
	}
}

// askers are known, and may not.
func askers() []refusal {
	const lp = leasePath
	webPath := "/v1/clusters/web/leases/pg/"
	older, twin := me("a", 50), me("a", 50)
	older.Instance = "4-0000000000000005"
	twin.Instance = "5-0000000000000004"
	thief := me("a", 1<<40) // has the node's key and has read the status, but is not in its boot
	thief.BootID, thief.Instance = "guessed", "9000-0000000000000001"
	adoption := acquireAs("a", 9)
	adoption.Who, adoption.Claim = thief, &api.Claim{Epoch: epoch, State: "held"}
	reader, admin := role(pki.RoleReader), role(pki.RoleAdmin)
	const r, ad = "leasedog:reader", "leasedog:admin"
	ask := func(n string) api.ResumeAsk { return api.ResumeAsk{Proto: 1, Node: n} }
	move := func(n string) api.Switchover { return api.Switchover{Proto: 1, Node: n, To: "b"} }
	return []refusal{
		{"other cluster: acquire", is("web", "a"), "POST", lp + "acquire", acquireAs("a", 9), 403, reasonIdentity, webA},
		{"other cluster: renew", is("web", "a"), "POST", lp + "renew", renew("a", 9, epoch), 403, reasonIdentity, webA},
		{"other cluster: release", is("web", "a"), "POST", lp + "release", release("a", 9, epoch), 403, reasonIdentity, webA},
		{"other cluster: switchover", is("web", "a"), "POST", lp + "switchover", move("a"), 403, reasonIdentity, webA},
		{"other cluster: resume-ask", is("web", "a"), "POST", lp + "resume-ask", ask("a"), 403, reasonIdentity, webA},
		{"other cluster: report", is("web", "a"), "POST", "/v1/clusters/erp/nodes/a/report", api.Report{Who: me("a", 9)}, 403, reasonIdentity, webA},
		{"other cluster: status", is("web", "a"), "GET", "/v1/clusters/erp", "", 403, reasonIdentity, webA},
		{"other cluster: history", is("web", "a"), "GET", "/v1/history?cluster=erp", "", 403, reasonIdentity, webA},
		{"own cluster's name elsewhere", is("erp", "a"), "POST", webPath + "acquire", acquireAs("a", 9), 403, reasonIdentity, nodeA},
		{"other node: acquire", is("erp", "b"), "POST", lp + "acquire", acquireAs("a", 9), 403, reasonIdentity, nodeB},
		{"other node: renew", is("erp", "b"), "POST", lp + "renew", renew("a", 9, epoch), 403, reasonIdentity, nodeB},
		{"other node: release", is("erp", "b"), "POST", lp + "release", release("a", 9, epoch), 403, reasonIdentity, nodeB},
		{"other node: pause", is("erp", "b"), "POST", lp + "pause", api.Pause{Who: me("a", 9), Epoch: epoch}, 403, reasonIdentity, nodeB},
		{"other node: resume", is("erp", "b"), "POST", lp + "resume", api.Resume{Who: me("a", 9), Epoch: epoch}, 403, reasonIdentity, nodeB},
		{"other node: report", is("erp", "b"), "POST", "/v1/clusters/erp/nodes/a/report", api.Report{Who: me("a", 9)}, 403, reasonIdentity, nodeB},
		{"other cluster: fence", is("web", "a"), "POST", "/v1/clusters/erp/nodes/b/fence", api.Fence{Who: me("a", 9), Guarded: true}, 403, reasonIdentity, webA},
		{"other node: fence in its name", is("erp", "b"), "POST", "/v1/clusters/erp/nodes/b/fence", api.Fence{Who: me("a", 9), Guarded: true}, 403, reasonIdentity, nodeB},
		{"reader: fence", reader, "POST", "/v1/clusters/erp/nodes/b/fence", api.Fence{Who: me("a", 9), Guarded: true}, 403, reasonRole, r},
		{"admin: fence", admin, "POST", "/v1/clusters/erp/nodes/b/fence", api.Fence{Who: me("a", 9), Guarded: true}, 403, reasonRole, ad},
		{"other node: switchover in its name", is("erp", "b"), "POST", lp + "switchover", move("a"), 403, reasonIdentity, nodeB},
		{"other node: certificate", is("erp", "b"), "POST", api.PathCert, "CSR of a", 403, reasonIdentity, nodeB},
		{"node: status of all", is("erp", "a"), "GET", api.PathClusters, "", 403, reasonRole, nodeA},
		{"node: history of nothing", is("erp", "a"), "GET", api.PathHistory, "", 403, reasonRole, nodeA},
		{"node: recover", is("erp", "a"), "POST", "/v1/clusters/erp/recover", "{}", 404, reasonNotFound, nodeA},
		{"node: join with a certificate", is("erp", "a"), "POST", api.PathJoin, "{}", 403, reasonRole, nodeA},
		{"reader: acquire", reader, "POST", lp + "acquire", acquireAs("a", 9), 403, reasonRole, r},
		{"reader: renew", reader, "POST", lp + "renew", renew("a", 9, epoch), 403, reasonRole, r},
		{"reader: switchover", reader, "POST", lp + "switchover", move(""), 403, reasonRole, r},
		{"reader: resume-ask", reader, "POST", lp + "resume-ask", ask(""), 403, reasonRole, r},
		{"reader: free", reader, "POST", lp + "free", api.Free{HolderIsOff: "a"}, 404, reasonNotFound, r},
		{"reader: unbar", reader, "POST", "/v1/clusters/erp/nodes/a/unbar", "{}", 404, reasonNotFound, r},
		{"reader: a code", reader, "POST", "/v1/clusters/erp/nodes/a/code", "{}", 404, reasonNotFound, r},
		{"reader: certificate", reader, "POST", api.PathCert, "CSR of a", 403, reasonRole, r},
		{"admin: acquire", admin, "POST", lp + "acquire", acquireAs("a", 9), 403, reasonRole, ad},
		{"admin: renew", admin, "POST", lp + "renew", renew("a", 9, epoch), 403, reasonRole, ad},
		{"admin: release", admin, "POST", lp + "release", release("a", 9, epoch), 403, reasonRole, ad},
		{"admin: report", admin, "POST", "/v1/clusters/erp/nodes/a/report", api.Report{Who: me("a", 9)}, 403, reasonRole, ad},
		{"admin: free over the network", admin, "POST", lp + "free", api.Free{HolderIsOff: "a"}, 404, reasonNotFound, ad},
		{"admin: switchover in a node's name", admin, "POST", lp + "switchover", move("a"), 403, reasonIdentity, ad},
		{"oversized", is("erp", "a"), "POST", lp + "renew", `{"x":"` + strings.Repeat("y", api.MaxBody) + `"}`, 400, reasonBadRequest, nodeA},
		{"duplicate fields", is("erp", "a"), "POST", lp + "renew", `{"proto":1,"node":"b","node":"a","boot_id":"b1","instance":"1-0000000000000001","seq":9,"epoch":1}`,
			400, reasonBadRequest, nodeA},
		{"duplicate fields by case", is("erp", "a"), "POST", lp + "release", `{"proto":1,"Node":"b","node":"a","boot_id":"b1","instance":"1-0000000000000001","seq":9,"epoch":1}`,
			400, reasonBadRequest, nodeA},
		{"replayed release", is("erp", "a"), "POST", lp + "release", release("a", 3, 1), 200, reasonVerdict + "lost", nodeA},
		{"replayed release, by number", is("erp", "a"), "POST", lp + "release", release("a", 5, epoch), 200, reasonVerdict + "refused", nodeA},
		{"replayed renewal", is("erp", "a"), "POST", lp + "renew", renew("a", 4, epoch), 200, reasonVerdict + "refused", nodeA},
		{"wrong epoch: renew", is("erp", "a"), "POST", lp + "renew", renew("a", 9, 1), 200, reasonVerdict + "lost", nodeA},
		{"wrong epoch: release", is("erp", "a"), "POST", lp + "release", release("a", 9, 1), 200, reasonVerdict + "lost", nodeA},
		{"wrong epoch: pause", is("erp", "a"), "POST", lp + "pause", api.Pause{Who: me("a", 9), Epoch: 1}, 200, reasonVerdict + "lost", nodeA},
		{"wrong instance: renew", is("erp", "a"), "POST", lp + "renew", api.Renew{Who: older, Epoch: epoch}, 200, reasonVerdict + "superseded", nodeA},
		{"wrong instance: release", is("erp", "a"), "POST", lp + "release", api.Release{Who: older, Epoch: epoch}, 200, reasonVerdict + "superseded", nodeA},
		{"wrong instance, same start", is("erp", "a"), "POST", lp + "renew", api.Renew{Who: twin, Epoch: epoch}, 200, reasonVerdict + "superseded", nodeA},
		{"stolen key: release", is("erp", "a"), "POST", lp + "release", api.Release{Who: thief, Epoch: epoch}, 200, reasonVerdict + "refused", nodeA},
		{"stolen key: renew", is("erp", "a"), "POST", lp + "renew", api.Renew{Who: thief, Epoch: epoch}, 200, reasonVerdict + "refused", nodeA},
		{"stolen key: pause", is("erp", "a"), "POST", lp + "pause", api.Pause{Who: thief, Epoch: epoch}, 200, reasonVerdict + "refused", nodeA},
		{"stolen key: resume", is("erp", "a"), "POST", lp + "resume", api.Resume{Who: thief, Epoch: epoch}, 200, reasonVerdict + "refused", nodeA},
		{"stolen key: adopt", is("erp", "a"), "POST", lp + "acquire", adoption, 200, reasonVerdict + "refused", nodeA},
		{"peer renews in its own name", is("erp", "b"), "POST", lp + "renew", renew("b", 9, epoch), 200, reasonVerdict + "refused", nodeB},
		{"peer releases in its own name", is("erp", "b"), "POST", lp + "release", release("b", 9, epoch), 200, reasonVerdict + "refused", nodeB},
	}
}

// Whoever may not is refused, whatever the way: the lease is as it was and its holder goes on, and the arbiter's log and
// its count say who it was and why.
func TestRefused(t *testing.T) {
	cases := slices.Concat(handshakes(), askers())
	if len(cases) < 30 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSecure(t, nil)
			holder := s.as(node("erp", "a"))
			s.hold(holder, "https")
			before, count := s.view(), s.counted(c.reason)
			body := c.body
			if body == "CSR of a" {
				body = api.Renewal{Proto: 1, CSR: s.csr(node("erp", "a"))}
			}
			status, _, text := s.call(c.client(s), "https", c.method, c.path, body)
			if status != c.status {
				t.Errorf("status %d, want %d: %s", status, c.status, text)
			}
			s.untouched(holder, "https", before)
			s.told(c.reason, c.identity, count)
		})
	}
}

// TestBootIsNotTold: whoever knows the holder's boot id, and has its key, can release its lease. So nobody is told, in no answer
// and no line of the log; what is told names the boot.
func TestBootIsNotTold(t *testing.T) {
	s := newSecure(t, nil)
	a, b := s.as(node("erp", "a")), s.as(node("erp", "b"))
	s.hold(a, "https")
	own := func(name string, seq uint64) api.Who { w := me(name, seq); w.BootID = "of-" + name; return w }
	thief := own("a", 1<<40)
	waits := acquireAs("b", 20)
	waits.Who = own("b", 20)
	told := ""
	for _, c := range []struct {
		who          *http.Client
		method, path string
		body         any
	}{
		{a, "POST", "/v1/clusters/erp/nodes/a/report", api.Report{Who: me("a", 1000), Version: "v9"}},
		{a, "POST", leasePath + "release", api.Release{Who: thief, Epoch: epoch}},
		{a, "POST", leasePath + "renew", renew("a", 1001, epoch)},
		{a, "POST", leasePath + "acquire", acquireAs("a", 1002)},
		{b, "POST", leasePath + "acquire", waits},
		{b, "POST", "/v1/clusters/erp/nodes/a/fence", api.Fence{Who: own("b", 21), Guarded: true}},
		{b, "POST", "/v1/clusters/erp/nodes/a/fence", api.Fence{Who: own("b", 22), Check: true}},
		{b, "POST", leasePath + "switchover", api.Switchover{Proto: 1, Node: "b", To: "b"}},
		{b, "GET", "/v1/clusters/erp", ""},
		{s.as(pki.Identity{Role: pki.RoleAdmin}), "GET", api.PathClusters, ""},
		{s.as(pki.Identity{Role: pki.RoleReader}), "GET", api.PathHistory + "?cluster=erp", ""},
	} {
		status, _, text := s.call(c.who, "https", c.method, c.path, c.body)
		if status != http.StatusOK {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
		told += text + "\n"
	}
	s.log.mu.Lock()
	told += strings.Join(s.log.lines, "\n")
	s.log.mu.Unlock()
	if id := regexp.MustCompile(`\b(b1|of-a|of-b)\b`).FindString(told); id != "" {
		t.Errorf("%s is told:\n%s", id, told)
	}
	for _, want := range []string{`"boot_mark":"` + lease.BootMark("of-b"), "two boots of a are alive", "v9"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not told, so this looked at nothing:\n%s", want, told)
		}
	}
}

// untouched fails unless the lease is as it was and its holder can go on.
func (s *secure) untouched(holder *http.Client, scheme, before string) {
	s.t.Helper()
	if after := s.view(); after != before {
		s.t.Errorf("the lease was %s and is %s", before, after)
	}
	if _, a, text := s.call(holder, scheme, "POST", leasePath+"renew", renew("a", 1000, epoch)); a.Verdict != "ok" {
		s.t.Errorf("the holder's next renewal: %s", text)
	}
}

func (s *secure) told(reason, identity string, before uint64) {
	s.t.Helper()
	if !s.log.await("refused: ", "identity="+identity+" ", "reason="+reason+" ", "address=127.0.0.1:") {
		s.t.Errorf("no line of the log with %s and %s:\n%s", identity, reason, strings.Join(s.log.lines, "\n"))
	}
	if after := s.counted(reason); after != before+1 {
		s.t.Errorf("%s was counted %d times, want 1: %v", reason, after-before, s.server.refusals.snapshot())
	}
}

// What is refused over time: a connection that was let in is not let on when its certificate is revoked; an expired
// certificate gets nothing new, though its holder keeps what it has.
func TestRefusedLater(t *testing.T) {
	t.Run("revoked on an existing connection", func(t *testing.T) {
		s := newSecure(t, nil)
		holder := s.as(node("erp", "a"))
		s.hold(holder, "https")
		l := s.credentials(s.folder, node("erp", "b"), year, s.wall.now())
		c := s.with(l.Client())
		if status, _, text := s.call(c, "https", "GET", "/v1/clusters/erp", ""); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		before := s.view()
		s.revoke(l)
		status, _, text := s.call(c, "https", "POST", leasePath+"acquire", acquire("b", 9))
		if status != 403 || !strings.Contains(text, "revoked") {
			t.Errorf("%d %s", status, text)
		}
		s.untouched(holder, "https", before)
		s.told(pki.ReasonRevoked, nodeB, 0)
	})
	t.Run("revoked, and the arbiter has not read it yet", func(t *testing.T) {
		s := newSecure(t, nil)
		holder := s.as(node("erp", "a"))
		s.hold(holder, "https")
		before := s.view()
		thief := s.with(s.credentials(s.folder, node("erp", "b"), year, s.wall.now()).Client())
		renewal := api.Renewal{Proto: 1, CSR: s.csr(node("erp", "b"))}
		if status, _, text := s.call(thief, "https", "POST", api.PathCert, renewal); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		if n, err := s.folder.RevokeAll(node("erp", "b"), s.wall.now()); n != 2 || err != nil { // also what it got meanwhile
			t.Fatal(n, err)
		}
		if status, _, text := s.call(thief, "https", "POST", api.PathCert, renewal); status != 403 || !strings.Contains(text, "revoked") {
			t.Errorf("another certificate: %d %s", status, text)
		}
		if list, err := s.folder.Serials(node("erp", "b")); len(list) != 2 || err != nil {
			t.Errorf("%d were issued (%v)", len(list), err)
		}
		s.untouched(holder, "https", before)
		s.told(pki.ReasonRevoked, nodeB, 0)
	})
	for name, c := range map[string]struct {
		path, identity string
		who            pki.Identity
		body           any
	}{
		"expired: new grant":  {leasePath + "acquire", nodeB, node("erp", "b"), acquire("b", 9)},
		"expired: switchover": {leasePath + "switchover", nodeB, node("erp", "b"), api.Switchover{Proto: 1, Node: "b", To: "b"}},
		"expired: admin":      {leasePath + "resume-ask", "leasedog:admin", pki.Identity{Role: pki.RoleAdmin}, api.ResumeAsk{Proto: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecure(t, nil)
			holder := s.as(node("erp", "a"))
			s.hold(holder, "https")
			asks := s.with(s.credentials(s.folder, c.who, 24*time.Hour, s.wall.now().Add(-25*time.Hour)).Client())
			before := s.view()
			if status, _, text := s.call(asks, "https", "POST", c.path, c.body); status != 403 || !strings.Contains(text, "expired") {
				t.Errorf("%d %s", status, text)
			}
			s.untouched(holder, "https", before)
			s.told(reasonGrace, c.identity, 0)
		})
	}
}

// TestRefusedByConfiguration: what [[cluster]] does not list is not served, certificate or not.
func TestRefusedByConfiguration(t *testing.T) {
	scopes := map[string]Scope{"erp": {Nodes: []string{"a", "b"}, Leases: []string{"pg"}}}
	for name, c := range map[string]refusal{
		"cluster": {"", is("web", "a"), "POST", "/v1/clusters/web/leases/pg/acquire", acquireAs("a", 9), 403, reasonScope, webA},
		"node":    {"", is("erp", "c"), "POST", leasePath + "acquire", acquire("c", 9), 403, reasonScope, "leasedog://erp/c"},
		"lease":   {"", is("erp", "b"), "POST", "/v1/clusters/erp/leases/other/acquire", acquire("b", 9), 403, reasonScope, nodeB},
		"report":  {"", is("erp", "c"), "POST", "/v1/clusters/erp/nodes/c/report", api.Report{Who: who("c", 9)}, 403, reasonScope, "leasedog://erp/c"},
		"fence":   {"", is("erp", "b"), "POST", "/v1/clusters/erp/nodes/c/fence", api.Fence{Who: who("b", 9), Guarded: true}, 403, reasonScope, nodeB},
		"status":  {"", is("web", "a"), "GET", "/v1/clusters/web", "", 403, reasonScope, webA},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecure(t, scopes)
			holder := s.as(node("erp", "a"))
			s.hold(holder, "https")
			before := s.view()
			if status, _, text := s.call(c.client(s), "https", c.method, c.path, c.body); status != c.status {
				t.Errorf("%d %s", status, text)
			}
			s.untouched(holder, "https", before)
			s.told(c.reason, c.identity, 0)
		})
	}
	s := newSecure(t, scopes)
	if status, _, text := s.newCode("web", "a"); status != 403 {
		t.Errorf("a code for a cluster that is not listed: %d %s", status, text)
	}
}

// TestRefusedJoin: a code is for one node, once, in time, and nobody guesses one.
func TestRefusedJoin(t *testing.T) {
	a, b := node("erp", "a"), node("erp", "b")
	for name, c := range map[string]struct {
		body   func(s *secure, code pki.Code) any
		status int
		reason string
	}{
		"wrong secret":       {func(s *secure, code pki.Code) any { code.Secret[0]++; return joinBody(code, a, s.csr(a)) }, 403, reasonJoin},
		"empty secret":       {func(s *secure, code pki.Code) any { j := joinBody(code, a, s.csr(a)); j.Secret = nil; return j }, 403, reasonJoin},
		"for another node":   {func(s *secure, code pki.Code) any { return joinBody(code, b, s.csr(b)) }, 403, reasonJoin},
		"another's identity": {func(s *secure, code pki.Code) any { return joinBody(code, a, s.csr(b)) }, 403, reasonJoin},
		"a role": {func(s *secure, code pki.Code) any {
			return joinBody(code, a, s.csr(pki.Identity{Role: pki.RoleAdmin}))
		}, 403, reasonJoin},
		"another cluster": {func(s *secure, code pki.Code) any {
			x := node("web", "a")
			return joinBody(code, x, s.csr(x))
		}, 403, reasonJoin},
		"no request": {func(s *secure, code pki.Code) any { return joinBody(code, a, "hello") }, 400, reasonBadRequest},
		"no name":    {func(s *secure, code pki.Code) any { j := joinBody(code, a, s.csr(a)); j.Node = "../a"; return j }, 400, reasonBadRequest},
		"proto":      {func(s *secure, code pki.Code) any { j := joinBody(code, a, s.csr(a)); j.Proto = 2; return j }, 400, reasonBadRequest},
		"not JSON":   {func(*secure, pki.Code) any { return "x" }, 400, reasonBadRequest},
		"oversized":  {func(s *secure, code pki.Code) any { return joinBody(code, a, strings.Repeat("x", api.MaxBody)) }, 400, reasonBadRequest},
		"used": {func(s *secure, code pki.Code) any {
			s.server.codes.take(a, code.Secret[:])
			return joinBody(code, a, s.csr(a))
		}, 403, reasonJoin},
		"over":         {func(s *secure, code pki.Code) any { s.server.codes.expire(a); return joinBody(code, a, s.csr(a)) }, 403, reasonJoin},
		"replaced one": {func(s *secure, code pki.Code) any { s.newCode("erp", "a"); return joinBody(code, a, s.csr(a)) }, 403, reasonJoin},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecure(t, nil)
			s.newCode("erp", "other") // so that a code is open in any case
			_, code, _ := s.newCode("erp", "a")
			entries, _ := s.folder.Index()
			client := s.with(code.Joining(s.live.Clock()))
			if status, _, text := s.call(client, "https", "POST", api.PathJoin, c.body(s, code)); status != c.status {
				t.Errorf("%d %s", status, text)
			}
			s.told(c.reason, "nobody", 0)
			if after, _ := s.folder.Index(); len(after) != len(entries) {
				t.Errorf("a certificate was issued: %+v", after[len(after)-1])
			}
		})
	}
	t.Run("too often", func(t *testing.T) {
		s := newSecure(t, nil)
		_, code, _ := s.newCode("erp", "a")
		client := s.with(code.Joining(s.live.Clock()))
		wrong := code
		wrong.Secret[0]++
		last := 0
		for range joinBurst + 1 {
			last, _, _ = s.call(client, "https", "POST", api.PathJoin, joinBody(wrong, a, s.csr(a)))
		}
		if last != http.StatusTooManyRequests || s.counted(reasonJoinRate) == 0 {
			t.Errorf("%d %v", last, s.server.refusals.snapshot())
		}
	})
}

// TestRefusedWithoutTLS: what speaks the other protocol than the port, and who comes from elsewhere.
func TestRefusedWithoutTLS(t *testing.T) {
	t.Run("plain HTTP on the TLS port", func(t *testing.T) {
		s := newSecure(t, nil)
		holder := s.as(node("erp", "a"))
		s.hold(holder, "https")
		before := s.view()
		if status, _, text := s.call(s.with(nil), "http", "POST", leasePath+"renew", renew("a", 9, epoch)); status != 400 {
			t.Errorf("%d %s", status, text)
		}
		s.untouched(holder, "https", before)
		s.told(reasonPlainHTTP, "nobody", 0)
	})
	t.Run("garbage on the TLS port", func(t *testing.T) {
		s := newSecure(t, nil)
		holder := s.as(node("erp", "a"))
		s.hold(holder, "https")
		before := s.view()
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("\x00\x01\x02\x03\x04\x05\x06\x07"))
		if _, err := conn.Read(make([]byte, 8)); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Error(err)
		}
		_ = conn.Close()
		s.untouched(holder, "https", before)
		s.told(reasonHandshake, "nobody", 0)
	})
	t.Run("TLS on the plain port", func(t *testing.T) {
		s := newPlain(t, "127.0.0.0/8")
		holder := s.with(nil)
		s.hold(holder, "http")
		before := s.view()
		client := s.with(s.credentials(s.folder, node("erp", "a"), year, s.wall.now()).Client())
		if status, _, text := s.call(client, "https", "POST", leasePath+"renew", renew("a", 9, epoch)); status != 0 {
			t.Errorf("%d %s", status, text)
		}
		s.untouched(holder, "http", before)
		s.told(reasonTLSOnPlain, "nobody", 0)
	})
	for _, path := range []string{leasePath + "acquire", leasePath + "switchover", "/v1/clusters/erp/nodes/a/report", api.PathJoin} {
		t.Run("from elsewhere: "+path, func(t *testing.T) {
			s := newPlain(t, "192.0.2.0/24")
			if status, _, text := s.call(s.with(nil), "http", "POST", path, acquire("a", 1)); status != 403 || s.view() != "" {
				t.Errorf("%d %s", status, text)
			}
			s.told(reasonNetwork, "nobody", 0)
		})
	}
	for _, path := range []string{api.PathJoin, api.PathCert} {
		t.Run("no certificates here: "+path, func(t *testing.T) {
			s := newPlain(t, "127.0.0.0/8")
			if status, _, text := s.call(s.with(nil), "http", "POST", path, "{}"); status != 403 {
				t.Errorf("%d %s", status, text)
			}
			s.told(reasonRole, "insecure", 0)
		})
	}
}

// TestRefusedToMixModes: certificates and plain HTTP are not to be had together, nor is neither.
func TestRefusedToMixModes(t *testing.T) {
	s := newSecure(t, nil)
	good := s.server.opt
	for name, change := range map[string]func(*Options){
		"neither": func(o *Options) { o.TLS = nil },
		"both": func(o *Options) {
			o.Insecure, o.AllowInsecureFrom = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		},
		"insecure, nobody": func(o *Options) { o.Insecure = true; o.TLS = nil },
		"insecure and TLS": func(o *Options) { o.Insecure = true },
		"no folder":        func(o *Options) { o.Folder = pki.Folder{} },
		"no life":          func(o *Options) { o.CertLife = 0 },
		"no credentials":   func(o *Options) { o.TLS = &pki.Live{} },
	} {
		opt := good
		change(&opt)
		if srv, err := New(opt); err == nil {
			srv.Close()
			t.Errorf("%s: it starts", name)
		}
	}
}

// who may use which route. A route that is not here fails the test: think about who may use it before it is served.
func everyRoute() map[string]string {
	const nobodyElse = "node"
	return map[string]string{
		"POST /v1/clusters/{cluster}/leases/{lease}/acquire":    nobodyElse,
		"POST /v1/clusters/{cluster}/leases/{lease}/renew":      nobodyElse,
		"POST /v1/clusters/{cluster}/leases/{lease}/release":    nobodyElse,
		"POST /v1/clusters/{cluster}/leases/{lease}/pause":      nobodyElse,
		"POST /v1/clusters/{cluster}/leases/{lease}/resume":     nobodyElse,
		"POST /v1/clusters/{cluster}/nodes/{node}/report":       nobodyElse,
		"POST /v1/clusters/{cluster}/nodes/{node}/fence":        nobodyElse,
		"POST /v1/clusters/{cluster}/leases/{lease}/switchover": "node admin",
		"POST /v1/clusters/{cluster}/leases/{lease}/resume-ask": "node admin",
		"GET /v1/clusters":           "reader admin",
		"GET /v1/clusters/{cluster}": "node reader admin",
		"GET /v1/history":            "node reader admin",
		"POST /v1/certificate":       "node other-cluster",
		"GET /v1/ca":                 "node other-cluster reader admin",
		"GET /healthz":               "node other-cluster reader admin",
		"GET /readyz":                "node other-cluster reader admin",
		"POST /v1/join":              "code",
	}
}

// TestRefusedOnEveryRoute asks for every route as everybody, and compares who gets past the guard with the table above.
func TestRefusedOnEveryRoute(t *testing.T) {
	s := newSecure(t, nil)
	s.newCode("erp", "x") // so that one without a certificate gets a connection
	clients := map[string]*http.Client{"node": s.as(node("erp", "a")), "other-cluster": s.as(node("web", "a")),
		"reader": s.as(pki.Identity{Role: pki.RoleReader}), "admin": s.as(pki.Identity{Role: pki.RoleAdmin}),
		"code": s.with(&tls.Config{InsecureSkipVerify: true})}
	table := everyRoute()
	for _, rt := range s.server.routes() {
		name := rt.method + " " + rt.path
		allowed, known := table[name]
		if !known {
			t.Errorf("%s is served, and no table says who may use it", name)
			continue
		}
		delete(table, name)
		path := strings.NewReplacer("{cluster}", "erp", "{lease}", "pg", "{node}", "a").Replace(rt.path)
		if rt.path == api.PathHistory {
			path += "?cluster=erp"
		}
		for who, c := range clients {
			// The body says nothing: who gets past the guard is told that, or gets an answer.
			status, _, text := s.call(c, "https", rt.method, path, "{}")
			past := status != 403 && status != 0
			if want := slices.Contains(strings.Fields(allowed), who); past != want {
				t.Errorf("%s as %s: %d %s, want past the guard: %v", name, who, status, text, want)
			}
		}
	}
	for name := range table {
		t.Errorf("%s is in the table and not served", name)
	}
	var zero route
	for _, p := range []peer{{Peer: pki.Peer{Identity: node("erp", "a"), Standing: pki.Valid}}, {insecure: true},
		{Peer: pki.Peer{Identity: pki.Identity{Role: pki.RoleAdmin}, Standing: pki.Valid}}} {
		if s.server.authorise(p, zero, "erp") == nil {
			t.Errorf("a route that says nothing lets %s in", p.name())
		}
	}
}

// What is refused again and again is counted each time, and written down once in a while.
func TestRefusedIsNotAFlood(t *testing.T) {
	s := newSecure(t, nil)
	c := s.as(node("web", "a"))
	for i := range 20 {
		s.call(c, "https", "POST", leasePath+"renew", renew("a", uint64(i+1), 1))
	}
	lines := 0
	for _, l := range s.log.lines {
		if strings.HasPrefix(l, "refused: ") {
			lines++
		}
	}
	if n := s.counted(reasonIdentity); n != 20 || lines != 1 {
		t.Errorf("%d counted, %d lines", n, lines)
	}
	s.server.refusals.note("somebody", "x", "long", strings.Repeat("é", maxHeader))
	if line := s.log.lines[len(s.log.lines)-1]; len(line) > 2*maxText || !strings.Contains(line, "é… ") {
		t.Errorf("a line of %d bytes", len(line))
	}
	before := len(s.log.lines)
	for i := range 2 * maxSaid { // of no CA that is known, so each has any name that it likes
		s.server.refusals.note(fmt.Sprintf("leasedog://erp/x%d", i), "x", pki.ReasonOtherCA, "z")
	}
	if n := len(s.log.lines) - before; n != 1 {
		t.Errorf("names that nobody has proven made %d lines", n)
	}
	for i := range 3 * maxSaid {
		s.server.refusals.note(fmt.Sprint(i), "x", "y", "z")
	}
	if n := len(s.server.refusals.last); n > maxSaid {
		t.Errorf("%d are remembered", n)
	}
}
