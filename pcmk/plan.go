package pcmk

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Plan is what it takes to stop and to check the guarded resources without asking Pacemaker: it is read
// while the cluster is healthy and kept. It is plain data (JSON keeps it whole).
type Plan struct {
	Resources  []Guarded // in start order
	FeatureSet string
	Node       string // the node it was made for: parameters may depend on it
}

// Guarded is one resource that a lease guards, as it was named.
type Guarded struct {
	ID         string
	Kind       Kind
	Role       Role        // what is guarded: RoleStarted, or RolePromoted for a promotable clone
	Primitives []Primitive // in start order
}

// Primitive is one member of a guarded resource, ready to be run.
type Primitive struct {
	ID       string // never with an instance number: what anonymous clones use as OCF_RESOURCE_INSTANCE
	Class    string // ocf, lsb or systemd ("service" is resolved)
	Provider string // ocf only
	Type     string
	Agent    string // path of the resource agent or init script; "" for systemd
	Unit     string // systemd only, with its suffix
	Guarded  string // the ID of the Guarded it belongs to
	Role     Role   // as there
	Clone    bool   // member of an anonymous clone
	Params   map[string]string
	Meta     map[string]string // meta attributes, its own over those of its group and clone
	Timeouts map[string]time.Duration
}

// DefaultTimeout is Pacemaker's for operations without a configured one.
const DefaultTimeout = 20 * time.Second

// Timeout of an action as configured, or DefaultTimeout.
func (p Primitive) Timeout(action string) time.Duration {
	if d, ok := p.Timeouts[action]; ok {
		return d
	}
	return DefaultTimeout
}

// Primitives of all guarded resources in start order; the other way round is the order in which to stop them.
func (p Plan) Primitives() []Primitive {
	var all []Primitive
	for _, g := range p.Resources {
		all = append(all, g.Primitives...)
	}
	return all
}

// RefusedError says why a resource cannot be guarded.
type RefusedError struct {
	Resource string // as named in the configuration
	Member   string // the primitive that is the reason, if it is another one
	Reason   string // and what to do
}

func (e *RefusedError) Error() string {
	if e.Member != "" && e.Member != e.Resource {
		return fmt.Sprintf("resource %s cannot be guarded: its member %s %s", e.Resource, e.Member, e.Reason)
	}
	return fmt.Sprintf("resource %s cannot be guarded: it %s", e.Resource, e.Reason)
}

// Plan reads the CIB and expands the resources. A *RefusedError (several joined) names each that cannot be
// guarded.
func (c *Cluster) Plan(ctx context.Context, node string, resources []string) (Plan, error) {
	cib, err := c.CIB(ctx)
	if err != nil {
		return Plan{}, err
	}
	return c.PlanFrom(cib, node, resources)
}

// PlanFrom is Plan on a CIB that was read before. node is the local node. Class "service" is resolved by
// looking for an init script, as Pacemaker does.
func (c *Cluster) PlanFrom(cib *CIB, node string, resources []string) (Plan, error) {
	if len(resources) == 0 {
		return Plan{}, fmt.Errorf("no resource is named")
	}
	x := expander{cib: cib, node: node, ocfRoot: c.ocfRoot, initDir: c.initDir}
	plan := Plan{FeatureSet: cib.FeatureSet(), Node: node}
	for i, id := range resources {
		if slices.Contains(resources[:i], id) {
			x.refuse(id, "", "is named twice")
			continue
		}
		if g, ok := x.guarded(id); ok {
			plan.Resources = append(plan.Resources, g)
		}
	}
	if err := x.err(); err != nil {
		return Plan{}, err
	}
	plan.Resources = startOrder(plan.Resources, cib)
	return plan, nil
}

func (x *expander) guarded(id string) (Guarded, bool) {
	var top *element
	resources := x.cib.root.at("configuration", "resources")
	for e := range resources.each("") {
		if e.attr("id") == id {
			top = e
		}
	}
	if top == nil {
		x.missing(resources, id)
		return Guarded{}, false
	}
	before := len(x.refused)
	g := Guarded{ID: id, Role: RoleStarted}
	switch top.name {
	case "primitive":
		g.Kind = KindPrimitive
	case "group":
		g.Kind = KindGroup
	case "clone", "master":
		g.Kind = KindClone
		meta := x.meta(top)
		if meta["globally-unique"] != "" && parseBool(meta["globally-unique"]) != No {
			x.refuse(id, "", "is a globally unique clone: its instances cannot be told apart from outside")
		}
		if top.name == "master" || meta["promotable"] != "" && parseBool(meta["promotable"]) != No {
			g.Role = RolePromoted
		}
	case "bundle":
		x.refuse(id, "", "is a bundle: what runs in a container cannot be proven stopped; guard a group instead")
		return g, false
	default:
		x.refuse(id, "", "is a <"+top.name+">, not a resource")
		return g, false
	}
	x.members(&g, top, x.inherit(top, nil))
	if len(g.Primitives) == 0 && len(x.refused) == before {
		x.refuse(id, "", "is empty: it has no primitive")
	}
	return g, len(x.refused) == before
}

// missing explains an id that is not at the top level.
func (x *expander) missing(resources *element, id string) {
	for top := range resources.each("") {
		in := false
		top.walk(func(e *element) bool {
			switch e.name {
			case "primitive", "group", "clone", "master", "bundle":
				in = in || e.attr("id") == id
			}
			return !in
		})
		if in {
			x.refuse(id, "", fmt.Sprintf("is a member of %s: name %s instead, the rule must be on the whole",
				top.attr("id"), top.attr("id")))
			return
		}
	}
	x.refuse(id, "", "does not exist in the cluster's configuration; `crm_resource --list` shows what does")
}

func (x *expander) members(g *Guarded, e *element, meta map[string]string) {
	if e.name == "primitive" {
		if p, ok := x.primitive(g, e, meta); ok {
			g.Primitives = append(g.Primitives, p)
		}
		return
	}
	for child := range e.each("") {
		switch child.name {
		case "primitive", "group":
			inherited := meta
			if child.name == "group" {
				inherited = x.inherit(child, meta)
			}
			x.members(g, child, inherited)
		}
	}
}

// inherit puts e's own meta attributes over those from above.
func (x *expander) inherit(e *element, above map[string]string) map[string]string {
	m := maps.Clone(above)
	if m == nil {
		m = make(map[string]string)
	}
	maps.Copy(m, x.meta(e))
	return m
}

func (x *expander) primitive(g *Guarded, e *element, above map[string]string) (Primitive, bool) {
	id := e.attr("id")
	no := func(reason string) (Primitive, bool) {
		x.refuse(g.ID, id, reason)
		return Primitive{}, false
	}
	full, err := x.template(e)
	if err != nil {
		return no(err.Error())
	}
	p := Primitive{ID: id, Class: full.attr("class"), Provider: full.attr("provider"), Type: full.attr("type"),
		Guarded: g.ID, Role: g.Role, Clone: g.Kind == KindClone}
	p.Meta = x.inherit(full, above)
	if g.Kind == KindClone {
		x.cloneMeta(&p)
	}
	switch {
	case p.Class == "stonith":
		return no("is a fencing device: it runs wherever the cluster likes")
	case p.Type == "remote" && p.Provider == "pacemaker" || p.Meta["remote-node"] != "":
		return no("makes a remote node: what runs there cannot be proven stopped from here")
	case strings.ContainsAny(p.Type+p.Provider+p.ID, "/\x00") || p.Type == "" || p.Type == "..":
		return no(fmt.Sprintf("has an agent name %q that cannot be used", p.Type))
	}
	if err := x.resolveAgent(&p); err != nil {
		return no(err.Error())
	}
	if p.Params, err = x.params(full); err != nil {
		return no(err.Error())
	}
	if p.Timeouts, err = x.timeouts(full); err != nil {
		return no(err.Error())
	}
	return p, true
}

func (x *expander) resolveAgent(p *Primitive) error {
	script := filepath.Join(x.initDir, p.Type)
	if p.Class == "service" {
		p.Class = "systemd"
		if fi, err := os.Stat(script); err == nil && fi.Mode().IsRegular() {
			p.Class = "lsb"
		}
	}
	switch p.Class {
	case "ocf":
		if p.Provider == "" || p.Provider == ".." {
			return fmt.Errorf("has no usable OCF provider (%q)", p.Provider)
		}
		p.Agent = filepath.Join(x.ocfRoot, "resource.d", p.Provider, p.Type)
	case "lsb":
		p.Agent = script
	case "systemd":
		p.Unit = UnitName(p.Type)
	default:
		return fmt.Errorf("is of class %q, which cannot be proven stopped: ocf, lsb, systemd and service can", p.Class)
	}
	return nil
}

// UnitName is the systemd unit that Pacemaker means by a resource type of class systemd.
func UnitName(name string) string {
	for _, suffix := range []string{".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target",
		".path", ".timer", ".snapshot", ".slice", ".scope"} {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return name + ".service"
}

// cloneMeta fills in what Pacemaker tells the agent of a clone instance.
func (x *expander) cloneMeta(p *Primitive) {
	nodes := 0
	for range x.cib.root.at("configuration", "nodes").each("node") {
		nodes++
	}
	set := func(key, value string) {
		if p.Meta[key] == "" {
			p.Meta[key] = value
		}
	}
	set("clone", "0")
	set("clone-max", strconv.Itoa(max(nodes, 1)))
	set("clone-node-max", "1")
	set("globally-unique", "false")
	set("notify", "false")
	if p.Role == RolePromoted {
		// 1.x and 2.0 say master, 2.1 says promoted; agents read either.
		for _, k := range []string{"max", "node-max"} {
			n := p.Meta["promoted-"+k] + p.Meta["master-"+k]
			if n == "" || p.Meta["promoted-"+k] != "" && p.Meta["master-"+k] != "" {
				n = "1"
			}
			set("promoted-"+k, n)
			set("master-"+k, n)
		}
		set("promotable", "true")
	}
}
