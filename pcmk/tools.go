package pcmk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/leasedog/leasedog/command"
)

// Runner runs a program; command.Exec is the real one. A non-zero exit code must be a *command.Error.
type Runner interface {
	Run(ctx context.Context, cmd command.Cmd) (command.Result, error)
}

// Tools are the absolute paths of the tools that this package calls.
type Tools struct {
	AttrdUpdater string
	Cibadmin     string
	CrmAttribute string
	CrmMon       string
	CrmNode      string
	CrmResource  string
	Crmadmin     string
}

// MissingToolError names a tool that is not installed, and the package that has it.
type MissingToolError struct {
	Tool    string
	Dirs    []string
	Package string // as Debian and RHEL name it
}

func (e *MissingToolError) Error() string {
	return fmt.Sprintf("%s is not in %s: install %s", e.Tool, strings.Join(e.Dirs, ":"), e.Package)
}

// FindTools looks every tool up in dirs (default /usr/sbin, /usr/bin). All missing ones are reported
// together; each is a *MissingToolError.
func FindTools(dirs ...string) (Tools, error) {
	if len(dirs) == 0 {
		dirs = []string{"/usr/sbin", "/usr/bin"}
	}
	var t Tools
	var missing []error
	for name, dst := range map[string]*string{
		"attrd_updater": &t.AttrdUpdater, "cibadmin": &t.Cibadmin, "crm_attribute": &t.CrmAttribute,
		"crm_mon": &t.CrmMon, "crm_node": &t.CrmNode, "crm_resource": &t.CrmResource, "crmadmin": &t.Crmadmin,
	} {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
				*dst = path
				break
			}
		}
		if *dst == "" {
			pkg := "pacemaker-cli-utils (Debian, Ubuntu) or pacemaker-cli (RHEL, SLES)"
			missing = append(missing, &MissingToolError{Tool: name, Dirs: dirs, Package: pkg})
		}
	}
	return t, errors.Join(missing...)
}

// Options of New. The zero value means this machine.
type Options struct {
	OCFRoot string // default /usr/lib/ocf
	InitDir string // default /etc/init.d
}

// Cluster asks Pacemaker on this node.
type Cluster struct {
	run     Runner
	tools   Tools
	ocfRoot string
	initDir string
}

// New panics without a Runner: that is a mistake in the program.
func New(run Runner, tools Tools, o Options) *Cluster {
	if run == nil {
		panic("pcmk: New without a Runner")
	}
	c := &Cluster{run: run, tools: tools, ocfRoot: o.OCFRoot, initDir: o.InitDir}
	if c.ocfRoot == "" {
		c.ocfRoot = "/usr/lib/ocf"
	}
	if c.initDir == "" {
		c.initDir = "/etc/init.d"
	}
	return c
}

func (c *Cluster) tool(ctx context.Context, path string, args ...string) (string, error) {
	res, err := c.run.Run(ctx, command.Cmd{Path: path, Args: args})
	return string(res.Stdout), err
}

// Pacemaker's exit codes that callers branch on (include/crm/common/results.h).
const (
	exitDisconnect = 102 // no connection to a daemon
	exitNoSuch     = 105
	exitExists     = 108
	exitNoDC       = 114 // since 3.0
)

// IsDown reports whether err says that a Pacemaker daemon was not there to connect to (exit code 102),
// which is no answer about the cluster's state: resources may run without daemons.
func IsDown(err error) bool { return exitCode(err) == exitDisconnect }

func exitCode(err error) int {
	var e *command.Error
	if errors.As(err, &e) && e.Exited() {
		return e.ExitCode
	}
	return -1
}

// LocalNode is this node's name as the cluster knows it, which need not be the host's name. Ask once and
// keep it: crm_node hangs when the controller does.
func (c *Cluster) LocalNode(ctx context.Context) (string, error) {
	out, err := c.tool(ctx, c.tools.CrmNode, "-n")
	if err != nil {
		return "", fmt.Errorf("ask for the local node's name: %w", err)
	}
	name := strings.TrimSpace(out)
	if err := checkNode(name); err != nil {
		return "", fmt.Errorf("ask for the local node's name: %w", err)
	}
	return name, nil
}

// checkNode refuses what could not be put into an XPath or an argument, an empty name above all.
func checkNode(name string) error {
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsAny(name, "'\" \t\r\n<>&") {
		return fmt.Errorf("node name %q cannot be used", name)
	}
	return nil
}

// Version is Pacemaker's version as its tools on this node name it, such as "2.1.5".
func (c *Cluster) Version(ctx context.Context) (string, error) {
	out, err := c.tool(ctx, c.tools.CrmMon, "--version")
	if err != nil {
		return "", fmt.Errorf("ask for Pacemaker's version: %w", err)
	}
	first, _, _ := strings.Cut(out, "\n")
	v, ok := strings.CutPrefix(strings.TrimSpace(first), "Pacemaker ")
	if !ok || v == "" || v[0] < '0' || v[0] > '9' {
		return "", fmt.Errorf("ask for Pacemaker's version: unexpected answer %q", first)
	}
	v, _, _ = strings.Cut(v, " ")
	return v, nil
}
