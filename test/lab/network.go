package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// The networks of a cluster. They exist once in each cluster's own namespaces, so clusters may share the addresses.
const (
	heartbeatNet  = "10.77.1."
	lanNet        = "10.77.2."
	lanCIDR       = lanNet + "0/24"
	virtualIP     = lanNet + "100"
	arbiterPort   = lanNet + "9:7443"
	lockURL       = "http://" + lanNet + "9:8089"
	heartbeatLink = "heartbeat"
)

// Directions of a cut, as the node sees it.
const (
	BothWays = "both" // the cable is pulled
	In       = "in"   // packets towards the node are lost: it is heard and hears nothing
	Out      = "out"  // packets from the node are lost: it hears and is not heard
)

// Cut is one broken link. Link is "heartbeat", "node1-arbiter", "node2-arbiter", or a host for all its links.
type Cut struct {
	Link string `json:"link"`
	Way  string `json:"way"`
}

func (c Cut) String() string {
	if c.Way == BothWays {
		return c.Link
	}
	return c.Link + " one-way " + c.Way
}

// Links names what can be cut.
func Links() []string {
	return []string{heartbeatLink, "node1-arbiter", "node2-arbiter", Node1, Node2, Arbiter}
}

// addresses returns a host's links and its address on each.
func addresses(host string) map[string]string {
	last := map[string]string{Node1: "1", Node2: "2", Arbiter: "9"}[host]
	if host == Arbiter {
		return map[string]string{"lan": lanNet + last}
	}
	return map[string]string{"hb": heartbeatNet + last, "lan": lanNet + last}
}

// port is the switch's end of a host's link.
func port(link, host string) string { return link + "-" + host }

func hostPorts(host string) []string {
	var ports []string
	for link := range addresses(host) {
		ports = append(ports, port(link, host))
	}
	sort.Strings(ports)
	return ports
}

// ports returns what a cut breaks. A one-way cut of the heartbeat is seen from node1.
func (c Cut) ports() ([]string, error) {
	if c.Way != BothWays && c.Way != In && c.Way != Out {
		return nil, fmt.Errorf("cut %s: unknown direction %q (in or out)", c.Link, c.Way)
	}
	switch c.Link {
	case heartbeatLink:
		return []string{port("hb", Node1)}, nil
	case "node1-arbiter":
		return []string{port("lan", Node1)}, nil
	case "node2-arbiter":
		return []string{port("lan", Node2)}, nil
	case Node1, Node2, Arbiter:
		return hostPorts(c.Link), nil
	}
	return nil, fmt.Errorf("cut: no link or host is called %q (there are %s)", c.Link, strings.Join(Links(), ", "))
}

func (c *Cluster) makeNetwork(ctx context.Context) error {
	sw := c.full("sw")
	if _, err := run(ctx, "ip", "netns", "add", sw); err != nil {
		return fmt.Errorf("make the switch: %w", err)
	}
	batch := "link set lo up\nlink add hb type bridge\nlink set hb up\nlink add lan type bridge\nlink set lan up\n"
	for _, host := range Hosts() {
		if _, err := run(ctx, "ip", "netns", "add", c.full(host)); err != nil {
			return fmt.Errorf("make the network of %s: %w", host, err)
		}
		for link := range addresses(host) {
			p := port(link, host)
			batch += fmt.Sprintf("link add %s type veth peer name %s netns %s\nlink set %s master %s up\n",
				p, link, c.full(host), p, link)
		}
	}
	if _, err := runInput(ctx, batch, "ip", "-n", sw, "-batch", "-"); err != nil {
		return fmt.Errorf("wire the switch: %w", err)
	}
	rules := "table bridge lab {\n chain cuts {\n type filter hook prerouting priority 0; policy accept;\n }\n" +
		" chain cuts_out {\n type filter hook postrouting priority 0; policy accept;\n }\n}\n"
	if _, err := runInput(ctx, rules, "ip", "netns", "exec", sw, "nft", "-f", "-"); err != nil {
		return fmt.Errorf("prepare one-way cuts (the kernel needs nftables for bridges): %w", err)
	}
	return nil
}

// resetAddresses gives a host the addresses it boots with. The namespace outlives a reset of the container, and with
// it would a virtual address that the dead node had taken.
func (c *Cluster) resetAddresses(ctx context.Context, host string) error {
	batch := "link set lo up\n"
	for link, address := range addresses(host) {
		batch += fmt.Sprintf("address flush dev %s\naddress add %s/24 dev %s\nlink set %s up\n", link, address, link, link)
	}
	if _, err := runInput(ctx, batch, "ip", "-n", c.full(host), "-batch", "-"); err != nil {
		return fmt.Errorf("set the addresses of %s: %w", host, err)
	}
	return nil
}

// Cut breaks a link and keeps it broken over resets, until Heal.
func (c *Cluster) Cut(ctx context.Context, cut Cut) error {
	if _, err := cut.ports(); err != nil {
		return err
	}
	if err := c.update(func(s *State) { s.Cuts = append(s.Cuts, cut) }); err != nil {
		return err
	}
	return c.applyCuts(ctx)
}

// Heal mends every link.
func (c *Cluster) Heal(ctx context.Context) error {
	if err := c.update(func(s *State) { s.Cuts = nil }); err != nil {
		return err
	}
	return c.applyCuts(ctx)
}

// applyCuts makes the switch what the state says.
func (c *Cluster) applyCuts(ctx context.Context) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	down := map[string]bool{}
	rules := "flush chain bridge lab cuts\nflush chain bridge lab cuts_out\n"
	oneWay := false
	for _, cut := range s.Cuts {
		ports, err := cut.ports()
		if err != nil {
			return err
		}
		for _, p := range ports {
			switch cut.Way {
			case BothWays:
				down[p] = true
			case Out:
				rules += fmt.Sprintf("add rule bridge lab cuts iifname %q drop\n", p)
			case In:
				rules += fmt.Sprintf("add rule bridge lab cuts_out oifname %q drop\n", p)
			}
			oneWay = oneWay || cut.Way != BothWays
		}
	}
	batch := ""
	for _, host := range Hosts() {
		for _, p := range hostPorts(host) {
			batch += fmt.Sprintf("link set %s %s\n", p, map[bool]string{true: "down", false: "up"}[down[p]])
		}
	}
	sw := c.full("sw")
	if _, err := runInput(ctx, batch, "ip", "-n", sw, "-batch", "-"); err != nil {
		return fmt.Errorf("cut links: %w", err)
	}
	if oneWay || len(s.Cuts) == 0 {
		if _, err := runInput(ctx, rules, "ip", "netns", "exec", sw, "nft", "-f", "-"); err != nil {
			return fmt.Errorf("cut links one-way: %w", err)
		}
	}
	return nil
}

// silence takes a host off all networks at once, as the death of its kernel would: without it the host's kernel,
// which is the lab machine's, would still close its connections politely. Its next boot ends it.
func (c *Cluster) silence(ctx context.Context, host string) error {
	batch := ""
	for _, p := range hostPorts(host) {
		batch += fmt.Sprintf("link set %s down\n", p)
	}
	if _, err := runInput(ctx, batch, "ip", "-n", c.full("sw"), "-batch", "-"); err != nil {
		return fmt.Errorf("silence %s: %w", host, err)
	}
	return nil
}

func (c *Cluster) removeNetwork(ctx context.Context) error {
	var errs []error
	for _, part := range append(Hosts(), "sw") {
		name := c.full(part)
		if _, err := os.Stat(filepath.Join("/run/netns", name)); err != nil {
			continue
		}
		if _, err := run(ctx, "ip", "netns", "del", name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
