package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pki"
)

// nodeFiles are where this node's certificate is, and where its key is made.
func nodeFiles(conf config.Agent) pki.Files {
	f := pki.Files{CA: conf.Arbiter.CA, Cert: conf.Arbiter.Cert, Key: conf.Arbiter.Key}
	if conf.Arbiter.KeyCredential != "" {
		f.Key = filepath.Join(filepath.Dir(f.Cert), filepath.Base(config.DefaultKey))
	}
	return f
}

// unitFiles are the same as this unit has them. A credential that it was not given is a file that is missing.
func unitFiles(conf config.Agent) pki.Files {
	f := nodeFiles(conf)
	if name := conf.Arbiter.KeyCredential; name != "" {
		// $CREDENTIALS_DIRECTORY of systemd.exec(5).
		f.Key = filepath.Join(cmp.Or(os.Getenv("CREDENTIALS_DIRECTORY"), "/run/credentials/leasedog.service"), name)
	}
	return f
}

// openCredentials reads this node's certificate; nil with insecure = true. What cannot be used is refused, unless a lease
// is held in this boot: then the agent must run, if only to stop the resources in order instead of by a reset.
func openCredentials(conf config.Agent, held bool, log *logrus.Logger) (*pki.Live, error) {
	if conf.Insecure {
		return nil, nil
	}
	files := unitFiles(conf)
	live, err := pki.Open(files, pki.RoleNode, pki.NewClock(time.Now, boottime.Now))
	if err == nil {
		err = fitsConfig(conf, live.Current().Identity)
	}
	var file *pki.Error
	if errors.As(err, &file) && errors.Is(err, fs.ErrNotExist) {
		file.Do = `"leasedog-arbiter pki code" at the arbiter and "leasedog join" here get this node a certificate`
		if name := conf.Arbiter.KeyCredential; name != "" && file.File == files.Key {
			file.Do = fmt.Sprintf("\"systemctl edit leasedog\", and under [Service] LoadCredential=%s:PATH", name)
		}
	}
	if err == nil || !held {
		return live, err
	}
	log.WithError(err).Error("this node's certificate is refused; while a lease is held the agent runs all the same, so that its resources are stopped in order")
	return live, nil
}

// holdsSomething reports whether an agent of this boot left a lease's record.
func holdsSomething() bool {
	held, _ := filepath.Glob(runDir + "/lease-*.json")
	return len(held) > 0
}

// fitsConfig compares who the certificate says that this is with what the configuration says.
func fitsConfig(conf config.Agent, id pki.Identity) error {
	if id.Cluster != conf.Cluster || conf.Node != "" && id.Node != conf.Node {
		return &pki.Error{File: conf.Arbiter.Cert, What: fmt.Sprintf("is a certificate of %s; the configuration says cluster %q, node %q",
			id, conf.Cluster, conf.Node), Do: "leasedog join --replace, with a code for this node"}
	}
	return nil
}

// describeCertificate is what status says of a node's certificate.
func describeCertificate(r *pki.Renewer, conf config.Agent) func(node string) (*control.Certificate, []control.Alarm) {
	return func(node string) (*control.Certificate, []control.Alarm) {
		alarms := []control.Alarm{}
		for _, a := range r.Alarms() {
			alarms = append(alarms, control.Alarm{Text: a.Text, Hint: a.Hint})
		}
		c := r.Live.Current()
		if c == nil {
			return nil, alarms
		}
		if c.Identity.Node != node || c.Identity.Cluster != conf.Cluster {
			alarms = append(alarms, control.Alarm{Text: fmt.Sprintf("the certificate is one of %s, and this is node %s of cluster %s: the arbiter refuses it",
				c.Identity, node, conf.Cluster), Hint: "leasedog join --replace, with a code for this node"})
		}
		out := &control.Certificate{Identity: c.Identity.String(), Serial: pki.Serial(c.Leaf),
			EndsInS: c.Leaf.NotAfter.Sub(r.Live.Clock().Now()).Seconds()}
		if ca := c.Issuer(c.Leaf); ca != nil {
			out.CA = pki.ShortFingerprint(ca)
		}
		return out, alarms
	}
}

// keepCertificate renews this node's certificate until stop is called.
func keepCertificate(live *pki.Live, client *arbiterclient.Client, log *logrus.Logger) (r *pki.Renewer, stop func()) {
	r = &pki.Renewer{Live: live, Asker: client, Note: func(text string, err error) {
		if err != nil {
			log.WithError(err).Warn(text)
			return
		}
		log.Info(text)
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	return r, func() {
		cancel()
		select {
		case <-done:
		case <-time.After(time.Second): // a disk that hangs does not hold back the end
		}
	}
}
