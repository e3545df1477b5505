package arbiter

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/pki"
)

// access says who may use a route. The zero access lets nobody in.
type access int

const (
	accessNobody  access = iota
	accessNode           // a node of the cluster, for itself
	accessAsk            // a node of the cluster, or an admin: what an administrator asks for
	accessCluster        // who may read one cluster: its nodes, readers, admins
	accessAll            // who may read everything: readers, admins
	accessCert           // a node, for its own certificate
	accessPeer           // whoever has an identity
	accessJoin           // whoever has a code
	accessAnyone         // whoever got a connection
)

// peer is who sends a request.
type peer struct {
	pki.Peer
	insecure bool // plain HTTP: whatever it claims, from a network that may

	onlyAdopts bool // it asks too often: an acquire may only go on with what its node holds
}

func (p peer) name() string {
	if p.insecure {
		return "insecure"
	}
	return p.Identity.String()
}

// Scope is what the configuration lists of one cluster. No nodes or no leases: any.
type Scope struct{ Nodes, Leases []string }

// refused is an answer that refuses somebody, with the reason that is counted.
type refused struct {
	failure
	reason string
}

func (r *refused) Unwrap() error { return &r.failure }

func forbid(reason, format string, args ...any) error {
	return &refused{failure{http.StatusForbidden, api.CodeForbidden, fmt.Sprintf(format, args...)}, reason}
}

// identify says who the peer of a request is: its certificate, or without TLS its network.
func (s *Server) identify(r *http.Request) (peer, error) {
	if s.opt.TLS == nil {
		return s.identifyByNetwork(r)
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return peer{}, forbid(pki.ReasonNoCertificate, "this peer has no certificate")
	}
	p, err := s.opt.TLS.Again(r.TLS.PeerCertificates[0])
	var refusal *pki.Refusal
	if errors.As(err, &refusal) {
		return peer{Peer: pki.Peer{Identity: refusal.Identity}}, forbid(refusal.Code, "%v", err)
	}
	return peer{Peer: p}, err
}

func (s *Server) identifyByNetwork(r *http.Request) (peer, error) {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return peer{}, forbid(reasonNetwork, "identify peer: %v", err)
	}
	ip := addr.Addr().Unmap().WithZone("")
	for _, p := range s.opt.AllowInsecureFrom {
		if p.Contains(ip) {
			return peer{insecure: true}, nil
		}
	}
	return peer{}, forbid(reasonNetwork, "%s is in no network of allow_insecure_from", ip)
}

// authorise says whether a peer may use a route of a cluster. What the body says is checked by permit.
func (s *Server) authorise(p peer, rt route, cluster string) error {
	if p.insecure {
		if rt.access == accessJoin || rt.access == accessCert || rt.access == accessNobody {
			return forbid(reasonRole, "this arbiter speaks plain HTTP and knows no certificates")
		}
		return s.scope(cluster, "", "")
	}
	role := p.Identity.Role
	own := role == pki.RoleNode && p.Identity.Cluster == cluster && cluster != ""
	reads := role == pki.RoleReader || role == pki.RoleAdmin
	ok := false
	switch rt.access {
	case accessNode:
		ok = own
	case accessAsk:
		ok = own || role == pki.RoleAdmin
	case accessCluster:
		ok = own || reads
	case accessAll:
		ok = reads
	case accessCert:
		ok = role == pki.RoleNode
	case accessPeer, accessAnyone:
		ok = role != ""
	case accessNobody, accessJoin: // joining has no identity; whoever has one does not join
	}
	switch {
	case !ok && role == pki.RoleNode && cluster != "" && !own:
		return forbid(reasonIdentity, "%s may do nothing in cluster %s", p.name(), cluster)
	case !ok:
		return forbid(reasonRole, "%s may not do that", p.name())
	case p.Standing != pki.Valid && !rt.keeps:
		return forbid(reasonGrace, "%s: nothing new is given: renew it", s.opt.TLS.Dates(p.Peer))
	}
	return s.scope(cluster, "", "")
}

// scope checks a name against what the configuration lists. "" is not checked.
func (s *Server) scope(cluster, node, leaseName string) error {
	if len(s.opt.Clusters) == 0 || cluster == "" {
		return nil
	}
	c, ok := s.opt.Clusters[cluster]
	switch {
	case !ok:
		return forbid(reasonScope, "cluster %s is not in this arbiter's configuration", cluster)
	case node != "" && len(c.Nodes) > 0 && !slices.Contains(c.Nodes, node):
		return forbid(reasonScope, "node %s of cluster %s is not in this arbiter's configuration", node, cluster)
	case leaseName != "" && len(c.Leases) > 0 && !slices.Contains(c.Leases, leaseName):
		return forbid(reasonScope, "lease %s of cluster %s is not in this arbiter's configuration", leaseName, cluster)
	}
	return nil
}

// permit checks that a peer may speak for the node that a body names. What an administrator asks for may name nobody.
func (s *Server) permit(p peer, cluster, node, leaseName string, asks bool) error {
	if !p.insecure && node != p.Identity.Node && !(asks && node == "") {
		return forbid(reasonIdentity, "%s may not speak for node %q of cluster %s", p.name(), node, cluster)
	}
	if node == "" && !asks {
		return bad("a node is missing")
	}
	return s.scope(cluster, node, leaseName)
}
