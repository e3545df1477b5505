package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/arbiter"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pki"
)

// identityOptions says who may speak to this arbiter. Whatever cannot be read or does not fit together stops the start.
func identityOptions(cfg config.Arbiter) (arbiter.Options, error) {
	opt := arbiter.Options{Insecure: cfg.Insecure, AllowInsecureFrom: cfg.AllowInsecureFrom, CertLife: cfg.CertLife}
	for _, c := range cfg.Clusters {
		if opt.Clusters == nil {
			opt.Clusters = map[string]arbiter.Scope{}
		}
		opt.Clusters[c.Name] = arbiter.Scope{Nodes: c.Nodes, Leases: c.Leases}
	}
	if cfg.Insecure {
		return opt, nil
	}
	opt.Folder = pki.Folder{Dir: cfg.PKI, Key: cfg.Key}
	if cfg.KeyCredential != "" {
		// $CREDENTIALS_DIRECTORY of systemd.exec(5); without it the key's own path would be a guess.
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if !filepath.IsAbs(dir) {
			return opt, &exitError{code: exitConfig, err: fmt.Errorf("key = \"credential:%s\", and this unit was given no credentials", cfg.KeyCredential),
				hint: fmt.Sprintf("\"systemctl edit leasedog-arbiter\", and under [Service] LoadCredential=%s:PATH", cfg.KeyCredential)}
		}
		opt.Folder.Key = filepath.Join(dir, cfg.KeyCredential)
	}
	live, err := pki.Open(opt.Folder.Files(), pki.RoleArbiter, pki.NewClock(time.Now, boottime.Now))
	opt.TLS = live
	var file *pki.Error
	if errors.As(err, &file) && errors.Is(err, fs.ErrNotExist) && file.Do == "" {
		file.Do = `"leasedog-arbiter pki init" makes a CA and this arbiter's certificate`
	}
	return opt, err
}

// noteTo writes what happens to certificates to the log.
func noteTo(log *logrus.Logger) func(string, error) {
	return func(text string, err error) {
		if err != nil {
			log.WithError(err).Error(text)
			return
		}
		log.Info(text)
	}
}

// warnOfEnds says 60, 30 and 7 days ahead that a certificate of this arbiter ends, and each day again.
func warnOfEnds(ctx context.Context, log *logrus.Logger, live *pki.Live) {
	const again = 24 * time.Hour
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	said := map[string]time.Duration{}
	for minutes := time.Duration(0); ; minutes += time.Minute {
		for _, a := range live.Alarms() {
			key := time.Duration(a.Notice).String() + a.Hint
			if last, ok := said[key]; ok && minutes-last < again {
				continue
			}
			said[key] = minutes
			if a.Notice >= pki.Notice7 {
				log.WithField("hint", a.Hint).Error(a.Text)
			} else {
				log.WithField("hint", a.Hint).Warn(a.Text)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
