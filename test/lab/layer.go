package lab

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed files
var files embed.FS

// labBin is where the lab's own program stands inside of every host.
const labBin = "usr/lib/leasedog-lab/lab"

// A layerFile is one file that the lab puts on a host's disk.
type layerFile struct {
	path, source string
	mode         os.FileMode
}

// layerFiles is the list for one host: the same on both nodes, so that nothing depends on which one runs.
func layerFiles(cfg Config, host string) []layerFile {
	if host == Arbiter {
		list := []layerFile{{"usr/lib/systemd/system/lab-lock.service", "lab-lock.service", 0o644}}
		if cfg.Stack == StackLeasedog || cfg.Stack == StackClassic {
			list = append(list, layerFile{"etc/leasedog/arbiter.toml", "arbiter.toml", 0o644})
		}
		return list
	}
	list := []layerFile{
		{"etc/corosync/corosync.conf", "corosync.conf", 0o644},
		{"usr/lib/ocf/resource.d/lab/canary", "canary", 0o755},
		{"usr/lib/ocf/resource.d/lab/lock", "lock", 0o755},
		{"usr/sbin/fence_lab", "fence-lab", 0o755},
		{"usr/sbin/fence_lab_record", "fence-lab-record", 0o755},
		{"usr/lib/leasedog-lab/slow-stop", "slow-stop", 0o755},
		{"usr/lib/systemd/system/lab-slow.service", "lab-slow.service", 0o644},
	}
	if cfg.Stack == StackLeasedog {
		list = append(list, layerFile{"etc/leasedog/leasedog.toml", "leasedog.toml", 0o600})
	}
	return list
}

// unitsOf says which units a host has enabled and masked. Nothing else is ever started by the lab.
func unitsOf(cfg Config, host string) map[string][]string {
	units := map[string][]string{}
	if host == Arbiter {
		units["mask"] = []string{"corosync.service", "pacemaker.service"}
		if cfg.Stack == StackNaive {
			units["enable"] = []string{"lab-lock.service"}
		}
		if cfg.Stack == StackLeasedog || cfg.Stack == StackClassic {
			units["enable"] = []string{arbiterUnit}
		}
		return units
	}
	units["enable"] = []string{"corosync.service", "pacemaker.service"}
	if cfg.Stack == StackLeasedog {
		units["enable"] = append(units["enable"], agentUnit)
	}
	return units
}

// values are what the templates may use.
type values struct {
	Config
	Token                        int64
	Heartbeat1, Heartbeat2       string
	ArbiterURL, LAN, VirtualIP   string
	Resources                    []string
	PromotedRole, UnpromotedRole string
}

func valuesOf(cfg Config) values {
	v := values{Config: cfg, Token: cfg.Token.Milliseconds(), Heartbeat1: addresses(Node1)["hb"],
		Heartbeat2: addresses(Node2)["hb"], ArbiterURL: cfg.scheme() + arbiterPort, LAN: lanCIDR, VirtualIP: virtualIP,
		Resources: []string{"g-app"}, PromotedRole: "Promoted", UnpromotedRole: "Unpromoted"}
	if cfg.Promotable {
		v.Resources = append(v.Resources, "ms-state")
	}
	if cfg.Suite == "bullseye" { // Pacemaker 2.0 knows the old names only.
		v.PromotedRole, v.UnpromotedRole = "Master", "Slave"
	}
	return v
}

// render fills in one of the embedded files.
func render(cfg Config, source string) ([]byte, error) {
	text, err := files.ReadFile("files/" + source)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", source, err)
	}
	text = bytes.ReplaceAll(text, []byte("@LOCK_URL@"), []byte(lockURL))
	t, err := template.New(source).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", source, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, valuesOf(cfg)); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", source, err)
	}
	return out.Bytes(), nil
}

// writeLayer fills a host's layer.
func (c *Cluster) writeLayer(cfg Config, host, dir string) error {
	for _, f := range layerFiles(cfg, host) {
		content, err := render(cfg, f.source)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, f.path), content, f.mode); err != nil {
			return err
		}
	}
	texts := map[string]string{
		"etc/hostname":   host + "\n",
		"etc/machine-id": newMachineID(),
		"etc/hosts": "127.0.0.1 localhost\n" + lanNet + "1 node1\n" + lanNet + "2 node2\n" +
			lanNet + "9 arbiter\n",
	}
	for path, text := range texts {
		if err := writeFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.steerDir(host), 0o755); err != nil {
		return fmt.Errorf("make the steering folder: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the lab's program: %w", err)
	}
	return copyFile(exe, filepath.Join(dir, labBin))
}

func writeFile(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(fmt.Errorf("copy %s: %w", from, err), out.Close())
	}
	return out.Close()
}

// What a node's canary and slow service can be told to do.
const (
	StopHang   = "stop-hang"   // the canary's stop hangs while the file exists
	StopDelay  = "stop-delay"  // seconds
	StartDelay = "start-delay" // seconds
	StartFail  = "start-fail"
	// NotInstalled makes every action of the canary say that its software is missing.
	NotInstalled = "not-installed"
	SlowHang     = "slow-hang" // ExecStop= of lab-slow.service hangs
)

func (c *Cluster) steerDir(node string) string { return filepath.Join(c.Shared(), "steer", node) }

// Steer makes a node's resources misbehave until Unsteer.
func (c *Cluster) Steer(node, what, value string) error {
	return writeFile(filepath.Join(c.steerDir(node), what), []byte(value), 0o644)
}

// Unsteer lets every node's resources behave again.
func (c *Cluster) Unsteer(context.Context) error {
	for _, node := range Nodes() {
		entries, err := os.ReadDir(c.steerDir(node))
		if err != nil {
			return fmt.Errorf("unsteer: %w", err)
		}
		for _, entry := range entries {
			if err := os.Remove(filepath.Join(c.steerDir(node), entry.Name())); err != nil {
				return fmt.Errorf("unsteer: %w", err)
			}
		}
	}
	return nil
}
