package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bench is what holding a lease costs on the holder over a while, with Pacemaker's own daemons as the measure beside
// it. Processor time is in percent of one core and has the ended child processes in it.
type Bench struct {
	Over         float64 `json:"over_s"`
	Agent        float64 `json:"agent_percent"` // itself
	Tools        float64 `json:"tools_percent"` // what it started
	Guard        float64 `json:"guard_percent"`
	Pacemaker    float64 `json:"pacemaker_percent"`
	MemoryMiB    float64 `json:"memory_mib"` // resident: agent and guard
	PacemakerMiB float64 `json:"pacemaker_memory_mib"`
	RenewP99ms   float64 `json:"renew_p99_ms"` // of the newest thousand renewals
}

// Limits of the benchmark: agent and guard together, with their child processes.
const (
	maxPercent = 1.0
	maxMiB     = 64.0
)

// Total is agent, tools and guard together.
func (b Bench) Total() float64 { return b.Agent + b.Tools + b.Guard }

// Good reports whether the limits are kept.
func (b Bench) Good() bool { return b.Total() <= maxPercent && b.MemoryMiB <= maxMiB }

// String is a table, one figure a line.
func (b Bench) String() string {
	return fmt.Sprintf("holding for %.0f s, in percent of one core:\n"+
		"  agent %.2f + its tools %.2f + guard %.2f = %.2f (at most %.1f); Pacemaker's own daemons %.2f, ratio %.2f\n"+
		"  memory %.1f MiB (at most %.0f); Pacemaker's daemons %.1f MiB\n"+
		"  renewal p99 %.2f ms\n",
		b.Over, b.Agent, b.Tools, b.Guard, b.Total(), maxPercent, b.Pacemaker, b.Total()/max(b.Pacemaker, 0.01),
		b.MemoryMiB, maxMiB, b.PacemakerMiB, b.RenewP99ms)
}

// usage is what a process has used up to now: its own and its ended children's clock ticks, and its memory.
type usage struct{ own, children, kib float64 }

// Bench measures the holder of a settled pair.
func (c *Cluster) Bench(ctx context.Context, length time.Duration) (Bench, error) {
	holder, err := c.settled(ctx)
	if err != nil {
		return Bench{}, fmt.Errorf("bench: %w", err)
	}
	// What the win itself cost is not part of holding.
	if err := pause(ctx, 15*time.Second); err != nil {
		return Bench{}, err
	}
	start := Now()
	before, err := c.usages(ctx, holder)
	if err != nil {
		return Bench{}, err
	}
	if err := pause(ctx, length); err != nil {
		return Bench{}, err
	}
	after, err := c.usages(ctx, holder)
	if err != nil {
		return Bench{}, err
	}
	b := Bench{Over: Now().Sub(start).Seconds()}
	percent := func(ticks float64) float64 { return ticks / ticksPerSecond / b.Over * 100 }
	spent := func(name string) usage {
		return usage{own: after[name].own - before[name].own, children: after[name].children - before[name].children}
	}
	b.Agent, b.Tools = percent(spent("agent").own), percent(spent("agent").children)
	b.Guard = percent(spent("guard").own + spent("guard").children)
	b.Pacemaker = percent(spent("pacemaker").own)
	b.MemoryMiB = (after["agent"].kib + after["guard"].kib) / 1024
	b.PacemakerMiB = after["pacemaker"].kib / 1024
	b.RenewP99ms, err = c.renewP99(ctx, holder)
	return b, err
}

// ticksPerSecond is USER_HZ, which is 100 on every machine that the lab runs on (proc(5)).
const ticksPerSecond = 100

// usages reads /proc inside of a host.
func (c *Cluster) usages(ctx context.Context, host string) (map[string]usage, error) {
	const script = `show() { echo "$1" $(sed 's/.*) //' /proc/$2/stat | cut -d' ' -f12-15) $(awk '/VmRSS/{print $2}' /proc/$2/status); }
show agent $(systemctl show -p MainPID --value leasedog.service)
show guard $(systemctl show -p MainPID --value leasedog-guard.service)
for p in $(pgrep '^pacemaker'); do show pacemaker $p; done`
	out, err := c.Exec(ctx, host, "/bin/sh", "-c", script)
	if err != nil {
		return nil, fmt.Errorf("read what %s has used: %w", host, err)
	}
	all := map[string]usage{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 6 {
			return nil, fmt.Errorf("read what %s has used: %q", host, line)
		}
		var n [5]float64
		for i := range n {
			if n[i], err = strconv.ParseFloat(f[i+1], 64); err != nil {
				return nil, fmt.Errorf("read what %s has used: %w", host, err)
			}
		}
		u := all[f[0]]
		all[f[0]] = usage{own: u.own + n[0] + n[1], children: u.children + n[2] + n[3], kib: u.kib + n[4]}
	}
	if len(all) != 3 {
		return nil, fmt.Errorf("read what %s has used: agent, guard or Pacemaker is missing in %q", host, out)
	}
	return all, nil
}

func (c *Cluster) renewP99(ctx context.Context, host string) (float64, error) {
	out, err := c.Exec(ctx, host, "leasedog", "status", "-o", "json")
	if err != nil {
		return 0, err
	}
	var s struct {
		Arbiter struct {
			P99 *float64 `json:"rtt_p99_s"`
		} `json:"arbiter"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Arbiter.P99 == nil {
		return 0, fmt.Errorf("the status of %s has no latency of renewals (%v)", host, err)
	}
	return *s.Arbiter.P99 * 1000, nil
}
