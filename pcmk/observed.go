package pcmk

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// Took is how long an action of each primitive took, by the nodes' histories: on the node where it took longest. Pacemaker
// keeps no more than the last one of each node, so a primitive that was started since has none there. One that failed, or of
// which no duration can be read, is not counted.
func (c *CIB) Took(action string) map[string]time.Duration {
	took := map[string]time.Duration{}
	for s := range c.root.child("status").each("node_state") {
		for r := range s.at("lrm", "lrm_resources").each("lrm_resource") {
			id := BaseID(r.attr("id"))
			for op := range r.each("lrm_rsc_op") {
				ms, err := strconv.ParseUint(op.attr("exec-time"), 10, 31)
				if op.attr("operation") != action || op.attr("rc-code") != "0" || op.attr("op-status") != "0" || err != nil {
					continue
				}
				took[id] = max(took[id], time.Duration(ms)*time.Millisecond)
			}
		}
	}
	return took
}

// ResourceIDs lists what stands at the top level of the configuration, sorted: what a lease may guard, and what it may not.
func (c *CIB) ResourceIDs() []string {
	ids := map[string]bool{}
	for e := range c.root.at("configuration", "resources").each("") {
		if id := e.attr("id"); id != "" && e.name != "template" {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}
