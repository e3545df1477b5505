package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// WatchdogMode says what must be able to reset a node that holds a lease.
type WatchdogMode string

// There is no "off": without a reset nobody can promise that a hung node is silent.
const (
	// WatchdogRequired: a kernel watchdog, or no lease.
	WatchdogRequired WatchdogMode = "required"
	// WatchdogSystemd: the guard, its kill timer and systemd only. No bound when PID 1 or the kernel hangs.
	WatchdogSystemd WatchdogMode = "systemd"
)

// systemdWatchdog is what the systemd layers count as in WatchdogSystemd mode (worst seen: half of it).
const systemdWatchdog = time.Second

// DeviceAuto lets the guard choose the watchdog device: hardware before softdog.
const DeviceAuto = "auto"

// AcquireMode says when a node asks for a lease.
type AcquireMode string

// The modes of acquire.
const (
	AcquireAuto     AcquireMode = "auto"      // whenever this node could run the resources
	AcquireManual   AcquireMode = "manual"    // only on "leasedog acquire"
	AcquireOnDemand AcquireMode = "on-demand" // when the resource agent ocf:leasedog:lease is started
)

// Agent is a node's configuration, checked. The same file is used on both nodes. It comes only from LoadAgent and
// ParseAgent; treat it as read-only, then any number of goroutines may use it.
type Agent struct {
	Cluster  string
	Node     string // "": the name that Pacemaker knows this node by
	Insecure bool   // no TLS: anybody on the arbiter's network may take the leases
	Arbiter  AgentArbiter
	Watchdog Watchdog
	Clock    Clock
	Leases   []Lease

	budget lease.Budget
}

// AgentArbiter is how a node reaches the arbiter.
type AgentArbiter struct {
	URLs []string // such as https://10.0.9.1:7443: scheme, host and port, nothing after

	// Absolute paths; "" with Insecure.
	CA   string // bundle of the CAs that are trusted
	Cert string // this node's certificate, which says who it is
	Key  string

	KeyCredential string // systemd's name of the key instead of Key, or ""
}

// Where "leasedog join" puts a node's certificate when the configuration says nothing else.
const (
	DefaultCA   = "/etc/leasedog/pki/ca.pem"
	DefaultCert = "/etc/leasedog/pki/node.pem"
	DefaultKey  = "/etc/leasedog/pki/node.key"
)

// Watchdog is the [watchdog] table.
type Watchdog struct {
	Mode   WatchdogMode
	Device string // DeviceAuto or a path below /dev
}

// Lease is one [[lease]] table.
type Lease struct {
	Name         string
	Resources    []string // Pacemaker's ids of groups, primitives or promotable clones; at least one
	Acquire      AcquireMode
	Prefer       string        // node that asks first, or ""
	GiveUpAfter  time.Duration // a failed resource gives the lease to a ready peer after this long
	LeaveTimeout time.Duration // 0: the sum of the resources' stop timeouts
}

// Budget returns the effective budget: the profile's row with the single keys of [budget] in place and, in
// WatchdogSystemd mode, the watchdog of that mode. It satisfies every line of the arithmetic. The chances c are 1
// (kill timer); whoever finds that there is none takes WithoutKillTimer, and checks again.
func (a Agent) Budget() lease.Budget { return a.budget }

// Lease returns the lease of a name.
func (a Agent) Lease(name string) (Lease, bool) {
	for _, l := range a.Leases {
		if l.Name == name {
			return l, true
		}
	}
	return Lease{}, false
}

// LoadAgent reads a node's configuration. The error is an *Error with every problem of the file, which also covers a
// file that is missing, unreadable, empty, or writable by others than its owner.
func LoadAgent(path string) (Agent, error) {
	src, err := readFile(path, os.Geteuid())
	if err != nil {
		return Agent{}, err
	}
	return parseAgent(src, path)
}

// ParseAgent reads a node's configuration from r; name is what errors call it. The error is an *Error.
func ParseAgent(r io.Reader, name string) (Agent, error) {
	src, err := readAll(r, name)
	if err != nil {
		return Agent{}, err
	}
	return parseAgent(src, name)
}

// LoadBudget reads only the budget of a node's configuration, and also returns one that violates its arithmetic: for
// whoever prints it, never for use. Every other problem of the file is an *Error.
func LoadBudget(path string) (lease.Budget, error) {
	src, err := readFile(path, os.Geteuid())
	if err != nil {
		return lease.Budget{}, err
	}
	d, root := parse(src)
	var a Agent
	if root != nil {
		a = readAgent(root)
	}
	others := slices.DeleteFunc(d.sorted(), func(p Problem) bool { return p.arithmetic })
	if len(others) > 0 {
		return lease.Budget{}, &Error{File: path, Problems: others}
	}
	return a.budget, nil
}

func parseAgent(src []byte, name string) (Agent, error) {
	d, root := parse(src)
	var a Agent
	if root != nil {
		a = readAgent(root)
	}
	if len(d.problems) > 0 {
		return Agent{}, &Error{File: name, Problems: d.sorted()}
	}
	return a, nil
}

func readAgent(t *table) Agent {
	a := Agent{
		Cluster:  t.required("cluster", "erp"),
		Node:     t.text("node", ""),
		Insecure: t.flag("insecure"),
	}
	if a.Cluster != "" && !regexp.MustCompile(clusterPattern).MatchString(a.Cluster) {
		t.bad("cluster", fmt.Sprintf("%q is not a cluster's name", a.Cluster), "use 1 to 32 of a-z, 0-9 and '-', beginning and ending "+
			"with a letter or digit")
	}
	t.checkName("node", a.Node)
	a.Arbiter = readArbiterURLs(t.table("arbiter"), a.Insecure)
	a.Watchdog = readWatchdog(t.table("watchdog"))
	a.budget = readBudget(t, a.Watchdog)
	a.Clock = readClock(t.table("clock"))
	a.Leases = readLeases(t)
	t.finish()
	return a
}

func readArbiterURLs(t *table, insecure bool) AgentArbiter {
	a := AgentArbiter{URLs: t.list("urls"), CA: t.text("ca", DefaultCA), Cert: t.text("cert", DefaultCert), Key: t.text("key", DefaultKey)}
	for key, path := range map[string]*string{"ca": &a.CA, "cert": &a.Cert, "key": &a.Key} {
		_, typed := t.values[key]
		if key == "key" && !insecure && strings.HasPrefix(*path, credentialPrefix) {
			a.Key, a.KeyCredential = readKey(t, *path)
			continue
		}
		switch {
		case typed && insecure:
			t.bad(key, "has no effect with insecure = true", "remove it, or remove insecure = true and use https:// urls")
		case !insecure && (!filepath.IsAbs(*path) || filepath.Clean(*path) != *path):
			t.bad(key, fmt.Sprintf("%q is not an absolute path", *path), "begin with '/', without '..' and doubled '/'")
		}
		if insecure {
			*path = ""
		}
	}
	if v, ok := t.values["urls"].([]any); t.values["urls"] == nil || ok && len(v) == 0 {
		t.bad("urls", "names no arbiter", `add urls = ["https://ADDRESS:7443"] below [arbiter]`)
	}
	if len(a.URLs) > maxURLs {
		t.bad("urls", fmt.Sprintf("names %d arbiters", len(a.URLs)), fmt.Sprintf("at most %d are tried side by side", maxURLs))
	}
	for i, raw := range a.URLs {
		key := fmt.Sprintf("urls[%d]", i)
		what := checkURL(raw)
		switch {
		case what != "":
			t.bad(key, what, `write scheme, host and port only: "https://10.0.9.1:7443"`)
		case insecure && strings.HasPrefix(raw, "https://"):
			t.bad(key, "https with insecure = true", "remove insecure = true: nothing is both")
		case !insecure && strings.HasPrefix(raw, "http://"):
			t.bad(key, "plain http without insecure = true", "write https://. If anybody on that network may take the leases, write "+
				"insecure = true at the top of this file and in the arbiter's")
		}
	}
	t.finish()
	return a
}

func readWatchdog(t *table) Watchdog {
	w := Watchdog{
		Mode:   WatchdogMode(t.text("mode", string(WatchdogRequired))),
		Device: t.text("device", DeviceAuto),
	}
	if w.Mode != WatchdogRequired && w.Mode != WatchdogSystemd {
		t.bad("mode", fmt.Sprintf("%q is unknown", w.Mode), `use "required" (a kernel watchdog, or no lease) or "systemd" (no `+
			`bound when PID 1 or the kernel hangs; for containers); there is no "off"`)
		w.Mode = WatchdogRequired
	}
	if w.Device != DeviceAuto && !validDevice(w.Device) {
		t.bad("device", fmt.Sprintf("%q is not a device", w.Device), `use "auto" or a path such as "/dev/watchdog0"`)
	}
	if w.Mode == WatchdogSystemd && w.Device != DeviceAuto {
		t.bad("device", `has no effect with mode = "systemd"`, "remove one of them")
	}
	t.finish()
	return w
}

// validDevice accepts a clean path below /dev of visible ASCII.
func validDevice(path string) bool {
	for _, r := range path {
		if r <= ' ' || r > '~' {
			return false
		}
	}
	return strings.HasPrefix(path, "/dev/") && filepath.Clean(path) == path
}

func readBudget(root *table, w Watchdog) lease.Budget {
	name := root.text("profile", lease.DefaultProfile)
	b, err := lease.Profile(name)
	if err != nil {
		root.bad("profile", fmt.Sprintf("%q is unknown", name), "choose one of "+strings.Join(lease.ProfileNames(), ", "))
		b, _ = lease.Profile(lease.DefaultProfile) // to go on looking; the problem above stands
	}
	before := len(root.doc.problems)
	t := root.table("budget")
	b.RenewEvery = t.duration("renew_every", b.RenewEvery)
	b.RequestTimeout = t.duration("request_timeout", b.RequestTimeout)
	b.Attempts = t.integer("attempts", b.Attempts, 1, maxAttempts)
	b.LossAfter = t.duration("loss_after", b.LossAfter)
	b.StopBudget = t.duration("stop_budget", b.StopBudget)
	b.TimerSlack = t.duration("timer_slack", b.TimerSlack)
	b.Watchdog = t.duration("watchdog_timeout", b.Watchdog)
	b.Quantum = t.duration("watchdog_quantum", b.Quantum)
	b.ResetLatency = t.duration("reset_latency", b.ResetLatency)
	b.DriftPPM = t.integer("drift_ppm", b.DriftPPM, 0, maxDriftPPM)
	b.TTL = t.duration("ttl", b.TTL)
	b.Grace = t.duration("grace", b.Grace)
	t.finish()
	if w.Mode == WatchdogSystemd {
		for _, key := range []string{"watchdog_timeout", "watchdog_quantum"} {
			if _, ok := t.values[key]; ok {
				t.bad(key, `has no effect with watchdog.mode = "systemd", which counts as `+systemdWatchdog.String(),
					"remove it")
			}
		}
		b = b.WithWatchdog(systemdWatchdog)
	}
	if len(root.doc.problems) > before {
		return b // arithmetic with replaced numbers would only mislead
	}
	for _, v := range b.Violations() {
		at := "profile"
		if t.present {
			at = "budget"
		}
		what, _, _ := strings.Cut(v.String(), "; "+v.Advice)
		root.bad(at, "the budget is unsafe or useless: "+what, v.Advice+`; "leasedog budget" prints the arithmetic`)
		root.doc.problems[len(root.doc.problems)-1].arithmetic = true
	}
	return b
}

const (
	maxURLs     = 8
	maxAttempts = 100
	maxDriftPPM = 100_000

	// clusterPattern is what the arbiter takes as a cluster's name, and what a certificate may say.
	clusterPattern = `^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`
)
