package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/agent/hooks"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// marginEvery is how often a margin that is used is told again: a bad link uses it with every other renewal.
const marginEvery = time.Minute

// askGates runs the site's gates for one lease. It is the survey's.
func (a *Agent) askGates(ctx context.Context, k *keeper) []string {
	if a.opt.Gates.Path == "" {
		return nil
	}
	return a.opt.Gates.Ask(ctx, hooks.Question{Cluster: a.opt.Config.Cluster, Node: a.node, Lease: k.name, Resources: k.conf.Resources})
}

// raise tells the site's programs. It never waits.
func (a *Agent) raise(event, lease string, epoch lease.Epoch, text string) {
	if a.alerts != nil {
		a.alerts.Raise(hooks.Alert{Event: event, Node: a.node, Lease: lease, Epoch: uint64(epoch), Text: text, At: time.Now()})
	}
}

// tellTransition is the loop's. A lease that an agent only takes up from an earlier one, or pauses, is neither won nor lost.
func (k *keeper) tellTransition(from lease.Phase, to lease.Enter) {
	switch {
	case to.Phase == lease.Held && from == lease.Winning:
		k.a.raise(hooks.LeaseWon, k.name, to.Epoch, to.Cause)
	case to.Phase == lease.Losing && to.Epoch != 0:
		k.a.raise(hooks.LeaseLost, k.name, to.Epoch, to.Cause)
	case to.Phase == lease.Leaving:
		k.a.raise(hooks.LeaseLeft, k.name, to.Epoch, to.Cause)
	}
}

// tellMargin is the loop's: an answer has come to a lease that was held without one for more than half of L.
func (k *keeper) tellMargin(v lease.View) {
	now := k.a.opt.Now()
	late := now.Sub(v.Sent)
	if v.Phase != lease.Held || v.Sent == 0 || late <= v.Budget.LossAfter/2 || k.marginAt != 0 && now.Sub(k.marginAt) < marginEvery {
		return
	}
	k.marginAt = now
	k.a.raise(hooks.MarginUsed, k.name, v.Epoch, "renewed after "+late.Round(time.Millisecond).String()+"; it is lost after "+
		v.Budget.LossAfter.String())
}

// tellContact is the loop's.
func (a *Agent) tellContact(now lease.Instant) {
	a.mu.Lock()
	c := a.contact
	a.mu.Unlock()
	silent := c.err != "" && now.Sub(lease.Later(c.at, a.started)) > a.budget().LossAfter
	switch {
	case silent && !a.arbiterSilent:
		a.raise(hooks.ArbiterUnreachable, "", 0, c.err)
	case a.arbiterSilent && c.err == "":
		a.raise(hooks.ArbiterBack, "", 0, "the arbiter answers again")
	case a.arbiterSilent:
		return
	}
	a.arbiterSilent = silent
}

// tellPeers is the survey's. A node that was never seen is not silent: it has not come yet.
func (a *Agent) tellPeers(st pcmk.Status) {
	for _, n := range st.Nodes {
		switch was := a.peers[n.Name]; {
		case n.Name == a.node || n.Online == pcmk.Unknown:
		case n.Online == pcmk.Yes:
			if was == pcmk.No {
				a.raise(hooks.PeerBack, "", 0, n.Name+" is online again")
			}
			a.peers[n.Name] = pcmk.Yes
		case was == pcmk.Yes:
			a.raise(hooks.PeerSilent, "", 0, "Pacemaker does not see "+n.Name+" any more")
			a.peers[n.Name] = pcmk.No
		}
	}
}

// certificateEvery is how often a certificate that needs an administrator is told again.
const certificateEvery = 24 * time.Hour

// tellCertificate is the survey's. What status calls an alarm about the certificate is told: near its end, not renewed.
func (a *Agent) tellCertificate() {
	if a.opt.Certificate == nil {
		return
	}
	_, alarms := a.opt.Certificate(a.node)
	now := a.opt.Now()
	switch {
	case len(alarms) == 0:
		a.certificateAt = 0
	case a.certificateAt == 0 || now.Sub(a.certificateAt) >= certificateEvery:
		a.certificateAt = now
		a.raise(hooks.CertificateEnds, "", 0, alarms[0].Text)
	}
}

// tellReset tells once a boot that this node was reset in an earlier one.
func (a *Agent) tellReset() {
	records, err := cause.Read(a.opt.StateDir)
	if err != nil || len(records) == 0 || !records[len(records)-1].WasReset(a.kernelBoot) {
		return
	}
	f, err := os.OpenFile(filepath.Join(a.opt.RunDir, "reset-told"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		if !errors.Is(err, fs.ErrExist) {
			a.log.WithError(err).Warn("whether the reset was told already is not known: it is not told")
		}
		return
	}
	_ = f.Close() // nothing was written to it
	r := records[len(records)-1]
	a.raise(hooks.Reset, r.Lease, lease.Epoch(r.Epoch), r.Text(a.kernelBoot))
}

// alarmsEvery is how often the alarms are told to the arbiter, which forgets them when it is restarted; alarmsLook is how soon
// after a change.
const (
	alarmsEvery = time.Minute
	alarmsLook  = 10 * time.Second
)

// tellAlarms lets "leasedog-arbiter status" show what an administrator must act on here. Nothing depends on it.
func (a *Agent) tellAlarms(ctx context.Context) {
	var told []string
	at := lease.Instant(0)
	for pause(ctx, alarmsLook) == nil {
		var s control.Status
		a.inLoop(func() { s = a.describe() })
		alarms := []string{}
		for _, al := range s.Alarms {
			text := al.Text
			if al.Hint != "" {
				text += ": " + al.Hint
			}
			alarms = append(alarms, text)
		}
		now := a.opt.Now()
		if told != nil && slices.Equal(told, alarms) && now.Sub(at) < alarmsEvery {
			continue
		}
		one, cancel := context.WithTimeout(ctx, toolTime)
		err := a.opt.Tell(one, a.node, alarms)
		cancel()
		if err != nil {
			a.log.WithError(err).Debug("the arbiter was not told the alarms")
			told = nil
			continue
		}
		told, at = alarms, now
	}
}
