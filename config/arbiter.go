package config

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Arbiter is the arbiter's configuration, checked. It comes only from LoadArbiter and ParseArbiter; treat it as
// read-only, then any number of goroutines may use it.
type Arbiter struct {
	Listen            string // host:port; an empty host is every address
	Store             string // absolute path of the database
	Control           string // absolute path of the root-only local socket
	Insecure          bool
	AllowInsecureFrom []netip.Prefix // networks that may speak without TLS; not empty with Insecure
	MinHold           time.Duration  // a node that asks for a shorter hold is refused
	MaxHold           time.Duration  // a node that asks for a longer hold is refused
	MaxPause          time.Duration  // a longer pause is refused
	DriftPPM          int            // bound of this host's clock rate error
	History           int            // entries kept for each cluster
}

const (
	defaultListen   = ":7443"
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
	for key, path := range map[string]string{"store": a.Store, "control": a.Control} {
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
	a.AllowInsecureFrom = readNetworks(t)
	switch {
	case !a.Insecure:
		t.bad("insecure", "this release speaks plain HTTP only, and that must be typed",
			"on a network that nobody else can reach, write insecure = true here and on the nodes")
	case len(a.AllowInsecureFrom) == 0 && t.values["allow_insecure_from"] == nil:
		t.bad("allow_insecure_from", "names no network", `add allow_insecure_from = ["10.0.9.0/24"]: the nodes' networks`)
	}
	t.finish()
	return a
}

func readNetworks(t *table) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range t.list("allow_insecure_from") {
		key := fmt.Sprintf("allow_insecure_from[%d]", i)
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
