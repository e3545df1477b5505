package arbiter

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// rotating is a node that holds a lease and keeps its certificate new.
type rotating struct {
	*secure
	files   pki.Files
	live    *pki.Live
	client  *arbiterclient.Client
	renewer *pki.Renewer
	notes   []string
	seq     uint64
}

// newRotating has erp/a hold pg, with a certificate that lives for life.
func newRotating(t *testing.T, s *secure, life time.Duration) *rotating {
	t.Helper()
	dir := t.TempDir()
	r := &rotating{secure: s, files: pki.Files{CA: dir + "/p/ca.pem", Cert: dir + "/p/c.pem", Key: dir + "/p/k"}}
	key, _ := pki.NewKey()
	keyText, _ := pki.EncodeKey(key)
	cert, err := s.folder.Issue(pki.Request{Identity: node("erp", "a"), Key: key.Public(), Life: life, How: "test"}, s.wall.now())
	if err != nil {
		t.Fatal(err)
	}
	cas, _ := s.folder.CAs()
	if err := pki.Install(r.files, node("erp", "a"), keyText, pki.EncodeCerts(cas...), pki.EncodeCerts(cert)); err != nil {
		t.Fatal(err)
	}
	if r.live, err = pki.Open(r.files, pki.RoleNode, pki.NewClock(s.wall.now, boottime.Now)); err != nil {
		t.Fatal(err)
	}
	r.client, err = arbiterclient.New(arbiterclient.Options{URLs: []string{"https://" + s.addr}, TLS: r.live, Cluster: "erp", Node: "a",
		RequestTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.closes = append(s.closes, r.client.Reconnect)
	r.renewer = &pki.Renewer{Live: r.live, Asker: r.client, Note: func(text string, err error) {
		if err != nil {
			text += ": " + err.Error()
		}
		r.notes = append(r.notes, text)
	}}
	b, _ := lease.Profile("lan")
	r.ask(lease.Acquire{Party: r.party(), Seq: r.next(), Terms: b.Terms, Hold: b.Hold(), Ready: true}, lease.Granted)
	r.renews("after the grant")
	return r
}

func (r *rotating) party() lease.Party {
	return lease.Party{Node: "a", BootID: "b1", Instance: lease.Instance{Start: 5, Nonce: 5}}
}

func (r *rotating) next() uint64 { r.seq++; return r.seq }

func (r *rotating) ask(body any, want lease.Verdict) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if a, err := r.client.Ask(ctx, "pg", body); err != nil || a.Verdict != want {
		r.t.Fatalf("%T: %s %s %v, want %s", body, a.Verdict, a.Reason, err, want)
	}
}

func (r *rotating) renews(when string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, err := r.client.Ask(ctx, "pg", lease.Renew{Party: r.party(), Epoch: 1, Seq: r.next()})
	if err != nil || a.Verdict != lease.OK {
		r.t.Errorf("%s: renewal: %s %s %v", when, a.Verdict, a.Reason, err)
	}
}

// step is a look of the renewer; then everybody connects anew.
func (r *rotating) step(when string) {
	r.t.Helper()
	r.renewer.Step(context.Background())
	r.renews(when)
	r.client.Reconnect()
	r.renews(when + ", over a new connection")
}

func (r *rotating) serial() string { return pki.Serial(r.live.Current().Leaf) }

// At two thirds of its life a certificate is replaced, by itself; the lease goes on, over old connections and new ones.
func TestRenewal(t *testing.T) {
	s := newSecure(t, nil)
	r := newRotating(t, s, 90*24*time.Hour)
	was := r.serial()
	r.step("before it is due")
	if r.serial() != was {
		t.Error("renewed long before it is due")
	}
	s.wall.move(61 * 24 * time.Hour)
	r.step("when it is due")
	if r.serial() == was || r.renewer.Err() != nil || len(r.renewer.Alarms()) != 0 {
		t.Errorf("not renewed: %v %v", r.renewer.Err(), r.notes)
	}
	was = r.serial()
	s.wall.move(40 * 24 * time.Hour) // beyond the first one's end
	r.step("later")
	if r.serial() != was { // cert_life of the arbiter is a year
		t.Error("renewed long before it is due")
	}
	if !s.log.find("certificate issued: renew") {
		t.Error("the arbiter's log does not say it")
	}
}

// A CA is replaced while a lease is held: two CAs, then the new one alone. Nobody is refused at any step.
func TestRenewalOverARoll(t *testing.T) {
	s := newSecure(t, nil)
	r := newRotating(t, s, year)
	now := s.wall.now()
	if err := s.folder.Roll("new", 20*year, now); err != nil {
		t.Fatal(err)
	}
	r.renews("the arbiter has not looked yet")
	s.reload()
	r.client.Reconnect()
	r.renews("the node has not looked yet")
	behind := func(want int, when string) {
		t.Helper()
		w := record0()
		s.server.ControlHandler().ServeHTTP(w, newRequest("GET", api.PathSeen))
		var seen api.Seen
		if err := json.Unmarshal(w.Body.Bytes(), &seen); err != nil {
			t.Fatal(err)
		}
		if got, err := s.folder.Behind(now, seen.CA); err != nil || len(got) != want {
			t.Errorf("%s: %v are behind, want %d (%v)", when, got, want, err)
		}
	}
	behind(1, "before the node has looked")
	key, _ := pki.NewKey() // an answer that is lost
	if _, err := s.folder.Issue(pki.Request{Identity: node("erp", "a"), Key: key.Public(), Life: year, How: "renew"}, now); err != nil {
		t.Fatal(err)
	}
	behind(1, "issued, and not used")
	was := r.serial()
	r.step("two CAs")
	if r.serial() == was || len(r.live.Current().CAs) != 2 {
		t.Errorf("the node did not follow: %v", r.notes)
	}
	behind(0, "used")
	if err := s.folder.EndRoll(year, now); err != nil {
		t.Fatal(err)
	}
	s.reload()
	r.client.Reconnect()
	r.renews("the node still trusts both")
	r.step("the old CA is gone")
	if len(r.live.Current().CAs) != 1 {
		t.Errorf("the old CA is still trusted: %v", r.notes)
	}
	if _, err := os.Stat(s.folder.Dir + "/ca-old.key"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old CA's key is still there: %v", err)
	}
}

func (s *secure) reload() {
	s.t.Helper()
	if changed, err := s.live.Reload(); !changed || err != nil {
		s.t.Fatal(changed, err)
	}
}

// A renewal that cannot be had, or whose outcome does not work, changes nothing: what is there stays in use.
func TestRenewalThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(r *rotating)
		want string
	}{
		"no CA key here":          {func(r *rotating) { _ = os.Rename(r.folder.CAKey(), r.folder.Dir+"/away") }, ""},
		"the CA's key is damaged": {func(r *rotating) { _ = os.WriteFile(r.folder.CAKey(), []byte("x"), 0o600) }, ""},
		"the node's folder is gone": {func(r *rotating) {
			for _, f := range []string{r.files.CA, r.files.Cert} {
				_ = os.Remove(f)
				_ = os.Mkdir(f, 0o700)
			}
		}, "write "},
		"the new certificate is refused": {func(r *rotating) {
			r.renewer.Asker = &stubborn{Client: r.client}
		}, "try the new certificate: refused"},
		"the answer is another's certificate": {func(r *rotating) {
			r.renewer.Asker = &stubborn{Client: r.client, other: r.secure}
		}, "what the arbiter sent: "},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecure(t, nil)
			r := newRotating(t, s, 90*24*time.Hour)
			s.wall.move(61 * 24 * time.Hour)
			was := r.serial()
			c.harm(r)
			r.step("after the failure")
			if r.serial() != was {
				t.Error("the certificate was replaced")
			}
			if err := r.renewer.Err(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			s.wall.move(24 * 24 * time.Hour) // near the end
			if alarms := r.renewer.Alarms(); len(alarms) == 0 {
				t.Error("no alarm near the end")
			}
		})
	}
}

// stubborn does not accept what it was given, or gets what was meant for another.
type stubborn struct {
	*arbiterclient.Client
	other *secure
}

func (s *stubborn) Try(ctx context.Context, with *pki.Live) error {
	if s.other == nil {
		return errors.New("refused")
	}
	return s.Client.Try(ctx, with)
}

func (s *stubborn) RenewCertificate(ctx context.Context, csr []byte) (pki.Issued, error) {
	if s.other == nil {
		return s.Client.RenewCertificate(ctx, csr)
	}
	_, key, err := pki.DecodeCSR(csr)
	if err != nil {
		return pki.Issued{}, err
	}
	cert, err := s.other.folder.Issue(pki.Request{Identity: node("erp", "b"), Key: key, Life: year, How: "test"}, time.Now())
	if err != nil {
		return pki.Issued{}, err
	}
	cas, err := s.other.folder.CAs()
	return pki.Issued{Bundle: pki.EncodeCerts(cas...), Cert: pki.EncodeCerts(cert)}, err
}

// The arbiter renews its own certificate, and goes on with the old one when it cannot.
func TestRenewalOfTheArbiter(t *testing.T) {
	s := newSecure(t, nil)
	r := newRotating(t, s, 10*year)
	was := pki.Serial(s.live.Current().Leaf)
	var notes []string
	keep := func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // one look
		s.folder.Keep(ctx, s.live, year, func(text string, err error) {
			if err != nil {
				text += ": " + err.Error()
			}
			notes = append(notes, text)
		})
	}
	keep()
	if pki.Serial(s.live.Current().Leaf) != was {
		t.Error("renewed before it is due")
	}
	s.wall.move(2 * year) // its five years began two years ago
	for name, mode := range map[string]os.FileMode{"readable by others": 0o644} {
		if err := os.Chmod(s.folder.CAKey(), mode); err != nil {
			t.Fatal(err)
		}
		keep()
		if pki.Serial(s.live.Current().Leaf) != was || len(notes) != 1 || !strings.Contains(notes[0], "ca.key: may be used by others") {
			t.Errorf("a CA's key that is %s: %v", name, notes)
		}
		r.step(name)
	}
	if err := os.Chmod(s.folder.CAKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	keep()
	if pki.Serial(s.live.Current().Leaf) == was || !strings.Contains(notes[len(notes)-1], "certificate renewed") {
		t.Errorf("not renewed: %v", notes)
	}
	r.step("with the new one")
}
