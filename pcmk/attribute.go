package pcmk

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// State of an attribute in the CIB.
type State uint8

const (
	StateUnknown State = iota // only beside an error
	Absent
	Present
)

func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Present:
		return "present"
	}
	return "unknown"
}

// Attribute is what this node's copy of the CIB says of a transient attribute of a node.
type Attribute struct {
	State State
	Value string // may be "" although Present
}

// PutAttribute asks attrd to set a transient attribute of the local node. A nil error says only that attrd
// took the request: read it back with ReadAttribute. attrd forgets its own values when it crashes: put
// again on every poll.
func (c *Cluster) PutAttribute(ctx context.Context, name, value string) error {
	if err := checkAttribute(name, value); err != nil {
		return fmt.Errorf("put attribute: %w", err)
	}
	if _, err := c.tool(ctx, c.tools.AttrdUpdater, "-n", name, "-U", value); err != nil {
		return fmt.Errorf("put attribute %s=%s: %w", name, value, err)
	}
	return nil
}

// DeleteAttribute asks attrd to take a transient attribute of the local node out of the CIB. A nil error
// says only that attrd took the request. (attrd itself keeps an empty value; the CIB, which is what rules
// see, loses it.)
func (c *Cluster) DeleteAttribute(ctx context.Context, name string) error {
	if err := checkAttribute(name, "0"); err != nil {
		return fmt.Errorf("delete attribute: %w", err)
	}
	if _, err := c.tool(ctx, c.tools.AttrdUpdater, "-n", name, "-D"); err != nil {
		return fmt.Errorf("delete attribute %s: %w", name, err)
	}
	return nil
}

var attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,254}$`)

func checkAttribute(name, value string) error {
	if !attributeName.MatchString(name) {
		return fmt.Errorf("attribute name %q cannot be used", name)
	}
	if value == "" || strings.HasPrefix(value, "-") || strings.HasSuffix(value, "++") || strings.Contains(value, "+=") {
		return fmt.Errorf("attribute value %q cannot be used: attrd does not take it literally", value)
	}
	return nil
}

// ReadAttribute reads a transient attribute of a node from the local copy of the CIB, which is what the
// rules are evaluated against. It reads the node's whole state section: that an attribute is Absent is said
// only if that section was there to look into. (crm_attribute exits with 105 both when the attribute is
// absent and when it does not know the node, on 2.0.5, 2.1.5 and 3.0.0 alike, and so cannot tell absence
// from ignorance.) Any error means unknown: the cluster not being up, or the node not having joined,
// included.
func (c *Cluster) ReadAttribute(ctx context.Context, node, name string) (Attribute, error) {
	fail := func(err error) (Attribute, error) {
		return Attribute{}, fmt.Errorf("read attribute %s of %s: %w", name, node, err)
	}
	if err := checkNode(node); err != nil {
		return fail(err)
	}
	out, err := c.tool(ctx, c.tools.Cibadmin, "--query", "--local", "--xpath",
		"/cib/status/node_state[@uname='"+node+"']")
	if err != nil {
		return fail(err)
	}
	root, err := parseXML([]byte(out))
	if err != nil {
		return fail(err)
	}
	a, err := nodeAttribute(root, node, name)
	if err != nil {
		return fail(err)
	}
	return a, nil
}

func nodeAttribute(state *element, node, name string) (Attribute, error) {
	if state == nil || state.name != "node_state" || state.attr("uname") != node {
		return Attribute{}, fmt.Errorf("no state section of node %s", node)
	}
	var a Attribute
	var err error
	for t := range state.each("transient_attributes") {
		t.walk(func(e *element) bool {
			if e.name != "nvpair" || e.attr("name") != name {
				return true
			}
			v, ok := e.attrs["value"]
			switch {
			case !ok:
				err = errNoValue
			case a.State == Present && a.Value != v:
				err = fmt.Errorf("two values: %q and %q", a.Value, v)
			}
			a = Attribute{State: Present, Value: v}
			return err == nil
		})
	}
	if err != nil {
		return Attribute{}, err
	}
	if a.State != Present {
		a.State = Absent
	}
	return a, nil
}
