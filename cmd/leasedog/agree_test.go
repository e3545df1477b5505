package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pcmk"
)

// Packages that must not know each other agree on what they share.

func TestEveryLeaseNameThatIsAcceptedWorksInPacemaker(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9-]{1,34}(-state)?|[a-zA-Z_. ]{0,4}`).Draw(t, "name")
		text := fmt.Sprintf("cluster = \"c\"\ninsecure = true\narbiter.urls = [\"http://a:1\"]\n[[lease]]\nname = %q\nresources = [\"r\"]\n", name)
		if _, err := config.ParseAgent(strings.NewReader(text), "t"); err != nil {
			return
		}
		accepted++
		if err := pcmk.CheckLease(name); err != nil {
			t.Fatal(err)
		}
	})
	if accepted == 0 {
		t.Error("no name was accepted: this proves nothing")
	}
}

func TestGateClosesAboveTheHighestEpoch(t *testing.T) {
	if uint64(pcmk.MaxEpoch) != uint64(lease.MaxEpoch) {
		t.Errorf("the rule closes above %d, epochs go up to %d", uint64(pcmk.MaxEpoch), uint64(lease.MaxEpoch))
	}
}

func TestGuardKnowsTheWatchdogModes(t *testing.T) {
	if string(config.WatchdogRequired) != string(guardapi.ModeRequired) || string(config.WatchdogSystemd) != string(guardapi.ModeSystemd) {
		t.Error("configuration and guard name the watchdog modes differently")
	}
}

// Somebody who answers nothing (cron, a unit: /dev/null) has not agreed.
func TestConfirm(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, in := range map[string]io.Reader{"pipe that says yes": strings.NewReader("y\n"), "null": null} {
		cmd := newRootCommand()
		cmd.SetIn(in)
		cmd.SetErr(io.Discard)
		err := confirm(cmd, false, "stop everything")
		if code, _ := codeAndHint(err); err == nil || code != exitUsage {
			t.Errorf("%s: %v", name, err)
		}
		if err := confirm(cmd, true, "stop everything"); err != nil {
			t.Errorf("%s with --yes: %v", name, err)
		}
	}
}
