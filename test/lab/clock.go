package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/leasedog/leasedog/test/ntp"
)

// clockScenarios are the rows of the audit of the nodes' clock. There is one clock in the lab, the kernel's, and it is right:
// what seems to be off is what the servers say, which is all that a node sees of the time.
func clockScenarios() []Scenario {
	lan := lanConfig()
	return []Scenario{
		{Name: "clock-ntp-lies", Config: lan, Bound: noTransition, Run: playClockLies,
			About: "one of three NTP servers lies in every manner, then all do: the verdict shows it, the group stays, the standby stops competing"},
		{Name: "clock-fast", Config: lan, Bound: time.Minute, Run: playClockFast,
			About: "by two of three NTP servers the clock runs fast; the holder dies: the standby does not compete and says why, until the clock is good"},
		{Name: "clock-one-server", Config: lan, Bound: takeoverBound(lan), Run: playClockOneServer,
			About: "the only NTP server contradicts the arbiter's clock: that is said, and the standby takes over when the holder dies"},
	}
}

const (
	clockServers = 3
	clockFile    = "/etc/leasedog/leasedog.toml"
	// clockLimit is for three windows of an honest server, or of the arbiter's clock, on a machine that has other work.
	clockLimit = 5 * time.Minute
)

func clockAddress(server int) string { return fmt.Sprintf("%s9:%d", lanNet, 1230+server) }

func clockUnit(server int) string { return fmt.Sprintf("lab-ntp-%d.service", server) }

// ServeNTP runs an NTP server with the manners of a file until ctx ends.
func ServeNTP(ctx context.Context, listen, manners string) error {
	conn, err := net.ListenPacket("udp", listen)
	if err != nil {
		return fmt.Errorf("serve NTP: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return ntp.Serve(conn, ntp.FromFile(manners))
}

func mannersFile(server int) string { return fmt.Sprintf("ntp-%d.json", server) }

// behave gives a server its manners. They count from now on: its clock does not jump by having run wrongly before.
func (c *Cluster) behave(m ntp.Manners, servers ...int) error {
	m.Since = time.Now()
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for _, s := range servers {
		path := filepath.Join(c.Shared(), mannersFile(s))
		if err := writeFile(path+".new", text, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// withServers starts honest servers and has both nodes ask the first few; undo takes them away.
func (r *Run) withServers(ctx context.Context, n int) (undo func() error, err error) {
	all := make([]int, clockServers)
	for i := range all {
		all[i] = i + 1
	}
	if err := r.behave(ntp.Manners{}, all...); err != nil {
		return nil, err
	}
	script, names := "", []string{}
	for _, s := range all {
		script += fmt.Sprintf("systemctl reset-failed %[1]s 2>/dev/null || true; systemctl stop %[1]s 2>/dev/null || true; "+
			"systemd-run --quiet --unit=%[1]s /%s ntp-server --listen %s --manners /shared/%s\n", clockUnit(s), labBin, clockAddress(s), mannersFile(s))
		names = append(names, fmt.Sprintf("%q", clockAddress(s)))
	}
	undo = func() error {
		var errs []error
		for _, node := range Nodes() {
			errs = append(errs, r.StayDown(node, false), waitFor(ctx, node, joinLimit, func() error {
				_, err := r.Exec(ctx, node, "/bin/sh", "-ec", fmt.Sprintf(`sed -i '/^\[clock\]/,$d' %s && systemctl restart %s`, clockFile, agentUnit))
				return err
			}))
		}
		for _, s := range all {
			errs = append(errs, r.onArbiter(ctx, "systemctl stop "+clockUnit(s)))
		}
		return errors.Join(errs...)
	}
	if err := r.onArbiter(ctx, script); err != nil {
		return undo, err
	}
	table := fmt.Sprintf("[clock]\nntp = [%s]\nntp_every = \"1s\"\n", strings.Join(names[:n], ", "))
	for _, node := range Nodes() {
		if _, err := r.ExecInput(ctx, node, table, "/bin/sh", "-ec", fmt.Sprintf("cat >>%s && systemctl restart %s", clockFile, agentUnit)); err != nil {
			return undo, err
		}
	}
	return undo, nil
}

// ClockStatus is the part of "leasedog status -o json" about the clock that the lab reads.
type ClockStatus struct {
	Verdict  string        `json:"verdict"`
	Disagree bool          `json:"disagree"`
	Text     string        `json:"text"`
	Arbiter  ClockSource   `json:"arbiter"`
	Servers  []ClockSource `json:"servers"`
}

// ClockSource is one of the clocks in it.
type ClockSource struct {
	Name    string `json:"name"`
	Enough  bool   `json:"enough"`
	Problem string `json:"problem"`
	Differs bool   `json:"differs"`
	Steps   int    `json:"steps"`
	Rate    *struct {
		Low  float64 `json:"low_ppm"`
		High float64 `json:"high_ppm"`
	} `json:"rate"`
}

// clockOf asks a node about its clock and its alarms.
func (c *Cluster) clockOf(ctx context.Context, node string) (ClockStatus, string, error) {
	var status struct {
		Clock  ClockStatus `json:"clock"`
		Alarms []struct {
			Text string `json:"text"`
		} `json:"alarms"`
	}
	_, out, err := c.Status(ctx, node)
	if err != nil {
		return status.Clock, "", err
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return status.Clock, "", fmt.Errorf("read the clock's status on %s: %w", node, err)
	}
	alarms := ""
	for _, a := range status.Alarms {
		alarms += a.Text + "\n"
	}
	return status.Clock, alarms, nil
}

// awaitClock waits until both nodes say of their clocks what is expected, and notes it.
func (r *Run) awaitClock(ctx context.Context, what string, nodes []string, good func(ClockStatus) bool) error {
	for _, node := range nodes {
		err := waitFor(ctx, node+" to find that "+what, clockLimit, func() error {
			s, _, err := r.clockOf(ctx, node)
			if err == nil && !good(s) {
				err = fmt.Errorf("it says %+v", s)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	r.Event("%s: %s", strings.Join(nodes, " and "), what)
	return nil
}

func within(s ClockStatus) bool {
	for _, one := range append(s.Servers, s.Arbiter) {
		if !one.Enough || one.Problem != "" || one.Differs {
			return false
		}
	}
	return s.Verdict == "within" && !s.Disagree
}

// lies are the manners of one server among three that change at most what is said of it.
func lies() []struct {
	name    string
	manners ntp.Manners
	seen    func(ClockSource) bool
} {
	stratum := func(n uint8) *uint8 { return &n }
	problem := func(words string) func(ClockSource) bool {
		return func(s ClockSource) bool { return strings.Contains(s.Problem, words) }
	}
	differs := func(s ClockSource) bool { return s.Differs }
	stepped := func(s ClockSource) bool { return s.Steps > 1 }
	heard := func(s ClockSource) bool { return s.Problem == "" }
	return []struct {
		name    string
		manners ntp.Manners
		seen    func(ClockSource) bool
	}{
		{"runs 2 % slow", ntp.Manners{RatePPM: -20_000}, func(s ClockSource) bool { return s.Differs && s.Rate.Low > 10_000 }},
		{"runs 5 % fast", ntp.Manners{RatePPM: 50_000}, func(s ClockSource) bool { return s.Differs && s.Rate.High < -10_000 }},
		{"is not synchronised", ntp.Manners{Leap: 3}, problem("not synchronised")},
		{"has stratum 16", ntp.Manners{Stratum: stratum(16)}, problem("stratum")},
		{"is silent", ntp.Manners{Silent: true}, problem("no answer")},
		{"answers what was not asked", ntp.Manners{Stranger: true}, problem("match")},
		{"sends half a packet", ntp.Manners{Short: true}, problem("invalid")},
		{"is 10 years ahead", ntp.Manners{Offset: 10 * 365 * 24 * time.Hour}, heard},
		{"is stepped back by 3 s each 2 s", ntp.Manners{StepEvery: 2 * time.Second, Step: -3 * time.Second}, stepped},
		{"stands still", ntp.Manners{Frozen: true}, differs},
		{"sends a kiss of death", ntp.Manners{Stratum: stratum(0), Kiss: "RATE"}, problem("kiss of death RATE")}, // last: it is left alone
	}
}

func playClockLies(ctx context.Context, r *Run) (err error) {
	undo, err := r.withServers(ctx, clockServers)
	if undo != nil {
		defer func() { err = errors.Join(err, undo()) }()
	}
	if err != nil {
		return err
	}
	before, _, err := r.Status(ctx, r.Holder)
	if err != nil {
		return err
	}
	if err := r.awaitClock(ctx, "its clock is good by everybody", Nodes(), within); err != nil {
		return err
	}
	for _, lie := range lies() {
		err := r.Fault("one NTP server "+lie.name, func() error { return r.behave(lie.manners, 2) })
		if err != nil {
			return err
		}
		if err := r.awaitClock(ctx, "one server "+lie.name, Nodes(), func(s ClockStatus) bool {
			return s.Verdict == "within" && len(s.Servers) == clockServers && lie.seen(s.Servers[1])
		}); err != nil {
			return err
		}
	}
	if err := r.Fault("every NTP server runs 2 % slow", func() error { return r.behave(ntp.Manners{RatePPM: -20_000}, 1, 2, 3) }); err != nil {
		return err
	}
	off := func(s ClockStatus) bool { return s.Verdict == "off" }
	if err := r.awaitClock(ctx, "its clock is off by the servers", Nodes(), off); err != nil {
		return err
	}
	if _, alarms, err := r.clockOf(ctx, r.Holder); err != nil || !strings.Contains(alarms, "what it holds is not safe") {
		r.Fail("the holder's alarms are %q (%v)", alarms, err)
	}
	for _, node := range Nodes() {
		if err := waitFor(ctx, "the journal of "+node+" to say that its clock is off", 20*time.Second, func() error {
			journal, err := r.Journal(ctx, node, r.At, agentUnit)
			if err == nil && !strings.Contains(journal, "the clock is off by more than drift_ppm: ") {
				err = errors.New("it does not")
			}
			return err
		}); err != nil {
			return err
		}
	}
	if err := waitFor(ctx, r.Standby()+" to stop competing and to say why", 20*time.Second, func() error {
		l, _, err := r.Status(ctx, r.Standby())
		why := strings.Join(l.WhyNot, "; ")
		if err == nil && (l.State != "standby" || !strings.Contains(why, "the clock is off by more than drift_ppm")) {
			err = fmt.Errorf("it is %s: %s", l.State, why)
		}
		return err
	}); err != nil {
		return err
	}
	if err := pause(ctx, budgetOf(r.Config.Profile).hold); err != nil {
		return err
	}
	if err := r.Fault("the servers are honest again", func() error { return r.behave(ntp.Manners{}, 1, 2, 3) }); err != nil {
		return err
	}
	good := func(s ClockStatus) bool { return s.Verdict == "within" }
	if err := r.awaitClock(ctx, "its clock is good", Nodes(), good); err != nil {
		return err
	}
	after, _, err := r.Status(ctx, r.Holder)
	if err != nil || after.State != "held" || after.Epoch != before.Epoch {
		r.Fail("lease %s, epoch %d, was %d (%v)", after.State, after.Epoch, before.Epoch, err)
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}

func playClockFast(ctx context.Context, r *Run) (err error) {
	undo, err := r.withServers(ctx, clockServers)
	if undo != nil {
		defer func() { err = errors.Join(err, undo()) }()
	}
	if err != nil {
		return err
	}
	if err := r.behave(ntp.Manners{RatePPM: -5000}, 1, 3); err != nil {
		return err
	}
	r.Event("by two of three servers this clock gains 5 ms in a second")
	off := func(s ClockStatus) bool { return s.Verdict == "off" }
	if err := r.awaitClock(ctx, "its clock is off", Nodes(), off); err != nil {
		return err
	}
	return playUnfit(ctx, r, "the clock is off by more than drift_ppm", func() error { return r.behave(ntp.Manners{}, 1, 3) })
}

func playClockOneServer(ctx context.Context, r *Run) (err error) {
	undo, err := r.withServers(ctx, 1)
	if undo != nil {
		defer func() { err = errors.Join(err, undo()) }()
	}
	if err != nil {
		return err
	}
	if err := r.awaitClock(ctx, "its clock is good by everybody", Nodes(), within); err != nil {
		return err
	}
	if err := r.behave(ntp.Manners{RatePPM: 20_000}, 1); err != nil {
		return err
	}
	r.Event("the only server runs 2 %% fast")
	disagree := func(s ClockStatus) bool {
		return s.Verdict == "warning" && s.Disagree && strings.Contains(s.Text, "one of the two is wrong")
	}
	if err := r.awaitClock(ctx, "the server contradicts the arbiter", Nodes(), disagree); err != nil {
		return err
	}
	return playCrash(ctx, r)
}
