package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxLeases bounds what one guard watches and one agent asks the cluster about.
	maxLeases = 64
	// maxLeaseName keeps attribute names and rule ids short enough for every tool of Pacemaker.
	maxLeaseName = 32
	// maxName is the longest label that a host name may have, and a cluster's name goes into a URL.
	maxName = 63
	// maxResource bounds a Pacemaker id.
	maxResource = 128

	defaultGiveUpAfter = 5 * time.Second
)

// leaseStateSuffix ends the name of the node attribute that is for human eyes (leasedog-<lease>-state). A lease with
// that ending would have the attribute of another lease's words as its own gate.
const leaseStateSuffix = "-state"

func readLeases(root *table) []Lease {
	tables := root.tables("lease")
	switch n := len(tables); {
	case n == 0 && root.values["lease"] == nil:
		root.bad("lease", "there is no lease", "add a [[lease]] table with name and resources")
	case n > maxLeases:
		root.bad("lease", fmt.Sprintf("there are %d leases", n), fmt.Sprintf("at most %d are supported", maxLeases))
	}
	var (
		out   []Lease
		names = map[string]string{} // lease name -> path of the first
		owner = map[string]string{} // resource -> lease that guards it
		ids   = map[string]string{} // id of the Pacemaker rule -> "resource of lease"
	)
	for _, t := range tables {
		l := readLease(t)
		if first, twice := names[l.Name]; twice && l.Name != "" {
			t.bad("name", fmt.Sprintf("%q is the name of %s already", l.Name, first), "give each lease a name of its own")
		}
		names[l.Name] = t.path
		for i, r := range l.Resources {
			key := fmt.Sprintf("resources[%d]", i)
			if other, twice := owner[r]; twice {
				t.bad(key, fmt.Sprintf("%q is guarded by lease %q already", r, other), "a resource belongs to one lease")
				continue
			}
			owner[r] = l.Name
			id := l.Name + "-" + r
			if other, twice := ids[id]; twice {
				t.bad(key, fmt.Sprintf("the Pacemaker rule of %q would have the same id (leasedog-%s) as that of %s", r, id, other),
					"rename one of the leases")
			}
			ids[id] = fmt.Sprintf("%q in lease %q", r, l.Name)
		}
		out = append(out, l)
	}
	return out
}

func readLease(t *table) Lease {
	l := Lease{
		Name:         t.required("name", "pg"),
		Resources:    t.list("resources"),
		Acquire:      AcquireMode(t.text("acquire", string(AcquireAuto))),
		Prefer:       t.text("prefer", ""),
		GiveUpAfter:  t.duration("give_up_after", defaultGiveUpAfter),
		LeaveTimeout: t.duration("leave_timeout", 0),
	}
	if what := checkLeaseName(l.Name); l.Name != "" && what != "" {
		t.bad("name", fmt.Sprintf("%q %s", l.Name, what), "use 1 to 32 of a-z, 0-9 and '-', beginning with a letter or digit; "+
			"it becomes the Pacemaker node attribute leasedog-NAME")
	}
	if v, ok := t.values["resources"].([]any); t.values["resources"] == nil || ok && len(v) == 0 {
		t.bad("resources", "the lease guards nothing", `add resources = ["g-pg"]: ids of groups, primitives or promotable clones`)
	}
	for i, r := range l.Resources {
		if !validID(r) {
			t.bad(fmt.Sprintf("resources[%d]", i), fmt.Sprintf("%q cannot be the id of a Pacemaker resource", r),
				`use the id that "crm_resource --list" shows, without an instance number`)
		}
	}
	switch l.Acquire {
	case AcquireAuto, AcquireManual, AcquireOnDemand:
	default:
		t.bad("acquire", fmt.Sprintf("%q is unknown", l.Acquire), `use "auto", "manual" or "on-demand"`)
	}
	t.checkName("prefer", l.Prefer)
	t.finish()
	return l
}

// checkLeaseName tells what is wrong with a lease's name, or "".
func checkLeaseName(s string) string {
	switch {
	case s == "all":
		return `means every lease in "leasedog constraints all"`
	case strings.HasSuffix(s, leaseStateSuffix):
		return fmt.Sprintf("ends in %q, which is the attribute that describes another lease", leaseStateSuffix)
	case len(s) > maxLeaseName:
		return fmt.Sprintf("has %d characters", len(s))
	case strings.HasPrefix(s, "-"):
		return "begins with '-'"
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') {
			return fmt.Sprintf("has the character %q", r)
		}
	}
	return ""
}

// validID accepts what XML and so Pacemaker accept as an id, in ASCII.
func validID(s string) bool {
	for i, r := range s {
		first := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !first && (i == 0 || !(r >= '0' && r <= '9' || r == '-' || r == '.')) {
			return false
		}
	}
	return s != "" && len(s) <= maxResource
}

// checkName accepts the name of a cluster or a node; "" is absent.
func (t *table) checkName(key, s string) {
	for i, r := range s {
		first := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !first && (i == 0 || !(r == '-' || r == '.' || r == '_')) {
			t.bad(key, fmt.Sprintf("%q has the character %q", s, r), "use letters, digits, '-', '.' and '_', beginning with a letter or digit")
			return
		}
	}
	if len(s) > maxName {
		t.bad(key, fmt.Sprintf("%q has %d characters", s, len(s)), fmt.Sprintf("use at most %d", maxName))
	}
}

// checkURL tells what is wrong with an arbiter's address, or "".
func checkURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Sprintf("%q is not a url", raw)
	}
	rest := *u
	rest.Scheme, rest.Host = "", ""
	switch port, err := strconv.ParseUint(u.Port(), 10, 16); {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("%q does not begin with https://", raw)
	case u.Hostname() == "":
		return fmt.Sprintf("%q has no host", raw)
	case u.Port() == "":
		return fmt.Sprintf("%q has no port", raw)
	case err != nil || port == 0:
		return fmt.Sprintf("%q has an impossible port", raw)
	case rest != url.URL{}:
		return fmt.Sprintf("%q has more than scheme, host and port", raw)
	}
	if host := u.Hostname(); net.ParseIP(host) == nil && strings.ContainsAny(host, " /%\\") {
		return fmt.Sprintf("%q has an impossible host", raw)
	}
	return ""
}
