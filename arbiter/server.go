package arbiter

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// Fields of the log.
const (
	keyCluster = "cluster"
	keyLease   = "lease"
	keyEpoch   = "epoch"
	keyNode    = "node"
)

// Limits. Each guards memory or descriptors; none is reached by nodes that behave.
const (
	maxClusters = 4096
	headerTime  = 5 * time.Second
	readTime    = 10 * time.Second
	answerTime  = lease.MaxWait + 10*time.Second // a long poll, and a slow disk
	idleTime    = 2 * time.Minute
	maxHeader   = 8 << 10
	retryWrite  = time.Second
	// stopTime is short: parked polls would use up all of it, and a planned restart must be over within L−R−T.
	stopTime = 100 * time.Millisecond
)

var errStopping = errors.New("the arbiter is stopping")

// Store keeps records. Write calls done exactly once, when the change is synced or has failed, unless the store is
// closed meanwhile.
type Store interface {
	Load() (map[string]lease.Snapshot, error)
	Write(cluster string, change lease.Change, done func(error))
	History(cluster string, limit int) ([]api.Transition, error)
}

// Options of New. All are required, but of TLS with Folder, and Insecure with AllowInsecureFrom, exactly one pair, and of Classic, which may be left out.
type Options struct {
	Store             Store
	Log               *logrus.Logger
	TLS               *pki.Live        // what is presented and accepted
	Folder            pki.Folder       // what issues certificates, if the CA's key is there
	CertLife          time.Duration    // of the certificates of nodes
	Clusters          map[string]Scope // who may ask for what; nil: each identity in its own cluster
	Insecure          bool             // plain HTTP: nobody proves anything
	AllowInsecureFrom []netip.Prefix   // who may speak then
	MinHold           time.Duration
	MaxHold           time.Duration
	MaxPause          time.Duration
	Grace             time.Duration // added to the hold of a pause
	DriftPPM          int
	NewStoreID        func() string // an id that was never used before
	Classic           Classic       // may be left out: no classic locks
}

// Server is the arbiter. Its handlers may be called by any number of goroutines.
type Server struct {
	opt      Options
	names    names
	next     atomic.Uint64
	refusals *refusals
	limits   *limits
	codes    *codes
	leaves   leaves
	clockID  string // names started, for who compares readings
	started  lease.Instant

	ctx  context.Context
	stop context.CancelFunc
	wait sync.WaitGroup

	mu       sync.Mutex
	clusters map[string]*cluster
	ready    atomic.Bool

	classic *classic
}

// New loads the store and starts a goroutine for each cluster in it. Close ends them.
func New(opt Options) (*Server, error) {
	if opt.Store == nil || opt.Log == nil || opt.NewStoreID == nil || opt.MinHold <= 0 || opt.MaxHold < opt.MinHold || opt.MaxPause <= 0 {
		return nil, errors.New("start arbiter: an option is missing")
	}
	if plain := opt.Insecure && len(opt.AllowInsecureFrom) > 0; plain == (opt.TLS != nil) || opt.Insecure != plain ||
		opt.TLS != nil && (opt.TLS.Current() == nil || opt.Folder.Dir == "" || opt.CertLife <= 0) {
		return nil, errors.New("start arbiter: neither certificates nor networks that may speak without, or both")
	}
	if opt.Classic.Hold == 0 {
		opt.Classic.Hold = ClassicHold
	}
	all, err := opt.Store.Load()
	if err != nil {
		return nil, fmt.Errorf("start arbiter: %w", err)
	}
	s := &Server{opt: opt, names: newNames(), clusters: map[string]*cluster{}, refusals: newRefusals(opt.Log), limits: newLimits(),
		codes: newCodes(), leaves: leaves{of: map[string]*x509.Certificate{}}, clockID: rand.Text(), started: boottime.Now()}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.classic = newClassic(s, all)
	for name, snap := range all {
		s.start(name, snap)
	}
	s.ready.Store(true)
	return s, nil
}

// start begins to serve a cluster. The caller holds mu, or nobody else knows s.
func (s *Server) start(name string, snap lease.Snapshot) *cluster {
	minHold, maxHold := s.opt.MinHold, s.opt.MaxHold
	if isClassic(name) {
		minHold, maxHold = s.opt.Classic.Hold, s.opt.Classic.Hold
	}
	g := lease.NewGrantor(lease.GrantorOptions{
		Cluster: name, MinHold: minHold, MaxHold: maxHold, MaxPause: s.opt.MaxPause, Grace: s.opt.Grace,
		DriftPPM: s.opt.DriftPPM, RetryWrite: retryWrite, NewStoreID: s.opt.NewStoreID,
	}, snap, boottime.Now())
	c := newCluster(name, g, s.opt.Store, s.opt.Log)
	c.reserve.record(snap.Leases)
	s.clusters[name] = c
	s.wait.Go(func() { c.run(s.ctx) })
	return c
}

// cluster returns a cluster; one that is not known is begun when create is set, within the limit.
func (s *Server) cluster(name string, create bool) *cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusters[name]
	if c == nil && create && len(s.clusters) < maxClusters && s.ctx.Err() == nil {
		c = s.start(name, lease.Snapshot{})
	}
	return c
}

// Close ends every cluster's goroutine and waits for them. What is answered after it is an error.
func (s *Server) Close() {
	s.ready.Store(false)
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.wait.Wait()
}

// nodePlaces are the connections of the port of the nodes. One that guards 64 leases has about 200.
func nodePlaces() places { return places{all: 16384, strangers: 1024, host: 128, party: 256} }

// classicPlaces are those of the old lock service.
func classicPlaces() places { return places{all: 1024, strangers: 128, host: 32, party: 256} }

// Serve answers nodes at l until ctx ends. It owns l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	c := newCrowd(nodePlaces())
	if s.opt.TLS == nil {
		return serve(ctx, &plainListener{l, c, s.opt.AllowInsecureFrom, s.refusals.note}, s.Handler())
	}
	return serve(ctx, newGate(l, s.opt.TLS.Server(s.codes.open), c, s.refusals.note), s.Handler())
}

// ServeControl answers the local control socket at l until ctx ends. It owns l.
func (s *Server) ServeControl(ctx context.Context, l net.Listener) error {
	return serve(ctx, limit(l, 16), s.ControlHandler())
}

// times are how long one connection may take over what.
type times struct{ header, read, answer, idle time.Duration }

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	return serveTimed(ctx, l, h, times{headerTime, readTime, answerTime, idleTime})
}

func serveTimed(ctx context.Context, l net.Listener, h http.Handler, t times) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: t.header, ReadTimeout: t.read, WriteTimeout: t.answer + t.read,
		IdleTimeout: t.idle, MaxHeaderBytes: maxHeader, Protocols: protocols, ErrorLog: nil}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if srv.Shutdown(stop) != nil {
		_ = srv.Close() // polls that still wait: their nodes ask again
	}
	<-ended
	return nil
}

// limited is a listener with a bound on open connections.
type limited struct {
	net.Listener
	slots chan struct{}
}

func limit(l net.Listener, n int) net.Listener { return &limited{l, make(chan struct{}, n)} }

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &placed{Conn: c, leave: func() { <-l.slots }}, nil
		default:
			_ = c.Close() // better than to let it wait
		}
	}
}

func (s *Server) id() lease.RequestID { return lease.RequestID(s.next.Add(1)) }

func valid(r *regexp.Regexp, s string) bool { return r.MatchString(s) }
