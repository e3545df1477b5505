package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// hands are a wall clock and a steady one that a test moves.
type hands struct {
	wall   time.Time
	steady lease.Instant
}

func (h *hands) pass(d time.Duration) { h.wall, h.steady = h.wall.Add(d), h.steady.Add(d) }

func (h *hands) clock() *Clock {
	return NewClock(func() time.Time { return h.wall }, func() lease.Instant { return h.steady })
}

var year = 365 * day

func newHands() *hands {
	return &hands{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), steady: 1e9}
}

func newFolder(t *testing.T, h *hands) Folder {
	t.Helper()
	f := Folder{Dir: filepath.Join(t.TempDir(), "pki")}
	if err := f.Init("test", 20*year, year, h.wall); err != nil {
		t.Fatal(err)
	}
	return f
}

// node issues a certificate as join does, and returns where it is.
func node(t *testing.T, f Folder, h *hands, cluster, name string, life time.Duration) Files {
	t.Helper()
	dir := t.TempDir()
	out := Files{CA: dir + "/p/ca.pem", Cert: dir + "/p/node.pem", Key: dir + "/p/node.key"}
	id, err := NodeIdentity(cluster, name)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := NewKey()
	keyText, _ := EncodeKey(key)
	cert, err := f.Issue(Request{Identity: id, Key: key.Public(), Life: life, How: "join"}, h.wall)
	if err != nil {
		t.Fatal(err)
	}
	cas, err := f.CAs()
	if err != nil {
		t.Fatal(err)
	}
	if err := Install(out, id, keyText, EncodeCerts(cas...), EncodeCerts(cert)); err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, f Files, role Role, h *hands) *Live {
	t.Helper()
	l, err := Open(f, role, h.clock())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestIdentity(t *testing.T) {
	for _, s := range []string{"leasedog://erp/node1", "leasedog://a/Node.1_x", "leasedog:arbiter", "leasedog:reader", "leasedog:admin"} {
		id, err := ParseIdentity(s)
		if err != nil || id.String() != s {
			t.Errorf("%s: %v %v", s, id, err)
		}
	}
	for _, s := range []string{"", "leasedog:", "leasedog://", "leasedog://erp", "leasedog://erp/", "leasedog:///node1", "leasedog://ERP/n",
		"leasedog://erp/..", "leasedog://erp/a/b", "leasedog://erp/n?x", "leasedog://e@rp/n", "leasedog://erp:1/n", "leasedog:node",
		"leasedog:root", "https://erp/node1", "leasedog://erp/n%31", "LEASEDOG://erp/n", "leasedog://erp/" + strings.Repeat("n", 65)} {
		if id, err := ParseIdentity(s); err == nil {
			t.Errorf("%q is taken as %v", s, id)
		}
	}
	if (Identity{}).String() != "nobody" {
		t.Error("the zero identity is somebody")
	}
}

// What is loaded fits together, or is refused with the file's name. Nothing is guessed.
func TestLoad_Refuses(t *testing.T) {
	h := newHands()
	f := newFolder(t, h)
	other := newFolder(t, h)
	for name, c := range map[string]struct {
		harm func(f Files) error
		want string
	}{
		"no ca":          {func(f Files) error { return os.Remove(f.CA) }, "ca.pem: cannot be opened: no such file"},
		"no cert":        {func(f Files) error { return os.Remove(f.Cert) }, "node.pem: cannot be opened"},
		"no key":         {func(f Files) error { return os.Remove(f.Key) }, "node.key: cannot be opened"},
		"key readable":   {func(f Files) error { return os.Chmod(f.Key, 0o640) }, "node.key: may be used by others than its owner (mode 0640)"},
		"cert writable":  {func(f Files) error { return os.Chmod(f.Cert, 0o664) }, "node.pem: may be used by others"},
		"ca writable":    {func(f Files) error { return os.Chmod(f.CA, 0o646) }, "ca.pem: may be used by others"},
		"key empty":      {func(f Files) error { return os.Truncate(f.Key, 0) }, "node.key: has no PRIVATE KEY"},
		"cert empty":     {func(f Files) error { return os.Truncate(f.Cert, 0) }, "node.pem: has no CERTIFICATE"},
		"cert cut":       {func(f Files) error { return os.Truncate(f.Cert, 300) }, "is cut off or damaged"},
		"cert prose":     {func(f Files) error { return appendTo(f.Cert, "hello\n") }, "something stands beside"},
		"key in cert":    {func(f Files) error { return os.Rename(f.Cert, f.Key) }, "node.pem: cannot be opened"},
		"cert as key":    {func(f Files) error { return copyTo(f.Cert, f.Key) }, "node.key: has a CERTIFICATE where a PRIVATE KEY"},
		"leaf as ca":     {func(f Files) error { return copyTo(f.Cert, f.CA) }, "has a certificate that is no CA's"},
		"another's ca":   {func(f Files) error { return copyTo(other.Files().CA, f.CA) }, "is not signed by a CA of"},
		"another's key":  {func(f Files) error { return copyTo(other.Files().Key, f.Key) }, "is not the key of"},
		"folder as key":  {func(f Files) error { return errors.Join(os.Remove(f.Key), os.Mkdir(f.Key, 0o700)) }, "is not a regular file"},
		"arbiter's cert": {func(Files) error { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			files := node(t, f, h, "erp", "node1", year)
			if err := c.harm(files); err != nil {
				t.Fatal(err)
			}
			if name == "arbiter's cert" {
				files, c.want = Files{CA: f.Files().CA, Cert: f.Files().Cert, Key: f.Files().Key}, "is a certificate of leasedog:arbiter"
			}
			_, err := Load(files, RoleNode)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an *Error with %q", err, c.want)
			}
		})
	}
	for name, text := range map[string]string{"missing": "", "word": "all of them\n", "number": "123\n"} {
		path := f.Files().Revoked
		_ = os.Remove(path)
		if text != "" {
			_ = os.WriteFile(path, []byte(text), 0o644)
		}
		if _, err := Load(f.Files(), RoleArbiter); err == nil {
			t.Errorf("revoked, %s: loaded", name)
		}
	}
}

func appendTo(path, text string) error {
	old, err := os.ReadFile(path)
	return errors.Join(err, os.WriteFile(path, append(old, text...), 0o600))
}

func copyTo(from, to string) error {
	text, err := os.ReadFile(from)
	return errors.Join(err, os.WriteFile(to, text, 0o600))
}

// Dates: valid, a grace that only keeps, and nothing. Either clock gives the grace, only the wall clock validity.
func TestStanding(t *testing.T) {
	h := newHands()
	ca, err := NewAuthority("ca", 20*year, h.wall)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := NewKey()
	leaf := func(life time.Duration) *x509.Certificate {
		c, err := ca.Issue(Identity{RoleNode, "erp", "node1"}, key.Public(), life, h.wall)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	long, short := leaf(year), leaf(time.Minute)
	at := func(wall time.Duration) Standing {
		return (&hands{wall: h.wall.Add(wall), steady: 1}).clock().Standing(long)
	}
	for after, want := range map[time.Duration]Standing{0: Valid, year - time.Minute: Valid, year + time.Minute: Grace, year + 6*day: Grace,
		year + 8*day: Outside, -time.Minute: Valid, -2 * time.Hour: Grace, -8 * day: Outside, 100 * year: Outside} {
		if got := at(after); got != want {
			t.Errorf("%v after the making: %v, want %v", after, got, want)
		}
	}
	if got := (&hands{wall: h.wall.Add(time.Minute + 10*time.Second)}).clock().Standing(short); got != Grace {
		t.Errorf("10 s after the end of a certificate of a minute: %v", got)
	}
	if got := (&hands{wall: h.wall.Add(time.Minute + 20*time.Second)}).clock().Standing(short); got != Outside {
		t.Errorf("20 s after the end of a certificate of a minute: %v", got)
	}
	// A wall clock that is stepped while the process runs.
	clock := h.clock()
	for _, step := range []time.Duration{30 * year, -20 * year} {
		moved := h.wall
		h.wall = h.wall.Add(step)
		if got := clock.Standing(long); got != Grace {
			t.Errorf("stepped by %v: %v, want what is held to be kept and no more", step, got)
		}
		h.wall = moved
	}
	// With the time that really passes both clocks come to the end.
	h.pass(year + 8*day)
	if got := clock.Standing(long); got != Outside {
		t.Errorf("after its life: %v", got)
	}
}

// A machine that boots in 1970 knows its own certificate, and so a time that is past.
func TestClock_KnowsWhatIsPast(t *testing.T) {
	h := newHands()
	f := newFolder(t, h)
	nodeFiles := node(t, f, h, "erp", "node1", year)
	h.wall = time.Unix(0, 0)
	l := open(t, f.Files(), RoleArbiter, h)
	n := open(t, nodeFiles, RoleNode, h)
	p, err := l.Check([]*x509.Certificate{n.Current().Leaf}, false)
	if err != nil || p.Standing != Valid {
		t.Errorf("%+v %v", p, err)
	}
	if l.Clock().Behind() < 50*year || len(l.Alarms()) != 1 || !strings.Contains(l.Alarms()[0].Text, "clock is wrong") {
		t.Errorf("behind by %v, alarms %v", l.Clock().Behind(), l.Alarms())
	}
}

func TestNotice(t *testing.T) {
	h := newHands()
	ca, _ := NewAuthority("ca", 20*year, h.wall)
	key, _ := NewKey()
	long, _ := ca.Issue(Identity{Role: RoleReader}, key.Public(), year, h.wall)
	short, _ := ca.Issue(Identity{Role: RoleReader}, key.Public(), time.Minute, h.wall)
	for left, want := range map[time.Duration]Notice{61 * day: NoNotice, 59 * day: Notice60, 29 * day: Notice30, 6 * day: Notice7, -day: Expired} {
		if got := NoticeOf(long, long.NotAfter.Add(-left)); got != want {
			t.Errorf("%v left: %v, want %v", left, got, want)
		}
	}
	// Nothing that is renewed in time alarms.
	for _, c := range []*x509.Certificate{long, short} {
		late := RenewAt(c).Add(CheckEvery(c))
		if got := NoticeOf(c, late); got != NoNotice {
			t.Errorf("a life of %v, at its renewal: %v", c.NotAfter.Sub(c.NotBefore), got)
		}
	}
	now := long.NotAfter.Add(-6*day - time.Hour)
	if got := Notice7.Text("the certificate", long, now); got != "the certificate expires in 6 days, at 2027-03-01T12:00:00Z" {
		t.Error(got)
	}
}

// shake does a handshake over a pipe and returns both sides' errors.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		c := tls.Server(a, server)
		err := c.HandshakeContext(ctx)
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		_ = a.Close()
		done <- err
	}()
	c := tls.Client(b, client)
	clientErr = c.HandshakeContext(ctx)
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // in TLS 1.3 the server's refusal comes after the handshake
	}
	_ = b.Close()
	return <-done, clientErr
}

func never() bool { return false }

func TestHandshake(t *testing.T) {
	h := newHands()
	f, foreign := newFolder(t, h), newFolder(t, h)
	arbiter := open(t, f.Files(), RoleArbiter, h)
	files := node(t, f, h, "erp", "node1", year)
	n := open(t, files, RoleNode, h)
	if s, c := shake(t, arbiter.Server(never), n.Client()); s != nil || c != nil {
		t.Fatalf("a good one: %v, %v", s, c)
	}
	stranger := open(t, node(t, foreign, h, "erp", "node1", year), RoleNode, h)
	fake := open(t, foreign.Files(), RoleArbiter, h)
	// One who took a node's certificate cannot serve with it.
	posing := &tls.Config{Certificates: []tls.Certificate{n.Current().pair}, MinVersion: tls.VersionTLS13}
	refusalOf := func(name string, server, client *tls.Config, code string) {
		t.Helper()
		s, c := shake(t, server, client)
		var r *Refusal
		if (!errors.As(s, &r) && !errors.As(c, &r)) || r.Code != code || c == nil {
			t.Errorf("%s: %v, %v; want %s", name, s, c, code)
		}
	}
	refusalOf("no certificate", arbiter.Server(never), &tls.Config{InsecureSkipVerify: true}, ReasonNoCertificate)
	refusalOf("other CA", arbiter.Server(never), (&mix{n, stranger}).config(), ReasonOtherCA)
	refusalOf("arbiter of another CA", fake.Server(never), n.Client(), ReasonOtherCA)
	refusalOf("node as arbiter", posing, n.Client(), ReasonOtherCA) // its usage is wrong before its role is
	old := n.Client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if s, c := shake(t, arbiter.Server(never), old); s == nil || c == nil {
		t.Errorf("TLS 1.2: %v, %v", s, c)
	}
	if s, c := shake(t, arbiter.Server(func() bool { return true }), &tls.Config{InsecureSkipVerify: true}); s != nil || c != nil {
		t.Errorf("while a code is open: %v, %v", s, c)
	}
	refusalOf("other CA while a code is open", arbiter.Server(func() bool { return true }), (&mix{n, stranger}).config(), ReasonOtherCA)
	if err := f.Revoke([]string{Serial(n.Current().Leaf)}, "test", h.wall); err != nil {
		t.Fatal(err)
	}
	if changed, err := arbiter.Reload(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	refusalOf("revoked", arbiter.Server(never), n.Client(), ReasonRevoked)
}

// mix believes as one and presents as another.
type mix struct{ believes, presents *Live }

func (m *mix) config() *tls.Config {
	c := m.believes.Client()
	c.GetClientCertificate = m.presents.Client().GetClientCertificate
	return c
}

// Nothing that breaks a file takes away what was read before; what is mended is taken.
func TestReload(t *testing.T) {
	h := newHands()
	f := newFolder(t, h)
	files := node(t, f, h, "erp", "node1", year)
	l := open(t, files, RoleNode, h)
	first := l.Current()
	good, _ := os.ReadFile(files.Cert)
	for name, text := range map[string]string{"empty": "", "half": string(good[:100]), "prose": "x"} {
		if err := os.WriteFile(files.Cert, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if changed, err := l.Reload(); changed || err == nil || l.Current() != first || l.Err() == nil || len(l.Alarms()) != 1 {
			t.Errorf("%s: %v %v", name, changed, err)
		}
	}
	if err := copyTo(node(t, f, h, "erp", "node2", year).Cert, files.Cert); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.Reload(); changed || err == nil {
		t.Errorf("another node's certificate: %v %v", changed, err)
	}
	if err := os.WriteFile(files.Cert, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.Reload(); changed || err != nil || l.Err() != nil {
		t.Errorf("the same again: %v %v", changed, err)
	}
	other := node(t, f, h, "erp", "node1", year)
	for from, to := range map[string]string{other.Cert: files.Cert, other.Key: files.Key} {
		if err := copyTo(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := l.Reload(); !changed || err != nil || l.Current() == first {
		t.Errorf("a new one: %v %v", changed, err)
	}
}

func TestCode(t *testing.T) {
	h := newHands()
	f, foreign := newFolder(t, h), newFolder(t, h)
	cas, _ := f.CAs()
	code := NewCode(cas[0])
	text := code.String()
	if got, err := ParseCode(" " + strings.ToLower(text)); err != nil || got != code || len(text) != 48+7 {
		t.Errorf("%s: %v", text, err)
	}
	for i := range text {
		if text[i] == '-' {
			continue
		}
		slip := []byte(text)
		slip[i] = map[bool]byte{true: 'B', false: 'A'}[text[i] == 'A']
		if _, err := ParseCode(string(slip)); err == nil {
			t.Errorf("the slip %s is taken", slip)
		}
	}
	for _, bad := range []string{"", "x", text[:40], text + "AAAAAA", "0" + text[1:]} {
		if _, err := ParseCode(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	open1, fake := open(t, f.Files(), RoleArbiter, h), open(t, foreign.Files(), RoleArbiter, h)
	anybody := func() bool { return true }
	if s, c := shake(t, open1.Server(anybody), code.Joining(h.clock())); s != nil || c != nil {
		t.Errorf("the arbiter of the code: %v %v", s, c)
	}
	if _, c := shake(t, fake.Server(anybody), code.Joining(h.clock())); c == nil {
		t.Error("another arbiter was believed")
	}
	// One in between who has a certificate of the right CA, but not an arbiter's, and sends the CA along.
	n := open(t, node(t, f, h, "erp", "node1", year), RoleNode, h).Current()
	if _, c := shake(t, &tls.Config{Certificates: []tls.Certificate{n.pair}}, code.Joining(h.clock())); c == nil {
		t.Error("a node was believed to be the arbiter")
	}
	// What comes with the answer must be of that CA too.
	files := Files{CA: t.TempDir() + "/p/ca.pem"}
	files.Cert, files.Key = filepath.Dir(files.CA)+"/c", filepath.Dir(files.CA)+"/k"
	other, _ := foreign.CAs()
	if err := code.Accept(files, n.Identity, nil, EncodeCerts(other...), nil); err == nil || !strings.Contains(err.Error(), "not the CA") {
		t.Error(err)
	}
}

func TestFolder_NeverReplaces(t *testing.T) {
	h := newHands()
	f := newFolder(t, h)
	before, _ := os.ReadFile(f.path(fileCAKey))
	if err := f.Init("again", year, year, h.wall); err == nil {
		t.Error("a second init")
	}
	if after, _ := os.ReadFile(f.path(fileCAKey)); !bytes.Equal(before, after) {
		t.Error("the key was replaced")
	}
	for _, name := range []string{fileCAKey, fileKey, fileLock} {
		if info, err := os.Stat(f.path(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if info, _ := os.Stat(f.Dir); info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v", info.Mode())
	}
	if err := f.IssueToFile(Identity{Role: RoleReader}, "", f.Dir+"/r.pem", Request{Life: year, How: "issue"}, h.wall); err != nil {
		t.Fatal(err)
	}
	if err := f.IssueToFile(Identity{Role: RoleReader}, "", f.Dir+"/r.pem", Request{Life: year, How: "issue"}, h.wall); err == nil {
		t.Error("a key was replaced")
	}
	for _, name := range []string{fileCert, fileCA} { // a request that is none
		if err := f.IssueToFile(Identity{Role: RoleReader}, f.path(name), f.Dir+"/x.pem", Request{Life: year}, h.wall); err == nil {
			t.Errorf("%s as a request", name)
		}
	}
	if err := os.Rename(f.path(fileCAKey), f.Dir+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := f.RenewOwn(year, h.wall); !errors.Is(err, ErrNoCAKey) {
		t.Errorf("without the key: %v", err)
	}
	key, _ := NewKey()
	r := Request{Identity: Identity{RoleNode, "erp", "node1"}, Key: key.Public(), Life: year, How: "issue", CAKey: f.Dir + "/elsewhere"}
	if _, err := f.Issue(r, h.wall); err != nil {
		t.Errorf("with the key from elsewhere: %v", err)
	}
	if entries, err := f.Index(); err != nil || len(entries) != 3 || entries[2].Identity != "leasedog://erp/node1" {
		t.Errorf("%+v %v", entries, err)
	}
}

func TestForbiddenModes(t *testing.T) {
	for _, c := range []struct {
		path   string
		secret bool
		mode   os.FileMode
		ok     bool
	}{
		{"/etc/leasedog/pki/node.key", true, 0o600, true}, {"/etc/leasedog/pki/node.key", true, 0o400, true},
		{"/etc/leasedog/pki/node.key", true, 0o440, false}, {"/etc/leasedog/pki/node.key", true, 0o604, false},
		{"/run/credentials/leasedog.service/key", true, 0o440, true}, {"/run/credentials/leasedog.service/key", true, 0o460, false},
		{"/run/credentials/leasedog.service/key", true, 0o444, false}, {"/run/credentials-of-mine/key", true, 0o440, false},
		{"/etc/leasedog/pki/ca.pem", false, 0o644, true}, {"/etc/leasedog/pki/ca.pem", false, 0o664, false},
		{"/etc/leasedog/pki/ca.pem", false, 0o646, false},
	} {
		if ok := c.mode&forbidden(c.path, c.secret) == 0; ok != c.ok {
			t.Errorf("%s with %04o: %v, want %v", c.path, c.mode, ok, c.ok)
		}
	}
}

// Two processes that issue at once both do.
func TestIssueSideBySide(t *testing.T) {
	h := newHands()
	f := newFolder(t, h)
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			key, err := NewKey()
			if err == nil {
				_, err = f.Issue(Request{Identity: Identity{Role: RoleReader}, Key: key.Public(), Life: year, How: "issue"}, h.wall)
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if entries, err := f.Index(); err != nil || len(entries) != cap(errs)+1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func TestPrune(t *testing.T) {
	h := newHands()
	f := newFolder(t, h)
	line := `{"serial":"` + strings.Repeat("0", 31) + `1","identity":"leasedog://erp/old","not_after":"2020-01-01T00:00:00Z"}` + "\n"
	if err := appendTo(f.path(fileIndex), strings.Repeat(line, pruneIndex/len(line)+1)); err != nil {
		t.Fatal(err)
	}
	node(t, f, h, "erp", "node1", year)
	entries, err := f.Index()
	if err != nil || len(entries) != 2 || !slices.ContainsFunc(entries, func(e Entry) bool { return e.How == "init" }) {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// What root makes in a folder of the arbiter's user belongs to that user, and root reads what that user has made. A node's
// files are root's.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	const service = 65534
	h := newHands()
	parent := t.TempDir()
	if err := os.Chown(parent, service, service); err != nil {
		t.Fatal(err)
	}
	f := Folder{Dir: filepath.Join(parent, "pki")}
	if err := f.Init("test", 20*year, year, h.wall); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.RenewOwn(year, h.wall), f.Revoke(nil, "", h.wall), f.Roll("new", 20*year, h.wall), f.EndRoll(year, h.wall)); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil || len(entries) < 7 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != service {
			t.Errorf("%s belongs to %v", e.Name(), info.Sys())
		}
	}
	if _, err := Load(f.Files(), RoleArbiter); err != nil {
		t.Error(err)
	}
	if err := os.Chown(f.path(fileKey), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(f.Files(), RoleArbiter); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("a third user's key: %v", err)
	}
	files := node(t, newFolder(t, h), h, "erp", "node1", year)
	for _, path := range []string{files.CA, files.Cert, files.Key} {
		if err := os.Chown(path, service, service); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(files, RoleNode); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("%s: %v", path, err)
		}
		if err := os.Chown(path, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
}
