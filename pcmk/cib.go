package pcmk

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// CIB is one copy of the cluster information base: configuration and status. It is never changed after it
// was parsed; any number of goroutines may read it.
type CIB struct {
	root *element
}

// CIB reads this node's own copy, so that the answer does not depend on a DC.
func (c *Cluster) CIB(ctx context.Context) (*CIB, error) {
	out, err := c.tool(ctx, c.tools.Cibadmin, "--query", "--local")
	if err != nil {
		return nil, fmt.Errorf("read the CIB: %w", err)
	}
	cib, err := ParseCIB([]byte(out))
	if err != nil {
		return nil, fmt.Errorf("read the CIB: %w", err)
	}
	return cib, nil
}

// ParseCIB reads what `cibadmin --query` prints.
func ParseCIB(data []byte) (*CIB, error) {
	root, err := parseXML(data)
	if err != nil {
		return nil, err
	}
	if root.name != "cib" {
		return nil, fmt.Errorf("root is <%s>, want <cib>", root.name)
	}
	for _, section := range []string{"crm_config", "nodes", "resources", "constraints"} {
		if root.at("configuration", section) == nil {
			return nil, fmt.Errorf("no <%s> in the configuration", section)
		}
	}
	return &CIB{root: root}, nil
}

// FeatureSet is the CIB's crm_feature_set, which resource agents get to see.
func (c *CIB) FeatureSet() string { return c.root.attr("crm_feature_set") }

// Attribute is a transient attribute of a node; see Cluster.ReadAttribute.
func (c *CIB) Attribute(node, name string) (Attribute, error) {
	for s := range c.root.child("status").each("node_state") {
		if s.attr("uname") == node {
			return nodeAttribute(s, node, name)
		}
	}
	return Attribute{}, fmt.Errorf("read attribute %s: no state section of node %s", name, node)
}

// Option is a cluster option as configured. Absent means that Pacemaker's own default holds.
func (c *CIB) Option(name string) Attribute {
	// Pacemaker takes the set called cib-bootstrap-options before every other.
	var found Attribute
	for set := range c.root.at("configuration", "crm_config").each("cluster_property_set") {
		first := set.attr("id") == "cib-bootstrap-options"
		for nv := range set.each("nvpair") {
			if nv.attr("name") == name && (found.State != Present || first) {
				found = Attribute{State: Present, Value: nv.attr("value")}
			}
		}
	}
	if found.State != Present {
		found.State = Absent
	}
	return found
}

// HasStonithDevices reports whether a fencing resource is configured, at any level.
func (c *CIB) HasStonithDevices() bool {
	found := false
	c.root.at("configuration", "resources").walk(func(e *element) bool {
		found = found || (e.name == "primitive" || e.name == "template") && e.attr("class") == "stonith"
		return !found
	})
	return found
}

// PendingOp is an operation that Pacemaker has asked for and has no result of.
type PendingOp struct {
	Resource string // without an instance number
	Task     string // start, stop, monitor, promote, …
	Interval string // milliseconds; "0" for all but recurring monitors
}

// Pending lists operations in flight on node of the given primitives (all if none is given): history
// entries with op-status -1. An empty answer alone proves nothing: what the DC has not yet sent is not
// recorded, nor is anything where the option record-pending is off. An error is unknown; a node without a
// state section is one.
func (c *CIB) Pending(node string, primitives ...string) ([]PendingOp, error) {
	var state *element
	for s := range c.root.child("status").each("node_state") {
		if s.attr("uname") == node {
			state = s
		}
	}
	if state == nil {
		return nil, fmt.Errorf("look for pending operations: no state section of node %s", node)
	}
	wanted := make(map[string]bool, len(primitives))
	for _, p := range primitives {
		wanted[p] = true
	}
	var ops []PendingOp
	for r := range state.at("lrm", "lrm_resources").each("lrm_resource") {
		id := BaseID(r.attr("id"))
		if len(wanted) > 0 && !wanted[id] {
			continue
		}
		for op := range r.each("lrm_rsc_op") {
			status, err := strconv.Atoi(op.attr("op-status"))
			if err != nil {
				return nil, fmt.Errorf("look for pending operations: op-status %q of %s", op.attr("op-status"), id)
			}
			if status == -1 {
				ops = append(ops, PendingOp{Resource: id, Task: op.attr("operation"), Interval: op.attr("interval")})
			}
		}
	}
	return ops, nil
}

// Pending is CIB.Pending on a fresh copy.
func (c *Cluster) Pending(ctx context.Context, node string, primitives ...string) ([]PendingOp, error) {
	cib, err := c.CIB(ctx)
	if err != nil {
		return nil, err
	}
	return cib.Pending(node, primitives...)
}

var errNoValue = errors.New("an entry without a value")
