package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Pacemaker's alert agent pokes for what may matter, and never fails.
func TestAlertAgent(t *testing.T) {
	dir := t.TempDir()
	program, said := filepath.Join(dir, "leasedog"), filepath.Join(dir, "said")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >>"+said+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"node":             {[]string{"CRM_alert_kind=node"}, "poke\n"},
		"fencing":          {[]string{"CRM_alert_kind=fencing"}, "poke\n"},
		"attribute":        {[]string{"CRM_alert_kind=attribute"}, "poke\n"},
		"start":            {[]string{"CRM_alert_kind=resource", "CRM_alert_task=start", "CRM_alert_rc=0", "CRM_alert_target_rc=0"}, "poke\n"},
		"failed monitor":   {[]string{"CRM_alert_kind=resource", "CRM_alert_task=monitor", "CRM_alert_rc=7", "CRM_alert_target_rc=0"}, "poke\n"},
		"quiet monitor":    {[]string{"CRM_alert_kind=resource", "CRM_alert_task=monitor", "CRM_alert_rc=0", "CRM_alert_target_rc=0"}, ""},
		"our own":          {[]string{"CRM_alert_kind=leasedog"}, ""},
		"nothing":          {nil, ""},
		"no program":       {[]string{"CRM_alert_kind=node", "LEASEDOG=/nowhere"}, ""},
		"old names only":   {[]string{"CRM_notify_kind=node"}, ""},
		"an unknown kind":  {[]string{"CRM_alert_kind=weather"}, ""},
		"odd environment ": {[]string{"CRM_alert_kind=node; rm -rf /"}, ""},
	} {
		_ = os.Remove(said)
		cmd := exec.Command("/bin/sh", "../../packaging/alerts/alert_leasedog.sh")
		cmd.Env = append([]string{"PATH=/usr/bin:/bin", "LEASEDOG=" + program}, c.env...)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v %s", name, err, out)
		}
		if got, _ := os.ReadFile(said); string(got) != c.want {
			t.Errorf("%s: said %q, want %q", name, got, c.want)
		}
	}
}
