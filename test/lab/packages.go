package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// packageScenarios are the rows about what apt does to a pair that runs.
func packageScenarios() []Scenario {
	lan := lanConfig()
	upgrades := func(loops int) func(context.Context, *Run) error {
		return func(ctx context.Context, r *Run) error { return playUpgrades(ctx, r, loops) }
	}
	return []Scenario{
		{Name: "package-upgrade-while-holding", Config: lan, Bound: noTransition, Run: upgrades(2),
			About: "all hosts are upgraded and downgraded with apt, the holder twice: the agent is replaced, the old guard goes on"},
		// So long that a machine which is busy elsewhere delays some beat or other; that one canary lived is looked at besides.
		{Name: "package-upgrade-100", Config: lan, Long: true, Bound: 5 * noTransition, Run: upgrades(100),
			About: "the same, the holder a hundred times (by its name only)"},
		{Name: "package-downgrade", Config: lan, Bound: noTransition, Run: playDowngrade,
			About: "all hosts run the newer version, the guard too, and get the older one with apt while the lease is held: the older agent adopts under the newer guard"},
		{Name: "package-remove-while-holding-refused", Config: lan, Bound: noTransition, Run: playRemoveRefused,
			About: "apt-get remove and purge on the holder, the standby and the arbiter: refused, with the way out; nothing changes"},
		{Name: "package-purge", Config: lan, Bound: noTransition, Run: playPurge,
			About: "the rules are removed, the agents stopped and the packages purged: nothing is left, the group runs on; then all is installed again"},
	}
}

// nextVersion is what upgrades go to.
const nextVersion = "999.0.0"

// ship puts this build's packages, and the same as a newer version, where every host sees them, and returns the folders.
func (c *Cluster) ship(ctx context.Context) (now, next string, err error) {
	dir, err := filepath.EvalSymlinks(c.productLink())
	if err != nil {
		return "", "", err
	}
	lock, err := lockFile(filepath.Join(c.Repo, ".cache", "lab", "install.lock"))
	if err != nil {
		return "", "", err
	}
	defer lock.Close()
	if _, err := os.Stat(filepath.Join(dir, "next")); err != nil {
		if err := c.buildDebs(ctx, filepath.Join(dir, "next"), "VERSION=v"+nextVersion, "BIN=bin/next"); err != nil {
			return "", "", err
		}
	}
	for _, name := range []string{"debs", "next"} {
		debs, err := filepath.Glob(filepath.Join(dir, name, "*.deb"))
		if err != nil || len(debs) != 2 {
			return "", "", fmt.Errorf("find the packages in %s: %v %w", name, debs, err)
		}
		for _, path := range debs {
			// Without its version: names stay the same.
			pkg, _, _ := strings.Cut(filepath.Base(path), "_")
			if err := copyFile(path, filepath.Join(c.Shared(), name, pkg+".deb")); err != nil {
				return "", "", err
			}
		}
	}
	return "/shared/debs", "/shared/next", nil
}

// apt runs apt-get as an administrator's script does.
func (c *Cluster) apt(ctx context.Context, host string, args ...string) (string, error) {
	return c.Exec(ctx, host, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y"}, args...)...)
}

// guardPID is the process that the guard's unit runs, "0" if none.
func (c *Cluster) guardPID(ctx context.Context, node string) (string, error) {
	out, err := c.Exec(ctx, node, "systemctl", "show", "--property=MainPID", "--value", guardUnit)
	return strings.TrimSpace(out), err
}

func playUpgrades(ctx context.Context, r *Run, loops int) error {
	now, next, err := r.ship(ctx)
	if err != nil {
		return err
	}
	was, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	guard, err := r.guardPID(ctx, r.Holder)
	if err != nil || guard == "0" {
		return fmt.Errorf("the guard of the holder: %q %w", guard, err)
	}
	install := func(host, dir, pkg string) (string, error) {
		return r.apt(ctx, host, "--allow-downgrades", "install", dir+"/"+pkg+".deb")
	}
	others := func(dir string) error {
		_, err1 := install(Arbiter, dir, "leasedog-arbiter")
		_, err2 := install(r.Standby(), dir, "leasedog")
		return errors.Join(err1, err2)
	}
	if err := r.Fault("upgrade the arbiter and the standby", func() error { return others(next) }); err != nil {
		return err
	}
	for i := range 2 * loops {
		dir, word := next, "upgrade"
		if i%2 == 1 {
			dir, word = now, "downgrade"
		}
		if err := r.Phase(ctx); err != nil {
			return err
		}
		out, err := install(r.Holder, dir, "leasedog")
		if err != nil {
			return fmt.Errorf("%s the holder: %w", word, err)
		}
		if i < 2 || (i+1)%20 == 0 {
			r.Event("%s the holder (%d)", word, i/2+1)
		}
		// The guard that runs is the one of before the first upgrade.
		if word == "upgrade" && !strings.Contains(out, "the guard that is armed here is still the old version's") {
			r.Fail("the upgrade says nothing of the old guard: %s", tail(out))
		}
		r.expectHeldAs(ctx, was, lease.Epoch, true)
		if was, _, err = r.agentOf(ctx, r.Holder); err != nil {
			return err
		}
		if pid, err := r.guardPID(ctx, r.Holder); err != nil || pid != guard {
			r.Fail("the guard was process %s, and is %s now (%v)", guard, pid, err)
		}
		if version, err := r.Exec(ctx, r.Holder, "leasedog", "version"); err != nil ||
			strings.Contains(version, nextVersion) != (word == "upgrade") {
			r.Fail("after the %s the version is %s (%v)", word, version, err)
		}
	}
	if err := r.step("downgrade the arbiter and the standby", func() error { return others(now) }); err != nil {
		return err
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, false)
	r.expectJournalField(ctx, r.Holder)
	r.expectStays()
	r.expectNoReset()
	return nil
}

// playDowngrade goes back from a version under which the lease was held, so that an older agent meets a newer guard, newer
// files in /run and a newer arbiter's record.
func playDowngrade(ctx context.Context, r *Run) error {
	now, next, err := r.ship(ctx)
	if err != nil {
		return err
	}
	_, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	install := func(host, dir string) func() error {
		pkg := "leasedog"
		if host == Arbiter {
			pkg = "leasedog-arbiter"
		}
		return func() error {
			_, err := r.apt(ctx, host, "--allow-downgrades", "install", dir+"/"+pkg+".deb")
			return err
		}
	}
	hosts := []string{Arbiter, r.Standby(), r.Holder}
	for _, host := range hosts {
		if err := r.Fault("upgrade "+host, install(host, next)); err != nil {
			return err
		}
	}
	if err := r.renewGuard(ctx); err != nil {
		return err
	}
	guard, err := r.guardPID(ctx, r.Holder)
	if err != nil {
		return err
	}
	was, _, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	// The arbiter first: what the newer one has written is read by the older one while newer agents still speak to it.
	for _, host := range hosts {
		if err := errors.Join(r.Phase(ctx), r.step("downgrade "+host, install(host, now))); err != nil {
			return err
		}
		if out, err := r.Exec(ctx, host, "/bin/sh", "-c", "leasedog version; leasedog-arbiter version"); err != nil ||
			strings.Contains(out, nextVersion) {
			r.Fail("after the downgrade %s has %s (%v)", host, out, err)
		}
	}
	r.expectHeldAs(ctx, was, lease.Epoch, true)
	if pid, err := r.guardPID(ctx, r.Holder); err != nil || pid != guard {
		r.Fail("the guard was process %s, and is %s now (%v)", guard, pid, err)
	}
	if was, _, err = r.agentOf(ctx, r.Holder); err != nil {
		return err
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, false)
	r.expectStays()
	r.expectNoReset()
	return nil
}

// renewGuard replaces the guard of the old version without moving anything: a pause ends it, and the resume starts the new
// version's.
func (r *Run) renewGuard(ctx context.Context) error {
	old, err := r.guardPID(ctx, r.Holder)
	if err != nil || old == "0" {
		return fmt.Errorf("the guard of the holder: %q %w", old, err)
	}
	err = r.step("pause", func() error {
		_, err := r.Exec(ctx, r.Holder, "leasedog", "pause", leaseName, "--yes")
		return err
	})
	if err != nil {
		return err
	}
	err = waitFor(ctx, "the old guard to end", 20*time.Second, func() error {
		pid, err := r.guardPID(ctx, r.Holder)
		if err == nil && pid != "0" {
			err = fmt.Errorf("it is process %s", pid)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = r.step("resume", func() error {
		_, err := r.Exec(ctx, r.Holder, "leasedog", "resume", leaseName)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.waitState(ctx, r.Holder, "held"); err != nil {
		return err
	}
	pid, err := r.guardPID(ctx, r.Holder)
	if err != nil || pid == "0" || pid == old {
		return fmt.Errorf("the guard is process %s, it was %s: %w", pid, old, err)
	}
	out, err := r.Exec(ctx, r.Holder, "readlink", "/proc/"+pid+"/exe")
	if err != nil || strings.Contains(out, "deleted") {
		r.Fail("the guard that the resume started is of the old version: %s (%v)", out, err)
	}
	return nil
}

// expectJournalField fails unless the journal finds lines by the lease's name and has the package's catalog for them.
func (r *Run) expectJournalField(ctx context.Context, node string) {
	out, err := r.Exec(ctx, node, "journalctl", "--quiet", "--no-pager", "--catalog", "LEASEDOG_LEASE="+leaseName)
	if err != nil || !strings.Contains(out, "Subject: Lease "+leaseName+": held here") {
		r.Fail("the journal's catalog says nothing of the lease: %s %v", tail(out), err)
	}
}

func playRemoveRefused(ctx context.Context, r *Run) error {
	was, lease, err := r.agentOf(ctx, r.Holder)
	if err != nil {
		return err
	}
	const rules = "Pacemaker's configuration needs leasedog: constraint leasedog-" + leaseName
	for _, try := range []struct{ host, verb, pkg, says string }{
		{r.Holder, "remove", "leasedog", "lease " + leaseName + " is held on this node"},
		{r.Holder, "remove", "leasedog", "systemctl disable --now leasedog gives it back"},
		{r.Holder, "purge", "leasedog", "the guard is armed for lease " + leaseName},
		{r.Standby(), "remove", "leasedog", rules},
		{r.Standby(), "purge", "leasedog", "leasedog constraints all --remove takes the rules away"},
		{Arbiter, "remove", "leasedog-arbiter", "of cluster lab is held, holder " + r.Holder},
	} {
		what := fmt.Sprintf("apt-get %s %s on %s", try.verb, try.pkg, try.host)
		err := r.Fault(what, func() error {
			// Its reasons are among the first lines of many.
			out, err := r.Exec(ctx, try.host, "/bin/sh", "-c", "apt-get -y "+try.verb+" "+try.pkg+" 2>&1 && echo it was not refused")
			if err == nil || !strings.Contains(out, try.says) {
				r.Fail("%s was to be refused because of %q: %s", what, try.says, out)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if out, err := r.Exec(ctx, try.host, "dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", try.pkg); err != nil ||
			!strings.HasSuffix(strings.TrimSpace(out), "i") {
			r.Fail("%s is %q on %s afterwards (%v)", try.pkg, out, try.host, err)
		}
	}
	if err := r.outlastGuard(ctx); err != nil {
		return err
	}
	r.expectHeldAs(ctx, was, lease.Epoch, false)
	r.expectStays()
	r.expectNoReset()
	return nil
}

// whatIsLeft lists every file of leasedog's on a host, but the lab's own, and says where its name is still used.
const whatIsLeft = `
find / -xdev -name '*leasedog*' ! -path '/usr/lib/leasedog-lab*'
find /run /dev -name '*leasedog*' ! -path '/run/systemd/units/*'
systemctl list-unit-files --no-legend 'leasedog*' || test $? = 1
systemctl list-units --all --no-legend 'leasedog*'
cibadmin --query | grep leasedog || true
`

func playPurge(ctx context.Context, r *Run) error {
	now, _, err := r.ship(ctx)
	if err != nil {
		return err
	}
	config, err := r.Exec(ctx, r.Holder, "cat", agentConfig)
	if err != nil {
		return err
	}
	onNodes := func(do func(node string) error) func() error {
		return func() error { return errors.Join(do(r.Standby()), do(r.Holder)) }
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"remove the rules", func() error {
			_, err := r.Exec(ctx, Node1, "leasedog", "constraints", "all", "--remove", "--yes")
			return err
		}},
		{"stop the agents", onNodes(func(node string) error { return r.systemctl(ctx, node, "disable", "--now", agentUnit) })},
		// A host of the lab has the arbiter's package too.
		{"purge the packages", onNodes(func(node string) error {
			_, err := r.apt(ctx, node, "purge", "leasedog", "leasedog-arbiter")
			return err
		})},
		{"look for what is left", onNodes(func(node string) error {
			// Pacemaker forgets an attribute a moment later.
			err := waitFor(ctx, "nothing to be left on "+node, 5*time.Second, func() error {
				out, err := r.Exec(ctx, node, "/bin/sh", "-ec", whatIsLeft)
				if err == nil && strings.TrimSpace(out) != "" {
					err = errors.New(out)
				}
				return err
			})
			if err != nil {
				r.Fail("%v", err)
			}
			return nil
		})},
		{"wait for longer than a guard that was left armed", func() error { return r.outlastGuard(ctx) }},
		{"install the packages", onNodes(func(node string) error {
			out, err := r.apt(ctx, node, "install", now+"/leasedog.deb", now+"/leasedog-arbiter.deb")
			if !strings.Contains(out, "leasedog: installed; nothing is enabled or started") {
				r.Fail("the installation says nothing of how to begin: %s", tail(out))
			}
			return err
		})},
		{"see that nothing was enabled or started", onNodes(func(node string) error {
			out, _ := r.Exec(ctx, node, "systemctl", "is-enabled", agentUnit, "leasedog-handover.service", arbiterUnit)
			if strings.Contains(out, "enabled") {
				r.Fail("the installation enabled something on %s: %s", node, out)
			}
			out, _ = r.Exec(ctx, node, "systemctl", "list-units", "--no-legend", "leasedog*")
			if strings.TrimSpace(out) != "" {
				r.Fail("the installation started something on %s: %s", node, out)
			}
			return nil
		})},
		{"configure, join and start the agents", onNodes(func(node string) error {
			_, err := r.ExecInput(ctx, node, config, "tee", agentConfig)
			return errors.Join(err, r.join(ctx, node), r.systemctl(ctx, node, "enable", agentUnit))
		})},
		{"wait for the lease", func() error {
			return waitFor(ctx, r.Holder+" to hold the lease", 60*time.Second, func() error {
				l, _, err := r.Status(ctx, r.Holder)
				if err == nil && l.State != "held" {
					err = fmt.Errorf("it is %s %q", l.State, l.WhyNot)
				}
				return err
			})
		}},
		{"apply the rules", func() error { return r.applyConstraints(ctx) }},
	}
	for _, step := range steps {
		if err := r.Fault(step.what, step.do); err != nil {
			return err
		}
	}
	if err := r.WaitSettled(ctx); err != nil {
		return err
	}
	r.expectStays()
	r.expectNoReset()
	return nil
}
