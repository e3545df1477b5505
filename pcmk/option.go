package pcmk

import (
	"context"
	"fmt"
	"strconv"
)

// OptionChange is a cluster option with what it is, what it should be, and why.
type OptionChange struct {
	Name   string
	Before Attribute // Absent: Pacemaker's default holds
	After  string    // "" if nothing is set here (see Reason)
	Reason string
}

// Needed reports whether there is something to set.
func (o OptionChange) Needed() bool {
	if o.After == "" || o.Before.State == Present && o.Before.Value == o.After {
		return false
	}
	a, b := parseBool(o.Before.Value), parseBool(o.After)
	if n, err := strconv.Atoi(o.After); err == nil { // 0 and 1 are numbers here, not booleans
		m, err := strconv.Atoi(o.Before.Value)
		return err != nil || m != n
	}
	return a == Unknown || a != b
}

// OptionChanges lists the cluster options that a guarded two-node cluster needs, whether they are as they
// should be or not.
func (c *CIB) OptionChanges() []OptionChange {
	change := func(name, after, reason string) OptionChange {
		return OptionChange{Name: name, Before: c.Option(name), After: after, Reason: reason}
	}
	changes := []OptionChange{
		change("no-quorum-policy", "ignore", "with two_node a node that starts alone has no quorum until it has seen its "+
			"peer; the lease, not the quorum, decides who may run. Resources that no lease guards lose this protection"),
		change("batch-limit", "-1", "under load Pacemaker otherwise allows one action at a time in the cluster: a fencing "+
			"action in flight then holds up the stop of a resource that has lost its lease"),
		change("start-failure-is-fatal", "false", "a start that fails once would otherwise keep the resource from the "+
			"node for good, and with it the lease from being of use there"),
	}
	stonith := c.Option("stonith-enabled")
	if c.HasStonithDevices() {
		if o := c.Option("startup-fencing"); o.State == Present && parseBool(o.Value) == No {
			changes = append(changes, change("startup-fencing", "true", "a node that boots while it is cut off would otherwise "+
				"start what no lease guards before its peer is known to be over"))
		}
		return append(changes, change("stonith-enabled", "true", "fencing devices are configured; with fencing the "+
			"cluster also recovers what no lease guards"))
	}
	o := change("stonith-enabled", "false", "no fencing device is configured, and Pacemaker starts nothing without one "+
		"unless fencing is off. A cluster without fencing is unsupported by RHEL and SLES; resources that no lease guards "+
		"run twice in a split")
	o.Before = stonith
	return append(changes, o)
}

// SetOption sets a cluster option and reads it back.
func (c *Cluster) SetOption(ctx context.Context, name, value string) error {
	// --update= in one word: a value such as -1 would else be taken for an option.
	_, err := c.tool(ctx, c.tools.CrmAttribute, "--type", "crm_config", "--name", name, "--update="+value)
	if err != nil {
		return fmt.Errorf("set cluster option %s=%s: %w", name, value, err)
	}
	cib, err := c.CIB(ctx)
	if err != nil {
		return fmt.Errorf("read cluster option %s back: %w", name, err)
	}
	if got := cib.Option(name); got.State != Present || got.Value != value {
		return fmt.Errorf("set cluster option %s=%s: %w (it is %q)", name, value, ErrNotApplied, got.Value)
	}
	return nil
}

// AlertAgent is the alert agent that has the agent look at the cluster when something happened; `make install` puts it there.
const AlertAgent = "/usr/share/leasedog/alerts/alert_leasedog.sh"

// AlertXML is what has Pacemaker run it.
const AlertXML = `<alert id="leasedog" path="` + AlertAgent + `"/>`

// HasAlert reports whether Pacemaker runs AlertAgent, whoever configured that.
func (c *CIB) HasAlert() bool {
	for a := range c.root.at("configuration", "alerts").each("alert") {
		if a.attr("path") == AlertAgent {
			return true
		}
	}
	return false
}

// LeftAlert reports whether the alert that AddAlert made is there, and nothing else of leasedog's any more.
func (c *CIB) LeftAlert() bool {
	for a := range c.root.at("configuration", "alerts").each("alert") {
		if a.attr("id") == "leasedog" && a.attr("path") == AlertAgent {
			return len(c.Dependents()) == 0
		}
	}
	return false
}

// RemoveAlert takes away what AddAlert made, if nothing else of leasedog's is there any more, and reads that back. It reports
// whether there was anything.
func (c *Cluster) RemoveAlert(ctx context.Context) (bool, error) {
	cib, err := c.CIB(ctx)
	if err != nil || !cib.LeftAlert() {
		return false, err
	}
	if _, err := c.tool(ctx, c.tools.Cibadmin, "--delete", "--scope", "alerts", "--xml-text", `<alert id="leasedog"/>`); err != nil {
		return false, fmt.Errorf("remove the alert: %w", err)
	}
	if cib, err = c.CIB(ctx); err != nil {
		return false, fmt.Errorf("read the alert back: %w", err)
	}
	if cib.LeftAlert() {
		return false, fmt.Errorf("remove the alert %s: %w", AlertAgent, ErrNotApplied)
	}
	return true, nil
}

// AddAlert has Pacemaker run AlertAgent, and reads that back.
func (c *Cluster) AddAlert(ctx context.Context) error {
	_, err := c.tool(ctx, c.tools.Cibadmin, "--modify", "--allow-create", "--scope", "configuration",
		"--xml-text", "<configuration><alerts>"+AlertXML+"</alerts></configuration>")
	if err != nil {
		return fmt.Errorf("add the alert: %w", err)
	}
	cib, err := c.CIB(ctx)
	if err != nil {
		return fmt.Errorf("read the alert back: %w", err)
	}
	if !cib.HasAlert() {
		return fmt.Errorf("add the alert %s: %w", AlertAgent, ErrNotApplied)
	}
	return nil
}
