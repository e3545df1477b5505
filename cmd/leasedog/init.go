package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/config"
)

// modulesFile and modprobeFile have the kernel's softdog at the next boot (modules-load.d(5), modprobe.d(5)).
const (
	modulesFile  = "etc/modules-load.d/leasedog.conf"
	modprobeFile = "etc/modprobe.d/leasedog.conf"
)

// initialize is "leasedog init".
type initialize struct {
	o      *options
	urls   []string
	name   string // of the cluster
	leases []string
	code   string

	profile, watchdog             string
	softdog, force, dryRun, apply bool
	tools                         []string
	root                          string
	cmd                           *cobra.Command
	found                         node
	answers                       *bufio.Reader
}

func newInitCommand(o *options) *cobra.Command {
	i := &initialize{o: o}
	cmd := &cobra.Command{
		Use: "init", Short: "configure this node: look at the cluster, write the configuration, join the arbiter",
		Long: "Looks at Pacemaker, the watchdogs and the stops that Pacemaker remembers; writes the configuration, in which what " +
			"is not given by a flag is asked for on a terminal; joins the arbiter with --code; and says what comes next. Nothing that " +
			"runs is touched. Run again it changes nothing, or says what differs: --force replaces it and keeps the old one beside it. " +
			"--apply also writes the rules, which is refused while that would stop anything.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i.cmd = cmd
			if err := o.noJSON("init"); err != nil {
				return err
			}
			return i.run()
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&i.urls, "arbiter", nil, "the arbiter's `URL`, or several addresses of it")
	f.StringVar(&i.name, "cluster", "", "the cluster's `name` at the arbiter")
	f.StringArrayVar(&i.leases, "lease", nil, "a lease and what it guards, as `NAME=RESOURCE[,RESOURCE]`; may be repeated")
	f.StringVar(&i.code, "code", "", "join with this `code`, which \"leasedog-arbiter pki code\" prints")
	f.StringVar(&i.profile, "profile", "", "timing `profile` (default: the fastest that fits the stops seen, or standard)")
	f.StringVar(&i.watchdog, "watchdog", "", "`required` (default) or systemd, where no kernel watchdog can exist")
	f.BoolVar(&i.softdog, "softdog", false, "load the kernel's software watchdog, now and at each boot")
	f.BoolVar(&i.apply, "apply", false, "write the rules and cluster options too, as constraints --apply does")
	f.BoolVar(&i.force, "force", false, "replace a configuration that differs; the old one is kept as FILE.before")
	f.BoolVar(&i.dryRun, "dry-run", false, "only say what would be done")
	f.StringSliceVar(&i.tools, "tools", nil, "look for Pacemaker's tools in these `folders`")
	f.StringVar(&i.root, "root", "/", "find watchdogs and write the softdog's files below this `folder`")
	return cmd
}

func (i *initialize) run() error {
	ctx, cancel := context.WithTimeout(i.cmd.Context(), pacemakerTime)
	defer cancel()
	if i.code != "" && len(i.urls) > 1 {
		return usageError("--code joins at one address: give one --arbiter, and add the others to the configuration")
	}
	if err := i.look(ctx); err != nil {
		return err
	}
	if err := i.ask(); err != nil {
		return err
	}
	text, err := i.compose()
	if err != nil {
		return err
	}
	if i.softdog {
		if err := i.loadSoftdog(ctx); err != nil {
			return err
		}
	}
	if err := i.write(text); err != nil {
		return err
	}
	if err := i.join(); err != nil {
		return err
	}
	return i.next()
}

func (i *initialize) say(format string, args ...any) {
	fmt.Fprintf(i.cmd.OutOrStdout(), format+"\n", args...)
}

// ask fills in from a terminal what no flag gave. Without a terminal each is an error that names its flag.
func (i *initialize) ask() error {
	var missing []string
	for _, q := range []struct {
		flag, what, fallback string
		have                 bool
		take                 func(string)
	}{
		{"--arbiter", "The arbiter's URL, such as https://10.0.9.1:7443", "", len(i.urls) > 0, func(s string) { i.urls = []string{s} }},
		{"--cluster", "The cluster's name at the arbiter", i.found.clusterName, i.name != "", func(s string) { i.name = s }},
		{"--lease", "A lease and what it guards, as NAME=RESOURCE", i.found.suggestion(), len(i.leases) > 0, func(s string) { i.leases = []string{s} }},
	} {
		if q.have {
			continue
		}
		answer := ""
		if isTerminal(i.cmd.InOrStdin()) {
			answer = i.question(q.what, q.fallback)
		}
		if answer == "" {
			missing = append(missing, q.flag)
			continue
		}
		q.take(answer)
	}
	if len(missing) > 0 {
		return usageError("init needs %s: nothing was written", strings.Join(missing, ", "))
	}
	return nil
}

func (i *initialize) question(what, fallback string) string {
	if i.answers == nil {
		i.answers = bufio.NewReader(i.cmd.InOrStdin())
	}
	if fallback != "" {
		what += " [" + fallback + "]"
	}
	fmt.Fprintf(i.cmd.ErrOrStderr(), "%s: ", what)
	answer, _ := i.answers.ReadString('\n')
	if answer = strings.TrimSpace(answer); answer == "" {
		return fallback
	}
	return answer
}

// compose makes the configuration and lets it be judged by what reads it, and each lease by Pacemaker's configuration.
func (i *initialize) compose() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written by leasedog init. The same on both nodes. leasedog.toml(5) explains the keys.\ncluster = %q\n", i.name)
	type parsed struct {
		name      string
		resources []string
	}
	var leases []parsed
	for _, l := range i.leases {
		name, list, ok := strings.Cut(l, "=")
		if !ok || name == "" || list == "" {
			return nil, usageError("--lease %q: must be NAME=RESOURCE[,RESOURCE], such as pg=g-pg", l)
		}
		leases = append(leases, parsed{name, strings.Split(list, ",")})
	}
	var resources []string
	for _, l := range leases {
		resources = append(resources, l.resources...)
	}
	profile, err := i.fit(resources)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "profile = %q\n\n[arbiter]\nurls = [", profile)
	for n, u := range i.urls {
		if n > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", u)
	}
	b.WriteString("]\n")
	if i.watchdog != "" {
		fmt.Fprintf(&b, "\n[watchdog]\nmode = %q\n", i.watchdog)
	}
	for _, l := range leases {
		fmt.Fprintf(&b, "\n[[lease]]\nname = %q\nresources = [", l.name)
		for n, r := range l.resources {
			if n > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%q", r)
		}
		b.WriteString("]\n")
	}
	if _, err := config.ParseAgent(bytes.NewReader(b.Bytes()), "(what init would write)"); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// write puts the configuration in place, whole or not at all.
func (i *initialize) write(text []byte) error {
	path := i.o.configPath
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	case bytes.Equal(effective(old), effective(text)):
		i.say("%s: is as it must be", path)
		return nil
	case len(effective(old)) > 0 && !i.force:
		return &exitError{code: exitFailure, err: fmt.Errorf("%s is configured already, and differs: nothing was written\n%s", path, difference(old, text)),
			hint: "edit it by hand (\"leasedog config check\"), or let --force replace it: the old one is kept as " + path + ".before"}
	}
	if i.dryRun {
		i.say("would write %s:\n%s", path, text)
		return nil
	}
	if len(effective(old)) > 0 {
		if err := renameio.WriteFile(path+".before", old, 0o644); err != nil {
			return fmt.Errorf("keep the old configuration: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := renameio.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	i.say("%s: written", path)
	return nil
}

// effective is what a configuration says, without comments and empty lines.
func effective(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			out = append(append(out, line...), '\n')
		}
	}
	return out
}

// difference lists the lines that only one of two configurations has.
func difference(old, text []byte) string {
	was := strings.Split(strings.TrimSpace(string(effective(old))), "\n")
	is := strings.Split(strings.TrimSpace(string(effective(text))), "\n")
	var out []string
	for _, l := range was {
		if !slices.Contains(is, l) {
			out = append(out, "  - "+l)
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			out = append(out, "  + "+l)
		}
	}
	return strings.Join(out, "\n")
}

// join gets the certificate, unless there is one.
func (i *initialize) join() error {
	conf, err := config.LoadAgent(i.o.configPath)
	switch {
	case i.dryRun || err != nil && i.dryRun:
		return nil
	case err != nil:
		return err
	case conf.Insecure:
		return nil
	}
	files := nodeFiles(conf)
	if _, err := os.Lstat(files.Cert); err == nil {
		i.say("%s: the certificate is there", files.Cert)
		return nil
	}
	if i.code == "" {
		i.say("no certificate yet: at the arbiter \"leasedog-arbiter pki code %s %s\" prints a code, then here: leasedog join %s --code CODE",
			conf.Cluster, i.found.name, conf.Arbiter.URLs[0])
		return nil
	}
	j := &joinOptions{code: i.code, node: i.found.name}
	files, id, err := j.self(i.cmd, i.o)
	if err != nil {
		return err
	}
	return j.join(i.cmd, conf.Arbiter.URLs[0], files, id)
}

// next says what is left to do, or does it.
func (i *initialize) next() error {
	if i.dryRun {
		return nil
	}
	if !i.apply {
		i.say("next, on both nodes: systemctl enable --now leasedog; then on one: leasedog constraints all --cluster-options --apply")
		return nil
	}
	c := &constraints{o: i.o, format: "pcs", apply: true, clusterOptions: true, tools: i.tools, yes: true, out: i.cmd.OutOrStdout()}
	ctx, cancel := context.WithTimeout(i.cmd.Context(), pacemakerTime)
	defer cancel()
	if err := c.read(ctx, allLeases); err != nil {
		return err
	}
	return c.runApply(ctx, i.cmd)
}

// softdogWait is how long udev may take to make the device.
const softdogWait = 5 * time.Second
