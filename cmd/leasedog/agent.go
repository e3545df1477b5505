package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/agent/hooks"
	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/command"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/guard"
	"github.com/leasedog/leasedog/pcmk"
	"github.com/leasedog/leasedog/systemd"
)

const (
	runDir       = "/run/leasedog"
	corosyncConf = "/etc/corosync/corosync.conf"
)

// newAgentCommand returns "leasedog agent", which leasedog.service runs.
func newAgentCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "agent", Short: "the node daemon (started by systemd)", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAgent(cmd.Context(), o) },
	}
}

func runAgent(ctx context.Context, o *options) error {
	if ctx == nil {
		ctx = context.Background()
	}
	// It never has two things to do at once that are worth a second processor; waking one costs more than the work.
	runtime.GOMAXPROCS(1)
	log := newLog()
	defer drain(log)
	conf, err := loadAgentConfig(o.configPath, log)
	if err != nil {
		return err
	}
	live, err := openCredentials(conf, holdsSomething(), log)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	notify, err := systemd.NewNotifier()
	if err != nil {
		return fmt.Errorf("reach systemd: %w", err)
	}
	if err := notify.Ready("starting"); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	tools, err := pcmk.FindTools()
	if err != nil {
		return err
	}
	client, err := arbiterclient.New(arbiterclient.Options{URLs: conf.Arbiter.URLs, TLS: live, Insecure: conf.Insecure, Cluster: conf.Cluster,
		Node: conf.Node, RequestTimeout: conf.Budget().RequestTimeout, Version: version, ConfigDigest: conf.Digest()})
	if err != nil {
		return err
	}
	var certificate func(string) (*control.Certificate, []control.Alarm)
	if live != nil {
		renewer, stop := keepCertificate(live, client, log)
		defer stop()
		certificate = describeCertificate(renewer, conf)
	}
	return agent.New(agent.Options{
		Certificate: certificate,
		Config:      conf, ConfigPath: o.configPath, Version: version, Log: log,
		Arbiter: client, Tell: client.Tell, Guard: theGuard(),
		Cluster: pcmk.New(command.Exec{}, tools, pcmk.Options{}), Units: &units{}, Notify: notify,
		Preflight: preflight, Token: func() (time.Duration, error) { return corosyncToken(corosyncConf) },
		Now: boottime.Now, RunDir: runDir, StateDir: stateDir, Proc: pcmk.DefaultProc, Fstab: "/etc/fstab",
		CIBDir: "/var/lib/pacemaker/cib",
		Socket: o.socketPath,
		Gates:  hooks.Folder{Path: "/etc/leasedog/before-acquire.d"}, Alerts: hooks.Folder{Path: "/etc/leasedog/alerts.d"},
	}).Run(ctx, signals)
}

// lastGood is the configuration that the last agent of this boot ran with.
const lastGood = runDir + "/last-good.toml"

// loadAgentConfig reads the configuration. One that is refused must not cost a lease that is held: then the last
// good one of this boot is used, and said.
func loadAgentConfig(path string, log *logrus.Logger) (config.Agent, error) {
	conf, err := config.LoadAgent(path)
	if err == nil {
		if err := renameio.WriteFile(lastGood, conf.TOML(), 0o600); err != nil {
			return conf, fmt.Errorf("keep the configuration for a successor: %w (is %s there? systemd-tmpfiles --create)", err, runDir)
		}
		return conf, nil
	}
	if !holdsSomething() {
		return conf, err
	}
	old, oldErr := config.LoadAgent(lastGood)
	if oldErr != nil {
		return conf, err
	}
	log.WithError(err).Errorf("the configuration is refused; while a lease is held the last good one is used. Mend %s, then systemctl restart leasedog", path)
	return old, nil
}

// preflight runs "leasedog guard --preflight" in a process of its own, since what it tries (locked memory, real-time
// priority) stays with a process.
func preflight(ctx context.Context) (agent.Preflight, error) {
	self, err := os.Executable()
	if err != nil {
		return agent.Preflight{}, fmt.Errorf("find the guard's program: %w", err)
	}
	self = strings.TrimSuffix(self, " (deleted)") // upgraded meanwhile: the guard starts from the new one
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	res, runErr := command.Exec{}.Run(ctx, command.Cmd{Path: self, Args: []string{"guard", "--preflight", "--json"}})
	var r guard.Report
	if err := json.Unmarshal(res.Stdout, &r); err != nil {
		return agent.Preflight{}, errors.Join(runErr, fmt.Errorf("read the preflight's report: %w", err))
	}
	if r.Problem != "" {
		return agent.Preflight{}, errors.New(r.Problem)
	}
	if runErr != nil {
		return agent.Preflight{}, runErr
	}
	p := agent.Preflight{Chances: r.Chances, Warnings: r.Warnings}
	if r.WatchdogKnown {
		p.Watchdog = r.Watchdog
	}
	return p, nil
}

// maxToken is more than any cluster waits for a token.
const maxToken = 24 * time.Hour

// corosyncToken reads totem.token of corosync.conf(5), in milliseconds; absent is Corosync's default.
func corosyncToken(path string) (time.Duration, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read Corosync's token timeout: %w", err)
	}
	defer f.Close()
	var section []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		key, value, pair := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasSuffix(line, "{"):
			section = append(section, strings.TrimSpace(strings.TrimSuffix(line, "{")))
		case line == "}" && len(section) > 0:
			section = section[:len(section)-1]
		case pair && len(section) == 1 && section[0] == "totem" && strings.TrimSpace(key) == "token":
			ms, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || ms <= 0 || ms > int(maxToken/time.Millisecond) {
				return 0, fmt.Errorf("read Corosync's token timeout: %s: token: %q", path, strings.TrimSpace(value))
			}
			return time.Duration(ms) * time.Millisecond, nil
		}
	}
	return defaultToken, lines.Err()
}
