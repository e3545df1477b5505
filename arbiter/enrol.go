package arbiter

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

const (
	codeLife  = 15 * time.Minute
	maxCodes  = 64          // open at a time
	joinEvery = time.Second // an address may try so often, after a few at once
	joinBurst = 5
	joinRate  = 20 // tries a second from everywhere
	maxJoiner = 1024
)

// codes are the join codes that are open. They are kept in memory only: a restart ends them.
type codes struct {
	mu     sync.Mutex
	of     map[pki.Identity]openCode
	all    *rate.Limiter
	byAddr map[netip.Addr]*rate.Limiter
}

type openCode struct {
	secret [sha256.Size]byte // its hash
	until  lease.Instant
}

func newCodes() *codes {
	return &codes{of: map[pki.Identity]openCode{}, all: rate.NewLimiter(joinRate, joinRate), byAddr: map[netip.Addr]*rate.Limiter{}}
}

// tidy drops what is over. The caller holds mu.
func (c *codes) tidy() {
	now := boottime.Now()
	for id, o := range c.of {
		if now >= o.until {
			delete(c.of, id)
		}
	}
}

// open reports whether anybody may join now. Without an open code nobody gets in without a certificate.
func (c *codes) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tidy()
	return len(c.of) > 0
}

// add opens a code for a node, in place of an earlier one.
func (c *codes) add(id pki.Identity, code pki.Code) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tidy()
	if _, replaces := c.of[id]; !replaces && len(c.of) >= maxCodes {
		return false
	}
	c.of[id] = openCode{sha256.Sum256(code.Secret[:]), boottime.Now().Add(codeLife)}
	return true
}

// take uses a node's code up. back opens it again: what it was used for failed.
func (c *codes) take(id pki.Identity, secret []byte) (back func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tidy()
	o, known := c.of[id]
	sum := sha256.Sum256(secret)
	if !known || subtle.ConstantTimeCompare(sum[:], o.secret[:]) != 1 {
		return nil, false
	}
	delete(c.of, id)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, newer := c.of[id]; !newer {
			c.of[id] = o
		}
	}, true
}

// may says whether an address may try now.
func (c *codes) may(remote string) bool {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byAddr) >= maxJoiner {
		clear(c.byAddr)
	}
	l := c.byAddr[addr.Addr()]
	if l == nil {
		l = rate.NewLimiter(rate.Every(joinEvery), joinBurst)
		c.byAddr[addr.Addr()] = l
	}
	return l.Allow() && c.all.Allow()
}

// makeCode is asked for at the control socket.
func (s *Server) makeCode(r *http.Request) (any, error) {
	if s.opt.TLS == nil {
		return nil, bad("this arbiter speaks plain HTTP: nobody needs a certificate")
	}
	id, err := pki.NodeIdentity(r.PathValue("cluster"), r.PathValue("node"))
	if err != nil {
		return nil, bad("%v", err)
	}
	if err := s.scope(id.Cluster, id.Node, ""); err != nil {
		return nil, err
	}
	if _, err := s.opt.Folder.Authority(""); err != nil {
		return nil, bad("no certificate can be issued here: %v; use leasedog-arbiter pki issue where the key is", err)
	}
	c := s.opt.TLS.Current()
	ca := c.Issuer(c.Leaf)
	if ca == nil {
		return nil, errors.New("make a code: the arbiter's own CA is not known")
	}
	code := pki.NewCode(ca)
	if !s.codes.add(id, code) {
		return nil, &failure{http.StatusTooManyRequests, api.CodeTooMany, "too many codes are open: wait until some are used or over"}
	}
	s.opt.Log.WithField("identity", id.String()).Info("a join code was made")
	return api.Code{Code: code.String(), ForNS: int64(codeLife)}, nil
}

// join gives a node its first certificate.
func (s *Server) join(r *http.Request, _ peer) (any, error) {
	if !s.codes.may(r.RemoteAddr) {
		return nil, &refused{failure{http.StatusTooManyRequests, api.CodeTooMany, "too many tries to join: wait a moment"}, reasonJoinRate}
	}
	text, err := body(r)
	if err != nil {
		return nil, bad("join: %v", err)
	}
	var w api.Join
	if err := strictDecode(text, &w); err != nil {
		return nil, bad("join: %v", err)
	}
	if w.Proto != api.Proto {
		return nil, bad("join: proto = %d: this arbiter speaks %d", w.Proto, api.Proto)
	}
	id, err := pki.NodeIdentity(w.Cluster, w.Node)
	if err != nil {
		return nil, bad("join: %v", err)
	}
	wants, key, err := pki.DecodeCSR([]byte(w.CSR))
	if err != nil {
		return nil, bad("join: %v", err)
	}
	if wants != id {
		return nil, forbid(reasonJoin, "join: the request is for %s, the code for %s", wants, id)
	}
	back, ok := s.codes.take(id, w.Secret)
	if !ok {
		return nil, forbid(reasonJoin, "join: no such code is open for %s: it may be wrong, used, over, or for another node", id)
	}
	out, err := s.issue(pki.Request{Identity: id, Key: key, Life: s.opt.CertLife, How: "join"})
	if err != nil {
		back()
	}
	return out, err
}

// renewCertificate gives a node a new certificate for the identity that it has.
func (s *Server) renewCertificate(r *http.Request, p peer) (any, error) {
	text, err := body(r)
	if err != nil {
		return nil, bad("renew the certificate: %v", err)
	}
	var w api.Renewal
	if err := strictDecode(text, &w); err != nil {
		return nil, bad("renew the certificate: %v", err)
	}
	if w.Proto != api.Proto {
		return nil, bad("renew the certificate: proto = %d: this arbiter speaks %d", w.Proto, api.Proto)
	}
	wants, key, err := pki.DecodeCSR([]byte(w.CSR))
	if err != nil {
		return nil, bad("renew the certificate: %v", err)
	}
	if wants != p.Identity {
		return nil, forbid(reasonIdentity, "%s may not ask for a certificate of %s", p.name(), wants)
	}
	if err := s.scope(wants.Cluster, wants.Node, ""); err != nil {
		return nil, err
	}
	return s.issue(pki.Request{Identity: wants, Key: key, Life: s.opt.CertLife, How: "renew", Replaces: pki.Serial(p.Cert)})
}

func (s *Server) issue(req pki.Request) (any, error) {
	cert, err := s.opt.Folder.Issue(req, s.opt.TLS.Clock().Now())
	if errors.Is(err, pki.ErrNoCAKey) {
		return nil, &failure{http.StatusServiceUnavailable, api.CodeUnavailable, "this arbiter issues no certificates: " + err.Error()}
	}
	if errors.Is(err, pki.ErrRevoked) {
		return nil, forbid(pki.ReasonRevoked, "renew the certificate: %v", err)
	}
	if err != nil {
		s.opt.Log.WithError(err).Error("no certificate could be issued")
		return nil, err
	}
	s.opt.Log.WithField("identity", req.Identity.String()).WithField("serial", pki.Serial(cert)).Info("certificate issued: " + req.How)
	cas, err := s.opt.Folder.CAs()
	if err != nil {
		return nil, err
	}
	return api.Certificate{Proto: api.Proto, Certificate: string(pki.EncodeCerts(cert)), CA: string(pki.EncodeCerts(cas...))}, nil
}

// authorities says what is trusted. It is read from the files, as what is issued is.
func (s *Server) authorities(*http.Request, peer) (any, error) {
	if s.opt.TLS == nil {
		return nil, &failure{http.StatusNotFound, api.CodeNotFound, "this arbiter speaks plain HTTP and knows no certificates"}
	}
	cas, err := s.opt.Folder.CAs()
	if err != nil {
		return nil, err
	}
	out := api.Authorities{Proto: api.Proto, CA: string(pki.EncodeCerts(cas...))}
	if ca, err := s.opt.Folder.Authority(""); err == nil {
		out.Issuer = pki.ShortFingerprint(ca.Cert)
	}
	return out, nil
}

// leaves are the newest certificates that peers have shown.
type leaves struct {
	mu sync.Mutex
	of map[string]*x509.Certificate // by identity
}

const maxLeaves = 4 * maxClusters

// seen remembers a peer's certificate.
func (s *Server) seen(p peer) {
	if p.insecure {
		return
	}
	name := p.Identity.String()
	s.leaves.mu.Lock()
	defer s.leaves.mu.Unlock()
	old, known := s.leaves.of[name]
	if known && old.NotBefore.After(p.Cert.NotBefore) || !known && len(s.leaves.of) >= maxLeaves {
		return
	}
	s.leaves.of[name] = p.Cert
}

// seenCAs says whose certificates have been shown: a CA that nobody uses any more can go.
func (s *Server) seenCAs(*http.Request) (any, error) {
	out := api.Seen{CA: map[string]string{}}
	if s.opt.TLS == nil {
		return out, nil
	}
	s.leaves.mu.Lock()
	defer s.leaves.mu.Unlock()
	for name, leaf := range s.leaves.of {
		if ca := s.opt.TLS.Current().Issuer(leaf); ca != nil {
			out.CA[name] = pki.ShortFingerprint(ca)
		}
	}
	return out, nil
}

// certificates is the arbiter's own, for the status.
func (s *Server) certificates() *api.CertificateStatus {
	if s.opt.TLS == nil {
		return nil
	}
	c, now := s.opt.TLS.Current(), s.opt.TLS.Clock().Now()
	out := &api.CertificateStatus{EndsInNS: int64(c.Leaf.NotAfter.Sub(now)), Serial: pki.Serial(c.Leaf), CAs: []api.CA{}}
	for _, ca := range c.CAs {
		out.CAs = append(out.CAs, api.CA{Fingerprint: pki.ShortFingerprint(ca), Name: ca.Subject.CommonName, EndsInNS: int64(ca.NotAfter.Sub(now))})
	}
	if _, err := os.Lstat(s.opt.Folder.CAKey()); err == nil {
		out.Issues = true
	}
	for _, a := range s.opt.TLS.Alarms() {
		out.Alarms = append(out.Alarms, a.Text)
	}
	return out
}

// addCertificates says of each node when its certificate ends.
func (s *Server) addCertificates(c *api.ClusterStatus) {
	if s.opt.TLS == nil {
		return
	}
	now := s.opt.TLS.Clock().Now()
	s.leaves.mu.Lock()
	defer s.leaves.mu.Unlock()
	for i := range c.Nodes {
		n := &c.Nodes[i]
		leaf := s.leaves.of[pki.Identity{Role: pki.RoleNode, Cluster: c.Cluster, Node: n.Node}.String()]
		if leaf == nil {
			continue
		}
		n.Certificate = &api.NodeCertificate{Serial: pki.Serial(leaf), EndsInNS: int64(leaf.NotAfter.Sub(now)),
			Alarm: pki.NoticeOf(leaf, now).Text("its certificate", leaf, now)}
		if ca := s.opt.TLS.Current().Issuer(leaf); ca != nil {
			n.Certificate.CA = pki.ShortFingerprint(ca)
		}
	}
}

// expire ends a node's code early.
func (c *codes) expire(id pki.Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, id)
}
