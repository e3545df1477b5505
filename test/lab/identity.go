package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// enrol does what an administrator does: a CA at the arbiter, then one command a node with a code from the arbiter.
func (c *Cluster) enrol(ctx context.Context) error {
	if err := waitFor(ctx, "the arbiter's host", joinLimit, func() error {
		return c.systemctl(ctx, Arbiter, "is-active", "basic.target")
	}); err != nil {
		return err
	}
	if _, err := c.Exec(ctx, Arbiter, "leasedog-arbiter", "pki", "init"); err != nil {
		return err
	}
	if _, err := c.Exec(ctx, Arbiter, "systemctl", "restart", arbiterUnit); err != nil {
		return err
	}
	for _, node := range Nodes() {
		if err := waitFor(ctx, node+" to join", joinLimit, func() error { return c.join(ctx, node) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) join(ctx context.Context, node string) error {
	code, err := c.Exec(ctx, Arbiter, "leasedog-arbiter", "pki", "code", "lab", node)
	if err != nil {
		return err
	}
	if _, err := c.Exec(ctx, node, "leasedog", "join", "https://"+arbiterPort, "--replace", "--code", strings.TrimSpace(code)); err != nil {
		return err
	}
	_, err = c.Exec(ctx, node, "systemctl", "restart", agentUnit)
	return err
}

func identityScenarios() []Scenario {
	short, plain := lanConfig(), lanConfig()
	short.CertLife, plain.Insecure = time.Minute, true
	return []Scenario{
		// It is long, so that a machine which is busy elsewhere delays some beat or other. That one canary lives through all of
		// it, on one node, is looked at besides: a transition would end it, and take the whole hold.
		{Name: "rotate-certificates", Config: short, Bound: 5 * noTransition, Run: playRotation,
			About: "certificates live 60 s, and the CA is replaced: nothing moves, whoever connects anew meanwhile"},
		{Name: "key-is-credential", Config: lanConfig(), Bound: noTransition, Run: playCredential,
			About: "the keys of agent and arbiter become credentials of systemd while a lease is held: restarts move nothing"},
		{Name: "insecure", Config: plain, Bound: noTransition, Run: playInsecure,
			About: "plain HTTP, as it must be typed on both sides: every status says so, and a killed arbiter moves nothing"},
	}
}

// keyMove moves a host's key out of its folder, and gives it to the unit as a credential. The undo is its reverse.
func keyMove(unit, key, line, conf, directive string) (do, undo string) {
	dropIn := "/etc/systemd/system/" + unit + ".d"
	const away = "/etc/leasedog/lab-key"
	store := fmt.Sprintf("cp %s %s", key, away)
	if directive == "LoadCredentialEncrypted" {
		store = fmt.Sprintf("systemd-creds encrypt --with-key=host --name=lab-key %s %s", key, away)
	}
	do = fmt.Sprintf("set -e; cp -p %[1]s %[1]s.lab; cp -p %[2]s %[2]s.lab; %[3]s; chmod 600 %[4]s; rm %[2]s; %[5]s; mkdir -p %[6]s; "+
		"printf '[Service]\\n%[7]s=lab-key:%[4]s\\n' > %[6]s/lab.conf; systemctl daemon-reload; systemctl restart %[8]s",
		conf, key, store, away, line, dropIn, directive, unit)
	undo = fmt.Sprintf("rm -rf %[1]s %[2]s; mv %[3]s.lab %[3]s; mv %[4]s.lab %[4]s; systemctl daemon-reload; systemctl restart %[5]s",
		dropIn, away, conf, key, unit)
	return do, undo
}

// playCredential also wants the agent to stay in the mounts of the system: a namespace of its own would hide the unmounts of
// the resource agents that it runs.
func playCredential(ctx context.Context, r *Run) (err error) {
	was, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	const arbiterConfig = "/etc/leasedog/arbiter.toml"
	toAgent, backAgent := keyMove(agentUnit, "/etc/leasedog/pki/node.key",
		`sed -i '/^urls/a key = "credential:lab-key"' `+agentConfig, agentConfig, "LoadCredential")
	toArbiter, backArbiter := keyMove(arbiterUnit, "/var/lib/leasedog-arbiter/pki/arbiter.key",
		`sed -i '1a key = "credential:lab-key"' `+arbiterConfig, arbiterConfig, "LoadCredentialEncrypted")
	shell := func(host, script string) func() error {
		return func() error { _, err := r.Exec(ctx, host, "/bin/sh", "-c", script); return err }
	}
	for _, step := range []struct {
		what, host, do, undo string
		replaced             bool // another agent holds afterwards
	}{
		{"the agent's key is a credential", r.Holder, toAgent, backAgent, true},
		{"the arbiter's key is an encrypted credential", Arbiter, toArbiter, backArbiter, false},
	} {
		defer func() { err = errors.Join(err, shell(step.host, step.undo)()) }()
		if err := errors.Join(r.renewals(ctx, 2), r.Phase(ctx), r.Fault(step.what, shell(step.host, step.do))); err != nil {
			return err
		}
		r.expectHeldAs(ctx, was, lease.Epoch, step.replaced)
		if was, _, err = r.agentOf(ctx, r.Holder); err != nil {
			return err
		}
	}
	if err := errors.Join(r.renewals(ctx, 2), r.Fault("kill -9 the agent", func() error { return r.Kill(r.Holder, "agent") })); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, true)
	if was, _, err = r.agentOf(ctx, r.Holder); err != nil {
		return err
	}
	same := "test $(readlink /proc/1/ns/mnt) = $(readlink /proc/$(systemctl show -p MainPID --value " + agentUnit + ")/ns/mnt)"
	if err := shell(r.Holder, same)(); err != nil {
		r.Fail("the agent has mounts of its own: %v", err)
	}
	if _, err := r.certificates(ctx); err != nil {
		r.Fail("%v", err)
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, false)
	r.expectStays()
	r.expectNoReset()
	return nil
}

// playInsecure also wants to see it said.
func playInsecure(ctx context.Context, r *Run) error {
	for host, argv := range map[string][]string{r.Holder: {"leasedog", "status"}, Arbiter: {"leasedog-arbiter", "status"}} {
		text, err := r.Exec(ctx, host, argv...)
		if err != nil || !strings.Contains(strings.ToLower(text), "insecure") {
			r.Fail("the status on %s does not say insecure: %v %s", host, err, text)
		}
	}
	return playArbiterKilled(ctx, r)
}

// shown is what the three hosts say of their certificates.
type shown struct {
	serial map[string]string // by host
	ca     map[string]string // who signed it, of the nodes
}

func (c *Cluster) certificates(ctx context.Context) (shown, error) {
	out := shown{map[string]string{}, map[string]string{}}
	for _, node := range Nodes() {
		_, text, err := c.Status(ctx, node)
		if err != nil {
			return out, err
		}
		var s struct {
			Certificate *struct{ Serial, CA string }
			Alarms      []struct{ Text string }
		}
		if err := json.Unmarshal([]byte(text), &s); err != nil || s.Certificate == nil {
			return out, fmt.Errorf("the status on %s has no certificate (%w)", node, err)
		}
		if len(s.Alarms) > 0 {
			return out, fmt.Errorf("%s: alarm: %s", node, s.Alarms[0].Text)
		}
		out.serial[node], out.ca[node] = s.Certificate.Serial, s.Certificate.CA
	}
	text, err := c.Exec(ctx, Arbiter, "leasedog-arbiter", "status", "-o", "json")
	if err != nil {
		return out, err
	}
	var s struct{ Certificates struct{ Serial string } }
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return out, err
	}
	out.serial[Arbiter] = s.Certificates.Serial
	return out, nil
}

// renewed waits until every host has another certificate than before.
func (r *Run) renewed(ctx context.Context, before shown, limit time.Duration) (now shown, err error) {
	err = waitFor(ctx, "new certificates", limit, func() (err error) {
		if now, err = r.certificates(ctx); err != nil {
			return err
		}
		for host, serial := range before.serial {
			if now.serial[host] == serial {
				return errors.New(host + " has the one it had")
			}
		}
		return nil
	})
	return now, err
}

// reconnect has everybody connect anew: an arbiter that was killed has no connections.
func (r *Run) reconnect(ctx context.Context, why string) error {
	if err := r.step("kill -9 the arbiter: "+why, func() error { return r.Kill(Arbiter, "arbiter") }); err != nil {
		return err
	}
	return r.renewals(ctx, 4)
}

// playRotation: two lives of every certificate, a CA that is replaced meanwhile, and new connections at each step.
func playRotation(ctx context.Context, r *Run) error {
	first, err := r.certificates(ctx)
	if err != nil {
		return err
	}
	if err := r.Fault("a new CA", func() error { _, err := r.Exec(ctx, Arbiter, "leasedog-arbiter", "pki", "roll"); return err }); err != nil {
		return err
	}
	if err := r.reconnect(ctx, "two CAs are trusted"); err != nil {
		return err
	}
	err = waitFor(ctx, "both nodes to follow", 30*time.Second, func() error {
		out, err := r.Exec(ctx, Arbiter, "leasedog-arbiter", "pki", "roll", "--end")
		if err == nil {
			r.Event("pki roll --end: %s", strings.TrimSpace(out))
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := r.reconnect(ctx, "the old CA is gone"); err != nil {
		return err
	}
	second, err := r.renewed(ctx, first, time.Minute)
	if err != nil {
		return err
	}
	if second.ca[Node1] == first.ca[Node1] || second.ca[Node2] == first.ca[Node2] {
		r.Fail("the CA of the nodes' certificates is still %v", second.ca)
	}
	r.Event("everybody has a certificate of the new CA")
	third, err := r.renewed(ctx, second, 2*time.Minute)
	if err != nil {
		return err
	}
	if err := r.reconnect(ctx, "every certificate was renewed once more"); err != nil {
		return err
	}
	// Longer than what was renewed before could have lived, with its grace.
	if err := pause(ctx, 45*time.Second); err != nil {
		return err
	}
	if _, err := r.renewed(ctx, third, time.Minute); err != nil {
		return err
	}
	if err := r.reconnect(ctx, "the certificates of the roll are over"); err != nil {
		return err
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}
