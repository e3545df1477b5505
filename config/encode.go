package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TOML writes the configuration in full, every effective value in its place. ParseAgent reads it back to an equal
// Agent: it is the copy that the agent keeps in /run, and what "leasedog config show --effective" prints.
func (a Agent) TOML() []byte {
	var b bytes.Buffer
	line := func(key, value string) { fmt.Fprintf(&b, "%s = %s\n", key, value) }
	line("cluster", quote(a.Cluster))
	if a.Node != "" {
		line("node", quote(a.Node))
	}
	line("insecure", strconv.FormatBool(a.Insecure))
	line("profile", quote(a.budget.Profile))
	b.WriteString("\n[arbiter]\n")
	line("urls", quoteList(a.Arbiter.URLs))
	if !a.Insecure {
		line("ca", quote(a.Arbiter.CA))
		line("cert", quote(a.Arbiter.Cert))
		key := a.Arbiter.Key
		if a.Arbiter.KeyCredential != "" {
			key = credentialPrefix + a.Arbiter.KeyCredential
		}
		line("key", quote(key))
	}
	b.WriteString("\n[watchdog]\n")
	line("mode", quote(string(a.Watchdog.Mode)))
	line("device", quote(a.Watchdog.Device))
	b.WriteString("\n[budget]\n")
	a.writeBudget(line)
	if len(a.Clock.NTP) > 0 {
		b.WriteString("\n[clock]\n")
		line("ntp", quoteList(a.Clock.NTP))
		line("ntp_every", quoteDuration(a.Clock.Every))
	}
	for _, l := range a.Leases {
		b.WriteString("\n[[lease]]\n")
		line("name", quote(l.Name))
		line("resources", quoteList(l.Resources))
		line("acquire", quote(string(l.Acquire)))
		if l.Prefer != "" {
			line("prefer", quote(l.Prefer))
		}
		line("give_up_after", quoteDuration(l.GiveUpAfter))
		if l.LeaveTimeout > 0 {
			line("leave_timeout", quoteDuration(l.LeaveTimeout))
		}
	}
	return b.Bytes()
}

func (a Agent) writeBudget(line func(key, value string)) {
	g := a.budget
	line("renew_every", quoteDuration(g.RenewEvery))
	line("request_timeout", quoteDuration(g.RequestTimeout))
	line("attempts", strconv.Itoa(g.Attempts))
	line("loss_after", quoteDuration(g.LossAfter))
	line("stop_budget", quoteDuration(g.StopBudget))
	line("timer_slack", quoteDuration(g.TimerSlack))
	if a.Watchdog.Mode != WatchdogSystemd { // there the mode says it
		line("watchdog_timeout", quoteDuration(g.Watchdog))
		line("watchdog_quantum", quoteDuration(g.Quantum))
	}
	line("reset_latency", quoteDuration(g.ResetLatency))
	line("drift_ppm", strconv.Itoa(g.DriftPPM))
	line("ttl", quoteDuration(g.TTL))
	line("grace", quoteDuration(g.Grace))
}

// Digest identifies the effective configuration, for comparison between nodes: two files that mean the same have the
// same digest, whatever their comments and order of keys. It leaves out the node's own name and its watchdog device.
func (a Agent) Digest() string {
	a.Node, a.Watchdog.Device = "", DeviceAuto
	sum := sha256.Sum256(a.TOML())
	return hex.EncodeToString(sum[:])
}

// quote writes a TOML basic string. Every value was checked to be plain ASCII or a device path, for which Go's
// quoting is TOML's.
func quote(s string) string { return strconv.Quote(s) }

func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func quoteDuration(d time.Duration) string { return quote(d.String()) }
