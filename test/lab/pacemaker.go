package lab

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

const (
	joinLimit   = 90 * time.Second // boot of all three hosts to one membership
	settleLimit = 120 * time.Second
)

// Membership is what one node thinks of the cluster.
type Membership struct {
	DC      string
	Online  []string // sorted
	Running map[string][]string
	Raw     string
}

type monitorXML struct {
	Summary struct {
		DC struct {
			Name string `xml:"name,attr"`
		} `xml:"current_dc"`
	} `xml:"summary"`
	Nodes []struct {
		Name   string `xml:"name,attr"`
		Online bool   `xml:"online,attr"`
	} `xml:"nodes>node"`
	Groups []struct {
		Resources []resourceXML `xml:"resource"`
	} `xml:"resources>group"`
	Single []resourceXML `xml:"resources>resource"`
}

type resourceXML struct {
	ID    string `xml:"id,attr"`
	Role  string `xml:"role,attr"`
	Nodes []struct {
		Name string `xml:"name,attr"`
	} `xml:"node"`
}

// Membership asks Pacemaker on one node. A daemon that hangs is an error after five seconds.
func (c *Cluster) Membership(ctx context.Context, node string) (Membership, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := c.Exec(ctx, node, "crm_mon", "-1", "--output-as=xml")
	if err != nil {
		return Membership{}, err
	}
	return parseMembership(out)
}

func parseMembership(text string) (Membership, error) {
	var doc monitorXML
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		return Membership{}, fmt.Errorf("read crm_mon: %w", err)
	}
	m := Membership{DC: doc.Summary.DC.Name, Running: map[string][]string{}, Raw: text}
	for _, n := range doc.Nodes {
		if n.Online {
			m.Online = append(m.Online, n.Name)
		}
	}
	sort.Strings(m.Online)
	resources := doc.Single
	for _, g := range doc.Groups {
		resources = append(resources, g.Resources...)
	}
	for _, r := range resources {
		for _, n := range r.Nodes {
			m.Running[r.ID] = append(m.Running[r.ID], n.Name)
		}
	}
	return m, nil
}

// together is nil when both nodes see both nodes.
func (c *Cluster) together(ctx context.Context) error {
	for _, node := range Nodes() {
		m, err := c.Membership(ctx, node)
		if err != nil {
			return err
		}
		if len(m.Online) != 2 {
			return fmt.Errorf("%s sees online: %s", node, strings.Join(m.Online, ", "))
		}
	}
	return nil
}

// idle is nil when the pair has one coordinator and that has nothing left to do.
func (c *Cluster) idle(ctx context.Context) error {
	m, err := c.Membership(ctx, Node1)
	if err != nil {
		return err
	}
	if m.DC == "" {
		return errors.New("the pair has no coordinator")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := c.Exec(ctx, m.DC, "crmadmin", "-S", m.DC)
	if err == nil && !strings.Contains(out, "S_IDLE") {
		err = fmt.Errorf("the coordinator is busy: %s", strings.TrimSpace(out))
	}
	return err
}

// configure waits for the pair to form and gives it its resources.
func (c *Cluster) configure(ctx context.Context, cfg Config) error {
	if cfg.Stack == StackLeasedog && !cfg.Insecure {
		if err := c.enrol(ctx); err != nil {
			return err
		}
	}
	if err := waitFor(ctx, "the pair to form", joinLimit, func() error { return c.together(ctx) }); err != nil {
		return err
	}
	// Without fencing, and with the right to run alone: this is the pair that splits its brain.
	options := map[string]string{"stonith-enabled": "false", "no-quorum-policy": "ignore",
		"start-failure-is-fatal": "false"}
	if err := c.setOptions(ctx, options); err != nil {
		return err
	}
	if err := c.loadResources(ctx, cfg); err != nil {
		return err
	}
	if err := c.enableFencing(ctx, cfg); err != nil {
		return err
	}
	return c.WaitSettled(ctx)
}

// loadResources replaces the resources. Under leasedog the group is held back until its rule is in place.
func (c *Cluster) loadResources(ctx context.Context, cfg Config) error {
	resources, err := render(cfg, "resources.xml")
	if err != nil {
		return err
	}
	if cfg.Stack != StackLeasedog {
		_, err := c.ExecInput(ctx, Node1, string(resources), "cibadmin", "--replace", "-o", "resources", "--xml-pipe")
		return err
	}
	if err := c.setOptions(ctx, map[string]string{"stop-all-resources": "true"}); err != nil {
		return err
	}
	if _, err := c.ExecInput(ctx, Node1, string(resources), "cibadmin", "--replace", "-o", "resources",
		"--xml-pipe"); err != nil {
		return err
	}
	if err := c.applyConstraints(ctx); err != nil {
		return err
	}
	if cfg.OrderFirst {
		influence := ` influence="false"` // else the group's rule would keep the lease where it is
		if cfg.Suite == "bullseye" {      // Pacemaker 2.0 does not know it
			influence = ""
		}
		for _, xml := range []string{`<rsc_order id="o-lease" first="lease" then="g-app"/>`,
			`<rsc_colocation id="c-lease" rsc="g-app" with-rsc="lease" score="INFINITY"` + influence + `/>`} {
			if _, err := c.ExecInput(ctx, Node1, xml, "cibadmin", "--create", "-o", "constraints", "--xml-pipe"); err != nil {
				return err
			}
		}
		// A new cluster is one once both nodes were seen at rest; a start that waits for that keeps them from it.
		err := waitFor(ctx, "the arbiter to hear both nodes", settleLimit, func() error {
			recovery, _, err := c.arbiterSays(ctx)
			if err == nil && recovery != "" {
				err = errors.New(recovery)
			}
			return err
		})
		if err != nil {
			return err
		}
		// It looks at what the cluster has, and must find nothing to say.
		if _, err := c.Exec(ctx, Node1, "leasedog", "ocf", "validate-all", leaseName, "--resource", leasePrimitive); err != nil {
			return err
		}
	}
	return c.setOptions(ctx, map[string]string{"stop-all-resources": "false"})
}

// setOptions changes cluster options in one write.
func (c *Cluster) setOptions(ctx context.Context, options map[string]string) error {
	var set strings.Builder
	set.WriteString(`<crm_config><cluster_property_set id="cib-bootstrap-options">`)
	for name, value := range options {
		fmt.Fprintf(&set, `<nvpair id="cib-bootstrap-options-%s" name="%s" value="%s"/>`, name, name, value)
	}
	set.WriteString(`</cluster_property_set></crm_config>`)
	_, err := c.Exec(ctx, Node1, "cibadmin", "--modify", "--allow-create", "-o", "crm_config", "--xml-text", set.String())
	return err
}

// Runs returns the nodes whose canary beat within the last moment.
func (c *Cluster) Runs() ([]string, error) {
	since := Now().Add(-3 * serveGap)
	var nodes []string
	for _, node := range Nodes() {
		beats, err := c.Beats(node, since)
		if err != nil {
			return nil, err
		}
		if len(beats) > 0 {
			nodes = append(nodes, node)
		}
	}
	return nodes, nil
}

// settled returns the one node that runs the whole group, or why there is no such.
func (c *Cluster) settled(ctx context.Context) (string, error) {
	runs, err := c.Runs()
	if err != nil {
		return "", err
	}
	if len(runs) != 1 {
		return "", fmt.Errorf("the canary lives on %d nodes", len(runs))
	}
	if err := c.together(ctx); err != nil {
		return "", err
	}
	if err := c.idle(ctx); err != nil {
		return "", err
	}
	s, err := c.State()
	if err != nil {
		return "", err
	}
	for _, node := range Nodes() {
		m, err := c.Membership(ctx, node)
		if err != nil {
			return "", err
		}
		for _, id := range groupMembers(s.Config) {
			if got := m.Running[id]; len(got) != 1 || got[0] != runs[0] {
				return "", fmt.Errorf("%s sees %s on %q, the canary lives on %s", node, id, got, runs[0])
			}
		}
	}
	if s.Config.Stack == StackLeasedog {
		if err := c.leaseSettled(ctx, runs[0]); err != nil {
			return "", err
		}
	}
	return runs[0], nil
}

// groupMembers lists the primitives of g-app.
func groupMembers(cfg Config) []string {
	members := []string{"canary", "vip"}
	if cfg.Stack == StackNaive || cfg.Stack == StackClassic {
		members = append(members, "lock")
	}
	if cfg.OrderFirst {
		members = append(members, leasePrimitive)
	}
	if cfg.Systemd {
		members = append(members, "slow")
	}
	return members
}

// WaitSettled waits until one node runs the group and both nodes agree on that.
func (c *Cluster) WaitSettled(ctx context.Context) error {
	return waitFor(ctx, "one node to run the group", settleLimit, func() error {
		_, err := c.settled(ctx)
		return err
	})
}

// Mend undoes every fault, forgets Pacemaker's failures, and waits until the pair is settled again.
func (c *Cluster) Mend(ctx context.Context) error {
	errs := []error{c.Thaw(), c.Unsteer(ctx), c.Heal(ctx)}
	for _, host := range Hosts() {
		errs = append(errs, c.StayDown(host, false))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	if err := waitFor(ctx, "the pair to form again", joinLimit, func() error { return c.together(ctx) }); err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	// What still runs may fail; it is forgotten only when it is over.
	if err := waitFor(ctx, "the pair to come to rest", settleLimit, func() error { return c.idle(ctx) }); err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	if _, err := c.Exec(ctx, Node1, "crm_resource", "--cleanup"); err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	if err := c.WaitSettled(ctx); err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	return nil
}
