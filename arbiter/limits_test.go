package arbiter

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// hand is a clock that a test moves.
type hand struct {
	mu sync.Mutex
	at lease.Instant
}

func (h *hand) now() lease.Instant {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hand) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

// stands has an arbiter count requests on a clock that stands still, and refuse without delay.
func (s *Server) stands() *hand {
	h := &hand{at: 1}
	s.limits.now, s.limits.wait = h.now, func(context.Context, time.Duration) {}
	return h
}

func TestLimitsOfAParty(t *testing.T) {
	l, h := newLimits(), &hand{at: 1}
	l.now = h.now
	a, b := bucket{"a", false}, bucket{"b", false}
	drain := func(x bucket) (n int) {
		for l.take(x, 1) {
			n++
		}
		return n
	}
	if n := drain(a); n != partyBurst {
		t.Errorf("%d at once, want %d", n, partyBurst)
	}
	if n := drain(bucket{"a", true}); n != partyBurst {
		t.Errorf("what keeps a lease: %d at once, want %d", n, partyBurst)
	}
	h.move(time.Second)
	if n := drain(a); n != partyRate {
		t.Errorf("%d in a second, want %d", n, partyRate)
	}
	if n := drain(b); n != partyBurst {
		t.Errorf("another party: %d at once, want %d", n, partyBurst)
	}
	h.move(time.Hour)
	if n := drain(a); n != partyBurst {
		t.Errorf("%d after an hour, want %d", n, partyBurst)
	}
	h.move(-time.Hour) // never happens; it must not give anything
	if n := drain(a); n != 0 {
		t.Errorf("%d by a clock that went back", n)
	}
	if !l.take(b, 0) || l.take(bucket{"c", false}, partyBurst+1) {
		t.Error("a cost of nothing, or of more than there can be")
	}
}

// The table has a limit. Whoever comes when it is full shares one bucket; buckets that are full make room.
func TestLimitsOfTheTable(t *testing.T) {
	l, h := newLimits(), &hand{at: 1}
	l.now = h.now
	for i := range maxBuckets {
		l.take(bucket{who: fmt.Sprint(i)}, 1)
	}
	passed := 0
	for i := range 2 * partyBurst {
		if l.take(bucket{who: fmt.Sprint("new", i)}, 1) {
			passed++
		}
	}
	if passed != partyBurst || len(l.buckets) != maxBuckets+1 {
		t.Errorf("%d passed, %d buckets", passed, len(l.buckets))
	}
	h.move(time.Minute)
	if !l.take(bucket{who: "later"}, 1) || len(l.buckets) != 1 {
		t.Errorf("%d buckets after a minute", len(l.buckets))
	}
}

func TestReserve(t *testing.T) {
	v, h := reserve{of: map[string]*share{}}, &hand{at: 1}
	record := func(node string, hold time.Duration) {
		v.record([]lease.Record{{Lease: "pg", Holder: lease.Party{Node: node}, Hold: hold}})
	}
	drain := func(node, verb string) (n int) {
		for v.take("pg", node, verb, stamp(h.now())) {
			n++
		}
		return n
	}
	if v.holds("pg", "a") || drain("a", "renew") != 0 {
		t.Error("a reserve without a record")
	}
	record("a", 10*time.Second)
	if !v.holds("pg", "a") || v.holds("pg", "b") || v.holds("pg", "") || v.holds("web", "a") || drain("b", "renew") != 0 {
		t.Error("somebody else's reserve")
	}
	if n := drain("a", "renew"); n != keepPerHold {
		t.Errorf("%d at once, want %d", n, keepPerHold)
	}
	if n := drain("a", "release"); n != keepPerHold {
		t.Errorf("releases beside renewals: %d, want %d", n, keepPerHold)
	}
	record("a", 10*time.Second) // a new epoch of the same node gives nothing anew
	h.move(10 * time.Second)
	if n := drain("a", "renew"); n != keepPerHold {
		t.Errorf("%d in a hold, want %d", n, keepPerHold)
	}
	record("b", 10*time.Second)
	if drain("a", "renew") != 0 || drain("b", "renew") != keepPerHold {
		t.Error("the reserve does not follow the record")
	}
	v.record([]lease.Record{{Lease: "pg"}})
	if drain("b", "renew") != 0 || drain("", "renew") != 0 {
		t.Error("a reserve of nobody")
	}
}

// Every profile's holder stays within its reserve, whatever the number of addresses (four are asked side by side here).
func TestReserveIsEnough(t *testing.T) {
	for _, name := range lease.ProfileNames() {
		b, err := lease.Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		v, h := reserve{of: map[string]*share{}}, &hand{at: 1}
		v.record([]lease.Record{{Lease: "pg", Holder: lease.Party{Node: "a"}, Hold: b.Hold()}})
		for i := range 1000 {
			for range 4 {
				if !v.take("pg", "a", api.VerbRenew, stamp(h.now())) {
					t.Fatalf("%s: renewal %d is refused", name, i)
				}
			}
			h.move(b.RenewEvery)
		}
	}
}

// A flood by one node costs nobody else a renewal, and itself only what it asks too often: not what it holds, not the word
// of its own new agent.
func TestFloodIsRefused(t *testing.T) {
	s := newSecure(t, nil)
	s.server.stands()
	holder, floods := s.as(node("erp", "a")), s.as(node("web", "x"))
	s.hold(holder, "https")
	const webPath = "/v1/clusters/web/leases/pg/"
	if status, a, text := s.call(floods, "https", "POST", webPath+"acquire", acquireAs("x", 1)); a.Verdict != "granted" {
		t.Fatalf("%d %s", status, text)
	}
	holders := []struct {
		client     *http.Client
		path, name string
		epoch      uint64
	}{{holder, leasePath, "a", epoch}, {floods, webPath, "x", 1}}
	seq, refused := uint64(5), 0
	for i := range 2 * partyBurst {
		if i%10 == 0 {
			seq++
			for _, h := range holders {
				if _, a, text := s.call(h.client, "https", "POST", h.path+"renew", renew(h.name, seq, h.epoch)); a.Verdict != "ok" {
					t.Fatalf("renewal by %s: %s", h.name, text)
				}
			}
		}
		status, _, text := s.call(floods, "https", "POST", "/v1/clusters/web/leases/other/acquire", acquireAs("x", uint64(i+2)))
		if status == http.StatusTooManyRequests {
			refused++
		} else if status != 200 || refused > 0 {
			t.Fatalf("acquire %d: %d %s", i, status, text)
		}
	}
	if want := partyBurst + 1; refused != want || s.counted(reasonRate) != uint64(want) {
		t.Errorf("%d refused, %d counted, want %d", refused, s.counted(reasonRate), want)
	}
	if !s.log.find("refused: ", "identity=leasedog://web/x ", "reason="+reasonRate, "address=127.0.0.1:") {
		t.Error("not told")
	}
	if !s.server.limits.take(bucket{"leasedog://web/x", true}, partyBurst) { // as renewals of what it does not hold would
		t.Fatal("it had nothing left to keep a lease with")
	}
	adopt := acquireAs("x", 9000)
	adopt.Claim = &api.Claim{Epoch: 1, State: "held", HoldNS: int64(9 * time.Second)}
	adopt.SeenEpoch = 1
	for _, c := range []struct {
		verb string
		body any
		want string
	}{
		{"renew", api.Renew{Who: me("x", 8000), Epoch: 1}, "ok"},
		{"acquire", adopt, "adopted"},
		{"pause", api.Pause{Who: me("x", 9001), Epoch: 1}, "ok"},
		{"resume", api.Resume{Who: me("x", 9002), Epoch: 1}, "ok"},
		{"release", api.Release{Who: me("x", 9003), Epoch: 1}, "ok"},
		{"release", api.Release{Who: me("x", 9003), Epoch: 1}, "ok"}, // its answer was lost
	} {
		if status, a, text := s.call(floods, "https", "POST", webPath+c.verb, c.body); a.Verdict != c.want {
			t.Errorf("%s of the node that floods: %d %s, want %s", c.verb, status, text, c.want)
		}
	}
}

// Every way to ask too often ends, and none of them in the reserve of a holder.
func TestRefusedTooOften(t *testing.T) {
	bogus := func(n uint64) (string, string, any) { return "POST", leasePath + "renew", renew("a", n, 1) }
	for name, c := range map[string]struct {
		who    pki.Identity
		asks   func(n uint64) (method, path string, body any)
		passes int // at most, by a clock that stands still
	}{
		"acquire without a claim": {node("erp", "a"), func(n uint64) (string, string, any) {
			return "POST", leasePath + "acquire", acquireAs("a", n)
		}, partyBurst},
		"renewals of what it does not hold": {node("erp", "b"), func(n uint64) (string, string, any) {
			return "POST", leasePath + "renew", renew("b", n, epoch)
		}, partyBurst},
		"in another's name":   {node("web", "x"), bogus, partyBurst},
		"in another cluster":  {node("web", "a"), bogus, partyBurst},
		"no JSON":             {node("erp", "b"), func(uint64) (string, string, any) { return "POST", leasePath + "acquire", "{" }, partyBurst},
		"what does not exist": {node("erp", "b"), func(uint64) (string, string, any) { return "GET", "/", "" }, partyBurst},
		"status of all":       {pki.Identity{Role: pki.RoleReader}, func(uint64) (string, string, any) { return "GET", api.PathClusters, "" }, partyBurst / costOfAll},
		"healthy":             {pki.Identity{Role: pki.RoleReader}, func(uint64) (string, string, any) { return "GET", api.PathHealthy, "" }, partyBurst},
		"history": {node("erp", "b"), func(uint64) (string, string, any) { return "GET", "/v1/history?cluster=erp", "" },
			partyBurst / costOfHistory},
		"certificates": {node("erp", "b"), func(uint64) (string, string, any) { return "POST", api.PathCert, "{}" },
			partyBurst / costOfCert},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSecure(t, nil)
			s.server.stands()
			holder, floods := s.as(node("erp", "a")), s.as(c.who)
			s.hold(holder, "https")
			before, passed := s.view(), 0
			for i := range c.passes + 5 {
				if i%50 == 0 && c.who != node("erp", "a") { // a slow machine must not let the lease run out meanwhile
					s.call(holder, "https", "POST", leasePath+"renew", renew("a", uint64(6+i), epoch))
				}
				method, path, body := c.asks(uint64(100 + i))
				if status, _, text := s.call(floods, "https", method, path, body); status != http.StatusTooManyRequests {
					passed++
					if i >= c.passes {
						t.Fatalf("request %d: %d %s", i, status, text)
					}
				}
			}
			if passed == 0 {
				t.Error("nothing passed")
			}
			if !s.log.find("refused: ", "identity="+c.who.String()+" ", "reason="+reasonRate) || s.counted(reasonRate) == 0 {
				t.Error("not told, or not counted")
			}
			if name == "acquire without a claim" { // it asks for what it holds: its epoch is another one by now
				return
			}
			s.untouched(holder, "https", before)
		})
	}
}

// What a certificate that was revoked asks is charged to where it comes from, not to the node that has a new one.
func TestRefusedTooOftenByAStolenKey(t *testing.T) {
	s := newSecure(t, nil)
	s.server.stands()
	holder := s.as(node("erp", "a"))
	s.hold(holder, "https")
	stolen := s.credentials(s.folder, node("erp", "a"), year, s.wall.now())
	thief := s.with(stolen.Client())
	if status, _, text := s.call(thief, "https", "GET", "/v1/clusters/erp", ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	before := s.view()
	s.revoke(stolen)
	last := 0
	for i := range partyBurst + 1 {
		if i%50 == 0 { // a slow machine must not let the lease run out meanwhile
			s.call(holder, "https", "POST", leasePath+"renew", renew("a", uint64(6+i), epoch))
		}
		last, _, _ = s.call(thief, "https", "GET", "/v1/clusters/erp", "")
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("%d after %d tries", last, partyBurst)
	}
	s.untouched(holder, "https", before)
	if status, _, text := s.call(holder, "https", "GET", "/v1/clusters/erp", ""); status != 200 {
		t.Errorf("the node's own: %d %s", status, text)
	}
}

// Limits that refuse everything refuse, and limits that refuse nothing open nothing: they are asked beside authorisation, not
// instead of it.
func TestLimitsOnlyRefuse(t *testing.T) {
	s := newSecure(t, nil)
	h := s.server.stands()
	holder := s.as(node("erp", "a"))
	s.hold(holder, "https")
	before := s.view()
	h.at = 1 << 62 // every bucket is full for ever
	if status, _, text := s.call(s.as(node("web", "a")), "https", "POST", leasePath+"release", release("a", 900, epoch)); status != 403 {
		t.Errorf("limits without limit: %d %s", status, text)
	}
	s.untouched(holder, "https", before)
	// A limiter that is broken ends the request without an answer.
	s.server.limits.now = func() lease.Instant { panic("arbiter: a limit is broken") }
	for verb, body := range map[string]any{"acquire": acquire("b", 1), "release": release("b", 2, epoch)} {
		if status, _, text := s.call(s.as(node("erp", "b")), "https", "POST", leasePath+verb, body); status != 0 {
			t.Errorf("%s: %d %s", verb, status, text)
		}
	}
	if after := s.view(); after != before {
		t.Errorf("the lease was %s and is %s", before, after)
	}
}

func TestRetryAfter(t *testing.T) {
	s := newSecure(t, nil)
	s.server.stands()
	c := s.as(node("erp", "b"))
	for range partyBurst / costOfHistory {
		s.call(c, "https", "GET", "/v1/history?cluster=erp", "")
	}
	req, _ := http.NewRequest("GET", "https://"+s.addr+"/v1/history?cluster=erp", nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != retryAfter {
		t.Errorf("%d %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

// A refusal for asking too often is late, so that who asks again at once is slowed down, and ends with its connection.
func TestRefusalsAreDelayed(t *testing.T) {
	s, _, url := newTestServer(t)
	s.stands()
	var mu sync.Mutex
	var waited []time.Duration
	s.limits.wait = func(_ context.Context, d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		waited = append(waited, d)
	}
	for range partyBurst + 2 {
		post(url+leasePath+"switchover", "{}")
	}
	if mu.Lock(); len(waited) != 2 || waited[0] != refusalDelay {
		t.Errorf("%v", waited)
	}
	mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pause(ctx, time.Hour)
	pause(t.Context(), 0)
}

func TestNetwork(t *testing.T) {
	for remote, want := range map[string]string{"10.0.9.11:4711": "10.0.9.11/32", "[::ffff:10.0.9.11]:1": "10.0.9.11/32",
		"[fd00:9::1:2:3:4]:80": "fd00:9::/64", "[fe80::1%eth0]:80": "fe80::/64", "": "invalid Prefix", "x:1": "invalid Prefix"} {
		if got := network(remote).String(); got != want {
			t.Errorf("%q: %s, want %s", remote, got, want)
		}
	}
}
