package lab

import (
	"context"
	"errors"
	"strings"
	"time"
)

// hookScenarios are the rows of the site's own programs.
func hookScenarios() []Scenario {
	lan := lanConfig()
	return []Scenario{{Name: "gate-and-alerts", Config: lan, Bound: 20*time.Second + takeoverBound(lan), Run: playGate,
		About: "a gate on the standby says no: it does not take over when the holder dies, says why, and does once the gate says yes; alerts tell it"}}
}

const (
	gateFile  = "/etc/leasedog/before-acquire.d/lab"
	alertFile = "/etc/leasedog/alerts.d/lab"
	alertLog  = "/var/tmp/lab-alerts"
)

func playGate(ctx context.Context, r *Run) (err error) {
	node := r.Standby()
	defer func() {
		_, clean := r.Exec(ctx, node, "rm", "-f", gateFile, alertFile, alertLog)
		err = errors.Join(err, clean, r.StayDown(r.Holder, false))
	}()
	script := "install -d -m 755 /etc/leasedog/before-acquire.d /etc/leasedog/alerts.d\n" +
		"printf '%s\\n' '#!/bin/sh' 'echo not today; exit 1' >" + gateFile + "\n" +
		"printf '%s\\n' '#!/bin/sh' 'echo $CRM_alert_task >>" + alertLog + "' >" + alertFile + "\n" +
		"chmod 755 " + gateFile + " " + alertFile
	if _, err := r.Exec(ctx, node, "/bin/sh", "-ec", script); err != nil {
		return err
	}
	err = waitFor(ctx, node+" to stop waiting for the lease", 15*time.Second, func() error {
		l, _, err := r.Status(ctx, node)
		if err == nil && (l.State != "standby" || !strings.Contains(strings.Join(l.WhyNot, " "), "gate lab says no: not today")) {
			err = errors.New("it is " + l.State + ": " + strings.Join(l.WhyNot, "; "))
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := r.StayDown(r.Holder, true); err != nil {
		return err
	}
	if err := r.Fault(r.Holder+" loses power", func() error { return r.Crash(ctx, r.Holder) }); err != nil {
		return err
	}
	if err := pause(ctx, budgetOf(r.Config.Profile).hold+3*time.Second); err != nil {
		return err
	}
	r.expectNeverRan(node)
	r.Event("the gate says yes")
	if _, err := r.Exec(ctx, node, "rm", gateFile); err != nil {
		return err
	}
	r.Takeover(ctx, node, 30*time.Second)
	return waitFor(ctx, "the alerts", 10*time.Second, func() error {
		told, err := r.Exec(ctx, node, "cat", alertLog)
		if err == nil && (!strings.Contains(told, "lease-won") || !strings.Contains(told, "peer-silent")) {
			err = errors.New("told were " + strings.Join(strings.Fields(told), " "))
		}
		return err
	})
}
