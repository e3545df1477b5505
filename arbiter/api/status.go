package api

import "time"

// Paths of the local control socket, which only root and the arbiter's own user may open. They answer with Answer, PathCode with Code, PathSeen with Seen.
const (
	PathRecover = "/v1/clusters/{cluster}/recover"
	PathFree    = "/v1/clusters/{cluster}/leases/{lease}/free"
	PathUnbar   = "/v1/clusters/{cluster}/nodes/{node}/unbar"
	PathCode    = "/v1/clusters/{cluster}/nodes/{node}/code"
	PathSeen    = "/v1/seen"
)

// Free gives away a lease whose holder is off.
type Free struct {
	HolderIsOff string `json:"holder_is_off"`   // the node; it must be the holder
	Check       bool   `json:"check,omitempty"` // only answer what would come of it
}

// Code is a join code for one node, good once.
type Code struct {
	Code  string `json:"code"`
	ForNS int64  `json:"for_ns"`
}

// Seen is, of each identity that was there since the arbiter started, the short fingerprint of the CA that signed the newest
// certificate it has shown.
type Seen struct {
	CA map[string]string `json:"ca"`
}

// Transition is a line of the history. At is wall clock time, for humans.
type Transition struct {
	At      time.Time `json:"at"`
	Cluster string    `json:"cluster"`
	Lease   string    `json:"lease,omitempty"`
	Epoch   uint64    `json:"epoch,omitempty"`
	Node    string    `json:"node,omitempty"`
	What    string    `json:"what"`
	Cause   string    `json:"cause,omitempty"`
}

// Status is the answer of PathClusters and PathCluster.
type Status struct {
	Proto    int             `json:"proto"`
	Insecure bool            `json:"insecure"`
	Clusters []ClusterStatus `json:"clusters"`

	Certificates *CertificateStatus `json:"certificates,omitempty"` // none: insecure
	Refused      map[string]uint64  `json:"refused,omitempty"`      // requests and connections since the start, by reason
}

// CertificateStatus is the arbiter's own certificate and its CAs.
type CertificateStatus struct {
	EndsInNS int64    `json:"ends_in_ns"`
	Serial   string   `json:"serial"`
	CAs      []CA     `json:"cas"`
	Issues   bool     `json:"issues"` // the CA's key is here
	Alarms   []string `json:"alarms,omitempty"`
}

// CA is one that is trusted.
type CA struct {
	Fingerprint string `json:"fingerprint"` // short
	Name        string `json:"name"`
	EndsInNS    int64  `json:"ends_in_ns"`
}

// ClusterStatus is one cluster.
type ClusterStatus struct {
	Cluster    string        `json:"cluster"`
	Stamp      Stamp         `json:"stamp"`
	Recovery   string        `json:"recovery,omitempty"` // what a recovery waits for
	WriteError bool          `json:"write_error,omitempty"`
	Leases     []LeaseStatus `json:"leases"`
	Nodes      []NodeStatus  `json:"nodes"`
}

// LeaseStatus is one lease.
type LeaseStatus struct {
	Lease    string   `json:"lease"`
	State    string   `json:"state"` // free, granted, held, paused, quarantine, expired, lapsed
	Epoch    uint64   `json:"epoch"`
	Holder   string   `json:"holder,omitempty"`
	HoldNS   int64    `json:"hold_ns,omitempty"`
	EndsInNS int64    `json:"ends_in_ns,omitempty"`
	Waiters  []Waiter `json:"waiters,omitempty"`
	MoveTo   string   `json:"move_to,omitempty"`

	PausedForNS int64  `json:"paused_for_ns,omitempty"` // how long the arbiter, since it started, knows of the pause
	Alarm       string `json:"alarm,omitempty"`         // what a human must do
}

// NodeStatus is one node as the arbiter heard it.
type NodeStatus struct {
	Node       string  `json:"node"`
	Boot       string  `json:"boot_mark,omitempty"` // names its boot; the id is a secret
	HeardAgoNS int64   `json:"heard_ago_ns"`        // -1: not since the arbiter started
	Barred     bool    `json:"barred,omitempty"`
	Twins      bool    `json:"twins,omitempty"`
	Report     *Report `json:"report,omitempty"`

	Certificate *NodeCertificate `json:"certificate,omitempty"` // the newest that it has shown since the arbiter started
}

// NodeCertificate is what a node showed.
type NodeCertificate struct {
	Serial   string `json:"serial"`
	CA       string `json:"ca"` // short fingerprint of who signed it
	EndsInNS int64  `json:"ends_in_ns"`
	Alarm    string `json:"alarm,omitempty"`
}

// History is the answer of PathHistory?cluster=NAME, newest first.
type History struct {
	Proto       int          `json:"proto"`
	Transitions []Transition `json:"transitions"`
}
