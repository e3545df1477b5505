package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/leasedog/leasedog/lease"
)

const good = `cluster = "erp"
insecure = true
profile = "lan"
[arbiter]
urls = ["http://10.0.9.1:7443"]
[watchdog]
mode = "required"
[[lease]]
name = "pg"
resources = ["g-pg"]
`

// edit returns the good file with one line replaced (or, with old "", one appended).
func edit(t *testing.T, old, replacement string) string {
	t.Helper()
	if old == "" {
		return good + replacement + "\n"
	}
	if strings.Count(good, old) != 1 {
		t.Fatalf("%q is not exactly once in the good file", old)
	}
	return strings.Replace(good, old, replacement, 1)
}

func problems(t *testing.T, err error) []Problem {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *config.Error", err)
	}
	return e.Problems
}

func TestAgentDefaults(t *testing.T) {
	a, err := ParseAgent(strings.NewReader(good), "t")
	if err != nil {
		t.Fatal(err)
	}
	want := Agent{
		Cluster: "erp", Insecure: true,
		Arbiter:  AgentArbiter{URLs: []string{"http://10.0.9.1:7443"}},
		Watchdog: Watchdog{Mode: WatchdogRequired, Device: DeviceAuto},
		Leases:   []Lease{{Name: "pg", Resources: []string{"g-pg"}, Acquire: AcquireAuto, GiveUpAfter: 5 * time.Second}},
	}
	if diff := cmp.Diff(want, a, cmpopts.IgnoreUnexported(Agent{})); diff != "" {
		t.Error(diff)
	}
	lan, _ := lease.Profile("lan")
	if a.Budget() != lan {
		t.Errorf("budget = %+v, want %+v", a.Budget(), lan)
	}
	if _, ok := a.Lease("pg"); !ok {
		t.Error("lease pg is not found")
	}
	if l, ok := a.Lease("other"); ok {
		t.Errorf("lease other is found: %+v", l)
	}
}

func TestDefaultProfileIsLeases(t *testing.T) {
	a, err := ParseAgent(strings.NewReader(edit(t, "profile = \"lan\"\n", "")), "t")
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := lease.Profile(lease.DefaultProfile); a.Budget() != want {
		t.Errorf("budget = %+v, want %+v", a.Budget(), want)
	}
}

// In systemd mode the watchdog counts as one second, and the hold never gets shorter than the profile's.
func TestSystemdModeCountsOneSecond(t *testing.T) {
	for _, name := range lease.ProfileNames() {
		src := strings.Replace(edit(t, `mode = "required"`, `mode = "systemd"`), `"lan"`, `"`+name+`"`, 1)
		a, err := ParseAgent(strings.NewReader(src), "t")
		if err != nil {
			t.Fatal(err)
		}
		row, _ := lease.Profile(name)
		if b := a.Budget(); b.Watchdog != time.Second || b.Hold() < row.Hold() {
			t.Errorf("%s: W = %v, H = %v; want 1s and at least %v", name, b.Watchdog, b.Hold(), row.Hold())
		}
	}
}

func TestOverridesReachTheBudget(t *testing.T) {
	a, err := ParseAgent(strings.NewReader(good+`[budget]
renew_every = "0.7s"
request_timeout = "0.6s"
attempts = 2
loss_after = "2.9s"
stop_budget = "2.4s"
timer_slack = "190ms"
watchdog_timeout = "1.9s"
watchdog_quantum = "180ms"
reset_latency = "490ms"
drift_ppm = 900
ttl = "8.6s"
grace = "260ms"
`), "t")
	if err != nil {
		t.Fatal(err)
	}
	const ms = time.Millisecond
	want := lease.Budget{
		Profile: "lan", RenewEvery: 700 * ms, RequestTimeout: 600 * ms, Attempts: 2,
		Terms: lease.Terms{LossAfter: 2900 * ms, StopBudget: 2400 * ms, TimerSlack: 190 * ms, Watchdog: 1900 * ms,
			Quantum: 180 * ms, Chances: 1, ResetLatency: 490 * ms, DriftPPM: 900},
		TTL: 8600 * ms, Grace: 260 * ms,
	}
	if diff := cmp.Diff(want, a.Budget()); diff != "" {
		t.Error(diff)
	}
}

func TestAgentRefuses(t *testing.T) {
	second := func(name, resource string) string {
		return fmt.Sprintf("[[lease]]\nname = %q\nresources = [%q]", name, resource)
	}
	for name, c := range map[string]struct {
		src  string
		want []string // FILE:LINE:COLUMN: KEY: what, in order, one for each problem
	}{
		"unknown key":        {edit(t, `profile = `, `profil = `), []string{`t:3:1: profil: is not a key of this file`}},
		"unknown nested key": {edit(t, `name = "pg"`, "name = \"pg\"\nresource = [\"x\"]"), []string{`t:10:1: lease[0].resource: is not a key`}},
		"unknown table":      {edit(t, "", "[tools]\nx = 1"), []string{`t:11:2: tools: is not a key`}},
		"syntax":             {edit(t, `cluster = "erp"`, `cluster = "erp`), []string{`t:1:`}},
		"key twice":          {edit(t, `insecure = true`, "insecure = true\ninsecure = true"), []string{`t:`}},
		"type string":        {edit(t, `"erp"`, `7`), []string{`t:1:1: cluster: has the wrong type: a whole number`}},
		"type flag":          {edit(t, `insecure = true`, `insecure = "yes"`), []string{`t:2:1: insecure: has the wrong type: a string`, `t:5:9: arbiter.urls[0]: plain http`}},
		"type list":          {edit(t, `["g-pg"]`, `"g-pg"`), []string{`t:10:1: lease[0].resources: has the wrong type: a string`}},
		"type element":       {edit(t, `["g-pg"]`, `["g-pg", 7]`), []string{`t:10:22: lease[0].resources[1]: has the wrong type`}},
		"type table":         {edit(t, "[watchdog]\nmode = \"required\"\n", "[[watchdog]]\n"), []string{`watchdog: has the wrong type: a list`}},
		"type lease":         {edit(t, "[[lease]]", "[lease]"), []string{`t:8:2: lease: has the wrong type: a table`}},
		"duration number":    {edit(t, "", "give_up_after = 5"), []string{`t:11:1: lease[0].give_up_after: has the wrong type: a whole number`}},
		"duration unit":      {edit(t, "", `give_up_after = "5"`), []string{`t:11:1: lease[0].give_up_after: "5" is not a duration`}},
		"duration negative":  {edit(t, "", `give_up_after = "-5s"`), []string{`"-5s" is not above 0`}},
		"duration zero":      {edit(t, "", `leave_timeout = "0s"`), []string{`t:11:1: lease[0].leave_timeout: "0s" is not above 0`}},
		"duration overflow":  {edit(t, "", `leave_timeout = "9999999999h"`), []string{`"9999999999h" is not a duration`}},
		"duration long":      {edit(t, "", `leave_timeout = "721h"`), []string{`"721h" is too long`}},
		"budget negative":    {edit(t, "", "[budget]\nttl = \"-1s\""), []string{`t:12:1: budget.ttl: "-1s" is not above 0`}},
		"budget attempts":    {edit(t, "", "[budget]\nattempts = 0"), []string{`t:12:1: budget.attempts: 0 is out of range`}},
		"ntp server":         {edit(t, "", "[clock]\nntp = [\"ntp 1\"]"), []string{`"ntp 1" is not a server`}},
		"ntp port":           {edit(t, "", "[clock]\nntp = [\"ntp1:0\"]"), []string{`"ntp1:0" is not a server`}},
		"ntp scheme":         {edit(t, "", "[clock]\nntp = [\"ntp://a\"]"), []string{`is not a server`}},
		"ntp option":         {edit(t, "", "[clock]\nntp = [\"-v\"]"), []string{`is not a server`}},
		"ntp twice":          {edit(t, "", "[clock]\nntp = [\"a\", \"b\", \"A:123\"]"), []string{`"A:123" is there twice`}},
		"nine ntp servers":   {edit(t, "", "[clock]\nntp = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]"), []string{`names 9 servers`}},
		"ntp too often":      {edit(t, "", "[clock]\nntp = [\"a\"]\nntp_every = \"10ms\""), []string{`10ms is too often`}},
		"ntp too seldom":     {edit(t, "", "[clock]\nntp = [\"a\"]\nntp_every = \"2h\""), []string{`ntp_every`}},
		"ntp_every alone":    {edit(t, "", "[clock]\nntp_every = \"2m\""), []string{`has no effect without ntp`}},
		"budget drift":       {edit(t, "", "[budget]\ndrift_ppm = 100001"), []string{`100001 is out of range`}},
		"budget safety":      {edit(t, "", "[budget]\nstop_budget = \"5s\""), []string{`t:11:2: budget: the budget is unsafe or useless: safety: (1+ρ)·[(L+S+J+c·(W+q))/(1−ρ)+K] ≤ H violated: 10.921320821s > 8.75s`}},
		"budget liveness":    {edit(t, "", "[budget]\nattempts = 4"), []string{`liveness: n·R + T ≤ L violated: 3.75s > 3s`}},
		"profile":            {edit(t, `"lan"`, `"lann"`), []string{`t:3:1: profile: "lann" is unknown`}},
		"no cluster":         {edit(t, "cluster = \"erp\"\n", ""), []string{`t: cluster: is missing`}},
		"empty cluster":      {edit(t, `"erp"`, `""`), []string{`t:1:1: cluster: must not be empty`}},
		"cluster slash":      {edit(t, `"erp"`, `"classic/erp"`), []string{`t:1:1: cluster: "classic/erp" is not a cluster's name`}},
		"node":               {edit(t, `profile = "lan"`, `node = "a b"`), []string{`node: "a b" has the character ' '`}},
		"no urls":            {edit(t, `urls = ["http://10.0.9.1:7443"]`, ""), []string{`t:4:2: arbiter.urls: names no arbiter`}},
		"empty urls":         {edit(t, `["http://10.0.9.1:7443"]`, "[]"), []string{`arbiter.urls: names no arbiter`}},
		"cluster case":       {edit(t, `"erp"`, `"ERP"`), []string{`t:1:1: cluster: "ERP" is not a cluster's name`}},
		"cluster dash":       {edit(t, `"erp"`, `"erp-"`), []string{`t:1:1: cluster: "erp-" is not a cluster's name`}},
		"url https":          {edit(t, `http://`, `https://`), []string{`t:5:9: arbiter.urls[0]: https with insecure = true`}},
		"url insecure":       {edit(t, `insecure = true`, `insecure = false`), []string{`t:5:9: arbiter.urls[0]: plain http without insecure = true`}},
		"url port":           {edit(t, `:7443`, ``), []string{`"http://10.0.9.1" has no port`}},
		"url port 0":         {edit(t, `:7443`, `:0`), []string{`has an impossible port`}},
		"url port big":       {edit(t, `:7443`, `:65536`), []string{`has an impossible port`}},
		"url path":           {edit(t, `:7443`, `:7443/v1`), []string{`has more than scheme, host and port`}},
		"url user":           {edit(t, `10.0.9.1`, `me@10.0.9.1`), []string{`has more than scheme, host and port`}},
		"url scheme":         {edit(t, `http://`, ``), []string{`is not a url`}},
		"url twice":          {edit(t, `["http://10.0.9.1:7443"]`, `["http://a:1", "http://a:1"]`), []string{`t:5:23: arbiter.urls[1]: "http://a:1" is listed twice`}},
		"ca":                 {edit(t, `urls =`, "ca = \"/x\"\nurls ="), []string{`t:5:1: arbiter.ca: has no effect with insecure = true`}},
		"key credential":     {edit(t, `urls =`, "key = \"credential:k\"\nurls ="), []string{`t:5:1: arbiter.key: has no effect with insecure = true`}},
		"cert":               {edit(t, `urls =`, "cert = \"/x\"\nurls ="), []string{`t:5:1: arbiter.cert: has no effect with insecure = true`}},
		"key":                {edit(t, `urls =`, "key = \"/x\"\nurls ="), []string{`t:5:1: arbiter.key: has no effect with insecure = true`}},
		"key relative": {strings.Replace(strings.Replace(good, "insecure = true\n", "", 1), `urls = ["http:`, "key = \"x.key\"\nurls = [\"https:", 1),
			[]string{`t:4:1: arbiter.key: "x.key" is not an absolute path`}},
		"watchdog off":        {edit(t, `"required"`, `"off"`), []string{`t:7:1: watchdog.mode: "off" is unknown`}},
		"watchdog device":     {edit(t, `mode = "required"`, `device = "watchdog0"`), []string{`watchdog.device: "watchdog0" is not a device`}},
		"watchdog climbing":   {edit(t, `mode = "required"`, `device = "/dev/../etc/x"`), []string{`is not a device`}},
		"watchdog control":    {edit(t, `mode = "required"`, `device = "/dev/\u007f"`), []string{`is not a device`}},
		"watchdog both":       {edit(t, `mode = "required"`, "mode = \"systemd\"\ndevice = \"/dev/watchdog0\""), []string{`has no effect with mode = "systemd"`}},
		"watchdog W systemd":  {edit(t, `mode = "required"`, "mode = \"systemd\"\n[budget]\nwatchdog_timeout = \"4s\""), []string{`t:9:1: budget.watchdog_timeout: has no effect`}},
		"no lease":            {strings.SplitAfter(good, "\"required\"\n")[0], []string{`t: lease: there is no lease`}},
		"lease without name":  {edit(t, "name = \"pg\"\n", ""), []string{`t:8:3: lease[0].name: is missing`}},
		"lease name case":     {edit(t, `"pg"`, `"Pg"`), []string{`t:9:1: lease[0].name: "Pg" has the character 'P'`}},
		"lease name space":    {edit(t, `"pg"`, `"p g"`), []string{`"p g" has the character ' '`}},
		"lease name long":     {edit(t, `"pg"`, `"`+strings.Repeat("a", 33)+`"`), []string{`has 33 characters`}},
		"lease name dash":     {edit(t, `"pg"`, `"-pg"`), []string{`begins with '-'`}},
		"lease name all":      {edit(t, `"pg"`, `"all"`), []string{`means every lease`}},
		"lease name state":    {edit(t, `"pg"`, `"pg-state"`), []string{`ends in "-state", which is the attribute that describes another lease`}},
		"lease twice":         {edit(t, "", second("pg", "other")), []string{`t:12:1: lease[1].name: "pg" is the name of lease[0] already`}},
		"resource twice":      {edit(t, `["g-pg"]`, `["g-pg", "g-pg"]`), []string{`t:10:22: lease[0].resources[1]: "g-pg" is listed twice`}},
		"resource in two":     {edit(t, "", second("two", "g-pg")), []string{`t:13:14: lease[1].resources[0]: "g-pg" is guarded by lease "pg" already`}},
		"rule id in two":      {edit(t, "", second("pg-g", "pg")), []string{`the Pacemaker rule of "pg" would have the same id (leasedog-pg-g-pg)`}},
		"resource id":         {edit(t, `["g-pg"]`, `["g pg"]`), []string{`"g pg" cannot be the id of a Pacemaker resource`}},
		"resource instance":   {edit(t, `["g-pg"]`, `["pg:0"]`), []string{`"pg:0" cannot be the id`}},
		"no resources":        {edit(t, "resources = [\"g-pg\"]\n", ""), []string{`t:8:3: lease[0].resources: the lease guards nothing`}},
		"empty resources":     {edit(t, `["g-pg"]`, `[]`), []string{`t:10:1: lease[0].resources: the lease guards nothing`}},
		"acquire":             {edit(t, "", `acquire = "always"`), []string{`lease[0].acquire: "always" is unknown`}},
		"prefer":              {edit(t, "", `prefer = "node 1"`), []string{`lease[0].prefer: "node 1" has the character`}},
		"two problems, lines": {strings.Replace(edit(t, `profile = `, `profil = `), `"g-pg"`, `"g pg"`, 1), []string{`t:3:1: profil`, `t:10:14: lease[0]`}},
		"inline table": {strings.Replace(edit(t, "[arbiter]\nurls = [\"http://10.0.9.1:7443\"]\n", ""), "profile",
			"arbiter = { urls = [\"http://h:1/x\"] }\nprofile", 1), []string{`t:3:21: arbiter.urls[0]: "http://h:1/x" has more`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseAgent(strings.NewReader(c.src), "t")
			got := problems(t, err)
			if len(got) != len(c.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(got), len(c.want), err)
			}
			for i, p := range got {
				if text := (&Error{File: "t", Problems: []Problem{p}}).Error(); !strings.Contains(text, c.want[i]) {
					t.Errorf("problem %d:\n%s\nwant %q in it", i, text, c.want[i])
				}
			}
		})
	}
}

// The whole message, as an administrator sees it.
func TestMessage(t *testing.T) {
	_, err := ParseAgent(strings.NewReader(good+"\tgive_up_aftr = \"5s\"\n"), "/etc/leasedog/leasedog.toml")
	want := `/etc/leasedog/leasedog.toml:11:2: lease[0].give_up_aftr: is not a key of this file
   11 | 	give_up_aftr = "5s"
      | 	^^^^^^^^^^^^
  hint: did you mean "give_up_after"?`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestArbiterRefuses(t *testing.T) {
	const good = "insecure = true\nallow_insecure_from = [\"10.0.9.0/24\"]\n"
	for name, c := range map[string]struct{ src, want string }{
		"unknown key":    {good + "lissten = \":1\"\n", `t:3:1: lissten: is not a key`},
		"networks":       {"allow_insecure_from = [\"10.0.9.0/24\"]\n", `t:1:1: allow_insecure_from: has no effect without insecure = true`},
		"empty networks": {"insecure = true\nallow_insecure_from = []\n", `t:2:1: allow_insecure_from: names no network`},
		"pki insecure":   {good + "pki = \"/x\"\n", `t:3:1: pki: has no effect with insecure = true`},
		"pki":            {"pki = \"x\"\n", `t:1:1: pki: "x" is not an absolute path`},
		"key insecure":   {good + "key = \"/x\"\n", `t:3:1: key: has no effect with insecure = true`},
		"key relative":   {"key = \"arbiter.key\"\n", `t:1:1: key: "arbiter.key" is not an absolute path`},
		"key name":       {"key = \"credential:a/b\"\n", `t:1:1: key: "a/b" is not a credential's name`},
		"key dots":       {"key = \"credential:..\"\n", `t:1:1: key: ".." is not a credential's name`},
		"key no name":    {"key = \"credential:\"\n", `t:1:1: key: "" is not a credential's name`},
		"life":           {"cert_life = \"29s\"\n", `t:1:1: cert_life: 29s is too short`},
		"life long":      {"cert_life = \"90000h\"\n", `t:1:1: cert_life: "90000h" is too long`},
		"cluster":        {"[[cluster]]\nname = \"ERP\"\n", `t:2:1: cluster[0].name: "ERP" is not a cluster's name`},
		"cluster twice":  {"[[cluster]]\nname = \"a\"\n[[cluster]]\nname = \"a\"\n", `cluster[1].name: "a" is the name of cluster[0] already`},
		"cluster lease":  {"[[cluster]]\nname = \"a\"\nleases = [\"PG\"]\n", `cluster[0].leases[0]: "PG" has the character 'P'`},
		"cluster nobody": {"[[cluster]]\nname = \"a\"\nnodes = []\n", `cluster[0].nodes: is empty`},
		"classic empty":  {good + "[classic]\nallow_from = [\"::1/128\"]\n", `t:3:2: classic.listen: is missing`},
		"classic nobody": {good + "[classic]\nlisten = \":80\"\nallow_from = []\n", `t:5:1: classic.allow_from: names no network`},
		"classic key":    {good + "[classic]\nlisten = \":80\"\nallow_from = [\"::1/128\"]\nhold = \"8s\"\n", `t:6:1: classic.hold: is not a key`},
		"classic listen": {good + "[classic]\nlisten = \"80\"\nallow_from = [\"::1/128\"]\n", `t:4:1: classic.listen: "80" is not an address`},
		"no network":     {"insecure = true\n", `t: allow_insecure_from: names no network`},
		"bad network":    {"insecure = true\nallow_insecure_from = [\"10.0.9.1\"]\n", `t:2:24: allow_insecure_from[0]: "10.0.9.1" is not a network`},
		"network bits":   {"insecure = true\nallow_insecure_from = [\"10.0.9.1/24\"]\n", `hint: write "10.0.9.0/24"`},
		"listen":         {good + "listen = \"7443\"\n", `"7443" is not an address`},
		"listen port":    {good + "listen = \":http\"\n", `":http" is not an address`},
		"store":          {good + "store = \"arbiter.db\"\n", `"arbiter.db" is not an absolute path`},
		"control":        {good + "control = \"/run/../x\"\n", `"/run/../x" is not an absolute path`},
		"control length": {good + "control = \"/" + strings.Repeat("x", 107) + "\"\n", `too long for a socket`},
		"holds":          {good + "min_hold = \"2h\"\n", `2h0m0s is above max_hold = 2m0s`},
		"negative":       {good + "max_pause = \"-1s\"\n", `"-1s" is not above 0`},
		"history":        {good + "history = 0\n", `0 is out of range`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseArbiter(strings.NewReader(c.src), "t")
			if got := problems(t, err); len(got) != 1 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant one problem with %q", err, c.want)
			}
		})
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"good":     {write("good", good, 0o640), ""},
		"missing":  {filepath.Join(dir, "none"), "does not exist"},
		"empty":    {write("empty", "", 0o600), "is empty"},
		"huge":     {write("huge", strings.Repeat("#", maxFile+1), 0o600), "is larger than"},
		"group":    {write("group", good, 0o660), "may be written by others than its owner (mode 0660)"},
		"other":    {write("other", good, 0o602), "may be written by others than its owner (mode 0602)"},
		"folder":   {dir, "is not a regular file"},
		"fifo":     {fifo, "is not a regular file"},
		"in a row": {filepath.Join(dir, "good", "x"), "cannot be opened: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadAgent(c.path)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "":
				if got := problems(t, err); len(got) != 1 || !strings.HasPrefix(err.Error(), c.path+": "+c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
		})
	}
}

func TestFileOfAnotherOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAgent(path); err == nil || !strings.Contains(err.Error(), "belongs to user 65534, not to root") {
		t.Errorf("got %v", err)
	}
}

// The reference files load, mean what the defaults say, and mention every key that the reader asks for.
func TestReferences(t *testing.T) {
	for _, file := range []string{"reference.toml", "arbiter.reference.toml"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d, root := parse(src)
		if root == nil {
			t.Fatal(d.problems)
		}
		if file == "reference.toml" {
			readAgent(root)
		} else {
			readArbiter(root)
		}
		if len(d.problems) > 0 {
			t.Error(&Error{File: file, Problems: d.problems})
		}
		if len(d.asked) < 8 {
			t.Errorf("%s: only %v were asked for", file, d.asked)
		}
		for _, path := range d.asked {
			key := path[strings.LastIndex(path, ".")+1:]
			mention := regexp.MustCompile(`(?m)^(#   |# )?` + key + ` = |^(#   )?\[\[?` + key + `\]\]?$`)
			if !mention.Match(src) {
				t.Errorf("%s does not document %s", file, path)
			}
		}
	}
}

// The commented lines of the reference are the defaults that it says they are.
func TestReferenceDefaults(t *testing.T) {
	src, err := os.ReadFile("reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAgent(strings.NewReader(string(src)), "reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(src), "[budget]\n")
	mine, tail, _ := strings.Cut(rest, "# One table for each lease")
	all := head + "[budget]\n" + regexp.MustCompile(`(?m)^# ([a-z_]+ = )`).ReplaceAllString(mine, "$1") + "#" + tail
	b, err := ParseAgent(strings.NewReader(all), "all")
	if err != nil {
		t.Fatal(err)
	}
	if a.Budget() != b.Budget() {
		t.Errorf("commented budget %+v\nis not the default %+v", b.Budget(), a.Budget())
	}
	src, err = os.ReadFile("arbiter.reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	x, err1 := ParseArbiter(strings.NewReader(string(src)), "x")
	on := strings.NewReplacer("#   [classic]", "[classic]", "#   listen", "listen", "#   allow_from", "allow_from").Replace(string(src))
	z, err := ParseArbiter(strings.NewReader(on), "z")
	if err != nil || z.Classic.Listen != "10.0.9.1:8080" || len(z.Classic.AllowFrom) != 2 || x.Classic.Listen != "" {
		t.Errorf("the classic table: %+v, %v", z.Classic, err)
	}
	y, err2 := ParseArbiter(strings.NewReader(regexp.MustCompile(`(?m)^# ([a-z_]+ = )`).ReplaceAllString(string(src), "$1")), "y")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if diff := cmp.Diff(x, y, cmp.Comparer(func(a, b fmt.Stringer) bool { return a.String() == b.String() })); diff != "" {
		t.Error(diff)
	}
}

func drawAgent(t *rapid.T) Agent {
	b, err := lease.Profile(rapid.SampledFrom(lease.ProfileNames()).Draw(t, "profile"))
	if err != nil {
		t.Fatal(err)
	}
	mode := rapid.SampledFrom([]WatchdogMode{WatchdogRequired, WatchdogSystemd}).Draw(t, "mode")
	if mode == WatchdogSystemd {
		b = b.WithWatchdog(systemdWatchdog)
	}
	b.TTL += time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "more"))
	a := Agent{
		Cluster:  rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?`).Draw(t, "cluster"),
		Node:     rapid.SampledFrom([]string{"", "node1"}).Draw(t, "node"),
		Insecure: rapid.Bool().Draw(t, "insecure"),
		Arbiter:  AgentArbiter{URLs: []string{"http://10.0.9.1:7443", "http://[fd00::1]:7443"}},
		Watchdog: Watchdog{Mode: mode, Device: DeviceAuto},
		budget:   b,
	}
	if !a.Insecure {
		a.Arbiter = AgentArbiter{URLs: []string{"https://10.0.9.1:7443"}, CA: DefaultCA, Cert: DefaultCert,
			Key: rapid.SampledFrom([]string{DefaultKey, "/run/credentials/leasedog.service/key"}).Draw(t, "key")}
	}
	if mode == WatchdogRequired {
		a.Watchdog.Device = rapid.SampledFrom([]string{DeviceAuto, "/dev/watchdog0"}).Draw(t, "device")
	}
	if a.Clock.NTP = rapid.SampledFrom([][]string{nil, {"ntp1"}, {"10.0.9.2", "ntp2.example.net:1123", "[fd00::1]:123", "fd00::2"}}).
		Draw(t, "ntp"); a.Clock.NTP != nil {
		a.Clock.Every = time.Duration(rapid.Int64Range(int64(minEvery), int64(maxEvery)).Draw(t, "every"))
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "leases") {
		a.Leases = append(a.Leases, Lease{
			Name:         fmt.Sprintf("l%d", i),
			Resources:    []string{fmt.Sprintf("g_%d", i), rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_.-]{0,9}`).Draw(t, "id") + fmt.Sprintf(".%d", i)},
			Acquire:      rapid.SampledFrom([]AcquireMode{AcquireAuto, AcquireManual, AcquireOnDemand}).Draw(t, "acquire"),
			Prefer:       rapid.SampledFrom([]string{"", "node2"}).Draw(t, "prefer"),
			GiveUpAfter:  time.Duration(rapid.Int64Range(1, int64(maxDuration)).Draw(t, "give up")),
			LeaveTimeout: time.Duration(rapid.Int64Range(0, int64(maxDuration)).Draw(t, "leave")),
		})
	}
	return a
}

// What the agent keeps in /run is read back to the same configuration: a successor goes on with the very same one.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAgent(t)
		got, err := ParseAgent(strings.NewReader(string(a.TOML())), "t")
		if err != nil {
			t.Fatalf("%v\n%s", err, a.TOML())
		}
		if diff := cmp.Diff(a, got, cmp.AllowUnexported(Agent{})); diff != "" {
			t.Fatal(diff)
		}
		if a.Digest() != got.Digest() {
			t.Fatal("the digest changed")
		}
	})
}

func TestDigest(t *testing.T) {
	digest := func(src string) string {
		a, err := ParseAgent(strings.NewReader(src), "t")
		if err != nil {
			t.Fatal(err)
		}
		return a.Digest()
	}
	base := digest(good)
	for name, src := range map[string]string{
		"comment": good + "# a comment\n",
		"default": edit(t, `profile = "lan"`, "profile = \"lan\"\nbudget.ttl = \"8.5s\""),
		"node":    edit(t, `profile = "lan"`, "profile = \"lan\"\nnode = \"node1\""),
		"device":  edit(t, `mode = "required"`, `device = "/dev/watchdog1"`),
	} {
		if digest(src) != base {
			t.Errorf("%s: the digest differs for the same meaning", name)
		}
	}
	for name, src := range map[string]string{
		"budget":   edit(t, `profile = "lan"`, "profile = \"lan\"\nbudget.ttl = \"8.6s\""),
		"mode":     edit(t, `"required"`, `"systemd"`),
		"resource": edit(t, `"g-pg"`, `"g-pg2"`),
		"arbiter":  edit(t, `10.0.9.1`, `10.0.9.2`),
	} {
		if digest(src) == base {
			t.Errorf("%s: the digest is the same for another meaning", name)
		}
	}
}

// Whatever the text, reading it ends in a checked configuration or in an *Error with at least one problem.
func FuzzParseAgent(f *testing.F) {
	f.Add(good)
	f.Add("a = [[1,{b={c=2}}]]\n[a.b]\n[[lease]]\n[lease.x]\n[[lease]]\ny.z = 1\n")
	f.Add("[[lease]]\nname = \"\\u0000\"\n\"a.b\" = 1\n'' = 2")
	f.Fuzz(func(t *testing.T, src string) {
		a, err := ParseAgent(strings.NewReader(src), "f")
		if err == nil {
			if v := a.Budget().Violations(); len(v) > 0 || len(a.Leases) == 0 {
				t.Fatalf("accepted with %v", v)
			}
			again, err := ParseAgent(bytes.NewReader(a.TOML()), "f")
			if d := cmp.Diff(a, again, cmp.AllowUnexported(Agent{})); err != nil || d != "" {
				t.Fatalf("what TOML writes is read as another: %v %s\n%s", err, d, a.TOML())
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) == 0 || e.Error() == "" {
			t.Fatalf("error without a problem: %v", err)
		}
	})
}

// A text of a megabyte that is nested all the way is refused at once, and not after hours.
func TestNestingIsBounded(t *testing.T) {
	for _, text := range []string{"a = " + strings.Repeat("[", maxFile-10), "a = " + strings.Repeat("{a=", maxFile/3-10),
		strings.Repeat("a.", maxFile/2-10) + "a = 1", "\n[" + strings.Repeat("a.", maxFile/2-10) + "a]"} {
		if _, err := ParseAgent(strings.NewReader(text), "f"); err == nil || !strings.Contains(err.Error(), "nested more than") {
			t.Errorf("%.10q…: %.200v", text, err)
		}
	}
	deep := good + "x = " + strings.Repeat("[", maxNesting-1) + strings.Repeat("]", maxNesting-1)
	if _, err := ParseAgent(strings.NewReader(deep), "f"); err == nil || strings.Contains(err.Error(), "nested") {
		t.Errorf("%.200v", err)
	}
}

// The arbiter's configuration likewise.
func FuzzParseArbiter(f *testing.F) {
	f.Add("insecure = true\nallow_insecure_from = [\"10.0.9.0/24\", \"fd00:9::/64\"]\nlisten = \"10.0.9.1:7443\"\nmin_hold = \"2s\"\n")
	f.Add("insecure = true\nallow_insecure_from = [\"10.0.9.1/24\"]\nstore = \"a/../b\"\nhistory = -1\n")
	f.Fuzz(func(t *testing.T, src string) {
		a, err := ParseArbiter(strings.NewReader(src), "f")
		if err == nil {
			if !a.Insecure || len(a.AllowInsecureFrom) == 0 || a.MinHold <= 0 || a.MaxHold < a.MinHold || a.MaxPause <= 0 || a.History < 1 ||
				!filepath.IsAbs(a.Store) || !filepath.IsAbs(a.Control) || len(a.Control) > maxSocketPath || a.DriftPPM < 0 {
				t.Fatalf("accepted: %+v", a)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) == 0 || e.Error() == "" {
			t.Fatalf("error without a problem: %v", err)
		}
	})
}

// The budget that is printed may be one that is refused; nothing else may be wrong.
func TestLoadBudget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good + "[budget]\nstop_budget = \"30s\"\n")
	if b, err := LoadBudget(path); err != nil || b.StopBudget != 30*time.Second {
		t.Errorf("got %+v, %v", b, err)
	}
	if _, err := LoadAgent(path); err == nil {
		t.Error("an unsafe budget is accepted")
	}
	write(good + "[budget]\nstop_budget = \"30s\"\nx = 1\n")
	if _, err := LoadBudget(path); err == nil || !strings.Contains(err.Error(), "budget.x") {
		t.Errorf("got %v", err)
	}
}

// Without a word about it, everything is proven: TLS, with certificates where "leasedog join" puts them.
func TestSecureByDefault(t *testing.T) {
	text := strings.Replace(strings.Replace(good, "insecure = true\n", "", 1), "http://", "https://", 1)
	a, err := ParseAgent(strings.NewReader(text), "t")
	if err != nil || a.Insecure || a.Arbiter.CA != DefaultCA || a.Arbiter.Cert != DefaultCert || a.Arbiter.Key != DefaultKey {
		t.Errorf("%+v %v", a.Arbiter, err)
	}
	for key, want := range map[string]string{"/k": "", "credential:node.key": "node.key"} {
		a, err := ParseAgent(strings.NewReader(strings.Replace(text, "urls =", "key = \""+key+"\"\nurls =", 1)), "t")
		if err != nil || a.Arbiter.KeyCredential != want || (a.Arbiter.Key == "/k") != (want == "") {
			t.Errorf("%s: %+v %v", key, a.Arbiter, err)
		}
		if again, err := ParseAgent(strings.NewReader(string(a.TOML())), "t"); err != nil || again.Arbiter.Key != a.Arbiter.Key || again.Arbiter.KeyCredential != want {
			t.Errorf("%s, written and read: %+v %v", key, again.Arbiter, err)
		}
	}
	for _, key := range []string{"credential:a/b", "credential:", "credential:..", "k"} {
		if _, err := ParseAgent(strings.NewReader(strings.Replace(text, "urls =", "key = \""+key+"\"\nurls =", 1)), "t"); err == nil || !strings.Contains(err.Error(), "arbiter.key: ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	x, err := ParseArbiter(strings.NewReader("# nothing\n"), "t")
	if err != nil || x.Insecure || x.PKI != defaultPKI || x.CertLife != defaultCertLife || x.AllowInsecureFrom != nil {
		t.Errorf("%+v %v", x, err)
	}
}

func TestArbiterListsClusters(t *testing.T) {
	x, err := ParseArbiter(strings.NewReader("[[cluster]]\nname = \"erp\"\nnodes = [\"node1\"]\nleases = [\"pg\"]\n[[cluster]]\nname = \"web\"\n"), "t")
	if err != nil || len(x.Clusters) != 2 || x.Clusters[0].Nodes[0] != "node1" || x.Clusters[0].Leases[0] != "pg" || x.Clusters[1].Nodes != nil {
		t.Errorf("%+v %v", x.Clusters, err)
	}
}
