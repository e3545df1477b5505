package pki

import (
	"context"
	"errors"
	"time"
)

// Keep reads the arbiter's credentials again when they change, and renews the arbiter's own certificate while the CA's
// key is here, until ctx ends.
func (f Folder) Keep(ctx context.Context, l *Live, life time.Duration, note func(text string, err error)) {
	const reloadEvery = 5 * time.Second
	k := keeper{f, l, life, note, nil}
	for {
		k.step()
		wait := reloadEvery
		if c := l.Current(); c != nil {
			wait = min(wait, CheckEvery(c.Leaf))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

type keeper struct {
	Folder
	live *Live
	life time.Duration
	note func(text string, err error)
	last error
}

func (k *keeper) step() {
	changed, err := k.live.Reload()
	if changed {
		k.note("certificate, CAs and revoked ones were read again", nil)
	}
	c := k.live.Current()
	if err == nil && c != nil && !k.live.clock.Now().Before(RenewAt(c.Leaf)) {
		err = k.renew()
	}
	if err != nil && (k.last == nil || k.last.Error() != err.Error()) {
		k.note("the certificate's files: what was read before stays in use", err)
	}
	k.last = err
}

func (k *keeper) renew() error {
	err := k.RenewOwn(k.life, k.live.clock.Now())
	if errors.Is(err, ErrNoCAKey) {
		return nil // somebody brings a new one in time, or the notices come
	}
	if err == nil {
		_, err = k.live.Reload()
	}
	if err == nil {
		k.note("certificate renewed: it ends at "+stamp(k.live.Current().Leaf.NotAfter), nil)
	}
	return err
}
