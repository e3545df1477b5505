package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
)

// places are where init looks and writes, which a test moves.
type places struct {
	root     string   // before /sys and /proc
	etc      string   // where modules-load.d and modprobe.d are
	corosync string   // Corosync's configuration
	bin      []string // where pcs and crm may be
}

// setup is one run of init.
type setup struct {
	o                      *options
	urls, leases           []string
	code, cluster          string
	profile, watchdog      string
	format                 string
	softdog, apply, dryRun bool
	yes, force             bool
	tools                  []string
	places                 places

	in    *bufio.Reader // what is typed; nil: nobody is asked
	out   io.Writer
	asks  io.Writer
	now   present
	found facts
}

func newInitCommand(o *options) *cobra.Command {
	s := &setup{o: o, places: places{etc: "/etc", corosync: corosyncConf, bin: []string{"/usr/sbin", "/usr/bin"}}}
	cmd := &cobra.Command{
		Use: "init", Args: noArgs,
		Short: "set this node up: configuration, certificate, Pacemaker's rules",
		Long: "Looks at Pacemaker, Corosync and the watchdogs of this node, asks on a terminal for what no flag says, writes the\n" +
			"configuration, joins the arbiter, and prints the rules for Pacemaker, or with --apply writes them. Run it on each node.\n" +
			"Nothing that runs is stopped, started or restarted. It may be run again: what is done already is left as it is, and a\n" +
			"configuration that says something else is replaced only with --force.\n" +
			"\"leasedog init --softdog\" does one thing only: it has the kernel's software watchdog loaded at each boot.",
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&s.urls, "arbiter", nil, "the arbiter's `URL`; may be given again for a second address of it")
	f.StringVar(&s.code, "code", "", "the `code` of \"leasedog-arbiter pki code CLUSTER NODE\", or - to read it from standard input")
	f.StringVar(&s.cluster, "cluster", "", "the cluster's `name` at the arbiter (default: Corosync's)")
	f.StringArrayVar(&s.leases, "lease", nil, "a lease and what it guards, as `NAME=RESOURCE[,RESOURCE]`; may be given again")
	f.StringVar(&s.profile, "profile", "", "`fast`, lan, standard or wan (default: what fits Corosync's token and the stop times seen)")
	f.StringVar(&s.watchdog, "watchdog", "", "`required` (the default) or systemd")
	f.StringVar(&s.format, "format", "", "print the rules for `pcs`, crmsh or xml (default: what is installed)")
	f.BoolVar(&s.softdog, "softdog", false, "only have softdog loaded at each boot")
	f.BoolVar(&s.apply, "apply", false, "write the rules and the cluster's properties; refused if that would stop anything")
	f.BoolVar(&s.dryRun, "dry-run", false, "only print what would be done")
	f.BoolVar(&s.yes, "yes", false, "do not ask before writing the rules")
	f.BoolVar(&s.force, "force", false, "replace a configuration that says something else; it is kept as FILE.old")
	f.StringSliceVar(&s.tools, "tools", nil, "look for Pacemaker's tools in these `folders`")
	return cmd
}

func (s *setup) run(cmd *cobra.Command) error {
	if err := s.checkFlags(cmd); err != nil {
		return err
	}
	s.out, s.asks = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if s.softdog {
		return s.loadSoftdog()
	}
	if isTerminal(cmd.InOrStdin()) {
		s.in = bufio.NewReader(cmd.InOrStdin())
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), pacemakerTime)
	defer cancel()
	var err error
	if s.now, err = readPresent(s.o.configPath); err != nil {
		return err
	}
	if s.found, err = s.look(ctx); err != nil {
		return err
	}
	conf, text, err := s.decide()
	if err != nil {
		return err
	}
	if err := s.report(conf); err != nil {
		return err
	}
	if err := s.checkWatchdog(conf); err != nil {
		return err
	}
	if err := s.write(conf, text); err != nil {
		return err
	}
	if err := s.join(cmd, conf); err != nil {
		return err
	}
	return s.rules(cmd, conf)
}

func (s *setup) checkFlags(cmd *cobra.Command) error {
	if err := s.o.noJSON("init"); err != nil {
		return err
	}
	modes := []string{"", string(config.WatchdogRequired), string(config.WatchdogSystemd)}
	switch {
	case s.softdog && slices.ContainsFunc([]string{"arbiter", "code", "cluster", "lease", "profile", "watchdog", "format", "apply", "yes"}, cmd.Flags().Changed):
		return usageError("--softdog stands alone, or with --dry-run or --force: run init again without it for the rest")
	case s.profile != "" && !slices.Contains(lease.ProfileNames(), s.profile):
		return usageError("--profile %s: choose one of %s", s.profile, strings.Join(lease.ProfileNames(), ", "))
	case !slices.Contains(modes, s.watchdog):
		return usageError("--watchdog %s: required, or systemd where no kernel watchdog can exist", s.watchdog)
	case !slices.Contains([]string{"", "pcs", "crmsh", "xml"}, s.format):
		return usageError("--format %s: use pcs, crmsh or xml", s.format)
	}
	for _, l := range s.leases {
		name, list, ok := strings.Cut(l, "=")
		if !ok || name == "" || slices.Contains(strings.Split(list, ","), "") {
			return usageError("--lease %s: write NAME=RESOURCE[,RESOURCE], such as --lease pg=g-pg", l)
		}
	}
	return nil
}

// join gets this node's certificate, where there is none yet.
func (s *setup) join(cmd *cobra.Command, conf config.Agent) error {
	if conf.Insecure {
		fmt.Fprintln(s.out, "certificate: none, since the configuration says insecure = true")
		return nil
	}
	files := nodeFiles(conf)
	if _, err := os.Lstat(files.Cert); !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(s.out, "certificate: %s is there, unchanged\n", files.Cert)
		return nil
	}
	if s.dryRun {
		fmt.Fprintf(s.out, "certificate: would join cluster %s as %s at %s\n", conf.Cluster, s.nodeName(conf), strings.Join(conf.Arbiter.URLs, " or "))
		return nil
	}
	j := &joinOptions{code: s.code, cluster: conf.Cluster, node: s.nodeName(conf)}
	files, id, err := j.self(cmd, s.o)
	if err != nil {
		return err
	}
	var failed []error
	for _, url := range conf.Arbiter.URLs {
		if err = j.enrol(cmd, url, files, id); err == nil {
			fmt.Fprintf(s.out, "certificate: %s, this node is %s\n", files.Cert, id)
			return nil
		}
		failed = append(failed, err)
	}
	var ee *exitError
	if errors.As(err, &ee) && ee.code == exitUsage {
		return err // the code is none, whatever the arbiter
	}
	return &exitError{code: exitUnavailable, err: fmt.Errorf("the configuration is written, the certificate is missing: %w", errors.Join(failed...)),
		hint: fmt.Sprintf("at the arbiter: leasedog-arbiter pki code %s %s; then run this again with that --code", conf.Cluster, s.nodeName(conf))}
}

// nodeName is this node's in its certificate: the one that the agent will use.
func (s *setup) nodeName(conf config.Agent) string {
	if conf.Node != "" {
		return conf.Node
	}
	return s.found.node
}

// rules prints or writes what "leasedog constraints all --cluster-options" does, and what comes next.
func (s *setup) rules(cmd *cobra.Command, conf config.Agent) error {
	c := &constraints{o: s.o, format: s.format, apply: s.apply, clusterOptions: true, dryRun: s.dryRun, yes: s.yes, tools: s.tools, out: s.out}
	if c.format == "" {
		c.format = s.found.shell
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), pacemakerTime)
	defer cancel()
	c.leases = conf.Leases // not read from the file, which a dry run has not written
	if err := c.connect(ctx); err != nil {
		return err
	}
	if err := c.makeRules(s.nodeName(conf)); err != nil {
		return err
	}
	if s.apply {
		return c.runApply(ctx, cmd)
	}
	fmt.Fprintf(s.out, "\nThe rules for %s, which stop what runs without the lease. \"leasedog init --apply\" writes them, once that is safe:\n", c.format)
	if err := c.print(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "\nnext, on the other node: %s\nthen, on both nodes: systemctl enable --now leasedog\n"+
		"then, on one: leasedog init --apply\n", s.otherNode(conf))
	return err
}

// otherNode is the command with which the other node gets the same configuration.
func (s *setup) otherNode(conf config.Agent) string {
	argv := []string{"leasedog init"}
	for _, u := range conf.Arbiter.URLs {
		argv = append(argv, "--arbiter "+u)
	}
	argv = append(argv, "--cluster "+conf.Cluster)
	for _, l := range conf.Leases {
		argv = append(argv, "--lease "+l.Name+"="+strings.Join(l.Resources, ","))
	}
	argv = append(argv, "--profile "+conf.Budget().Profile)
	if conf.Watchdog.Mode != config.WatchdogRequired {
		argv = append(argv, "--watchdog "+string(conf.Watchdog.Mode))
	}
	if !conf.Insecure {
		argv = append(argv, "--code CODE")
	}
	return strings.Join(argv, " ")
}
