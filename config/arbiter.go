package config

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Arbiter is the arbiter's configuration, checked. It comes only from LoadArbiter and ParseArbiter; treat it as
// read-only, then any number of goroutines may use it.
type Arbiter struct {
	Listen            string        // host:port; an empty host is every address
	Store             string        // absolute path of the database
	Control           string        // absolute path of the root-only local socket
	PKI               string        // absolute path of the folder with certificates; "" with Insecure
	Key               string        // of the arbiter's certificate: an absolute path; "" is in PKI
	KeyCredential     string        // or the name of a credential of systemd
	CertLife          time.Duration // of certificates that are issued
	Clusters          []Cluster     // who may ask for what; none: each certificate in its own cluster
	Insecure          bool
	AllowInsecureFrom []netip.Prefix // networks that may speak without TLS; not empty with Insecure
	MinHold           time.Duration  // a node that asks for a shorter hold is refused
	MaxHold           time.Duration  // a node that asks for a longer hold is refused
	MaxPause          time.Duration  // a longer pause is refused
	DriftPPM          int            // bound of this host's clock rate error
	History           int            // entries kept for each cluster
	Classic           Classic
}

// Classic is the listener of the old lock service (/lock, /updatelock, /unlock). Listen "": off.
type Classic struct {
	Listen    string // host:port
	AllowFrom []netip.Prefix
}

// Cluster is one [[cluster]] table: with any of them, the arbiter serves nobody else.
type Cluster struct {
	Name          string
	Nodes, Leases []string // none: any of this cluster
}

const (
	defaultListen   = ":7443"
	defaultPKI      = "/var/lib/leasedog-arbiter/pki"
	defaultCertLife = 365 * 24 * time.Hour
	maxCertLife     = 10 * 365 * 24 * time.Hour
	minCertLife     = 30 * time.Second
	defaultStore    = "/var/lib/leasedog-arbiter/arbiter.db"
	defaultControl  = "/run/leasedog-arbiter/arbiter.sock"
	defaultMinHold  = time.Second
	defaultMaxHold  = 2 * time.Minute
	defaultMaxPause = 8 * time.Hour
	defaultDrift    = 1000
	defaultHistory  = 1000
	maxHistory      = 1_000_000

	// maxSocketPath is what fits into sun_path with its final zero (unix(7)).
	maxSocketPath = 107
)

// LoadArbiter reads the arbiter's configuration. The error is an *Error with every problem of the file, which also
// covers a file that is missing, unreadable, empty, or writable by others than its owner.
func LoadArbiter(path string) (Arbiter, error) {
	src, err := readFile(path, os.Geteuid())
	if err != nil {
		return Arbiter{}, err
	}
	return parseArbiter(src, path)
}

// ParseArbiter reads the arbiter's configuration from r; name is what errors call it. The error is an *Error.
func ParseArbiter(r io.Reader, name string) (Arbiter, error) {
	src, err := readAll(r, name)
	if err != nil {
		return Arbiter{}, err
	}
	return parseArbiter(src, name)
}

func parseArbiter(src []byte, name string) (Arbiter, error) {
	d, root := parse(src)
	var a Arbiter
	if root != nil {
		a = readArbiter(root)
	}
	if len(d.problems) > 0 {
		return Arbiter{}, &Error{File: name, Problems: d.sorted()}
	}
	return a, nil
}

func readArbiter(t *table) Arbiter {
	a := Arbiter{
		Listen:   t.text("listen", defaultListen),
		Store:    t.text("store", defaultStore),
		Control:  t.text("control", defaultControl),
		PKI:      t.text("pki", defaultPKI),
		CertLife: t.durationUpTo("cert_life", defaultCertLife, maxCertLife),
		Insecure: t.flag("insecure"),
		MinHold:  t.duration("min_hold", defaultMinHold),
		MaxHold:  t.duration("max_hold", defaultMaxHold),
		MaxPause: t.duration("max_pause", defaultMaxPause),
		DriftPPM: t.integer("drift_ppm", defaultDrift, 0, maxDriftPPM),
		History:  t.integer("history", defaultHistory, 1, maxHistory),
	}
	if !validListen(a.Listen) {
		t.bad("listen", fmt.Sprintf("%q is not an address to listen at", a.Listen), `write ":7443" or "10.0.9.1:7443"`)
	}
	for key, path := range map[string]string{"store": a.Store, "control": a.Control, "pki": a.PKI} {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			t.bad(key, fmt.Sprintf("%q is not an absolute path", path), "begin with '/', without '..' and doubled '/'")
		}
	}
	if len(a.Control) > maxSocketPath {
		t.bad("control", "is too long for a socket", fmt.Sprintf("use at most %d characters", maxSocketPath))
	}
	if a.MinHold > a.MaxHold {
		t.bad("min_hold", fmt.Sprintf("%v is above max_hold = %v", a.MinHold, a.MaxHold), "lower min_hold or raise max_hold")
	}
	if a.CertLife < minCertLife {
		t.bad("cert_life", fmt.Sprintf("%v is too short", a.CertLife), fmt.Sprintf("use at least %v", minCertLife))
	}
	if text := t.text("key", ""); text != "" {
		a.Key, a.KeyCredential = readKey(t, text)
	}
	a.Clusters = readClusters(t)
	a.AllowInsecureFrom = readNetworks(t, "allow_insecure_from")
	a.Classic = readClassic(t.table("classic"))
	_, listed := t.values["allow_insecure_from"]
	switch {
	case a.Insecure && !listed:
		t.bad("allow_insecure_from", "names no network", `add allow_insecure_from = ["10.0.9.0/24"]: the nodes' networks`)
	case a.Insecure && len(a.AllowInsecureFrom) == 0 && len(t.doc.problems) == 0:
		t.bad("allow_insecure_from", "names no network", `write ["10.0.9.0/24"]: the nodes' networks`)
	case !a.Insecure && listed:
		t.bad("allow_insecure_from", "has no effect without insecure = true", "remove it: whoever has a certificate may speak from anywhere")
	}
	if a.Insecure {
		for _, key := range []string{"pki", "key", "cert_life"} {
			if _, typed := t.values[key]; typed {
				t.bad(key, "has no effect with insecure = true", "remove it, or remove insecure = true")
			}
		}
		a.PKI, a.CertLife = "", 0
	}
	t.finish()
	return a
}

// credentialPrefix names a credential of systemd instead of a path (LoadCredential= of systemd.exec(5)).
const credentialPrefix = "credential:"

// readKey reads where a key is.
func readKey(t *table, text string) (path, credential string) {
	name, isCredential := strings.CutPrefix(text, credentialPrefix)
	switch {
	case !isCredential && filepath.IsAbs(text) && filepath.Clean(text) == text:
		return text, ""
	case !isCredential:
		t.bad("key", fmt.Sprintf("%q is not an absolute path", text), `begin with '/', or write "credential:NAME"`)
	case name == "." || name == ".." || !regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`).MatchString(name):
		t.bad("key", fmt.Sprintf("%q is not a credential's name", name), "use 1 to 255 of A-Z, a-z, 0-9, '.', '_' and '-', as LoadCredential= has it")
	default:
		return "", name
	}
	return "", ""
}

func readClusters(root *table) []Cluster {
	var out []Cluster
	names := map[string]string{}
	for _, t := range root.tables("cluster") {
		c := Cluster{Name: t.required("name", "erp"), Nodes: t.list("nodes"), Leases: t.list("leases")}
		if c.Name != "" && !regexp.MustCompile(clusterPattern).MatchString(c.Name) {
			t.bad("name", fmt.Sprintf("%q is not a cluster's name", c.Name), "use 1 to 32 of a-z, 0-9 and '-'")
		}
		if first, twice := names[c.Name]; twice && c.Name != "" {
			t.bad("name", fmt.Sprintf("%q is the name of %s already", c.Name, first), "write one table for each cluster")
		}
		names[c.Name] = t.path
		for i, n := range c.Nodes {
			t.checkName(fmt.Sprintf("nodes[%d]", i), n)
		}
		for i, l := range c.Leases {
			if what := checkLeaseName(l); what != "" {
				t.bad(fmt.Sprintf("leases[%d]", i), fmt.Sprintf("%q %s", l, what), "use a lease's name as the nodes have it")
			}
		}
		for _, key := range []string{"nodes", "leases"} {
			if v, ok := t.values[key].([]any); ok && len(v) == 0 {
				t.bad(key, "is empty", "remove it: without it any is allowed")
			}
		}
		t.finish()
		out = append(out, c)
	}
	return out
}

// readClassic reads a table that turns the listener on by being there. It is plain HTTP for whoever it lists, so
// nothing of it has a default.
func readClassic(t *table) Classic {
	c := Classic{Listen: t.required("listen", "10.0.9.1:8080"), AllowFrom: readNetworks(t, "allow_from")}
	switch {
	case !t.present:
		return Classic{}
	case c.Listen != "" && !validListen(c.Listen):
		t.bad("listen", fmt.Sprintf("%q is not an address to listen at", c.Listen), `write ":8080" or "10.0.9.1:8080"`)
	}
	if elements, isList := t.values["allow_from"].([]any); len(elements) == 0 && (isList || t.values["allow_from"] == nil) {
		t.bad("allow_from", "names no network", `add allow_from = ["10.0.9.11/32", "10.0.9.12/32"]: the nodes`)
	}
	t.finish()
	return c
}

func readNetworks(t *table, list string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range t.list(list) {
		key := fmt.Sprintf("%s[%d]", list, i)
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			t.bad(key, fmt.Sprintf("%q is not a network", s), `write "10.0.9.0/24" or "fd00:9::/64"; one host is "10.0.9.11/32"`)
		case p != p.Masked():
			t.bad(key, fmt.Sprintf("%q has bits beyond its length", s), fmt.Sprintf("write %q", p.Masked()))
		default:
			out = append(out, p)
		}
	}
	return out
}

func validListen(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	if host == "" {
		return true
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}
