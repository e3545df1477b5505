package lease

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// RecordState is what is durable about a lease. Quarantine, lapse and expiry are not: they follow from it and from
// the arbiter's clock.
type RecordState string

// The durable states of a lease.
const (
	RecordFree   RecordState = "free"
	RecordHeld   RecordState = "held"
	RecordPaused RecordState = "paused"
)

// Record is one lease as it is on disk. Renewals are not in it.
type Record struct {
	Lease     string
	Epoch     Epoch // the highest one that was granted
	Floor     Epoch `json:",omitempty"` // the next one that is granted is above it; 0: above Epoch
	State     RecordState
	Holder    Party         // of Epoch; of the last one when free
	Seq       uint64        // of the request that made this record; after a restart the last one known
	Hold      time.Duration // H of the grant
	Carry     time.Duration // longest hold of an earlier epoch of the same boot that may still count
	LossAfter time.Duration // L of the grant: how long it waits for its first renewal
	PauseFor  time.Duration // paused with an end: its length as asked for
	PauseHold time.Duration // paused with an end: its hold; 0: without an end
}

// quarantine is how long nobody else may be granted when nothing is known of renewals; ends is false for a pause
// without an end.
func (r Record) quarantine(maxHold time.Duration) (hold time.Duration, ends bool) {
	switch {
	case r.State == RecordPaused && r.PauseHold == 0:
		return 0, false
	case r.Hold == 0:
		return max(maxHold, r.Carry, r.PauseHold), true
	case r.State == RecordPaused:
		return max(r.Hold, r.Carry, r.PauseHold), true
	}
	return max(r.Hold, r.Carry), true
}

// NodeRecord is what is durable about a node.
type NodeRecord struct {
	Node       string
	BootID     string // the boot that was heard last
	BarredBoot string // "" if not barred; requests of this boot are refused
	BarredOff  bool   `json:",omitempty"` // it is to power down, not to boot anew
	Beside     string `json:",omitempty"` // boots that were heard side by side, separated by blanks: nothing proves that one of them is over
}

// ClusterRecord is what is durable about a cluster besides its leases and nodes. A zero StoreID means that this
// arbiter knows nothing of the cluster.
type ClusterRecord struct {
	Stamp    Stamp
	Recovery bool    // the record is being rebuilt from the nodes' claims
	Fresh    bool    // Recovery of a cluster of which no node ever saw anything: most likely a new one
	Former   []Stamp // ids that nodes knew before this one, each with the highest generation reported
}

// Snapshot is a cluster as it was loaded from the store.
type Snapshot struct {
	Cluster ClusterRecord
	Leases  []Record
	Nodes   []NodeRecord
	Suspect bool // restored, or started on another machine: recovery under a new id, whatever the record says
}

// Check says what cannot have been written by a Grantor. A record that makes no sense is not a record: a hold below zero
// would end at once.
func (s Snapshot) Check() error {
	if s.Cluster.Stamp.StoreID == "" {
		return errors.New("the cluster has no store id")
	}
	seen := map[string]bool{}
	for _, r := range s.Leases {
		if err := r.check(); err != nil {
			return fmt.Errorf("lease %q: %w", r.Lease, err)
		}
		if seen[r.Lease] {
			return fmt.Errorf("lease %q has two records", r.Lease)
		}
		seen[r.Lease] = true
	}
	for _, n := range s.Nodes {
		if n.Node == "" || seen["node "+n.Node] {
			return fmt.Errorf("node %q has no name, or two records", n.Node)
		}
		seen["node "+n.Node] = true
	}
	return nil
}

func (r Record) check() error {
	holder := r.Holder.Node != "" && r.Holder.BootID != ""
	switch {
	case r.Lease == "" || strings.Contains(r.Lease, " "):
		return errors.New("is not a name")
	case r.Epoch == 0 || r.Epoch > MaxEpoch:
		return fmt.Errorf("epoch %d is outside 1..%d", r.Epoch, MaxEpoch)
	case r.State != RecordFree && r.State != RecordHeld && r.State != RecordPaused:
		return fmt.Errorf("state %q is unknown", r.State)
	case r.State != RecordFree && !holder:
		return fmt.Errorf("%s by nobody", r.State)
	case min(r.Hold, r.Carry, r.LossAfter, r.PauseFor, r.PauseHold) < 0:
		return errors.New("a duration below zero")
	}
	return nil
}

// NewClusterSnapshot is the record of a cluster that is known to be new: its leases are free at once. Only who can
// know that no node of it ever held anything may use it.
func NewClusterSnapshot(storeID string) Snapshot {
	return Snapshot{Cluster: ClusterRecord{Stamp: Stamp{StoreID: storeID, Generation: 1}}}
}

// Transition is a line of the history, written together with the change that it describes.
type Transition struct {
	Lease string
	Epoch Epoch
	Node  string
	What  string // granted, adopted, released, paused, resumed, claimed, freed, barred, unbarred, recovery, ...
	Cause string
}

// Change is one atomic write. The records in it replace those of the same name.
type Change struct {
	Cluster ClusterRecord
	Leases  []Record
	Nodes   []NodeRecord
	History []Transition
}
