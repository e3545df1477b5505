package pcmk

import (
	"context"
	"errors"
	"fmt"
	"html"
	"regexp"
	"strconv"
	"strings"
)

// MaxEpoch bounds the epochs that open the gate: a word compares as greater in the rule's third expression.
const MaxEpoch = 1_000_000_000_000_000

var leaseName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// CheckLease says why a lease name cannot be used in attribute and constraint names; nil if it can. A name
// ending in "-state" is refused: its attribute would be the display attribute of the lease without that
// ending.
func CheckLease(name string) error {
	if !leaseName.MatchString(name) {
		return fmt.Errorf("lease name %q: use 1 to 32 of a-z, 0-9 and -", name)
	}
	if strings.HasSuffix(name, "-state") {
		return fmt.Errorf("lease name %q: names ending in -state are taken by the display attribute of %q",
			name, strings.TrimSuffix(name, "-state"))
	}
	return nil
}

// AttributeName is the node attribute that opens the gate of a lease: its value is the epoch.
func AttributeName(lease string) string { return attributePrefix + lease }

// StateAttributeName is the attribute for human eyes that no rule uses.
func StateAttributeName(lease string) string { return "leasedog-" + lease + "-state" }

// Rule is the location constraint that keeps a guarded resource from every node whose attribute is not an
// epoch. It is negative, so that it fails closed: no attribute, no resource.
type Rule struct {
	Lease    string
	Resource string // the group, clone or primitive, never a member
	Role     Role   // RoleStarted or RolePromoted
}

// Rules of a lease for a plan's resources.
func (p Plan) Rules(lease string) []Rule {
	rules := make([]Rule, 0, len(p.Resources))
	for _, g := range p.Resources {
		rules = append(rules, Rule{Lease: lease, Resource: g.ID, Role: g.Role})
	}
	return rules
}

// ID of the constraint.
func (r Rule) ID() string { return "leasedog-" + r.Lease + "-" + r.Resource }

// roleName is Promoted, or Master below 2.1, whose schema knows no other.
func roleName(version string) string {
	if major, minor, ok := parseVersion(version); ok && (major > 2 || major == 2 && minor >= 1) {
		return "Promoted"
	}
	return "Master"
}

// dcVersion is the version of the DC, whose scheduler reads the rules; "" if there never was one. While a cluster is upgraded the
// DC is a node of the older version.
func (c *CIB) dcVersion() string { return c.Option("dc-version").Value }

// RuleVersion is the version to write rules for on a node of the local version: the DC's, if that is older.
func (c *CIB) RuleVersion(local string) string {
	if dc := c.dcVersion(); dc != "" && roleName(dc) == "Master" {
		return dc
	}
	return local
}

// isPromoted reports whether a word means the promoted role to this cluster. Pacemaker ignores its case, and pcs 0.10 writes it
// in lower case. A rule with a word that it does not know is ignored, which opens the gate: 2.0.5 says "Bad role specified".
func (c *CIB) isPromoted(word string) bool {
	dc := c.dcVersion()
	return strings.EqualFold(word, "Master") || strings.EqualFold(word, "Promoted") && (dc == "" || roleName(dc) == "Promoted")
}

// parseVersion reads the first two numbers of "2.1.5-4.el9".
func parseVersion(v string) (major, minor int, ok bool) {
	_, err := fmt.Sscanf(v, "%d.%d", &major, &minor)
	return major, minor, err == nil
}

// XML of the constraint for a Pacemaker version ("2.0.5").
func (r Rule) XML(version string) string {
	role := ""
	if r.Role == RolePromoted {
		role = ` role="` + roleName(version) + `"`
	}
	id, attr := html.EscapeString(r.ID()), AttributeName(r.Lease)
	return fmt.Sprintf(`<rsc_location id="%[1]s" rsc="%[2]s">`+
		`<rule id="%[1]s-rule"%[3]s score="-INFINITY" boolean-op="or">`+
		`<expression id="%[1]s-absent" attribute="%[4]s" operation="not_defined"/>`+
		`<expression id="%[1]s-zero" attribute="%[4]s" operation="lte" value="0"/>`+
		`<expression id="%[1]s-word" attribute="%[4]s" operation="gt" value="%[5]d"/>`+
		`</rule></rsc_location>`, id, html.EscapeString(r.Resource), role, attr, int64(MaxEpoch))
}

// Pcs is the same as a command line for pcs (0.10 with Pacemaker below 2.1, 0.11, and 0.12 with 3, which wants the rule in one
// word; the others refuse that).
func (r Rule) Pcs(version string) string {
	role := ""
	if r.Role == RolePromoted {
		role = " role=" + strings.ToLower(roleName(version))
		if roleName(version) == "Promoted" {
			role = " role=Promoted"
		}
	}
	words := r.words()
	if major, _, ok := parseVersion(version); ok && major >= 3 {
		words = "'" + words + "'"
	}
	return fmt.Sprintf("pcs constraint location %s rule id=%s-rule constraint-id=%s%s score=-INFINITY %s",
		r.Resource, r.ID(), r.ID(), role, words)
}

// Crmsh is the same as a command line for crmsh.
func (r Rule) Crmsh(version string) string {
	role := ""
	if r.Role == RolePromoted {
		role = " '$role=" + roleName(version) + "'"
	}
	return fmt.Sprintf("crm configure location %s %s rule '$id=%s-rule'%s -inf: %s", r.ID(), r.Resource, r.ID(), role, r.words())
}

func (r Rule) words() string {
	a := AttributeName(r.Lease)
	return fmt.Sprintf("not_defined %s or %s lte 0 or %s gt %d", a, a, a, int64(MaxEpoch))
}

// RuleState is how a rule stands in the CIB.
type RuleState struct {
	Rule
	Exists bool   // a constraint with this rule's ID exists
	Intact bool   // and it bans exactly what the rule says
	Other  bool   // it is somebody else's: for another resource, or for no attribute of this lease
	Reason string // why it is not Intact
}

// CheckRules compares the constraints in the CIB with the rules. Only the constraint with the rule's own id
// counts.
func (c *CIB) CheckRules(rules []Rule) []RuleState {
	states := make([]RuleState, 0, len(rules))
	for _, r := range rules {
		s := RuleState{Rule: r, Reason: "there is no constraint " + r.ID()}
		for loc := range c.root.at("configuration", "constraints").each("rsc_location") {
			if loc.attr("id") != r.ID() {
				continue
			}
			s.Exists, s.Reason = true, ""
			if err := r.matches(loc, c.isPromoted); err != nil {
				s.Reason = fmt.Sprintf("constraint %s was changed: %v", r.ID(), err)
			}
			s.Intact = s.Reason == ""
			s.Other = !r.owns(loc)
		}
		states = append(states, s)
	}
	return states
}

// owns reports whether a constraint is about this rule's resource and attribute, whatever else it says.
func (r Rule) owns(loc *element) bool {
	ours := false
	loc.walk(func(e *element) bool {
		ours = ours || e.name == "expression" && e.attr("attribute") == AttributeName(r.Lease)
		return !ours
	})
	return ours && loc.attr("rsc") == r.Resource
}

// matches accepts exactly what this package writes, and the forms that pcs and crmsh give it: expressions
// in any order, ids of their own, a type that compares numbers.
func (r Rule) matches(loc *element, isPromoted func(string) bool) error {
	if err := onlyAttrs(loc, map[string]string{"rsc": r.Resource}, "id"); err != nil {
		return err
	}
	if len(loc.children) != 1 || loc.children[0].name != "rule" {
		return errors.New("it must have one rule and nothing else")
	}
	rule := loc.children[0]
	want := map[string]string{"score": "-INFINITY", "boolean-op": "or"}
	if r.Role == RolePromoted {
		if !isPromoted(rule.attr("role")) {
			return fmt.Errorf("the rule's role is %q", rule.attr("role"))
		}
		want["role"] = rule.attr("role")
	}
	if err := onlyAttrs(rule, want, "id"); err != nil {
		return err
	}
	attr := AttributeName(r.Lease)
	missing := map[string]map[string]string{
		"not_defined": {"attribute": attr, "operation": "not_defined"},
		"lte":         {"attribute": attr, "operation": "lte", "value": "0"},
		"gt":          {"attribute": attr, "operation": "gt", "value": strconv.FormatInt(MaxEpoch, 10)},
	}
	for _, e := range rule.children {
		op := e.attr("operation")
		if e.name != "expression" || missing[op] == nil {
			return fmt.Errorf("it has an unexpected <%s operation=%q>", e.name, op)
		}
		switch e.attr("type") {
		case "", "number", "integer":
		default:
			return fmt.Errorf("an expression compares as %q", e.attr("type"))
		}
		if err := onlyAttrs(e, missing[op], "id", "type"); err != nil {
			return err
		}
		delete(missing, op)
	}
	for op := range missing {
		return fmt.Errorf("the expression %q is missing", op)
	}
	return nil
}

// onlyAttrs checks that e has the wanted attributes and, but for the free ones, no other: what is not known
// here may turn the rule off (node, resource-discovery, rsc-pattern, date and score-attribute, and whatever
// comes).
func onlyAttrs(e *element, want map[string]string, free ...string) error {
	for k, v := range want {
		if e.attr(k) != v {
			return fmt.Errorf("<%s> has %s=%q, want %q", e.name, k, e.attr(k), v)
		}
	}
next:
	for _, k := range sortedKeys(e.attrs) {
		if _, ok := want[k]; ok {
			continue
		}
		for _, f := range free {
			if k == f {
				continue next
			}
		}
		return fmt.Errorf("<%s> has an unexpected %s=%q", e.name, k, e.attr(k))
	}
	return nil
}

// DependsOn reports whether any constraint has an expression about a node attribute, whoever made it.
func (c *CIB) DependsOn(attribute string) bool {
	found := false
	c.root.at("configuration", "constraints").walk(func(e *element) bool {
		found = found || e.attr("attribute") == attribute
		return !found
	})
	return found
}

// attributePrefix begins the name of every attribute that opens a gate.
const attributePrefix = "leasedog-"

// Dependents names everything in the configuration that does not work where leasedog is not installed: location
// constraints whose rules look at an attribute of ours, whoever made them, and resources whose agent is ours.
func (c *CIB) Dependents() []string {
	var out []string
	for loc := range c.root.at("configuration", "constraints").each("rsc_location") {
		ours := false
		loc.walk(func(e *element) bool {
			ours = ours || e.name == "expression" && strings.HasPrefix(e.attr("attribute"), attributePrefix)
			return !ours
		})
		if ours {
			out = append(out, "constraint "+loc.attr("id"))
		}
	}
	c.root.at("configuration", "resources").walk(func(e *element) bool {
		if (e.name == "primitive" || e.name == "template") && (e.attr("provider") == "leasedog" || e.attr("type") == "fence_leasedog") {
			out = append(out, "resource "+e.attr("id"))
		}
		return true
	})
	return out
}

// LeaseConstraints lists the ids of all constraints that this package made for a lease, also for resources
// it no longer guards.
func (c *CIB) LeaseConstraints(lease string) []string {
	var ids []string
	for loc := range c.root.at("configuration", "constraints").each("rsc_location") {
		r := Rule{Lease: lease, Resource: loc.attr("rsc")}
		// The id alone is ambiguous: leasedog-a-b-c is resource c of lease a-b or b-c of lease a.
		if loc.attr("id") != r.ID() {
			continue
		}
		if r.owns(loc) {
			ids = append(ids, r.ID())
		}
	}
	return ids
}

// Gate is how the ban of one rule stands on one node.
type Gate struct {
	Rule
	Node   string
	Closed bool // Pacemaker itself says that the resource is banned there
}

// EffectiveBans looks at what Pacemaker makes of the rules: for each rule and each given node whether the
// ban is in force. On a node without the attribute it must be Closed; where it is not, Pacemaker ignores
// the rule.
func (st Status) EffectiveBans(rules []Rule, nodes ...string) []Gate {
	var gates []Gate
	for _, r := range rules {
		for _, n := range nodes {
			g := Gate{Rule: r, Node: n}
			for _, b := range st.Bans {
				weight, err := parseScore(b.Weight)
				full := err == nil && weight <= -1_000_000
				same := b.Resource == r.Resource && b.Node == n && strings.HasPrefix(b.ID, r.ID())
				wide := r.Role == RolePromoted || b.PromotedOnly == No
				g.Closed = g.Closed || full && same && wide
			}
			gates = append(gates, g)
		}
	}
	return gates
}

// ErrNotApplied says that Pacemaker accepted a change (exit code 0) and it is not in the CIB.
var ErrNotApplied = errors.New("accepted, but not in the CIB afterwards")

// ApplyRules creates each rule, or replaces a changed one, and reads the result back. Intact ones are left
// alone. version decides the name of the promoted role. Each call to a tool is within ctx.
func (c *Cluster) ApplyRules(ctx context.Context, version string, rules []Rule) error {
	cib, err := c.CIB(ctx)
	if err != nil {
		return err
	}
	for _, s := range cib.CheckRules(rules) {
		if s.Intact {
			continue
		}
		if s.Other {
			return fmt.Errorf("write constraint %s: one of that id exists and is not this lease's: rename the lease or "+
				"remove it: %s", s.ID(), s.Reason)
		}
		verb := "--create"
		if s.Exists {
			verb = "--replace"
		}
		_, err := c.tool(ctx, c.tools.Cibadmin, verb, "--scope", "constraints", "--xml-text", s.XML(version))
		if err != nil && exitCode(err) != exitExists {
			return fmt.Errorf("write constraint %s: %w", s.ID(), err)
		}
	}
	if cib, err = c.CIB(ctx); err != nil {
		return fmt.Errorf("read the constraints back: %w", err)
	}
	var errs []error
	for _, s := range cib.CheckRules(rules) {
		if !s.Intact {
			errs = append(errs, fmt.Errorf("write constraint %s: %w: %s", s.ID(), ErrNotApplied, s.Reason))
		}
	}
	return errors.Join(errs...)
}

// RemoveRules takes away what ApplyRules made for a lease, by exact id, and reads back. It returns the ids
// it removed.
func (c *Cluster) RemoveRules(ctx context.Context, lease string) ([]string, error) {
	cib, err := c.CIB(ctx)
	if err != nil {
		return nil, err
	}
	ids := cib.LeaseConstraints(lease)
	for _, id := range ids {
		text := `<rsc_location id="` + html.EscapeString(id) + `"/>`
		_, err := c.tool(ctx, c.tools.Cibadmin, "--delete", "--scope", "constraints", "--xml-text", text)
		if err != nil && exitCode(err) != exitNoSuch {
			return nil, fmt.Errorf("remove constraint %s: %w", id, err)
		}
	}
	if cib, err = c.CIB(ctx); err != nil {
		return nil, fmt.Errorf("read the constraints back: %w", err)
	}
	if left := cib.LeaseConstraints(lease); len(left) > 0 {
		return nil, fmt.Errorf("remove constraint %s: %w", strings.Join(left, ", "), ErrNotApplied)
	}
	return ids, nil
}
