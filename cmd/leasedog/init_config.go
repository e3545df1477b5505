package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pki"
)

// present is the configuration that is there.
type present struct {
	text   []byte
	exists bool
	blank  bool // comments only, as the package installs it
	conf   config.Agent
	err    error // why it is refused
}

func readPresent(path string) (present, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return present{}, nil
	}
	if err != nil {
		return present{}, fmt.Errorf("look for a configuration: %w", err)
	}
	p := present{text: text, exists: true, blank: true}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			p.blank = false
		}
	}
	p.conf, p.err = config.LoadAgent(path)
	return p, nil
}

// usable reports whether what is there says something that may be kept.
func (p present) usable() bool { return p.exists && !p.blank && p.err == nil }

// decide returns the configuration that this node should have: what flags say, else what is there already, else what was
// found, else what is answered.
func (s *setup) decide() (config.Agent, []byte, error) {
	if s.now.usable() && len(s.urls)+len(s.leases) == 0 && s.cluster == "" && s.profile == "" && s.watchdog == "" {
		return s.now.conf, s.now.text, s.needCode(s.now.conf)
	}
	if s.now.usable() && s.now.conf.Insecure {
		return config.Agent{}, nil, &exitError{code: exitFailure, err: fmt.Errorf("%s says insecure = true, and was not changed", s.o.configPath),
			hint: "init makes no such configuration: edit the file by hand, then run this without flags for the rest"}
	}
	s.keep()
	if err := s.fill(); err != nil {
		return config.Agent{}, nil, err
	}
	leases := make([]config.Lease, 0, len(s.leases))
	for _, l := range s.leases {
		name, list, _ := strings.Cut(l, "=")
		leases = append(leases, config.Lease{Name: name, Resources: strings.Split(list, ",")})
	}
	why := "as asked for"
	if s.profile == "" {
		var err error
		if s.profile, why, err = s.fits(leases); err != nil {
			return config.Agent{}, nil, s.notGuardable(err)
		}
	}
	text := s.compose(leases, why)
	conf, err := config.ParseAgent(strings.NewReader(text), s.o.configPath)
	if err != nil {
		return config.Agent{}, nil, inFlags(err)
	}
	for _, l := range conf.Leases {
		if _, err := s.stopsOf(l); err != nil {
			return config.Agent{}, nil, s.notGuardable(err)
		}
	}
	if err := s.refuseOther(conf); err != nil {
		return config.Agent{}, nil, err
	}
	return conf, []byte(text), s.needCode(conf)
}

// same reports whether what is there already means the same on this node.
func (s *setup) same(conf config.Agent) bool {
	was := s.now.conf
	return s.now.usable() && was.Digest() == conf.Digest() && was.Node == conf.Node && was.Watchdog == conf.Watchdog
}

// refuseOther is for a configuration that says something else, which somebody may have written for a reason.
func (s *setup) refuseOther(conf config.Agent) error {
	if s.same(conf) || !s.now.exists || s.now.blank || s.force {
		return nil
	}
	path := s.o.configPath
	return &exitError{code: exitFailure, err: fmt.Errorf("nothing was changed: %s is there already and says something else:\n%s", path, s.differs(conf)),
		hint: "run this without flags to go on with what is there, or with --force to replace it (it is kept as " + filepath.Base(path) + ".old)"}
}

func (s *setup) notGuardable(err error) error {
	return &exitError{code: exitFailure, err: fmt.Errorf("nothing was changed: %w", err), hint: s.couldGuard()}
}

func (s *setup) couldGuard() string {
	if len(s.found.guardable) == 0 {
		return "the cluster has nothing that a lease can guard: make the group first (with pcs resource create … --disabled it does not start yet)"
	}
	return "a lease can guard: " + strings.Join(s.found.guardable, ", ")
}

// keep takes from the configuration that is there what no flag says.
func (s *setup) keep() {
	if !s.now.usable() {
		return
	}
	was := s.now.conf
	if len(s.urls) == 0 {
		s.urls = was.Arbiter.URLs
	}
	if s.cluster == "" {
		s.cluster = was.Cluster
	}
	if len(s.leases) == 0 {
		for _, l := range was.Leases {
			s.leases = append(s.leases, l.Name+"="+strings.Join(l.Resources, ","))
		}
	}
	if s.profile == "" {
		s.profile = was.Budget().Profile
	}
	if s.watchdog == "" {
		s.watchdog = string(was.Watchdog.Mode)
	}
}

// fill asks for what is still unknown, or names all of it at once where nobody can be asked.
func (s *setup) fill() error {
	if s.cluster == "" {
		name := s.found.cib.Option("cluster-name").Value
		if _, err := pki.NodeIdentity(name, s.found.node); err == nil {
			s.cluster = name
		}
	}
	var missing []string
	if s.cluster == "" {
		if s.cluster = s.ask("Name of this cluster at the arbiter (a-z, 0-9 and -)"); s.cluster == "" {
			missing = append(missing, "--cluster NAME (Corosync's own is none that the arbiter takes)")
		}
	}
	if len(s.urls) == 0 {
		if url := s.ask("The arbiter's address, such as https://10.0.9.1:7443"); url != "" {
			s.urls = []string{url}
		} else {
			missing = append(missing, "--arbiter URL")
		}
	}
	if len(s.leases) == 0 {
		if s.in != nil {
			fmt.Fprintln(s.asks, s.couldGuard())
		}
		name := s.ask("Name of the lease, such as pg")
		if name != "" {
			list := s.ask("What it guards, with commas between")
			s.leases = []string{name + "=" + strings.ReplaceAll(list, " ", "")}
		} else {
			missing = append(missing, "--lease NAME=RESOURCE ("+s.couldGuard()+")")
		}
	}
	if len(missing) > 0 {
		return usageError("nothing was changed, and nobody is there to be asked; missing: %s", strings.Join(missing, "; "))
	}
	for i, u := range s.urls {
		s.urls[i] = completeURL(u)
	}
	return nil
}

// completeURL takes a bare host or address for the usual port there.
func completeURL(u string) string {
	if strings.Contains(u, "://") {
		return u
	}
	if !strings.Contains(u, ":") {
		u += ":7443"
	}
	return "https://" + u
}

// needCode asks for the code where there is no certificate yet.
func (s *setup) needCode(conf config.Agent) error {
	if conf.Insecure || s.code != "" || s.dryRun {
		return nil
	}
	if _, err := os.Lstat(conf.Arbiter.Cert); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	makes := fmt.Sprintf("leasedog-arbiter pki code %s %s", conf.Cluster, s.nodeName(conf))
	if s.code = s.ask("The code that \"" + makes + "\" prints at the arbiter"); s.code == "" {
		return &exitError{code: exitUsage, err: errors.New("nothing was changed: this node has no certificate yet, and --code is missing"), hint: "at the arbiter: " + makes}
	}
	return nil
}

// ask returns one line that is typed, "" without a terminal.
func (s *setup) ask(what string) string {
	if s.in == nil {
		return ""
	}
	fmt.Fprintf(s.asks, "%s: ", what)
	line, err := s.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return strings.TrimSpace(line)
}

// compose writes the configuration.
func (s *setup) compose(leases []config.Lease, why string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Written by \"leasedog init\"; leasedog.toml(5) explains every key. The same file on both nodes.")
	p("cluster = %s", strconv.Quote(s.cluster))
	p("profile = %s # %s", strconv.Quote(s.profile), why)
	p("")
	p("[arbiter]")
	p("urls = [%s]", quoted(s.urls))
	if s.watchdog == string(config.WatchdogSystemd) {
		p("")
		p("[watchdog]")
		p("mode = \"systemd\" # no kernel watchdog: nothing resets this node when PID 1 or the kernel hangs")
	}
	for _, l := range leases {
		p("")
		p("[[lease]]")
		p("name = %s", strconv.Quote(l.Name))
		p("resources = [%s]", quoted(l.Resources))
	}
	return b.String()
}

func quoted(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return strings.Join(out, ", ")
}

// inFlags says what is wrong in terms of what was typed, since the file is not there to look into.
func inFlags(err error) error {
	var ce *config.Error
	if !errors.As(err, &ce) {
		return err
	}
	p := ce.Problems[0]
	flag := p.Key
	for prefix, name := range map[string]string{"cluster": "--cluster", "arbiter.urls": "--arbiter", "lease": "--lease", "profile": "--profile", "watchdog": "--watchdog"} {
		if strings.HasPrefix(p.Key, prefix) {
			flag = name
		}
	}
	return &exitError{code: exitUsage, err: fmt.Errorf("nothing was changed: %s: %s", flag, p.What), hint: p.Do}
}

// write puts the configuration in its place, unless it is there, or something else is.
func (s *setup) write(conf config.Agent, text []byte) error {
	path := s.o.configPath
	switch {
	case s.same(conf):
		fmt.Fprintf(s.out, "configuration: %s is there, unchanged\n", path)
		return nil
	case s.dryRun:
		fmt.Fprintf(s.out, "configuration: would write %s:\n\n%s\n", path, text)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if s.now.exists && !s.now.blank {
		if err := replaceFile(path+".old", s.now.text); err != nil {
			return fmt.Errorf("keep the old configuration: %w", err)
		}
	}
	if err := replaceFile(path, text); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	fmt.Fprintf(s.out, "configuration: %s written\n", path)
	return nil
}

// differs lists the lines of both configurations, all values resolved, that the other one does not have.
func (s *setup) differs(conf config.Agent) string {
	if !s.now.usable() {
		return fmt.Sprintf("  it is refused: %v", s.now.err)
	}
	was, will := strings.Split(string(s.now.conf.TOML()), "\n"), strings.Split(string(conf.TOML()), "\n")
	var out []string
	for _, line := range was {
		if !slices.Contains(will, line) {
			out = append(out, "  there:     "+line)
		}
	}
	for _, line := range will {
		if !slices.Contains(was, line) {
			out = append(out, "  asked for: "+line)
		}
	}
	if len(out) == 0 {
		return "  the same lines in another order"
	}
	return strings.Join(out, "\n")
}

// replaceFile writes a file durably: after a crash the old one or the new one is there, whole.
func replaceFile(path string, text []byte) error {
	if err := renameio.WriteFile(path, text, 0o644, renameio.WithStaticPermissions(0o644)); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
