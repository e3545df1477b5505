package arbiter

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

// How much one identity may ask. A node that behaves stays far below: with the fastest profile it renews five times a
// second, and a poll of one that waits is answered about once a second.
const (
	// What keeps or gives back a lease has as much again, in a bucket of its own: after the loss of a store a holder goes on
	// renewing although no record says that it holds.
	partyRate  = 100 // requests a second
	partyBurst = 400
	// keepPerHold is the reserve of a holder: so many renewals of a lease in one hold of it, and as many at once. The
	// profiles need 9 to 13 in a hold, times the addresses of the arbiter that are asked side by side.
	keepPerHold = 100

	// Costs of what is more than a request about one lease.
	costOfAll     = 20 // every cluster is asked
	costOfHistory = 10 // read from the disk
	costOfCert    = 20 // a signature and a file that is synced

	maxBuckets  = 16384
	tidyBuckets = time.Second // so often at most are buckets looked through

	// refusalDelay is waited before a refusal for asking too often is sent, so that who asks again at once is slowed down: a
	// connection gets two in a second.
	refusalDelay = 500 * time.Millisecond
	retryAfter   = "1" // seconds
)

// limits says who asks too often. It can refuse only: what it lets pass is authorised and judged like everything else.
type limits struct {
	now  func() lease.Instant
	wait func(context.Context, time.Duration)

	mu      sync.Mutex
	buckets map[bucket]*rate.Limiter
	tidied  time.Time
}

// bucket names one party's allowance of one kind. The zero bucket is shared by whoever comes when there is no room.
type bucket struct {
	who   string
	keeps bool
}

func newLimits() *limits {
	return &limits{now: boottime.Now, wait: pause, buckets: map[bucket]*rate.Limiter{}}
}

// pause returns after d, or when ctx has ended.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stamp is an Instant for package rate, which subtracts.
func stamp(i lease.Instant) time.Time { return time.Unix(0, int64(i)) }

// take takes cost out of a bucket; false: there is not so much in it.
func (l *limits) take(b bucket, cost int) bool {
	now := stamp(l.now())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets[b] == nil && len(l.buckets) >= maxBuckets {
		l.tidy(now)
		if len(l.buckets) >= maxBuckets {
			b = bucket{}
		}
	}
	lim := l.buckets[b]
	if lim == nil {
		lim = rate.NewLimiter(partyRate, partyBurst)
		l.buckets[b] = lim
	}
	return lim.AllowN(now, cost)
}

// tidy drops buckets that are full: a new one would be the same. The caller holds mu.
func (l *limits) tidy(now time.Time) {
	if !l.tidied.IsZero() && now.Sub(l.tidied) < tidyBuckets {
		return
	}
	l.tidied = now
	for b, lim := range l.buckets {
		if lim.TokensAt(now) >= float64(lim.Burst()) {
			delete(l.buckets, b)
		}
	}
}

// reserve is what the holder of a lease may say about it, whatever else its node or anybody else asks. Each verb has its own.
type reserve struct {
	mu sync.Mutex
	of map[string]*share // by lease
}

type share struct {
	node  string
	hold  time.Duration
	verbs map[string]*rate.Limiter
}

// record follows the record: the node that was granted a lease last has its reserve, also after it gave it back, since the
// answer to that may have been lost.
func (v *reserve) record(list []lease.Record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range list {
		old := v.of[r.Lease]
		switch {
		case r.Holder.Node == "":
			delete(v.of, r.Lease)
		case old == nil || old.node != r.Holder.Node || old.hold != r.Hold:
			v.of[r.Lease] = &share{node: r.Holder.Node, hold: r.Hold, verbs: map[string]*rate.Limiter{}}
		}
	}
}

func (v *reserve) holds(leaseName, node string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.of[leaseName]
	return s != nil && s.node == node
}

// take takes one out of what a holder has for a verb. false: it is not the holder, or came faster than any holder needs.
func (v *reserve) take(leaseName, node, verb string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.of[leaseName]
	if s == nil || s.node != node {
		return false
	}
	lim := s.verbs[verb]
	if lim == nil {
		lim = rate.NewLimiter(rate.Limit(keepPerHold/max(s.hold, time.Second).Seconds()), keepPerHold)
		s.verbs[verb] = lim
	}
	return lim.AllowN(now, 1)
}

// keepsLease says of a verb that it keeps a lease, or gives it back.
func keepsLease(verb string) bool {
	switch verb {
	case api.VerbRenew, api.VerbRelease, api.VerbPause, api.VerbResume:
		return true
	}
	return false
}

func tooOften(who string) error {
	return &refused{failure{http.StatusTooManyRequests, api.CodeTooMany, who + " asks too often: nothing was done"}, reasonRate}
}

// isTooOften says of an error that it is answered with 429.
func isTooOften(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.status == http.StatusTooManyRequests
}

// afford decides whether a peer may ask now. It comes before authorisation, so that what is refused counts too, and touches
// nothing that another identity uses. unknown: who it is could not be told.
func (s *Server) afford(r *http.Request, rt route, p *peer, unknown bool) error {
	who := p.name()
	if unknown || p.insecure {
		who = "somebody at " + network(r.RemoteAddr).String()
	}
	var c *cluster
	if !unknown && !p.insecure && p.Identity.Cluster == r.PathValue("cluster") {
		c = s.cluster(p.Identity.Cluster, false)
	}
	leaseName := r.PathValue("lease")
	if c != nil && keepsLease(rt.verb) && c.reserve.take(leaseName, p.Identity.Node, rt.verb, stamp(s.limits.now())) {
		return nil
	}
	if s.limits.take(bucket{who, keepsLease(rt.verb)}, max(rt.cost, 1)) {
		return nil
	}
	if c != nil && rt.verb == api.VerbAcquire && c.reserve.holds(leaseName, p.Identity.Node) {
		p.onlyAdopts = true // its body says whether it is a holder's new agent
		return nil
	}
	return tooOften(who)
}

// affordAdoption is the rest of afford for one who asks too often, and may only go on with what it holds.
func (s *Server) affordAdoption(c *cluster, p peer, leaseName string, a lease.Acquire) error {
	if a.Claim == nil || c == nil || !c.reserve.take(leaseName, p.Identity.Node, api.VerbAcquire, stamp(s.limits.now())) {
		return tooOften(p.name())
	}
	return nil
}

// network is the part of an address that one machine has: of IPv6 it usually has a whole /64.
func network(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip := a.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // never fails with these
	return p
}
