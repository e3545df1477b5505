package pcmk

import "slices"

// Unguarded lists the resources at the top level that none of these rules keeps, intact, from a node without a lease.
// Fencing devices run nothing, and ocf:leasedog:lease runs only where its lease is held. A resource that is not managed, or
// disabled, counts: it may run.
func (c *CIB) Unguarded(rules []Rule) []string {
	intact := map[string]bool{}
	for _, s := range c.CheckRules(rules) {
		if s.Intact {
			intact[s.Resource] = true
		}
	}
	var out []string
	x := expander{cib: c}
	for e := range c.root.at("configuration", "resources").each("") {
		if id := e.attr("id"); e.name != "template" && !intact[id] && !x.runsNothing(e) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// runsNothing reports whether a resource consists of nothing but fencing devices and leases.
func (x *expander) runsNothing(top *element) bool {
	found, other := 0, top.name == "bundle"
	top.walk(func(e *element) bool {
		if e.name != "primitive" {
			return true
		}
		found++
		full, err := x.template(e)
		if err != nil {
			other = true
			return false
		}
		lease := full.attr("class") == "ocf" && full.attr("provider") == "leasedog" && full.attr("type") == "lease"
		other = other || full.attr("class") != "stonith" && !lease
		return !other
	})
	return found > 0 && !other
}
