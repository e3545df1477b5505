package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/agent/hooks"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// heard keeps what was raised.
type heard struct{ list []string }

func (h *heard) Raise(al hooks.Alert) {
	h.list = append(h.list, strings.TrimSpace(fmt.Sprintf("%s %s", al.Event, al.Lease)))
}
func (h *heard) Work(context.Context) {}

// expect compares what was raised since the last call.
func (h *heard) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if strings.Join(h.list, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: told %q, want %q", what, h.list, want)
	}
	h.list = nil
}

func TestTellTransition(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	h := &heard{}
	k.a.alerts = h
	for _, c := range []struct {
		from, to lease.Phase
		epoch    lease.Epoch
		want     string
	}{
		{lease.Winning, lease.Held, 7, "lease-won pg"}, {"", lease.Held, 7, ""}, {lease.Resuming, lease.Held, 7, ""},
		{lease.Held, lease.Losing, 7, "lease-lost pg"}, {lease.Leaving, lease.Losing, 7, "lease-lost pg"}, {lease.Acquiring, lease.Losing, 0, ""},
		{lease.Held, lease.Leaving, 7, "lease-left pg"}, {lease.Held, lease.Paused, 7, ""}, {lease.Losing, lease.Stopped, 7, ""},
	} {
		k.tellTransition(c.from, lease.Enter{Phase: c.to, Epoch: c.epoch})
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		h.expect(t, fmt.Sprintf("%s to %s", c.from, c.to), want...)
	}
}

func TestTellMargin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeeper(t, idleCluster(), "/nowhere")
		h := &heard{}
		k.a.alerts = h
		b, _ := lease.Profile("lan")
		ago := func(d time.Duration) lease.View {
			return lease.View{Phase: lease.Held, Sent: k.a.opt.Now().Add(-d), Budget: b}
		}
		k.tellMargin(ago(b.RenewEvery))
		k.tellMargin(ago(b.LossAfter / 2))
		h.expect(t, "in time")
		k.tellMargin(ago(b.LossAfter/2 + time.Millisecond))
		k.tellMargin(ago(b.LossAfter - time.Millisecond))
		h.expect(t, "late twice", "margin-used pg")
		time.Sleep(marginEvery)
		k.tellMargin(ago(b.LossAfter - time.Millisecond))
		h.expect(t, "a minute later", "margin-used pg")
		v := ago(b.LossAfter)
		v.Phase = lease.Paused
		k.tellMargin(v)
		h.expect(t, "paused")
	})
}

func TestTellContact(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	h := &heard{}
	a := k.a
	a.alerts, a.started = h, 1
	loss := a.budget().LossAfter
	at := func(d time.Duration) lease.Instant { return lease.Instant(1).Add(d) }
	a.tellContact(at(time.Hour))
	h.expect(t, "never asked")
	a.contact = contact{err: "refused"}
	a.tellContact(at(loss))
	h.expect(t, "not for long yet")
	a.tellContact(at(loss + 1))
	a.tellContact(at(loss + time.Hour))
	h.expect(t, "for long", "arbiter-unreachable")
	a.contact = contact{at: at(loss + time.Hour)}
	a.tellContact(at(loss + time.Hour))
	a.tellContact(at(loss + 2*time.Hour))
	h.expect(t, "answers", "arbiter-back")
	a.contact.err = "timeout"
	a.tellContact(at(2*loss + time.Hour))
	h.expect(t, "one error")
}

func TestTellPeers(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	h := &heard{}
	k.a.alerts, k.a.peers = h, map[string]pcmk.Bool{}
	see := func(online pcmk.Bool) {
		k.a.tellPeers(servingStatus(func(st *pcmk.Status) { st.Nodes[1].Online, st.Nodes[0].Online = online, pcmk.No }))
	}
	see(pcmk.No)
	h.expect(t, "not there yet, and this node itself")
	see(pcmk.Yes)
	h.expect(t, "comes")
	see(pcmk.Unknown)
	h.expect(t, "not known")
	see(pcmk.No)
	see(pcmk.No)
	h.expect(t, "goes", "peer-silent")
	see(pcmk.Yes)
	h.expect(t, "comes back", "peer-back")
}

func TestTellCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeeper(t, idleCluster(), "/nowhere")
		h := &heard{}
		k.a.alerts = h
		k.a.tellCertificate() // insecure
		var alarms []control.Alarm
		k.a.opt.Certificate = func(string) (*control.Certificate, []control.Alarm) { return nil, alarms }
		k.a.tellCertificate()
		h.expect(t, "nothing to say")
		alarms = []control.Alarm{{Text: "ends in 3 days"}}
		k.a.tellCertificate()
		k.a.tellCertificate()
		h.expect(t, "near its end", "certificate-ends")
		time.Sleep(certificateEvery)
		k.a.tellCertificate()
		h.expect(t, "a day later", "certificate-ends")
		alarms = nil
		k.a.tellCertificate()
		alarms = []control.Alarm{{Text: "cannot be renewed"}}
		k.a.tellCertificate()
		h.expect(t, "again, after it was well", "certificate-ends")
	})
}

func TestTellReset(t *testing.T) {
	k := testKeeper(t, idleCluster(), procDir(t))
	h := &heard{}
	a := k.a
	a.alerts, a.kernelBoot = h, "b2"
	a.tellReset()
	h.expect(t, "nothing happened")
	log, err := cause.Open(filepath.Join(a.opt.StateDir, cause.AgentFile))
	must(t, err)
	put := func(boot string, stage cause.Stage) {
		must(t, log.Put(cause.Record{Lease: "pg", Epoch: 7, BootID: boot, Stage: stage, Written: time.Now()}))
	}
	put("b1", cause.Averted)
	a.tellReset()
	h.expect(t, "averted")
	put("b2", cause.Announced)
	a.tellReset()
	h.expect(t, "of this boot")
	must(t, os.Remove(filepath.Join(a.opt.StateDir, cause.AgentFile)))
	log, err = cause.Open(filepath.Join(a.opt.StateDir, cause.AgentFile))
	must(t, err)
	put("b1", cause.Announced)
	a.tellReset()
	a.tellReset()
	h.expect(t, "reset, and the agent restarted", "reset pg")
}

// A node whose gate says no does not compete, and says why; one that it lets through does.
func TestGateKeepsFromCompeting(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"no":  {"echo the disk is old; exit 1", "gate disk says no: the disk is old"},
		"yes": {`[ "$LEASEDOG_LEASE $LEASEDOG_RESOURCES $LEASEDOG_NODE" = "pg g node1" ]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "gates")
			must(t, os.Mkdir(dir, 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "disk"), []byte("#!/bin/sh\n"+c.script+"\n"), 0o755))
			f := idleCluster()
			k := testKeeper(t, f, procDir(t, controlled))
			k.conf = config.Lease{Name: "pg", Resources: []string{"g"}}
			k.a.opt.Gates = hooks.Folder{Path: dir, Owner: os.Geteuid()}
			k.learnPlan(twoPrimitives, nil)
			k.gate.set(0)
			close(k.a.done) // no loop
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			k.a.surveyKeeper(ctx, k, lease.Standby, cluster{status: servingStatus(nil), cibErr: errDown})
			if got := strings.Join(k.lastSurvey().whyNot, "; "); got != c.want {
				t.Errorf("why not: %q, want %q", got, c.want)
			}
		})
	}
}
