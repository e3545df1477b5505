package pcmk

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// expander turns configuration into plain primitives: templates, several sets of attributes with scores,
// references, and rules as far as they can be evaluated here.
type expander struct {
	cib     *CIB
	node    string
	ocfRoot string
	initDir string
	refused []error
}

func (x *expander) refuse(resource, member, reason string) {
	x.refused = append(x.refused, &RefusedError{Resource: resource, Member: member, Reason: reason})
}

func (x *expander) err() error { return errors.Join(x.refused...) }

// template returns the primitive with its template's content first, as `crm_resource -q` prints it.
func (x *expander) template(e *element) (*element, error) {
	name := e.attr("template")
	if name == "" {
		return e, nil
	}
	var t *element
	for c := range x.cib.root.at("configuration", "resources").each("template") {
		if c.attr("id") == name {
			t = c
		}
	}
	if t == nil {
		return nil, fmt.Errorf("uses template %q, which does not exist", name)
	}
	full := &element{name: "primitive", attrs: map[string]string{}}
	for k, v := range t.attrs {
		full.attrs[k] = v
	}
	for k, v := range e.attrs {
		full.attrs[k] = v
	}
	full.children = slices.Concat(t.children, e.children)
	return full, nil
}

// byID follows id-ref within the configuration.
func (x *expander) byID(e *element) (*element, error) {
	ref := e.attr("id-ref")
	if ref == "" {
		return e, nil
	}
	var found *element
	x.cib.root.child("configuration").walk(func(c *element) bool {
		if c.name == e.name && c.attr("id") == ref {
			found = c
		}
		return found == nil
	})
	if found == nil {
		return nil, fmt.Errorf("refers to <%s id=%q>, which does not exist", e.name, ref)
	}
	return found, nil
}

// params are the instance attributes that hold on this node. Of sets that apply the one with the highest
// score wins, among equals the last one (so the primitive's own over its template's): seen alike on 2.0.5,
// 2.1.5 and 3.0.0.
func (x *expander) params(e *element) (map[string]string, error) {
	sets, err := x.sets(e, "instance_attributes")
	if err != nil {
		return nil, err
	}
	params := make(map[string]string)
	for _, set := range sets {
		applies, err := x.applies(set)
		if err != nil {
			return nil, err
		}
		if !applies {
			continue
		}
		for nv := range set.each("nvpair") {
			def, err := x.byID(nv)
			if err != nil {
				return nil, err
			}
			name := nv.attr("name")
			if name == "" {
				name = def.attr("name")
			}
			value, ok := def.attrs["value"]
			if !ok {
				continue
			}
			if strings.HasPrefix(value, "lrm://") {
				return nil, fmt.Errorf("has a secret parameter (%s = lrm://), which only Pacemaker can read", name)
			}
			params[name] = value
		}
	}
	return params, nil
}

// sets returns the attribute sets of one kind, the weakest first.
func (x *expander) sets(e *element, kind string) ([]*element, error) {
	var sets []*element
	score := make(map[*element]int)
	for s := range e.each(kind) {
		set, err := x.byID(s)
		if err != nil {
			return nil, err
		}
		n, err := parseScore(set.attr("score"))
		if err != nil {
			return nil, err
		}
		sets, score[set] = append(sets, set), n
	}
	sort.SliceStable(sets, func(i, j int) bool { return score[sets[i]] < score[sets[j]] })
	return sets, nil
}

// meta are meta attributes without regard to rules: a set with a rule counts as if it applied, since they
// serve to recognise what must be refused.
func (x *expander) meta(e *element) map[string]string {
	m := make(map[string]string)
	sets, err := x.sets(e, "meta_attributes")
	if err != nil {
		return m
	}
	for _, set := range sets {
		for nv := range set.each("nvpair") {
			if def, err := x.byID(nv); err == nil {
				m[def.attr("name")] = def.attr("value")
			}
		}
	}
	return m
}

// applies evaluates the rule of an attribute set for the local node.
func (x *expander) applies(set *element) (bool, error) {
	rule := set.child("rule")
	if rule == nil {
		return true, nil
	}
	rule, err := x.byID(rule)
	if err != nil {
		return false, err
	}
	return x.rule(rule)
}

func (x *expander) rule(rule *element) (bool, error) {
	or := strings.EqualFold(rule.attr("boolean-op"), "or")
	result, any := !or, false
	for e := range rule.each("") {
		var ok bool
		var err error
		switch e.name {
		case "rule":
			ok, err = x.rule(e)
		case "expression":
			ok, err = x.expression(e)
		default:
			err = errors.New("")
		}
		if err != nil {
			return false, fmt.Errorf("has parameters that depend on a rule (%s) other than on the node's name, "+
				"which cannot be evaluated without Pacemaker", rule.attr("id"))
		}
		if any = true; or {
			result = result || ok
		} else {
			result = result && ok
		}
	}
	if !any {
		return false, fmt.Errorf("has an empty rule (%s)", rule.attr("id"))
	}
	return result, nil
}

func (x *expander) expression(e *element) (bool, error) {
	same := e.attr("value") == x.node
	source := e.attr("value-source")
	if e.attr("attribute") != "#uname" || source != "" && source != "literal" {
		return false, errors.New("not evaluated")
	}
	switch e.attr("operation") {
	case "eq":
		return same, nil
	case "ne":
		return !same, nil
	}
	return false, errors.New("not evaluated")
}

// timeouts of the actions that are run here. A monitor with a role or several monitors: the longest.
func (x *expander) timeouts(e *element) (map[string]time.Duration, error) {
	t := make(map[string]time.Duration)
	for ops := range e.each("operations") {
		ops, err := x.byID(ops)
		if err != nil {
			return nil, err
		}
		own := make(map[string]time.Duration)
		for op := range ops.each("op") {
			v := op.attr("timeout")
			for _, kind := range []string{"instance_attributes", "meta_attributes"} {
				for set := range op.each(kind) {
					for nv := range set.each("nvpair") {
						if nv.attr("name") == "timeout" && v == "" {
							v = nv.attr("value")
						}
					}
				}
			}
			if v == "" {
				continue
			}
			d, err := parseInterval(v)
			if err != nil {
				return nil, fmt.Errorf("has a timeout of %s that cannot be read: %w", op.attr("name"), err)
			}
			own[op.attr("name")] = max(own[op.attr("name")], d)
		}
		for name, d := range own { // the primitive's own come after, and over, its template's
			t[name] = d
		}
	}
	return t, nil
}

// parseInterval knows Pacemaker's forms: a number of seconds, or with ms, msec, us, usec, s, sec, m, min,
// h, hr.
func parseInterval(s string) (time.Duration, error) {
	digits := strings.TrimLeft(strings.TrimSpace(s), "+")
	i := 0
	for i < len(digits) && digits[i] >= '0' && digits[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(digits[:i], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time", s)
	}
	units := map[string]time.Duration{"": time.Second, "s": time.Second, "sec": time.Second, "ms": time.Millisecond,
		"msec": time.Millisecond, "us": time.Microsecond, "usec": time.Microsecond, "m": time.Minute, "min": time.Minute,
		"h": time.Hour, "hr": time.Hour}
	unit, ok := units[strings.ToLower(strings.TrimSpace(digits[i:]))]
	if !ok || n > int64(math.MaxInt64/unit) {
		return 0, fmt.Errorf("%q is not a time", s)
	}
	return time.Duration(n) * unit, nil
}

func parseScore(s string) (int, error) {
	switch strings.ToLower(s) {
	case "":
		return 0, nil
	case "infinity", "+infinity":
		return 1_000_000, nil
	case "-infinity":
		return -1_000_000, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("has a set of attributes with the score %q", s)
	}
	return n, nil
}

// startOrder sorts guarded resources so that what an order constraint puts first comes first; otherwise
// they stay as named. A circle (or an order between resources of which one is not guarded) changes nothing.
func startOrder(gs []Guarded, cib *CIB) []Guarded {
	after := make(map[string]map[string]bool) // after[b][a]: b starts after a
	owner := make(map[string]string)
	for _, g := range gs {
		for _, p := range g.Primitives {
			owner[p.ID] = g.ID
		}
	}
	add := func(first, then string) {
		first, then = cmp.Or(owner[first], first), cmp.Or(owner[then], then)
		if after[then] == nil {
			after[then] = make(map[string]bool)
		}
		after[then][first] = true
	}
	for o := range cib.root.at("configuration", "constraints").each("rsc_order") {
		if first, then := o.attr("first"), o.attr("then"); first != "" && then != "" {
			add(first, then)
		}
		var before []string
		for set := range o.each("resource_set") {
			var ids []string
			for ref := range set.each("resource_ref") {
				id := ref.attr("id")
				for _, b := range before {
					add(b, id)
				}
				if parseBool(set.attr("sequential")) != No && len(ids) > 0 {
					add(ids[len(ids)-1], id)
				}
				ids = append(ids, id)
			}
			before = append(before, ids...)
		}
	}
	rest, sorted := slices.Clone(gs), make([]Guarded, 0, len(gs))
	for len(rest) > 0 {
		i := slices.IndexFunc(rest, func(g Guarded) bool {
			return !slices.ContainsFunc(rest, func(o Guarded) bool { return o.ID != g.ID && after[g.ID][o.ID] })
		})
		i = max(i, 0)
		sorted = append(sorted, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	return sorted
}
