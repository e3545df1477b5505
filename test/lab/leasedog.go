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
	agentUnit     = "leasedog.service"
	guardUnit     = "leasedog-guard.service"
	arbiterUnit   = "leasedog-arbiter.service"
	pacemakerUnit = "pacemaker.service"
	leaseName     = "app"
	// secondLease guards g-two where Config.TwoLeases says so.
	secondLease = "two"
)

// applyConstraints puts the lease's rule and the cluster options in place with leasedog's own command.
func (c *Cluster) applyConstraints(ctx context.Context) error {
	_, err := c.Exec(ctx, Node1, "leasedog", "constraints", "all", "--apply", "--cluster-options", "--yes")
	return err
}

// LeaseStatus is what one node's agent says of one lease: the part of "leasedog status -o json" that the lab reads. It
// is written down here once more on purpose, as a script of an administrator would have it.
type LeaseStatus struct {
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Epoch   uint64   `json:"epoch"`
	Holder  string   `json:"holder"`
	WhyNot  []string `json:"why_not"`
	MarginS *float64 `json:"margin_s"`
}

// Status asks the agent of one node about the lab's lease and returns the whole text too. An agent that is frozen or
// gone is an error after three seconds.
func (c *Cluster) Status(ctx context.Context, node string) (LeaseStatus, string, error) {
	return c.StatusOf(ctx, node, leaseName)
}

// StatusOf is Status for a lease by name.
func (c *Cluster) StatusOf(ctx context.Context, node, name string) (LeaseStatus, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := c.Exec(ctx, node, "leasedog", "status", "-o", "json")
	if err != nil {
		return LeaseStatus{}, out, err
	}
	var status struct {
		Leases []LeaseStatus `json:"leases"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return LeaseStatus{}, out, fmt.Errorf("read leasedog's status on %s: %w", node, err)
	}
	for _, l := range status.Leases {
		if l.Name == name {
			return l, out, nil
		}
	}
	return LeaseStatus{}, out, fmt.Errorf("leasedog on %s knows no lease %q", node, name)
}

// ArbiterLease is what the arbiter says of one lease: the part of "leasedog-arbiter status -o json" that the lab reads.
type ArbiterLease struct {
	Lease  string `json:"lease"`
	State  string `json:"state"`
	Epoch  uint64 `json:"epoch"`
	Holder string `json:"holder"`
}

// arbiterCluster is a cluster as leasedog-arbiter status tells it.
type arbiterCluster struct {
	Recovery string         `json:"recovery"`
	Leases   []ArbiterLease `json:"leases"`
	Nodes    []struct {
		Node   string `json:"node"`
		Barred bool   `json:"barred"`
	} `json:"nodes"`
}

func (c *Cluster) arbiterStatus(ctx context.Context) ([]arbiterCluster, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := c.Exec(ctx, Arbiter, "leasedog-arbiter", "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var status struct {
		Clusters []arbiterCluster `json:"clusters"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return nil, fmt.Errorf("read the arbiter's status: %w", err)
	}
	return status.Clusters, nil
}

// arbiterSays asks the arbiter about the lab's lease; recovery is what a recovery of the cluster waits for, "" outside
// of one.
func (c *Cluster) arbiterSays(ctx context.Context) (recovery string, l ArbiterLease, err error) {
	clusters, err := c.arbiterStatus(ctx)
	if err != nil {
		return "", l, err
	}
	for _, cluster := range clusters {
		recovery = cluster.Recovery
		for _, l := range cluster.Leases {
			if l.Lease == leaseName {
				return recovery, l, nil
			}
		}
	}
	return recovery, l, fmt.Errorf("the arbiter knows no lease %q", leaseName)
}

// leaseSettled is nil when the agents agree that holder holds and the other stands by.
func (c *Cluster) leaseSettled(ctx context.Context, holder string) error {
	l, _, err := c.Status(ctx, holder)
	if err != nil {
		return err
	}
	if l.State != "held" {
		return fmt.Errorf("%s runs the group and its lease is %s %q", holder, l.State, l.WhyNot)
	}
	l, _, err = c.Status(ctx, Peer(holder))
	if err != nil {
		return err
	}
	state, err := c.State()
	if err != nil {
		return err
	}
	if state.Config.Fence != NoFencing {
		if err := c.nobodyBarred(ctx); err != nil {
			return err
		}
	}
	if state.Config.OrderFirst { // it does not ask before Pacemaker does
		if l.State != "standby" {
			return fmt.Errorf("%s stands by and its lease is %s %q", Peer(holder), l.State, l.WhyNot)
		}
		return nil
	}
	if l.State != "acquiring" { // a ready standby waits in a parked acquire
		return fmt.Errorf("%s stands by and its lease is %s %q", Peer(holder), l.State, l.WhyNot)
	}
	return nil
}

// nobodyBarred is nil when no node is to be reset yet because of its fencing.
func (c *Cluster) nobodyBarred(ctx context.Context) error {
	clusters, err := c.arbiterStatus(ctx)
	if err != nil {
		return err
	}
	for _, cluster := range clusters {
		for _, n := range cluster.Nodes {
			if n.Barred {
				return fmt.Errorf("%s is barred, and about to reset itself", n.Node)
			}
		}
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

// Why asks a node for the reason of its last reset, in the words of an administrator's command.
func (c *Cluster) Why(ctx context.Context, node string) (string, error) {
	out, err := c.Exec(ctx, node, "leasedog", "why")
	first, _, _ := strings.Cut(out, "\n") // the rest is the history
	return strings.TrimSpace(first), err
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
