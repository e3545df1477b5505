package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/arbiter"
	"github.com/leasedog/leasedog/arbiter/store/bolt"
	"github.com/leasedog/leasedog/config"
)

// grace is G of a pause: what the arbiter adds to the hold that the node's numbers need.
const grace = time.Second

func newServeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "serve leases until told to stop", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return serve(ctx, o.configPath)
		},
	}
}

func newLog() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(os.Stderr)
	// Under journald every line has its time already.
	log.SetFormatter(&logrus.TextFormatter{
		DisableColors: true, DisableTimestamp: os.Getenv("JOURNAL_STREAM") != "", FullTimestamp: true,
	})
	return log
}

func serve(ctx context.Context, configPath string) error {
	cfg, err := config.LoadArbiter(configPath)
	if err != nil {
		return err
	}
	log := newLog()
	opt, err := identityOptions(cfg)
	if err != nil {
		return err
	}
	machine, err := machineID()
	if err != nil {
		return err
	}
	store, err := bolt.Open(bolt.Options{Path: cfg.Store, MachineID: machine, History: cfg.History, Wall: time.Now})
	if err != nil {
		if errors.Is(err, bolt.ErrInUse) {
			return &exitError{code: exitUnavailable, err: err,
				hint: "is another leasedog-arbiter running? \"systemctl status leasedog-arbiter\""}
		}
		return err
	}
	defer store.Close()
	if aside := store.Aside(); aside != "" {
		log.WithField("path", aside).Error("the store could not be read and was moved aside: every cluster goes through recovery")
	}
	if store.Suspect() {
		log.Error("the store was last written on another machine: every cluster that was goes through recovery")
	}
	opt.Store, opt.Log, opt.NewStoreID = store, log, newStoreID
	opt.MinHold, opt.MaxHold, opt.MaxPause, opt.Grace, opt.DriftPPM = cfg.MinHold, cfg.MaxHold, cfg.MaxPause, grace, cfg.DriftPPM
	opt.Classic = arbiter.Classic{From: cfg.Classic.AllowFrom}
	srv, err := arbiter.New(opt)
	if err != nil {
		return err
	}
	defer srv.Close()
	doors, err := open(cfg, srv)
	if err != nil {
		return err
	}
	for _, d := range doors {
		log.WithField("address", d.listener.Addr().String()).Log(d.level, d.log)
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.WithError(err).Warn("systemd was not told that the arbiter is ready")
	}
	ctx, cancel := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	defer keeping.Wait()
	defer cancel()
	if opt.TLS != nil {
		keeping.Go(func() { opt.Folder.Keep(ctx, opt.TLS, cfg.CertLife, noteTo(log)) })
		keeping.Go(func() { warnOfEnds(ctx, log, opt.TLS) })
	}
	return serveAll(ctx, doors)
}

// door is a socket and what answers there. It owns the socket.
type door struct {
	listener net.Listener
	serve    func(context.Context, net.Listener) error
	level    logrus.Level
	log      string
}

// open opens every socket, or none.
func open(cfg config.Arbiter, srv *arbiter.Server) ([]door, error) {
	var doors []door
	add := func(l net.Listener, err error, serve func(context.Context, net.Listener) error, level logrus.Level, log string) error {
		if err == nil {
			doors = append(doors, door{l, serve, level, log})
			return nil
		}
		for _, d := range doors {
			_ = d.listener.Close()
		}
		return fmt.Errorf("listen: %w", err)
	}
	nodes, err := net.Listen("tcp", cfg.Listen)
	level, how := logrus.InfoLevel, "serving leases"
	if cfg.Insecure {
		level, how = logrus.WarnLevel, "serving leases (insecure: plain HTTP)"
	}
	if err := add(nodes, err, srv.Serve, level, how); err != nil {
		return nil, err
	}
	if cfg.Classic.Listen != "" {
		old, err := net.Listen("tcp", cfg.Classic.Listen)
		if err := add(old, err, srv.ServeClassic, logrus.WarnLevel, "serving classic locks (legacy: plain HTTP, and no guard)"); err != nil {
			return nil, err
		}
	}
	control, err := listenControl(cfg.Control)
	if err := add(control, err, srv.ServeControl, logrus.DebugLevel, "serving the control socket"); err != nil {
		return nil, err
	}
	return doors, nil
}

// serveAll serves until ctx ends, or one of them ends: then all do.
func serveAll(ctx context.Context, doors []door) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(doors))
	for _, d := range doors {
		go func() { ended <- d.serve(ctx, d.listener) }()
	}
	errs := []error{<-ended}
	cancel()
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	for range len(doors) - 1 {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// listenControl opens the local socket, which only root and this user may use. A socket that somebody answers on is
// never taken away.
func listenControl(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: somebody serves it already", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	return l, err
}

// machineID names this machine (machine-id(5)): a store that comes to another one is suspect.
func machineID() (string, error) {
	text, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "", fmt.Errorf("read machine id: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if len(id) != 32 {
		return "", &exitError{code: exitFailure, err: fmt.Errorf("read machine id: /etc/machine-id has no id"),
			hint: "systemd-machine-id-setup makes one"}
	}
	return id, nil
}

// newStoreID is random: two arbiters never make the same one.
func newStoreID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
