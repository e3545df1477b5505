package arbiterclient

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

func newFolder(t *testing.T) pki.Folder {
	t.Helper()
	f := pki.Folder{Dir: filepath.Join(t.TempDir(), "pki")}
	if err := f.Init("test", time.Hour, time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	return f
}

func clock() *pki.Clock { return pki.NewClock(time.Now, boottime.Now) }

// credentials are those of erp/node1.
func credentials(t *testing.T, f pki.Folder) *pki.Live {
	t.Helper()
	dir := t.TempDir()
	files := pki.Files{CA: dir + "/p/ca.pem", Cert: dir + "/p/c.pem", Key: dir + "/p/k"}
	id, _ := pki.NodeIdentity("erp", "node1")
	key, _ := pki.NewKey()
	keyText, _ := pki.EncodeKey(key)
	cert, err := f.Issue(pki.Request{Identity: id, Key: key.Public(), Life: time.Hour, How: "test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cas, _ := f.CAs()
	if err := pki.Install(files, id, keyText, pki.EncodeCerts(cas...), pki.EncodeCerts(cert)); err != nil {
		t.Fatal(err)
	}
	l, err := pki.Open(files, pki.RoleNode, clock())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serveTLS answers as an arbiter of a folder does.
func serveTLS(t *testing.T, f pki.Folder, h http.HandlerFunc) string {
	t.Helper()
	l, err := pki.Open(f.Files(), pki.RoleArbiter, clock())
	if err != nil {
		t.Fatal(err)
	}
	return listen(t, l.Server(func() bool { return false }), h)
}

// listen serves with exactly this configuration: httptest's StartTLS would bring a certificate of its own.
func listen(t *testing.T, conf *tls.Config, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Listener = tls.NewListener(s.Listener, conf)
	s.Start()
	t.Cleanup(s.Close)
	return "https://" + s.Listener.Addr().String()
}

func askTLS(t *testing.T, live *pki.Live, url string) (lease.Answer, error) {
	t.Helper()
	c, err := New(Options{URLs: []string{url}, TLS: live, Cluster: "erp", Node: "node1", RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return c.Ask(ctx, "pg", renewal)
}

func goodHandler(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(good()) }

func TestAskTLS(t *testing.T) {
	f := newFolder(t)
	// A proxy in the environment is not used for TLS either, nor is ALL_PROXY.
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+closedPort(t))
	}
	if a, err := askTLS(t, credentials(t, f), serveTLS(t, f, goodHandler)); err != nil || a.Verdict != lease.OK {
		t.Errorf("%+v %v", a, err)
	}
}

// Whoever is not this CA's arbiter gives no answer, whatever it says. Nothing falls back to anything.
func TestAskTLS_NoAnswer(t *testing.T) {
	f := newFolder(t)
	live := credentials(t, f)
	stolen := serveAs(t, live)
	arbiter, err := pki.Open(f.Files(), pki.RoleArbiter, clock())
	if err != nil {
		t.Fatal(err)
	}
	old := arbiter.Server(func() bool { return false })
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	tls12 := listen(t, old, goodHandler)
	asked := 0
	plainServer := serve(t, func(w http.ResponseWriter, r *http.Request) { asked++; goodHandler(w, r) })
	for name, c := range map[string]struct{ url, want string }{
		"another CA":         {serveTLS(t, newFolder(t), goodHandler), "not of a CA that is trusted here"},
		"a node that serves": {stolen, "not of a CA that is trusted here, or not for this"},
		"plain HTTP":         {strings.Replace(plainServer, "http://", "https://", 1), "first record does not look like a TLS handshake"},
		"TLS 1.2":            {tls12, "protocol version"},
		"redirect to plain": {serveTLS(t, f, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, plainServer+r.URL.Path, http.StatusTemporaryRedirect)
		}), "status 307"},
	} {
		t.Run(name, func(t *testing.T) {
			if a, err := askTLS(t, live, c.url); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v %v, want %q", a, err, c.want)
			}
		})
	}
	if asked != 0 {
		t.Errorf("plain HTTP was asked %d times", asked)
	}
}

// serveAs serves with a node's certificate.
func serveAs(t *testing.T, l *pki.Live) string {
	t.Helper()
	return listen(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return l.Client().GetClientCertificate(nil)
	}}, goodHandler)
}

// The deadline is over the handshake too: one who accepts and says nothing ends with it.
func TestAskTLS_DeadlineOverTheHandshake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := New(Options{URLs: []string{"https://" + l.Addr().String()}, TLS: credentials(t, newFolder(t)), Cluster: "erp", RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, "pg", renewal); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Error(err)
	}
}

// A node whose certificate is refused is told so in words.
func TestAskTLS_Refused(t *testing.T) {
	f := newFolder(t)
	live := credentials(t, f)
	if err := f.Revoke([]string{pki.Serial(live.Current().Leaf)}, "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err := askTLS(t, live, serveTLS(t, f, goodHandler))
	if err == nil || !strings.Contains(err.Error(), "the arbiter refuses this node's certificate") {
		t.Error(err)
	}
}

// Without a word about it there is no plain HTTP, and with it no TLS.
func TestNew_Modes(t *testing.T) {
	live := credentials(t, newFolder(t))
	for name, o := range map[string]Options{
		"nothing":               {URLs: []string{"https://h:1"}},
		"http with TLS":         {URLs: []string{"http://h:1"}, TLS: live},
		"http without insecure": {URLs: []string{"http://h:1"}},
		"https, insecure":       {URLs: []string{"https://h:1"}, Insecure: true},
		"both":                  {URLs: []string{"https://h:1"}, Insecure: true, TLS: live},
		"one of each":           {URLs: []string{"https://h:1", "http://h:1"}, TLS: live},
	} {
		o.Cluster, o.RequestTimeout = "erp", time.Second
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(Options{URLs: []string{"https://h:1"}, TLS: live, Cluster: "erp", RequestTimeout: time.Second}); err != nil {
		t.Error(err)
	}
}

// Broken credentials ask nobody: an agent that runs on without them loses its lease in order.
func TestAskTLS_WithoutCredentials(t *testing.T) {
	f := newFolder(t)
	none, err := pki.Open(pki.Files{CA: "/no", Cert: "/no", Key: "/no"}, pki.RoleNode, clock())
	if err == nil || none == nil {
		t.Fatal(err)
	}
	if _, err := askTLS(t, none, serveTLS(t, f, goodHandler)); err == nil {
		t.Error("an answer without credentials")
	}
}
