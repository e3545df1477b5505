package pcmk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// Status is the cluster as Pacemaker on this node believes it to be. It can be stale in both directions,
// and everything said of a node that is offline or unclean is a guess: it is never proof that something is
// stopped.
type Status struct {
	DC      string // name of the designated controller, "" if none
	Present Bool   // whether there is one
	Quorum  Bool
	Version string // of the DC

	MaintenanceMode Bool
	StonithEnabled  Bool
	StopAll         Bool
	Symmetric       Bool
	NoQuorumPolicy  string // "" if not shown

	Nodes      []Node
	Resources  []Resource                   // top level, in configuration order
	Attributes map[string]map[string]string // node, name: value; transient and permanent alike
	History    []History
	Failures   []Failure
	Bans       []Ban
}

// Node is one cluster node.
type Node struct {
	Name, ID                                    string
	Online, Standby, StandbyOnFail, Maintenance Bool
	Pending, Unclean, Shutdown, ExpectedUp, DC  Bool
	Health                                      string // "" before 2.1
	Type                                        string // member, remote, …
	FeatureSet                                  string // "" before 2.1
}

// Kind of a Resource.
type Kind string

const (
	KindPrimitive Kind = "resource"
	KindGroup     Kind = "group"
	KindClone     Kind = "clone"
	KindBundle    Kind = "bundle"
	KindReplica   Kind = "replica" // of a bundle
)

// Role of a primitive, with one spelling for all versions.
type Role string

const (
	RoleUnknown    Role = ""
	RoleStopped    Role = "Stopped"
	RoleStarted    Role = "Started"
	RolePromoted   Role = "Promoted"   // Master before 2.1
	RoleUnpromoted Role = "Unpromoted" // Slave before 2.1
)

// Resource is a primitive or a collection of them.
type Resource struct {
	ID     string // as shown: an instance of a cloned group is "g:0"
	Kind   Kind
	Agent  string // ocf:heartbeat:IPaddr2, also where 2.0 prints ocf::
	Role   Role   // primitives only
	Target Role   // target role if one is configured, else RoleUnknown
	// Pending is an operation in flight as crm_mon names it (Starting, …), "" if none is shown. CIB.Pending knows
	// more.
	Pending                                         string
	Nodes                                           []string
	Active, Orphaned, Blocked, Managed, Maintenance Bool
	Failed, FailureIgnored                          Bool
	Promotable, Unique                              Bool // clones only
	Children                                        []Resource
}

// History is what a node did with a resource.
type History struct {
	Node, Resource     string
	FailCount          int64 // 1000000 is INFINITY; 0 if none is shown
	MigrationThreshold int64 // 0 if not shown
	LastFailure        string
	Operations         []Operation
}

// Operation is one recorded action.
type Operation struct {
	Task string
	Call int
	RC   int
	Last string // time of the last change as the tool prints it
}

// Failure is an action that failed and was not cleaned up.
type Failure struct {
	Node, Key, Task, Status, Reason string
	Resource                        string
	RC                              int
}

// Ban is a location constraint that keeps a resource from a node now.
type Ban struct {
	ID, Resource, Node string // ID is that of the rule
	Weight             string
	PromotedOnly       Bool
}

// Status asks crm_mon. Pacemaker being down is an error for which IsDown is true.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	out, err := c.tool(ctx, c.tools.CrmMon, "-1", "--output-as=xml")
	if err != nil {
		return Status{}, fmt.Errorf("ask for the cluster's status: %w", err)
	}
	st, err := ParseStatus([]byte(out))
	if err != nil {
		return Status{}, fmt.Errorf("ask for the cluster's status: %w", err)
	}
	return st, nil
}

// ParseStatus reads what `crm_mon -1 --output-as=xml` prints.
func ParseStatus(data []byte) (Status, error) {
	root, err := parseXML(data)
	if err != nil {
		return Status{}, err
	}
	if root.name != "pacemaker-result" {
		return Status{}, fmt.Errorf("root is <%s>, want <pacemaker-result>", root.name)
	}
	if code := root.child("status").attr("code"); code != "0" {
		return Status{}, fmt.Errorf("the tool reports status %q: %s", code, root.child("status").attr("message"))
	}
	sum, nodes := root.child("summary"), root.child("nodes")
	if sum == nil || nodes == nil {
		return Status{}, errors.New("no <summary> or no <nodes>")
	}
	var st Status
	st.summary(sum)
	for n := range nodes.each("node") {
		if n.attr("name") == "" {
			return Status{}, errors.New("a node without a name")
		}
		st.Nodes = append(st.Nodes, node(n))
	}
	if rs := root.child("resources"); rs != nil {
		for e := range rs.each("") {
			if r, ok := resource(e); ok {
				st.Resources = append(st.Resources, r)
			}
		}
	} else if sum.child("resources_configured").attr("number") != "0" {
		return Status{}, errors.New("resources are configured, but there is no <resources>")
	}
	st.attributes(root.child("node_attributes"))
	if err := st.history(root); err != nil {
		return Status{}, err
	}
	for b := range root.child("bans").each("ban") {
		st.Bans = append(st.Bans, Ban{ID: b.attr("id"), Resource: b.attr("resource"), Node: b.attr("node"),
			Weight: b.attr("weight"), PromotedOnly: b.boolean("promoted-only", "master_only")})
	}
	return st, nil
}

func (st *Status) summary(sum *element) {
	if dc := sum.child("current_dc"); dc != nil {
		st.Present = dc.boolean("present")
		st.Quorum = dc.boolean("with_quorum")
		st.Version = dc.attr("version")
		if st.Present == Yes {
			st.DC = dc.attr("name")
		}
	}
	if o := sum.child("cluster_options"); o != nil {
		st.MaintenanceMode = o.boolean("maintenance-mode")
		st.StonithEnabled = o.boolean("stonith-enabled", "fencing-enabled")
		st.StopAll = o.boolean("stop-all-resources")
		st.Symmetric = o.boolean("symmetric-cluster")
		st.NoQuorumPolicy = o.attr("no-quorum-policy")
	}
}

func node(n *element) Node {
	return Node{
		Name: n.attr("name"), ID: n.attr("id"), Online: n.boolean("online"), Standby: n.boolean("standby"),
		StandbyOnFail: n.boolean("standby_onfail"), Maintenance: n.boolean("maintenance"), Pending: n.boolean("pending"),
		Unclean: n.boolean("unclean"), Shutdown: n.boolean("shutdown"), ExpectedUp: n.boolean("expected_up"),
		DC: n.boolean("is_dc"), Health: n.attr("health"), Type: n.attr("type"), FeatureSet: n.attr("feature_set"),
	}
}

func resource(e *element) (Resource, bool) {
	k := Kind(e.name)
	switch k {
	case KindPrimitive, KindGroup, KindClone, KindBundle, KindReplica:
	default:
		return Resource{}, false
	}
	r := Resource{
		ID: e.attr("id"), Kind: k, Agent: strings.Replace(e.attr("resource_agent"), "::", ":", 1),
		Role: role(e.attr("role")), Target: role(e.attr("target_role")), Pending: e.attr("pending"),
		Active: e.boolean("active"), Orphaned: e.boolean("orphaned", "removed"), Blocked: e.boolean("blocked"),
		Managed: e.boolean("managed"), Maintenance: e.boolean("maintenance"), Failed: e.boolean("failed"),
		FailureIgnored: e.boolean("failure_ignored"), Promotable: e.boolean("multi_state"), Unique: e.boolean("unique"),
	}
	if r.Role == RoleUnknown && r.Pending == "" {
		r.Pending = e.attr("role") // 2.0.5 to 3.0 print "Starting" there
	}
	for c := range e.each("") {
		if c.name == "node" {
			r.Nodes = append(r.Nodes, c.attr("name"))
		} else if child, ok := resource(c); ok {
			r.Children = append(r.Children, child)
		}
	}
	return r, true
}

func role(s string) Role {
	switch s {
	case "Stopped", "Started":
		return Role(s)
	case "Promoted", "Master":
		return RolePromoted
	case "Unpromoted", "Slave":
		return RoleUnpromoted
	}
	return RoleUnknown
}

func (st *Status) attributes(e *element) {
	st.Attributes = make(map[string]map[string]string)
	for n := range e.each("node") {
		m := make(map[string]string)
		for a := range n.each("attribute") {
			m[a.attr("name")] = a.attr("value")
		}
		st.Attributes[n.attr("name")] = m
	}
}

func (st *Status) history(root *element) error {
	var firstErr error
	number := func(e *element, name string) int64 {
		v := e.attr(name)
		if v == "" {
			return 0
		}
		if v == "INFINITY" {
			return 1_000_000
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("%s=%q in <%s> is not a number", name, v, e.name)
		}
		return n
	}
	for n := range root.child("node_history").each("node") {
		for r := range n.each("resource_history") {
			h := History{Node: n.attr("name"), Resource: r.attr("id"), FailCount: number(r, "fail-count"),
				MigrationThreshold: number(r, "migration-threshold"), LastFailure: r.attr("last-failure")}
			for o := range r.each("operation_history") {
				h.Operations = append(h.Operations, Operation{Task: o.attr("task"), Call: int(number(o, "call")),
					RC: int(number(o, "rc")), Last: o.attr("last-rc-change")})
			}
			st.History = append(st.History, h)
		}
	}
	for f := range root.child("failures").each("failure") {
		key := f.attr("op_key")
		id := key
		for range 2 { // RESOURCE_TASK_INTERVAL; a resource's name may have underscores
			if i := strings.LastIndexByte(id, '_'); i > 0 {
				id = id[:i]
			}
		}
		st.Failures = append(st.Failures, Failure{Node: f.attr("node"), Key: key, Task: f.attr("task"), Resource: id,
			Status: f.attr("status"), Reason: f.attr("exitreason"), RC: int(number(f, "exitcode"))})
	}
	return firstErr
}

// Node finds a node by name.
func (st Status) Node(name string) (Node, bool) {
	for _, n := range st.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Primitives iterates over all primitive instances: one for each instance of a clone, in configuration order.
func (st Status) Primitives() iter.Seq[Resource] {
	return func(yield func(Resource) bool) { primitives(st.Resources, yield) }
}

func primitives(rs []Resource, yield func(Resource) bool) bool {
	for _, r := range rs {
		if r.Kind == KindPrimitive {
			if !yield(r) {
				return false
			}
		} else if !primitives(r.Children, yield) {
			return false
		}
	}
	return true
}

// Find returns the resource of that id at any level, whatever its instance; of a clone's members the first.
func (st Status) Find(id string) (Resource, bool) { return find(st.Resources, id) }

func find(rs []Resource, id string) (Resource, bool) {
	for _, r := range rs {
		if BaseID(r.ID) == id {
			return r, true
		}
		if found, ok := find(r.Children, id); ok {
			return found, true
		}
	}
	return Resource{}, false
}

// BaseID cuts the instance number off a clone instance's id.
func BaseID(id string) string {
	if i := strings.LastIndexByte(id, ':'); i > 0 {
		if _, err := strconv.ParseUint(id[i+1:], 10, 32); err == nil {
			return id[:i]
		}
	}
	return id
}
