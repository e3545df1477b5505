package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Authorities is what an arbiter says of its CAs.
type Authorities struct {
	Bundle []byte // PEM: what is trusted
	Issuer string // short fingerprint of the CA that signs now, "" if its key is kept elsewhere
}

// Issued is a certificate as it came, with the bundle that goes with it. Both are PEM.
type Issued struct{ Bundle, Cert []byte }

// Asker is how a node asks its arbiter.
type Asker interface {
	Authorities(ctx context.Context) (Authorities, error)
	RenewCertificate(ctx context.Context, csr []byte) (Issued, error)
	// Try asks over a new connection with other credentials than those in use.
	Try(ctx context.Context, with *Live) error
	// Reconnect makes new connections from now on. Requests that are under way go on.
	Reconnect()
}

// Renewer keeps a node's certificate and bundle new. It replaces nothing that it has not tried: a renewal never costs a
// node the connection that it has.
type Renewer struct {
	Live  *Live
	Asker Asker
	Note  func(text string, err error) // what happened, for the log

	mu  sync.Mutex
	err error // of the last try to renew
}

// askTime bounds one look and everything it leads to.
const askTime = 20 * time.Second

// Run looks again and again until ctx ends. A file that somebody else replaced is taken within a few seconds.
func (r *Renewer) Run(ctx context.Context) {
	const reloadEvery = 5 * time.Second
	next := time.Duration(0)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		r.reload()
		if next -= reloadEvery; next <= 0 {
			step, cancel := context.WithTimeout(ctx, askTime)
			r.Step(step)
			cancel()
			next = r.every()
		}
		timer.Reset(min(reloadEvery, max(next, time.Second)))
	}
}

func (r *Renewer) every() time.Duration {
	if c := r.Live.Current(); c != nil {
		return CheckEvery(c.Leaf)
	}
	return time.Minute
}

func (r *Renewer) reload() {
	before := r.Live.Err()
	changed, err := r.Live.Reload()
	if changed {
		r.Note("certificate and CAs were read again", nil)
		r.Asker.Reconnect()
	}
	if err != nil && before == nil {
		r.Note("the certificate's files are not usable any more; what was read before stays in use", err)
	}
}

// Step asks what the arbiter trusts, and renews what is to be renewed.
func (r *Renewer) Step(ctx context.Context) {
	c := r.Live.Current()
	if c == nil {
		return
	}
	err := r.renew(ctx, c)
	r.mu.Lock()
	again := err != nil && r.err != nil && err.Error() == r.err.Error()
	r.err = err
	r.mu.Unlock()
	if err != nil && !again {
		r.Note("the certificate was not renewed; the one in use stays", err)
	}
}

func (r *Renewer) renew(ctx context.Context, c *Credentials) error {
	now, err := r.Asker.Authorities(ctx)
	if err != nil {
		return fmt.Errorf("ask for the CAs: %w", err)
	}
	if now.Issuer == "" {
		return nil // no enrolment at this arbiter: somebody brings a new one in time, or the notices come
	}
	issuer := ""
	if ca := c.Issuer(c.Leaf); ca != nil {
		issuer = ShortFingerprint(ca)
	}
	due := !r.Live.clock.Now().Before(RenewAt(c.Leaf))
	if !due && issuer == now.Issuer && bytes.Equal(now.Bundle, EncodeCerts(c.CAs...)) {
		return nil
	}
	key, ok := c.pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("the key cannot sign a request")
	}
	csr, err := NewCSR(c.Identity, key)
	if err != nil {
		return err
	}
	issued, err := r.Asker.RenewCertificate(ctx, csr)
	if err != nil {
		return fmt.Errorf("ask for a certificate: %w", err)
	}
	return r.take(ctx, c, key, issued)
}

// take puts a new certificate into use after it has worked once.
func (r *Renewer) take(ctx context.Context, old *Credentials, key *ecdsa.PrivateKey, issued Issued) error {
	keyText, err := EncodeKey(key)
	if err != nil {
		return err
	}
	f := r.Live.files
	if err := fits(f, old.Identity, keyText, issued.Bundle, issued.Cert); err != nil {
		return fmt.Errorf("what the arbiter sent: %w", err)
	}
	next, err := assemble(f, old.Identity.Role, issued.Bundle, issued.Cert, keyText)
	if err != nil {
		return err
	}
	trial := &Live{files: f, role: old.Identity.Role, clock: r.Live.clock}
	trial.cur.Store(next)
	if err := r.Asker.Try(ctx, trial); err != nil {
		return fmt.Errorf("try the new certificate: %w", err)
	}
	if err := replace(f, issued.Bundle, issued.Cert); err != nil {
		return err
	}
	if _, err := r.Live.Reload(); err != nil {
		return err
	}
	r.Note(fmt.Sprintf("certificate renewed: it ends at %s", stamp(next.Leaf.NotAfter)), nil)
	r.Asker.Reconnect()
	return nil
}

// Alarms says what an administrator should know of a side's credentials, with what to do about each.
func (l *Live) Alarms() []Alarm {
	var out []Alarm
	if err := l.Err(); err != nil {
		hint := ""
		var e *Error
		if errors.As(err, &e) {
			hint = e.Do
		}
		out = append(out, Alarm{Text: "certificate: " + err.Error(), Hint: hint, Notice: Notice7})
	}
	c := l.Current()
	if c == nil {
		return out
	}
	now := l.clock.Now()
	if n := NoticeOf(c.Leaf, now); n != NoNotice {
		out = append(out, Alarm{Text: n.Text("this host's certificate", c.Leaf, now), Notice: n})
	}
	if ca := c.Issuer(c.Leaf); ca != nil {
		if n := NoticeOf(ca, now); n != NoNotice {
			out = append(out, Alarm{Text: n.Text("the CA", ca, now), Hint: "leasedog-arbiter pki roll, at the arbiter", Notice: n})
		}
	}
	if behind := l.clock.Behind(); behind > maxBackdate {
		out = append(out, Alarm{Text: fmt.Sprintf("this host's clock is wrong: it is %s before the begin of its own certificate", Ago(behind)),
			Notice: Notice30})
	}
	return out
}

// Alarm is a line for an administrator.
type Alarm struct {
	Text, Hint string
	Notice     Notice
}

// Err says why the last renewal failed, or nil.
func (r *Renewer) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Alarms are those of the credentials, each with why the renewal did not come.
func (r *Renewer) Alarms() []Alarm {
	out := r.Live.Alarms()
	if err := r.Err(); err != nil && len(out) > 0 {
		out[0].Hint = "the renewal fails: " + err.Error()
	}
	return out
}
