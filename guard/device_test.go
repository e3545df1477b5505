package guard

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
)

// fakeDevice is a watchdog that only writes down what was done to it.
type fakeDevice struct {
	options  uint32
	smallest int
	seconds  int
	fed      int
	end      string // "disarmed" or "abandoned"
}

func (d *fakeDevice) Support() (string, uint32, error) { return "fake", d.options, nil }
func (d *fakeDevice) SetTimeout(s int) error {
	if s < d.smallest {
		return unix.EINVAL
	}
	d.seconds = s
	return nil
}
func (d *fakeDevice) Timeout() (int, error) { return d.seconds, nil }
func (d *fakeDevice) Keepalive() error      { d.fed++; return nil }
func (d *fakeDevice) Disarm() error         { d.end = "disarmed"; return nil }
func (d *fakeDevice) Abandon() error        { d.end = "abandoned"; return nil }

// From the sysfs attribute to the Deadman that does not end; an attribute that is missing counts as nowayout.
func TestNowayoutIsTakenFromSysfs(t *testing.T) {
	for text, stays := range map[string]bool{"1": true, "0": false, "": true} {
		root := t.TempDir()
		dir := filepath.Join(root, "sys/class/watchdog/watchdog0")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(dir+"/nowayout", []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dev := &fakeDevice{options: unix.WDIOF_SETTIMEOUT | unix.WDIOF_MAGICCLOSE, smallest: 1}
		none := func() error { return nil }
		opt := Options{Root: root, SetupPath: root + "/guard.json", SocketPath: root + "/s", StateDir: root, Logf: t.Logf,
			OpenDevice: func(string) (Device, error) { return dev, nil },
			Reset:      func(string) { t.Error("reset") }, process: processHooks{lockMemory: none, realTime: none}}
		setup := guardapi.Setup{Mode: guardapi.ModeRequired, Device: "auto", Watchdog: 5 * time.Second, TimerSlack: time.Second}
		if err := guardapi.WriteSetup(opt.SetupPath, setup); err != nil {
			t.Fatal(err)
		}
		g, s, err := start(opt, nil)
		if err != nil {
			t.Fatal(err)
		}
		later := g.now().Add(time.Hour)
		g.now = func() lease.Instant { return later }
		g.step(lease.DeadmanTick{})
		if status := g.status(); g.closeDue == stays || status.NoWayOut != stays || status.Watchdog != 5*time.Second {
			t.Fatalf("nowayout %q: ends by itself %v, %+v", text, g.closeDue, status)
		}
		s.close(nil)
		if err := g.end(); err != nil || (dev.end == "disarmed") == stays {
			t.Fatalf("nowayout %q: %v, device %+v", text, err, dev)
		}
	}
}

func TestDisarmedDeviceIsStopped(t *testing.T) {
	r := newRig(t, false)
	if err := r.end(); err != nil || r.dog.end != "disarmed" {
		t.Fatalf("%v, device %+v", err, r.dog)
	}
}

func TestNoMagicCloseRefused(t *testing.T) {
	info := WatchdogInfo{Path: "/dev/watchdog0", Identity: "fake", NoWayOut: No}
	dev := &fakeDevice{options: unix.WDIOF_SETTIMEOUT, smallest: 1}
	open := func(string) (Device, error) { return dev, nil }
	if _, stuck, err := startWatchdog(info, 2*time.Second, open); err == nil || stuck || dev.end == "" {
		t.Fatalf("taken: %v, stuck %v, device %+v", err, stuck, dev)
	}
	info.MagicClose = No
	never := func(string) (Device, error) { t.Fatal("opened"); return nil, nil }
	if _, _, err := startWatchdog(info, 2*time.Second, never); err == nil {
		t.Fatal("taken although sysfs says that it has no magic close")
	}
	info.NoWayOut = Yes
	dev = &fakeDevice{options: unix.WDIOF_SETTIMEOUT, smallest: 1}
	if w, _, err := startWatchdog(info, 2*time.Second, open); err != nil || !w.stays {
		t.Fatalf("with nowayout no close stops it: %v", err)
	}
}

func TestWatchdogWalksUpAndReadsBack(t *testing.T) {
	info := WatchdogInfo{Path: "/dev/watchdog0", NoWayOut: No}
	dev := &fakeDevice{options: unix.WDIOF_SETTIMEOUT | unix.WDIOF_MAGICCLOSE, smallest: 5}
	w, _, err := startWatchdog(info, 1500*time.Millisecond, func(string) (Device, error) { return dev, nil })
	if err != nil || w.timeout != 5*time.Second || w.stays {
		t.Fatalf("%+v, %v", w, err)
	}
	dev = &fakeDevice{options: unix.WDIOF_SETTIMEOUT | unix.WDIOF_MAGICCLOSE, smallest: 1000}
	if _, _, err = startWatchdog(info, time.Second, func(string) (Device, error) { return dev, nil }); err == nil ||
		dev.end != "disarmed" {
		t.Fatalf("no timeout fits: %v, device %+v", err, dev)
	}
}

func TestPreflightNeverOpens(t *testing.T) {
	root := t.TempDir()
	put := func(file, text string) {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("dev/watchdog0", "")
	put("sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n")
	put("sys/class/watchdog/watchdog0/state", "inactive\n")
	put("sys/class/watchdog/watchdog0/nowayout", "1\n")
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, root+"/dev/watchdog0", unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	opened := func() bool {
		n, _ := unix.Read(watch, make([]byte, 4096))
		return n > 0
	}
	opt := Options{Root: root, SetupPath: root + "/guard.json", SocketPath: root + "/guard.sock", StateDir: root,
		Logf:    t.Logf,
		process: processHooks{lockMemory: func() error { return nil }, realTime: func() error { return nil }}}
	setup := guardapi.Setup{Mode: guardapi.ModeRequired, Device: "auto", Watchdog: 5 * time.Second, TimerSlack: time.Second}
	if err := guardapi.WriteSetup(opt.SetupPath, setup); err != nil {
		t.Fatal(err)
	}
	report, err := Preflight(t.Context(), opt)
	if err != nil || report.Device != "/dev/watchdog0" || report.Watchdog != 5*time.Second || report.WatchdogKnown {
		t.Fatalf("%+v, %v", report, err)
	}
	if opened() {
		t.Fatal("the preflight opened the watchdog: with nowayout it could never be stopped")
	}
	if err := WriteKnownWatchdog(root, guardapi.Status{Mode: guardapi.ModeRequired, Device: "/dev/watchdog0",
		Identity: "iTCO_wdt", Watchdog: 8 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if report, err = Preflight(t.Context(), opt); err != nil || report.Watchdog != 8*time.Second || !report.WatchdogKnown {
		t.Fatalf("%+v, %v", report, err)
	}
	if d, err := opt.opener()("/dev/watchdog0"); err != nil || !opened() {
		t.Fatalf("the test cannot see an open: %v, %v", d, err)
	}
}

func TestChooseWatchdog(t *testing.T) {
	root := t.TempDir()
	put := func(name, identity, state string) {
		dir := filepath.Join(root, "sys/class/watchdog", name)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(dir+"/identity", []byte(identity+"\n"), 0o600),
			os.WriteFile(dir+"/state", []byte(state+"\n"), 0o600), os.WriteFile(dir+"/nowayout", []byte("0\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("watchdog0", "Software Watchdog", "inactive")
	put("watchdog1", "i6300ESB timer", "inactive")
	if w, err := ChooseWatchdog(root, "auto"); err != nil || w.Path != "/dev/watchdog1" {
		t.Fatalf("hardware comes first: %+v, %v", w, err)
	}
	// Now sbd has the hardware.
	put("watchdog1", "i6300ESB timer", "active")
	fd := filepath.Join(root, "proc/812/fd")
	if err := errors.Join(os.MkdirAll(fd, 0o700), os.Symlink("/dev/watchdog1", fd+"/3"),
		os.WriteFile(filepath.Join(root, "proc/812/comm"), []byte("sbd\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if w, err := ChooseWatchdog(root, "auto"); err != nil || w.Path != "/dev/watchdog0" {
		t.Fatalf("%+v, %v", w, err)
	}
	if _, err := ChooseWatchdog(root, "/dev/watchdog1"); err == nil || !contains(err, "sbd (pid 812)") {
		t.Fatalf("the owner is not named: %v", err)
	}
	if _, err := ChooseWatchdog(root, "/dev/watchdog7"); err == nil || !contains(err, "does not exist") {
		t.Fatalf("%v", err)
	}
}
