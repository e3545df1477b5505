package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/arbiter"
	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// emptyStore keeps nothing: nobody is granted anything here.
type emptyStore struct{}

func (emptyStore) Load() (map[string]lease.Snapshot, error)         { return nil, nil }
func (emptyStore) Write(_ string, _ lease.Change, done func(error)) { done(nil) }
func (emptyStore) History(string, int) ([]api.Transition, error)    { return nil, nil }
func quiet() *logrus.Logger                                         { l := logrus.New(); l.SetOutput(io.Discard); return l }
func wallClock() *pki.Clock                                         { return pki.NewClock(time.Now, boottime.Now) }

// joinable is an arbiter that issues certificates.
type joinable struct {
	t      *testing.T
	folder pki.Folder
	server *arbiter.Server
	url    string
	conf   string // a node's configuration
	dir    string // where its certificate goes
}

func newJoinable(t *testing.T) *joinable {
	t.Helper()
	dir := t.TempDir()
	j := &joinable{t: t, folder: pki.Folder{Dir: filepath.Join(dir, "pki")}, conf: filepath.Join(dir, "leasedog.toml"), dir: filepath.Join(dir, "node", "pki")}
	if err := j.folder.Init("test", time.Hour, time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	live, err := pki.Open(j.folder.Files(), pki.RoleArbiter, wallClock())
	if err != nil {
		t.Fatal(err)
	}
	j.server, err = arbiter.New(arbiter.Options{Store: emptyStore{}, Log: quiet(), TLS: live, Folder: j.folder, CertLife: time.Hour,
		MinHold: time.Second, MaxHold: time.Minute, MaxPause: time.Hour, NewStoreID: func() string { return "s" }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	j.url = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- j.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		j.server.Close()
	})
	text := fmt.Sprintf("cluster = \"erp\"\nnode = \"node1\"\n[arbiter]\nurls = [%q]\nca = %q\ncert = %q\nkey = %q\n[[lease]]\nname = \"pg\"\nresources = [\"g\"]\n",
		j.url, j.dir+"/ca.pem", j.dir+"/node.pem", j.dir+"/node.key")
	if err := os.WriteFile(j.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j *joinable) code(cluster, node string) string {
	j.t.Helper()
	w := httptest.NewRecorder()
	path := strings.NewReplacer("{cluster}", cluster, "{node}", node).Replace(api.PathCode)
	j.server.ControlHandler().ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader("{}")))
	var c api.Code
	if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || c.Code == "" {
		j.t.Fatal(w.Body)
	}
	return c.Code
}

// run runs a command as an administrator would.
func (j *joinable) run(stdin string, args ...string) (code int, text string) {
	var out bytes.Buffer
	code = run(append(args, "-c", j.conf), strings.NewReader(stdin), &out, &out)
	return code, out.String()
}

func (j *joinable) identity() string {
	j.t.Helper()
	l, err := pki.Open(nodeFiles(j.load()), pki.RoleNode, wallClock())
	if err != nil {
		return err.Error()
	}
	return l.Current().Identity.String()
}

func (j *joinable) load() config.Agent {
	j.t.Helper()
	conf, err := config.LoadAgent(j.conf)
	if err != nil {
		j.t.Fatal(err)
	}
	return conf
}

func TestJoin(t *testing.T) {
	j := newJoinable(t)
	if _, err := openCredentials(j.load(), false, quiet()); err == nil || !strings.Contains(err.Error(), "ca.pem: cannot be opened") {
		t.Errorf("without a certificate: %v", err)
	} else if code, hint := codeAndHint(err); code != exitConfig || !strings.Contains(hint, "leasedog join") {
		t.Errorf("%d %s", code, hint)
	}
	code := j.code("erp", "node1")
	if rc, text := j.run("", "join", j.url, "--code", code); rc != 0 || !strings.Contains(text, "this node is leasedog://erp/node1\nnext: systemctl restart leasedog\n") {
		t.Fatalf("%d %s", rc, text)
	}
	if got := j.identity(); got != "leasedog://erp/node1" {
		t.Error(got)
	}
	if _, err := openCredentials(j.load(), false, quiet()); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(j.dir + "/node.key"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	key, _ := os.ReadFile(j.dir + "/node.key")
	if rc, text := j.run("", "join", j.url, "--code", j.code("erp", "node1")); rc != exitFailure || !strings.Contains(text, "is there already: nothing was changed") {
		t.Errorf("again: %d %s", rc, text)
	}
	if rc, text := j.run(j.code("erp", "node1")+"\n", "join", j.url, "--code", "-", "--replace"); rc != 0 {
		t.Errorf("replaced: %d %s", rc, text)
	}
	if again, _ := os.ReadFile(j.dir + "/node.key"); bytes.Equal(again, key) {
		t.Error("the key is the old one")
	}
}

// A key that is a credential of systemd is made beside the certificate, and read from where the unit has its credentials.
func TestKeyIsACredential(t *testing.T) {
	j := newJoinable(t)
	text, err := os.ReadFile(j.conf)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`key = "[^"]*"`)
	if err := os.WriteFile(j.conf, line.ReplaceAll(text, []byte(`key = "credential:k"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if rc, text := j.run("", "join", j.url, "--code", j.code("erp", "node1")); rc != 0 || !strings.Contains(text, "move it to where the credential k is loaded from") {
		t.Fatalf("%d %s", rc, text)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	_, err = openCredentials(j.load(), false, quiet())
	if code, hint := codeAndHint(err); code != exitConfig || !strings.Contains(hint, "LoadCredential=k:PATH") {
		t.Errorf("without the credential: %d %q %v", code, hint, err)
	}
	if err := os.Rename(filepath.Join(j.dir, "node.key"), os.Getenv("CREDENTIALS_DIRECTORY")+"/k"); err != nil {
		t.Fatal(err)
	}
	if live, err := openCredentials(j.load(), false, quiet()); err != nil || live.Current().Identity.String() != "leasedog://erp/node1" {
		t.Errorf("%v", err)
	}
}

// Whatever is wrong is said, and leaves nothing behind.
func TestJoin_Refused(t *testing.T) {
	j, other := newJoinable(t), newJoinable(t)
	good := j.code("erp", "node1")
	slip := "AAAAAA" + good[6:]
	if strings.HasPrefix(good, "AAAAAA") {
		slip = "BBBBBB" + good[6:]
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no code":         {[]string{"join", j.url}, exitUsage, "join needs the arbiter's URL and --code"},
		"no url":          {[]string{"join", "--code", good}, exitUsage, "join needs the arbiter's URL and --code"},
		"plain":           {[]string{"join", strings.Replace(j.url, "https", "http", 1), "--code", good}, exitUnavailable, "want https://HOST:PORT"},
		"slip":            {[]string{"join", j.url, "--code", slip}, exitUsage, "this join code has a slip in it"},
		"another arbiter": {[]string{"join", j.url, "--code", other.code("erp", "node1")}, exitUnavailable, "has not the CA that the code names"},
		"for node2":       {[]string{"join", j.url, "--code", j.code("erp", "node2")}, exitUnavailable, "no such code is open for leasedog://erp/node1"},
		"bad name":        {[]string{"join", j.url, "--code", good, "--node", "a b"}, exitUsage, "is not the name of a node"},
		"both ways":       {[]string{"join", j.url, "--code", good, "--csr", "x"}, exitUsage, "join takes a URL and --code, or --csr"},
		"half":            {[]string{"join", "--cert", "x"}, exitUsage, "--cert and --ca belong together"},
	} {
		t.Run(name, func(t *testing.T) {
			rc, text := j.run("", c.args...)
			if rc != c.code || !strings.Contains(text, c.want) {
				t.Errorf("%d %s, want %d and %q", rc, text, c.code, c.want)
			}
			if _, err := os.Stat(j.dir + "/node.pem"); err == nil {
				t.Error("a certificate was written")
			}
		})
	}
	text := "cluster = \"erp\"\ninsecure = true\narbiter.urls = [\"http://h:1\"]\n[[lease]]\nname = \"pg\"\nresources = [\"g\"]\n"
	if err := os.WriteFile(j.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if rc, text := j.run("", "join", j.url, "--code", good); rc != exitConfig || !strings.Contains(text, "says insecure = true") {
		t.Errorf("%d %s", rc, text)
	}
}

// Where enrolment is forbidden: a request, an issue where the CA's key is, and back.
func TestJoin_ByHand(t *testing.T) {
	j := newJoinable(t)
	dir := t.TempDir()
	csr, cert := filepath.Join(dir, "csr"), filepath.Join(dir, "node1.pem")
	if rc, text := j.run("", "join", "--csr", csr); rc != 0 || !strings.Contains(text, "pki issue erp node1 --csr FILE") {
		t.Fatalf("%d %s", rc, text)
	}
	id, _ := pki.NodeIdentity("erp", "node1")
	wrong, _ := pki.NodeIdentity("erp", "node2")
	req := pki.Request{Life: time.Hour, How: "issue"}
	if err := j.folder.IssueToFile(wrong, csr, cert, req, time.Now()); err == nil {
		t.Error("issued for another node than the request's")
	}
	if err := j.folder.IssueToFile(id, csr, cert, req, time.Now()); err != nil {
		t.Fatal(err)
	}
	if rc, text := j.run("", "join", "--cert", cert, "--ca", csr); rc == 0 {
		t.Errorf("a request as the CAs: %s", text)
	}
	if rc, text := j.run("", "join", "--cert", cert, "--ca", cert+".ca"); rc != 0 {
		t.Errorf("%d %s", rc, text)
	}
	if got := j.identity(); got != id.String() {
		t.Error(got)
	}
}

// A certificate of another cluster or node than the configuration's stops the agent's start.
func TestFitsConfig(t *testing.T) {
	j := newJoinable(t)
	if rc, text := j.run("", "join", j.url, "--node", "node2", "--code", j.code("erp", "node2")); rc != 0 {
		t.Fatalf("%d %s", rc, text)
	}
	_, err := openCredentials(j.load(), false, quiet())
	if err == nil || !strings.Contains(err.Error(), "is a certificate of leasedog://erp/node2") {
		t.Errorf("%v", err)
	}
	conf := j.load()
	conf.Node = ""
	live, err := openCredentials(conf, false, quiet())
	if err != nil {
		t.Fatal(err)
	}
	describe := describeCertificate(&pki.Renewer{Live: live}, conf)
	if c, alarms := describe("node2"); c.Identity != "leasedog://erp/node2" || len(alarms) != 0 {
		t.Errorf("%+v %v", c, alarms)
	}
	if _, alarms := describe("node1"); len(alarms) != 1 || !strings.Contains(alarms[0].Text, "this is node node1") {
		t.Errorf("%v", alarms)
	}
}

// An agent that finds a lease's record of this boot runs without a usable certificate, and says so: it stops in order
// what would be stopped by a reset otherwise. It asks nobody meanwhile, and takes what is mended.
func TestHeldLeaseOutlivesTheCertificate(t *testing.T) {
	j := newJoinable(t)
	live, err := openCredentials(j.load(), true, quiet())
	if err != nil || live == nil || live.Current() != nil {
		t.Fatalf("%v %v", live, err)
	}
	client, err := arbiterclient.New(arbiterclient.Options{URLs: []string{j.url}, TLS: live, Cluster: "erp", RequestTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if a, err := client.Ask(ctx, "pg", lease.Renew{Epoch: 1, Seq: 1}); err == nil {
		t.Errorf("an answer without a certificate: %+v", a)
	}
	r := &pki.Renewer{Live: live, Asker: client, Note: func(string, error) {}}
	c, alarms := describeCertificate(r, j.load())("node1")
	if c != nil || len(alarms) != 1 || !strings.Contains(alarms[0].Text, "ca.pem: cannot be opened") {
		t.Errorf("%+v %v", c, alarms)
	}
	if rc, text := j.run("", "join", j.url, "--code", j.code("erp", "node1")); rc != 0 {
		t.Fatalf("%d %s", rc, text)
	}
	if _, err := live.Reload(); err != nil || live.Current() == nil {
		t.Error(err)
	}
	if err := client.Try(ctx, live); err != nil {
		t.Error(err)
	}
	client.Reconnect()
}
