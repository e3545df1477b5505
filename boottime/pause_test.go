package boottime

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRTC(t *testing.T) {
	sysfs := t.TempDir()
	if _, err := OpenRTC(sysfs); err == nil {
		t.Fatal("a machine without a clock has one")
	}
	file := filepath.Join(sysfs, "class/rtc/rtc0/since_epoch")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]time.Duration{"1700000000\n": 1_700_000_000 * time.Second, "": -1, "-4": -1, "x": -1} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		rtc, err := OpenRTC(sysfs)
		if (err != nil) != (want < 0) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			continue
		}
		before := Now()
		if s, err := rtc.Sample(); err != nil || s.RTC != want || s.Boot < before || s.Boot > Now() {
			t.Fatalf("%q: %+v, %v", text, s, err)
		}
	}
}

func TestVirtual(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       bool
	}{
		"hypervisor flag": {"cpuinfo", "flags\t\t: fpu vme hypervisor lahf_lm\n", true},
		"bare metal":      {"cpuinfo", "flags\t\t: fpu vme lahf_lm\n", false},
		"by its maker":    {"class/dmi/id/sys_vendor", "QEMU\n", true},
		"a server":        {"class/dmi/id/sys_vendor", "Dell Inc.\n", false},
		"xen":             {"hypervisor/type", "xen\n", true},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, c.file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Virtual(dir, dir); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
