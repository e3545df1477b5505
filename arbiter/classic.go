package arbiter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

// ClassicHold is how long a classic lock stands after its last update. Whoever was written against the old service
// counts on it.
const ClassicHold = 8 * time.Second

const (
	// classicPrefix begins the cluster's name of every classic lock. No cluster of a node can have it: names of theirs
	// have no slash.
	classicPrefix = "classic/"
	classicLease  = "lock"
	classicName   = "default" // the lock of a request that names none

	// maxClassic bounds how many locks whoever may use the listener can make, out of maxClusters.
	maxClassic = 256
	// classicTime bounds one request: longer than a slow disk, shorter than a hold.
	classicTime = 5 * time.Second
	// classicGone is how long the sender of an /unlock gets to be seen as gone. One that gave up may have taken its
	// lock again meanwhile, over another connection.
	classicGone = 20 * time.Millisecond
)

// Classic is the listener of the old lock service: /lock, /updatelock and /unlock, answered with 200 or 403, keyed by
// the client's address. A lock is a lease of a cluster of its own, so that it can touch no node's lease.
type Classic struct {
	From []netip.Prefix // who may speak; empty: off
	Hold time.Duration  // ClassicHold, except in tests
}

func isClassic(cluster string) bool { return strings.HasPrefix(cluster, classicPrefix) }

// classic keeps what the Grantors of the classic locks cannot know: the sequence numbers, since clients have none.
type classic struct {
	opt     Classic
	server  *Server
	started lease.Instant
	names   *regexp.Regexp

	mu    sync.Mutex
	locks map[string]*classicLock
}

// classicLock serves one request at a time, so that sequence numbers reach the Grantor in their order.
type classicLock struct {
	turn  chan struct{}
	known bool // its record was written by this machine, and tells who held it
	seq   uint64
}

// newClassic goes on with the locks that the store knows.
func newClassic(s *Server, all map[string]lease.Snapshot) *classic {
	c := &classic{opt: s.opt.Classic, server: s, started: boottime.Now(), locks: map[string]*classicLock{},
		names: regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)}
	for name, snap := range all {
		if !isClassic(name) {
			continue
		}
		l := newClassicLock(!snap.Suspect && !snap.Cluster.Recovery)
		for _, r := range snap.Leases {
			l.seq = max(l.seq, r.Seq)
		}
		c.locks[name] = l
	}
	return c
}

func newClassicLock(known bool) *classicLock {
	return &classicLock{turn: make(chan struct{}, 1), known: known}
}

// lock returns a lock, made when first asked for; nil: there are too many.
func (c *classic) lock(cluster string) *classicLock {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.locks[cluster]
	if l == nil && len(c.locks) < maxClassic {
		l = newClassicLock(false)
		c.locks[cluster] = l
	}
	return l
}

// ServeClassic answers clients of the old lock service at l until ctx ends. It owns l.
func (s *Server) ServeClassic(ctx context.Context, l net.Listener) error {
	return serve(ctx, &plainListener{l, newCrowd(classicPlaces()), s.opt.Classic.From, s.refusals.note}, s.ClassicHandler())
}

// ClassicHandler serves the classic locks.
func (s *Server) ClassicHandler() http.Handler {
	mux := http.NewServeMux()
	for path, verb := range map[string]classicVerb{
		"/lock": (*classic).take, "/updatelock": (*classic).update, "/unlock": (*classic).unlock,
	} {
		h := s.classic.handle(path, verb)
		mux.HandleFunc("POST "+path, h)
		mux.HandleFunc("GET "+path, h)
		mux.HandleFunc("HEAD "+path, func(w http.ResponseWriter, _ *http.Request) { // else GET's would answer it
			http.Error(w, "use GET or POST", http.StatusMethodNotAllowed)
		})
	}
	return mux
}

// classicVerb carries one request out. why says why not; "" is yes.
type classicVerb func(c *classic, ctx context.Context, k classicCall) (why string, err error)

// classicCall is one request.
type classicCall struct {
	cluster string
	party   lease.Party
	lock    *classicLock
	gone    <-chan struct{} // the client has closed its connection
}

func (c *classic) handle(path string, verb classicVerb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err, why := c.afford(path, r), ""
		if err == nil {
			why, err = c.serve(verb, r)
		}
		var fail *failure
		switch {
		case isTooOften(err):
			c.server.limits.wait(r.Context(), refusalDelay)
			w.Header().Set("Retry-After", retryAfter)
			http.Error(w, err.Error(), http.StatusTooManyRequests)
		case errors.As(err, &fail):
			http.Error(w, fail.message, fail.status)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case why != "":
			http.Error(w, why, http.StatusForbidden)
		default:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = fmt.Fprintln(w, "ok") // a client that is gone asks again
		}
	}
}

// afford refuses a client that asks too often. What one keeps a lock with has a bucket of its own.
func (c *classic) afford(path string, r *http.Request) error {
	who := "classic " + network(r.RemoteAddr).String()
	if c.server.limits.take(bucket{who, path != "/lock"}, 1) {
		return nil
	}
	err := tooOften(who)
	c.server.refusals.note(who, r.RemoteAddr, reasonRate, r.Method+" "+path+": "+err.Error())
	return err
}

// serve finds out who asks for which lock, waits for the lock's turn, and carries the request out to its end even if the
// client does not wait for it: the numbers stay in their order.
func (c *classic) serve(verb classicVerb, r *http.Request) (string, error) {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "", fmt.Errorf("identify client: %w", err)
	}
	ip := addr.Addr().Unmap().WithZone("")
	if !containsAddr(c.opt.From, ip) {
		return "", &failure{http.StatusForbidden, "", fmt.Sprintf("%s is in no network of classic.allow_from", ip)}
	}
	name := classicName
	if r.URL.Query().Has("name") {
		name = r.URL.Query().Get("name")
	}
	if !c.names.MatchString(name) {
		return "", &failure{http.StatusBadRequest, "", fmt.Sprintf("%q is not a lock's name: use 1 to 64 of A-Z, a-z, 0-9, . _ -", name)}
	}
	k := classicCall{cluster: classicPrefix + name, gone: r.Context().Done(), party: lease.Party{Node: ip.String(), BootID: "classic",
		Instance: lease.Instance{Start: 1, Nonce: 1}}}
	if k.lock = c.lock(k.cluster); k.lock == nil {
		return "", fmt.Errorf("there are %d locks already", maxClassic)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), classicTime)
	defer cancel()
	select {
	case k.lock.turn <- struct{}{}:
		defer func() { <-k.lock.turn }()
	case <-r.Context().Done():
		return "", r.Context().Err()
	case <-ctx.Done():
		return "", errors.New("another request for this lock has not ended")
	}
	return verb(c, ctx, k)
}

func containsAddr(list []netip.Prefix, ip netip.Addr) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// take is /lock. By the holder it is an update.
func (c *classic) take(ctx context.Context, k classicCall) (string, error) {
	early := c.early()
	cl := c.server.cluster(k.cluster, !early)
	switch {
	case cl == nil && early:
		return c.tooEarly(), nil
	case cl == nil:
		return "", errors.New("this arbiter serves too many clusters, or is stopping")
	}
	v, err := cl.classicView(ctx)
	if err != nil {
		return "", err
	}
	if c.notMine(k, v) == "" {
		return c.renew(ctx, cl, k, v.Epoch)
	}
	if early {
		return c.tooEarly(), nil
	}
	a, err := c.acquire(ctx, cl, k)
	if err == nil && a.Verdict == lease.Recovery {
		// A lock that is new here, or whose record cannot be trusted. Whatever stood before this arbiter started has run out.
		if _, err := c.ask(ctx, cl, func(id lease.RequestID) lease.GrantorEvent { return lease.OperatorRecover{ID: id} }); err != nil {
			return "", err
		}
		a, err = c.acquire(ctx, cl, k)
	}
	if err != nil || a.Verdict != lease.Granted {
		return classicAnswer(a, err)
	}
	return c.renew(ctx, cl, k, a.Epoch) // a grant carries no time
}

// update is /updatelock.
func (c *classic) update(ctx context.Context, k classicCall) (string, error) {
	cl, v, why, err := c.holding(ctx, k)
	if err != nil || why != "" {
		return why, err
	}
	return c.renew(ctx, cl, k, v.Epoch)
}

// unlock is /unlock. It frees the lock at once, so it is carried out only for a client that waits for the answer: one
// that gave up may hold the lock again.
func (c *classic) unlock(ctx context.Context, k classicCall) (string, error) {
	cl, v, why, err := c.holding(ctx, k)
	if err != nil || why != "" {
		return why, err
	}
	seen := time.NewTimer(classicGone)
	defer seen.Stop()
	select {
	case <-k.gone:
		return "", errors.New("the client has gone: nothing was unlocked")
	case <-seen.C:
	}
	a, err := c.ask(ctx, cl, func(id lease.RequestID) lease.GrantorEvent {
		return lease.Request{ID: id, Lease: classicLease, Body: lease.Release{Party: k.party, Epoch: v.Epoch, Seq: k.lock.next()}}
	})
	return classicAnswer(a, err)
}

// holding returns the lock's cluster and record if the client holds the lock.
func (c *classic) holding(ctx context.Context, k classicCall) (*cluster, lease.LeaseView, string, error) {
	cl := c.server.cluster(k.cluster, false)
	if cl == nil {
		return nil, lease.LeaseView{}, "nobody holds this lock", nil
	}
	v, err := cl.classicView(ctx)
	if err != nil {
		return nil, v, "", err
	}
	return cl, v, c.notMine(k, v), nil
}

// notMine says why the client does not hold the lock, as far as this arbiter may believe its record; "": it does.
func (c *classic) notMine(k classicCall, v lease.LeaseView) string {
	switch {
	case v.State == string(lease.RecordFree) || v.State == "":
		return "nobody holds this lock"
	case v.Holder.Node != k.party.Node:
		return "held by " + v.Holder.Node
	case v.State == "expired" || v.State == "lapsed":
		return "the lock has run out"
	case !k.lock.known && c.early():
		return c.tooEarly()
	}
	return ""
}

// early: what an earlier process granted, and this one's record may not know, has not run out yet.
func (c *classic) early() bool { return boottime.Now().Sub(c.started) < c.opt.Hold }

func (c *classic) tooEarly() string {
	left := c.opt.Hold - boottime.Now().Sub(c.started)
	return fmt.Sprintf("the arbiter has just started: a lock of before may stand for another %v", left.Round(time.Second/10))
}

func (c *classic) acquire(ctx context.Context, cl *cluster, k classicCall) (lease.Answer, error) {
	return c.ask(ctx, cl, func(id lease.RequestID) lease.GrantorEvent {
		return lease.Request{ID: id, Lease: classicLease, Body: lease.Acquire{Party: k.party, Seq: k.lock.next(), Hold: c.opt.Hold,
			Terms: classicTerms(c.opt.Hold), Ready: true}}
	})
}

// classicTerms are those of a client without a guard: only the hold counts. L is for how long a grant may go without
// its first renewal, which follows at once.
func classicTerms(hold time.Duration) lease.Terms {
	return lease.Terms{LossAfter: hold / 2, StopBudget: 1, TimerSlack: 1, Watchdog: 1, Quantum: 1, Chances: 1, ResetLatency: 1}
}

func (c *classic) renew(ctx context.Context, cl *cluster, k classicCall, epoch lease.Epoch) (string, error) {
	a, err := c.ask(ctx, cl, func(id lease.RequestID) lease.GrantorEvent {
		return lease.Request{ID: id, Lease: classicLease, Body: lease.Renew{Party: k.party, Epoch: epoch, Seq: k.lock.next()}}
	})
	return classicAnswer(a, err)
}

func (l *classicLock) next() uint64 {
	l.seq++
	return l.seq
}

func (c *classic) ask(ctx context.Context, cl *cluster, event func(lease.RequestID) lease.GrantorEvent) (lease.Answer, error) {
	id := c.server.id()
	return cl.ask(ctx, id, event(id))
}

// classicAnswer turns an answer into the old service's.
func classicAnswer(a lease.Answer, err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case a.Verdict == lease.OK:
		return "", nil
	case a.Verdict == lease.Unavailable || a.Verdict == lease.Recovery:
		return "", fmt.Errorf("not now: %s", a.Reason)
	case a.Reason == "":
		return string(a.Verdict), nil
	}
	return a.Reason, nil
}

// classicView is the record of a classic lock as it is now.
func (c *cluster) classicView(ctx context.Context) (lease.LeaseView, error) {
	var v lease.LeaseView
	err := c.do(ctx, func() {
		for _, l := range c.grantor.View(boottime.Now()).Leases {
			if l.Lease == classicLease {
				v = l
			}
		}
	})
	return v, err
}
