package pcmk

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OrderFirst is what the configuration says of a primitive behind which guarded resources are to start.
type OrderFirst struct {
	Found bool          // the primitive is configured; without it nothing else says anything
	Start time.Duration // the timeout of its start
	// Retries: a start that failed is tried again by Pacemaker itself.
	Retries bool
	// NotBehind says of each resource that may start before the primitive, or elsewhere, what is missing.
	NotBehind []string
}

// OrderFirst reads how a primitive stands before resources. An error is unknown.
func (c *CIB) OrderFirst(id string, resources []string) (OrderFirst, error) {
	x := expander{cib: c}
	var found, within *element
	for top := range c.root.at("configuration", "resources").each("") {
		top.walk(func(e *element) bool {
			if e.name == "primitive" && e.attr("id") == id {
				found, within = e, top
			}
			return found == nil
		})
	}
	if found == nil {
		return OrderFirst{}, nil
	}
	full, err := x.template(found)
	if err != nil {
		return OrderFirst{}, fmt.Errorf("primitive %s: %w", id, err)
	}
	timeouts, err := x.timeouts(full)
	if err != nil {
		return OrderFirst{}, fmt.Errorf("primitive %s: %w", id, err)
	}
	out := OrderFirst{Found: true, Start: DefaultTimeout}
	if v := c.defaults("op_defaults")["timeout"]; v != "" {
		if out.Start, err = parseInterval(v); err != nil {
			return OrderFirst{}, fmt.Errorf("op_defaults: %w", err)
		}
	}
	if d, ok := timeouts["start"]; ok {
		out.Start = d
	}
	meta := c.defaults("rsc_defaults")
	for k, v := range x.meta(full) {
		meta[k] = v
	}
	expires := false
	if v := meta["failure-timeout"]; v != "" {
		d, err := parseInterval(v)
		expires = err == nil && d > 0
	}
	out.Retries = expires || parseBool(c.Option("start-failure-is-fatal").Value) == No
	if !c.runsOnce(id) {
		out.NotBehind = append(out.NotBehind, fmt.Sprintf("%s must be a primitive, alone or in a group and not in a clone, with the default of "+
			"multiple-active: it may not run on two nodes", id))
	}
	if c.urgent() {
		out.NotBehind = append(out.NotBehind, fmt.Sprintf("a resource has the priority INFINITY: Pacemaker then starts it although %s says "+
			"no; use a number below %d", id, infinity))
	}
	for _, r := range resources {
		switch {
		case r == id || within.attr("id") == r:
			out.NotBehind = append(out.NotBehind, fmt.Sprintf("%s is a part of %s, whose rule keeps it from starting: make it a primitive "+
				"of its own", id, r))
		case !c.ordered(id, r, "", "start", "promote"):
			out.NotBehind = append(out.NotBehind, fmt.Sprintf("%s is not ordered behind %s: pcs constraint order %s then %s, or "+
				"crm configure order o-%s Mandatory: %s %s", r, id, id, r, id, id, r))
		case !c.together(r, id, "", "Started", "Promoted"):
			out.NotBehind = append(out.NotBehind, fmt.Sprintf("%s is not kept with %s: pcs constraint colocation add %s with %s INFINITY, or "+
				"crm configure colocation c-%s inf: %s %s", r, id, r, id, id, r, id))
		}
	}
	return out, nil
}

// StartsBehind reports whether Pacemaker does nothing that brings any of these resources into its guarded role before first
// has started on the same node. An order of starts says nothing of the promotion of what has started before, and an order of
// promotions nothing of starts. An order alone is the cluster's and not a node's: the one is kept with the other, and first
// cannot be active twice. And what has an infinite priority is started even in a transition that was given up.
func (c *CIB) StartsBehind(first string, guarded []Guarded) bool {
	return len(guarded) > 0 && c.runsOnce(first) && !c.urgent() && !slices.ContainsFunc(guarded, func(g Guarded) bool {
		if g.Role == RolePromoted {
			return !c.ordered(first, g.ID, "promote") || !c.together(g.ID, first, "", "Started", "Promoted")
		}
		return !c.ordered(first, g.ID, "", "start") || !c.together(g.ID, first, "", "Started")
	})
}

// runsOnce reports whether id is a primitive that Pacemaker has on one node and, should it find it on two, stops on both. What
// it may inherit counts like its own, and what a rule gives it as if the rule held.
func (c *CIB) runsOnce(id string) bool {
	x := expander{cib: c}
	once := false
	for top := range c.root.at("configuration", "resources").each("") {
		if top.name != "primitive" && top.name != "group" {
			continue
		}
		top.walk(func(e *element) bool {
			if e.name == "primitive" && e.attr("id") == id {
				full, err := x.template(e)
				once = err == nil && x.stopsWhenTwice(full) && x.stopsWhenTwice(top) &&
					x.stopsWhenTwice(c.root.at("configuration", "rsc_defaults"))
			}
			return true
		})
	}
	return once
}

// stopsWhenTwice reports whether no meta attributes of an element say anything else of what is active on two nodes.
func (x *expander) stopsWhenTwice(e *element) bool {
	sets, err := x.sets(e, "meta_attributes")
	if err != nil {
		return false
	}
	for _, set := range sets {
		for nv := range set.each("nvpair") {
			def, err := x.byID(nv)
			if err != nil || def.attr("name") == "multiple-active" && def.attr("value") != "stop_start" && def.attr("value") != "" {
				return false
			}
		}
	}
	return true
}

// urgent reports whether anything has an infinite priority.
func (c *CIB) urgent() bool {
	found := false
	c.root.child("configuration").walk(func(e *element) bool {
		if e.name == "nvpair" && e.attr("name") == "priority" {
			n, err := strconv.Atoi(e.attr("value"))
			found = found || err != nil || n >= infinity
		}
		return !found
	})
	return found
}

// infinity is Pacemaker's.
const infinity = 1_000_000

// ordered looks for a mandatory order in its plain form, before one of these actions. Sets of resources are not looked into,
// and so do not count.
func (c *CIB) ordered(first, then string, actions ...string) bool {
	for o := range c.root.at("configuration", "constraints").each("rsc_order") {
		kind, score := o.attr("kind"), o.attr("score")
		mandatory := kind == "Mandatory" || kind == "" && (score == "" || score == "INFINITY" || score == "+INFINITY")
		starts := o.attr("first-action") == "" || o.attr("first-action") == "start"
		begins := slices.Contains(actions, o.attr("then-action"))
		if o.attr("first") == first && o.attr("then") == then && mandatory && starts && begins && parseBool(o.attr("symmetrical")) != No &&
			o.child("rule") == nil && o.child("lifetime") == nil {
			return true
		}
	}
	return false
}

// together looks for a mandatory colocation in its plain form, of rsc in one of these roles. A word for the promoted role that the
// DC does not know is none of them.
func (c *CIB) together(rsc, with string, roles ...string) bool {
	for o := range c.root.at("configuration", "constraints").each("rsc_colocation") {
		score, word := o.attr("score"), o.attr("rsc-role")
		if c.isPromoted(word) {
			word = string(RolePromoted)
		} else if strings.EqualFold(word, string(RolePromoted)) {
			continue
		}
		if o.attr("rsc") == rsc && o.attr("with-rsc") == with && (score == "INFINITY" || score == "+INFINITY") &&
			slices.Contains(roles, word) && slices.Contains([]string{"", "Started"}, o.attr("with-rsc-role")) && o.child("rule") == nil && o.child("lifetime") == nil {
			return true
		}
	}
	return false
}

// defaults are the values of rsc_defaults or op_defaults that hold without a rule.
func (c *CIB) defaults(section string) map[string]string {
	out := map[string]string{}
	x := expander{cib: c}
	sets, err := x.sets(c.root.at("configuration", section), "meta_attributes")
	if err != nil {
		return out
	}
	for _, set := range sets {
		for nv := range set.each("nvpair") {
			if set.child("rule") == nil {
				out[nv.attr("name")] = nv.attr("value")
			}
		}
	}
	return out
}
