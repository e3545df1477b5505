package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The units that leasedog installs.
const (
	agentUnit   = "leasedog.service"
	guardUnit   = "leasedog-guard.service"
	arbiterUnit = "leasedog-arbiter.service"
	leaseName   = "app"
)

// install builds leasedog and installs it into a folder that every host of the cluster has below its own disk: the same
// list of files that the packages are made of.
func (c *Cluster) install(ctx context.Context) (string, error) {
	dir := filepath.Join(c.Dir(), "product")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("install leasedog: %w", err)
	}
	// Two clusters may come up at once; one build after the other.
	lock, err := lockFile(filepath.Join(c.Repo, ".cache", "lab", "install.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := c.runLong(ctx, 10*time.Minute, "make", "install", "DESTDIR="+dir); err != nil {
		return "", fmt.Errorf("install leasedog: %w", err)
	}
	return dir, nil
}

// applyConstraints puts the lease's rule and the cluster options in place with leasedog's own command.
func (c *Cluster) applyConstraints(ctx context.Context) error {
	_, err := c.Exec(ctx, Node1, "leasedog", "constraints", "--apply", "--cluster-options", "--yes")
	return err
}

// LeaseStatus is the part of "leasedog status -o json" that the lab reads.
type LeaseStatus struct {
	Leases []struct {
		Name  string `json:"name"`
		State string `json:"state"` // of this node: standby, acquiring, held, leaving, losing, stopped
		Epoch uint64 `json:"epoch"`
		// Reason says why this node does not compete, when it does not.
		Reason string `json:"reason"`
	} `json:"leases"`
}

// Status asks the agent of one node. An agent that is frozen or gone is an error after three seconds.
func (c *Cluster) Status(ctx context.Context, node string) (LeaseStatus, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := c.Exec(ctx, node, "leasedog", "status", "-o", "json")
	// status speaks through its exit code too; what it printed counts.
	var s LeaseStatus
	if jsonErr := json.Unmarshal([]byte(out), &s); jsonErr != nil {
		if err == nil {
			err = jsonErr
		}
		return s, out, fmt.Errorf("read leasedog's status on %s: %w", node, err)
	}
	return s, out, nil
}

// leaseState returns what a node's agent says of the lease: its state, its epoch and the reason that goes with it.
func (c *Cluster) leaseState(ctx context.Context, node string) (state string, epoch uint64, reason string, err error) {
	s, _, err := c.Status(ctx, node)
	if err != nil {
		return "", 0, "", err
	}
	for _, l := range s.Leases {
		if l.Name == leaseName {
			return l.State, l.Epoch, l.Reason, nil
		}
	}
	return "", 0, "", fmt.Errorf("leasedog on %s knows no lease %q", node, leaseName)
}

// leaseSettled is nil when the agents agree that holder holds and the other stands by.
func (c *Cluster) leaseSettled(ctx context.Context, holder string) error {
	state, _, reason, err := c.leaseState(ctx, holder)
	if err != nil {
		return err
	}
	if state != "held" {
		return fmt.Errorf("%s runs the group and its lease is %s (%s)", holder, state, reason)
	}
	state, _, _, err = c.leaseState(ctx, Peer(holder))
	if err != nil {
		return err
	}
	if state != "standby" && state != "acquiring" {
		return fmt.Errorf("%s stands by and its lease is %s", Peer(holder), state)
	}
	return nil
}

// Cause reads a node's cause record, which survives a reset. Empty when there is none.
func (c *Cluster) Cause(node string) (string, error) {
	data, err := os.ReadFile(filepath.Join(c.hostDir(node), "root", "var/lib/leasedog/cause.json"))
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the cause record of %s: %w", node, err)
	}
	return strings.Join(strings.Fields(string(data)), " "), nil
}

// Journal returns what the units wrote since an instant, one line an entry, of all boots.
func (c *Cluster) Journal(ctx context.Context, host string, since Monotonic, units ...string) (string, error) {
	age := Now().Sub(since)
	wall := time.Now().Add(-age)
	argv := []string{"journalctl", "--quiet", "--no-pager", "-o", "short-precise", "--since", fmt.Sprintf("@%d", wall.Unix())}
	for _, unit := range units {
		argv = append(argv, "-u", unit)
	}
	return c.Exec(ctx, host, argv...)
}
