package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The hosts of every cluster. Nodes run the guarded group, the arbiter decides who may.
const (
	Node1   = "node1"
	Node2   = "node2"
	Arbiter = "arbiter"
)

// Nodes returns the two hosts that run Pacemaker.
func Nodes() []string { return []string{Node1, Node2} }

// Hosts returns all three containers of a cluster, the arbiter first because it is wanted first.
func Hosts() []string { return []string{Arbiter, Node1, Node2} }

// Peer returns the other node.
func Peer(node string) string {
	if node == Node1 {
		return Node2
	}
	return Node1
}

// Stack says what guards the group.
type Stack string

const (
	StackPlain    Stack = "plain"    // Pacemaker alone, without fencing
	StackNaive    Stack = "naive"    // a lock service and a resource agent that takes the lock
	StackClassic  Stack = "classic"  // the same agent, at the classic listener of our arbiter
	StackLeasedog Stack = "leasedog" // what this repository builds
)

// Config is all that decides how a cluster boots. Two clusters with equal Configs are interchangeable.
type Config struct {
	Suite   string        `json:"suite"`
	Stack   Stack         `json:"stack"`
	Profile string        `json:"profile,omitempty"`
	Token   time.Duration `json:"token"`
	// Systemd adds a member of class systemd to the group, Promotable a promotable clone beside it.
	Systemd    bool `json:"systemd,omitempty"`
	Promotable bool `json:"promotable,omitempty"`
	// TwoLeases adds a group of its own with a lease of its own.
	TwoLeases bool `json:"two_leases,omitempty"`
	// Insecure has the arbiter speak plain HTTP; otherwise the nodes join and prove themselves in TLS.
	Insecure bool `json:"insecure,omitempty"`
	// CertLife is the life of certificates, if not a year.
	CertLife time.Duration `json:"cert_life,omitempty"`
	// OrderFirst lets Pacemaker ask for the lease: a resource ocf:leasedog:lease, and the group behind it.
	OrderFirst bool `json:"order_first,omitempty"`
	// Bare leaves the hosts of a plain pair as they are before leasedog is installed, with the packages beside them.
	Bare bool `json:"bare,omitempty"`
	// Fence turns fencing on.
	Fence Fencing `json:"fence,omitempty"`
	// Mutant is a build tag of the node's binary with a mistake compiled in. Only for controls.
	Mutant string `json:"mutant,omitempty"`
}

// DefaultConfig is a leasedog pair as the demo shows it.
func DefaultConfig() Config {
	return Config{Suite: "bookworm", Stack: StackLeasedog, Profile: "lan", Token: time.Second}
}

// scheme is how the nodes reach the arbiter.
func (c Config) scheme() string {
	if c.Insecure {
		return "http://"
	}
	return "https://"
}

func (c Config) String() string {
	s := fmt.Sprintf("%s, %s", c.Suite, c.Stack)
	if c.Bare {
		s += ", packages not installed yet"
	}
	if c.Stack == StackLeasedog {
		s += ", profile " + c.Profile
		if c.Insecure {
			s += ", insecure"
		}
		if c.CertLife > 0 {
			s += ", certificates of " + c.CertLife.String()
		}
		if c.OrderFirst {
			s += ", order-first"
		}
		if c.Fence != NoFencing {
			s += ", fencing " + string(c.Fence)
		}
		if c.Mutant != "" {
			s += ", " + c.Mutant
		}
	}
	return s + fmt.Sprintf(", token %d ms", c.Token.Milliseconds())
}

// Fencing says with which devices a pair fences.
type Fencing string

const (
	NoFencing    Fencing = ""          // stonith-enabled=false
	FenceAlone   Fencing = "leasedog"  // fence_leasedog is the only device
	FenceBeside  Fencing = "topology"  // it comes first in a level with a device that writes down whom it would shoot
	FenceBesides Fencing = "unguarded" // alone, and the cluster has a resource that no lease guards
)

// State is what a cluster has on disk: enough for another command, or a later one after a kill, to go on.
type State struct {
	ID     string    `json:"id"`
	Config Config    `json:"config"`
	Ready  bool      `json:"ready"`
	Cuts   []Cut     `json:"cuts,omitempty"`
	Frozen []Process `json:"frozen,omitempty"`
	// Keepers are the supervisors and the observer, which outlive the command that started them.
	Keepers []Process `json:"keepers,omitempty"`
}

// Cluster is a handle of one cluster. Its methods may be called from several goroutines; state.json is changed under
// a file lock, so several commands may work on one cluster too.
type Cluster struct {
	ID   string
	Repo string // root of the repository
	Log  io.Writer

	mu sync.Mutex
}

// An ID is short because it is a part of names the kernel limits.
var errBadID = errors.New("a cluster's name is 1 to 12 of a-z and 0-9")

// Open returns a handle of the cluster named id, which need not exist.
func Open(id string, log io.Writer) (*Cluster, error) {
	if !regexp.MustCompile(`^[a-z0-9]{1,12}$`).MatchString(id) {
		return nil, fmt.Errorf("open cluster %q: %w", id, errBadID)
	}
	repo, err := findRepo()
	if err != nil {
		return nil, err
	}
	return &Cluster{ID: id, Repo: repo, Log: log}, nil
}

// findRepo walks up from the working directory, or else from the program, to the folder with go.mod.
func findRepo() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; dir != "/"; dir = filepath.Dir(dir) {
			mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && bytes.HasPrefix(mod, []byte("module github.com/leasedog/leasedog\n")) {
				return dir, nil
			}
		}
	}
	return "", errors.New("find the repository: run this inside of a clone of leasedog")
}

// Dir is the cluster's own folder; Down removes it.
func (c *Cluster) Dir() string { return filepath.Join(c.Repo, ".cache", "lab", "run", c.ID) }

// Shared is the folder that all hosts see as /shared. It is a tmpfs, so that no disk delays a heartbeat.
func (c *Cluster) Shared() string { return filepath.Join(c.Dir(), "shared") }

func (c *Cluster) hostDir(host string) string { return filepath.Join(c.Dir(), host) }

// full is the name of something of this cluster that lives in a name space of the whole machine.
func (c *Cluster) full(part string) string { return "leasedog-" + c.ID + "-" + part }

func (c *Cluster) logf(format string, args ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, format+"\n", args...)
	}
}

// ErrDown means that there is no such cluster, or that it did not come up whole.
var ErrDown = errors.New("the cluster is not up (run: bin/lab up)")

// State reads what is recorded. ErrDown when nothing is.
func (c *Cluster) State() (State, error) {
	var s State
	data, err := os.ReadFile(filepath.Join(c.Dir(), "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return s, ErrDown
	}
	if err != nil {
		return s, fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read state: %w", err)
	}
	return s, nil
}

// update changes the recorded state under the cluster's lock.
func (c *Cluster) update(change func(*State)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	lock, err := lockFile(filepath.Join(c.Dir(), "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := c.State()
	if err != nil && !errors.Is(err, ErrDown) {
		return err
	}
	s.ID = c.ID
	change(&s)
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	path := filepath.Join(c.Dir(), "state.json")
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// lockFile takes an exclusive lock that ends when the file is closed or the process dies.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// Up boots a fresh cluster and waits until it is settled. What an earlier one of this name left is removed first.
func (c *Cluster) Up(ctx context.Context, cfg Config) error {
	if os.Geteuid() != 0 {
		return errors.New("boot a cluster: this needs root")
	}
	start := time.Now()
	if err := c.Down(ctx); err != nil {
		return err
	}
	root, err := c.Rootfs(ctx, cfg.Suite)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Shared(), 0o755); err != nil {
		return fmt.Errorf("make the cluster's folder: %w", err)
	}
	if err := mountTmpfs(c.Shared(), "256m"); err != nil {
		return err
	}
	if err := c.update(func(s *State) { s.Config = cfg }); err != nil {
		return err
	}
	product := ""
	if cfg.Stack == StackLeasedog || cfg.Stack == StackClassic {
		if product, err = c.install(ctx, root, cfg.Mutant); err != nil {
			return err
		}
	}
	if cfg.Bare {
		if err := c.layOut(ctx, root); err != nil {
			return err
		}
	}
	if err := c.makeNetwork(ctx); err != nil {
		return err
	}
	if err := c.keep("observer", "observe"); err != nil {
		return err
	}
	for _, host := range Hosts() {
		if err := c.makeHost(ctx, cfg, host, root, product); err != nil {
			return fmt.Errorf("make %s: %w", host, err)
		}
		if err := c.keep(host, "supervise", host); err != nil {
			return err
		}
	}
	c.logf("booting arbiter, node1, node2 (%s)", cfg)
	if err := c.configure(ctx, cfg); err != nil {
		return err
	}
	if err := c.update(func(s *State) { s.Ready = true }); err != nil {
		return err
	}
	c.logf("up after %.1f s", time.Since(start).Seconds())
	return nil
}

// Ensure returns with a settled cluster of this configuration: the one that runs, or a new one.
func (c *Cluster) Ensure(ctx context.Context, cfg Config) error {
	if s, err := c.State(); err == nil && s.Ready && s.Config == cfg {
		return nil
	}
	return c.Up(ctx, cfg)
}

// Down ends everything of this cluster, also what a killed run left, and discards the nodes' disks.
func (c *Cluster) Down(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("end a cluster: this needs root")
	}
	if s, err := c.State(); err == nil {
		for _, p := range s.Keepers {
			p.kill()
		}
	}
	var errs []error
	for _, host := range Hosts() {
		errs = append(errs, c.killHost(ctx, host))
	}
	errs = append(errs, c.removeNetwork(ctx), unmountBelow(c.Dir()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end cluster %s: %w", c.ID, err)
	}
	if err := os.RemoveAll(c.Dir()); err != nil {
		return fmt.Errorf("end cluster %s: %w", c.ID, err)
	}
	return nil
}

// unmountBelow unmounts dir and everything under it, the deepest first.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var points []string
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\134`, `\`).Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	for i := len(points) - 1; i >= 0; i-- {
		if err := syscall.Unmount(points[i], syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", points[i], err)
		}
	}
	return nil
}

func mountTmpfs(dir, size string) error {
	if err := syscall.Mount("leasedog-lab", dir, "tmpfs", 0, "mode=0755,size="+size); err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	return nil
}
