package lease

import (
	"fmt"
	"slices"
)

// Known is what a node knows about its cluster's arbiter, over all leases: the highest stamp, the stores that are
// dead for ever, and the highest epoch of each lease. It is kept on disk. One node's Holders share one Known, and
// so must all be stepped by one goroutine.
type Known struct {
	Stamp      Stamp            `json:"stamp"`
	DeadStores []string         `json:"dead_stores,omitempty"`
	Epochs     map[string]Epoch `json:"epochs,omitempty"`
}

// Judge decides whether an answer may be listened to, by what the node knew when the request left. An error says
// why it is ignored; an ignored answer counts as none. A store is changed for the one that answers what the node knows
// now: of two recoveries whose answers cross, the later read one may be the older.
func (k *Known) Judge(left Stamp, seen Epoch, a Answer) error {
	id := a.Stamp.StoreID
	switch {
	case id == "":
		return fmt.Errorf("ignore an answer without a store id")
	case slices.Contains(k.DeadStores, id):
		return fmt.Errorf("ignore an answer from store %s, which was replaced", id)
	case a.Epoch > MaxEpoch || a.Epoch > seen+MaxEpochLead:
		return fmt.Errorf("ignore an answer with the absurd epoch %d (seen: %d)", a.Epoch, seen)
	case left.StoreID != k.Stamp.StoreID && id != k.Stamp.StoreID:
		return fmt.Errorf("ignore an answer from store %s: since it was asked this node has come to know store %s", id, k.Stamp.StoreID)
	case left.StoreID == "":
		return nil
	case id != left.StoreID:
		if a.Verdict == Recovery && a.Echo != nil && *a.Echo == left {
			return nil
		}
		return fmt.Errorf("ignore an answer from store %s: this node knows store %s", id, left.StoreID)
	case a.Stamp.Generation < left.Generation:
		return fmt.Errorf("ignore generation %d: this node has seen %d (is an old arbiter or an old store up?)",
			a.Stamp.Generation, left.Generation)
	case a.Stamp.Generation-left.Generation > MaxLead:
		return fmt.Errorf("ignore the absurd generation %d (seen: %d)", a.Stamp.Generation, left.Generation)
	}
	return nil
}

// Learn takes over what a judged answer says and reports whether anything changed that belongs on disk.
func (k *Known) Learn(lease string, a Answer) bool {
	before := *k
	seen := k.Epochs[lease]
	switch {
	case a.Stamp.StoreID == k.Stamp.StoreID:
		k.Stamp.Generation = max(k.Stamp.Generation, a.Stamp.Generation)
	case k.Stamp.StoreID == "":
		k.Stamp = a.Stamp
	default: // Judge has let only a recovery through
		k.DeadStores = append(slices.Clone(k.DeadStores), k.Stamp.StoreID)
		k.Stamp = a.Stamp
	}
	k.see(lease, a.Epoch)
	return k.Stamp != before.Stamp || k.Epochs[lease] != seen
}

// see takes over an epoch and reports whether it is a higher one.
func (k *Known) see(lease string, e Epoch) bool {
	if e <= k.Epochs[lease] {
		return false
	}
	if k.Epochs == nil {
		k.Epochs = map[string]Epoch{}
	}
	k.Epochs[lease] = e
	return true
}

// Clone returns a copy that shares nothing.
func (k *Known) Clone() Known {
	c := Known{Stamp: k.Stamp, DeadStores: slices.Clone(k.DeadStores), Epochs: map[string]Epoch{}}
	for name, e := range k.Epochs {
		c.Epochs[name] = e
	}
	return c
}
