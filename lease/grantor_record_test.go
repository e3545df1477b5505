package lease

import (
	"testing"
	"time"
)

// A record that no Grantor can have written is not a record: the store that has it is damaged.
func TestSnapshotCheck(t *testing.T) {
	whole := func() Snapshot {
		return Snapshot{Cluster: ClusterRecord{Stamp: Stamp{StoreID: "s1", Generation: 9}}, Nodes: []NodeRecord{{Node: "node1"}},
			Leases: []Record{{Lease: "pg", Epoch: 7, State: RecordHeld, Holder: Party{Node: "node1", BootID: "b"}, Hold: time.Second},
				{Lease: "web", Epoch: 1, State: RecordFree}}}
	}
	if err := whole().Check(); err != nil {
		t.Errorf("what a Grantor writes: %v", err)
	}
	for name, change := range map[string]func(*Snapshot){
		"no store id":         func(s *Snapshot) { s.Cluster.Stamp.StoreID = "" },
		"no name":             func(s *Snapshot) { s.Leases[0].Lease = "" },
		"no epoch":            func(s *Snapshot) { s.Leases[0].Epoch = 0 },
		"an absurd epoch":     func(s *Snapshot) { s.Leases[0].Epoch = MaxEpoch + 1 },
		"no state":            func(s *Snapshot) { s.Leases[0].State = "" },
		"held by nobody":      func(s *Snapshot) { s.Leases[0].Holder = Party{} },
		"a hold below zero":   func(s *Snapshot) { s.Leases[0].Hold = -1 },
		"a pause below zero":  func(s *Snapshot) { s.Leases[0].PauseHold = -1 },
		"a lease twice":       func(s *Snapshot) { s.Leases[1].Lease = "pg" },
		"a node without name": func(s *Snapshot) { s.Nodes[0].Node = "" },
	} {
		s := whole()
		change(&s)
		if s.Check() == nil {
			t.Errorf("%s: taken for a record", name)
		}
	}
}
