package pki

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Role says what kind of peer an identity is.
type Role string

// The roles. A node is always a node of one cluster; the others belong to none.
const (
	RoleNode    Role = "node"
	RoleArbiter Role = "arbiter"
	RoleReader  Role = "reader" // may read the status of every cluster
	RoleAdmin   Role = "admin"  // may read, and ask for what an administrator asks for on a node
)

// Identity is who a certificate speaks for. The zero Identity is nobody.
type Identity struct {
	Role          Role
	Cluster, Node string // of a node
}

const scheme = "leasedog"

// String is the identity's URI.
func (i Identity) String() string {
	switch i.Role {
	case RoleNode:
		return scheme + "://" + i.Cluster + "/" + i.Node
	case "":
		return "nobody"
	}
	return scheme + ":" + string(i.Role)
}

// NodeIdentity names a node of a cluster.
func NodeIdentity(cluster, node string) (Identity, error) {
	clusters, nodes := regexp.MustCompile(ClusterPattern), regexp.MustCompile(NodePattern)
	if !clusters.MatchString(cluster) {
		return Identity{}, fmt.Errorf("%q is not the name of a cluster: use 1 to 32 of a-z, 0-9 and '-'", cluster)
	}
	if !nodes.MatchString(node) || node == "." || node == ".." {
		return Identity{}, fmt.Errorf("%q is not the name of a node: use letters, digits, '-', '.' and '_'", node)
	}
	return Identity{RoleNode, cluster, node}, nil
}

// What names may be, in certificates and at the arbiter. Node names are what uname(2) may say.
const (
	ClusterPattern = `^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`
	NodePattern    = `^[A-Za-z0-9._-]{1,64}$`
)

// RoleIdentity names a role that belongs to no cluster.
func RoleIdentity(role Role) (Identity, error) {
	switch role {
	case RoleArbiter, RoleReader, RoleAdmin:
		return Identity{Role: role}, nil
	}
	return Identity{}, fmt.Errorf("%q is no role: use arbiter, reader or admin", string(role))
}

// ParseIdentity reads a URI. Only the one way in which String writes an identity is one.
func ParseIdentity(uri string) (Identity, error) {
	if rest, ok := strings.CutPrefix(uri, scheme+"://"); ok {
		cluster, node, _ := strings.Cut(rest, "/")
		return NodeIdentity(cluster, node)
	}
	if role, ok := strings.CutPrefix(uri, scheme+":"); ok {
		return RoleIdentity(Role(role))
	}
	return Identity{}, fmt.Errorf("%q is no identity of leasedog", uri)
}

// IdentityOf reads the identity of a certificate, which must have exactly one URI.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	if len(cert.URIs) != 1 {
		return Identity{}, fmt.Errorf("the certificate has %d URIs, and must have one", len(cert.URIs))
	}
	return ParseIdentity(cert.URIs[0].String())
}

func (i Identity) uri() (*url.URL, error) {
	if _, err := ParseIdentity(i.String()); err != nil {
		return nil, err
	}
	return url.Parse(i.String())
}

// usage is what a certificate of this identity is for: only an arbiter serves, and an arbiter only serves.
func (i Identity) usage() x509.ExtKeyUsage {
	if i.Role == RoleArbiter {
		return x509.ExtKeyUsageServerAuth
	}
	return x509.ExtKeyUsageClientAuth
}
