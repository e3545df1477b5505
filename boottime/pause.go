package boottime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// While a virtual machine is stopped from outside, every clock inside stands still, but a real-time clock that is
// backed by the host goes on. Sample is what a detector compares.
type Sample struct {
	Boot lease.Instant // CLOCK_BOOTTIME
	Real time.Duration // CLOCK_REALTIME since 1970
	RTC  time.Duration // the RTC since 1970, whole seconds
}

// Jump is a pause between the samples at S1 and S2; Size is rounded up by the RTC's resolution.
type Jump struct {
	S1, S2 lease.Instant
	Size   time.Duration
}

const (
	// jumpThreshold: two readings of a clock that counts whole seconds may differ by one without a pause.
	jumpThreshold = 1500 * time.Millisecond
	rtcResolution = time.Second
	// zoneStep: an RTC may keep local time; every zone's offset is a multiple of this.
	zoneStep = 15 * time.Minute
)

// FindJump compares two samples. A pause moves the RTC away from CLOCK_BOOTTIME and CLOCK_REALTIME together. A write
// of the RTC (hwclock(8), or the kernel's 11 minute mode) ends in agreement with CLOCK_REALTIME and did not begin in
// it; a step of CLOCK_REALTIME alone moves the RTC against one of the two only. Neither is a pause.
//
// What it cannot see: a pause shorter than half a second, one during which the host's RTC stood still too, and one
// after which something corrected CLOCK_REALTIME before the next sample.
func FindJump(a, b Sample) (Jump, bool) {
	rtc := b.RTC - a.RTC
	againstBoot := rtc - b.Boot.Sub(a.Boot)
	againstReal := rtc - (b.Real - a.Real)
	if againstBoot <= jumpThreshold || againstReal <= jumpThreshold {
		return Jump{}, false
	}
	if agree(b) && !agree(a) {
		return Jump{}, false
	}
	return Jump{S1: a.Boot, S2: b.Boot, Size: againstBoot.Truncate(time.Second) + time.Second + rtcResolution}, true
}

// agree reports whether the RTC shows CLOCK_REALTIME, in some time zone.
func agree(s Sample) bool {
	off := (s.RTC - s.Real) % zoneStep
	if off < 0 {
		off += zoneStep
	}
	return min(off, zoneStep-off) <= jumpThreshold
}

// RTC reads the first real-time clock of the machine through sysfs, which needs no exclusive open and so disturbs
// nobody who sets it.
type RTC struct{ path string }

// OpenRTC returns the clock under sysfs (normally "/sys").
func OpenRTC(sysfs string) (RTC, error) {
	r := RTC{path: filepath.Join(sysfs, "class/rtc/rtc0/since_epoch")}
	if _, err := r.read(); err != nil {
		return RTC{}, err
	}
	return r, nil
}

// Sample reads the three clocks, the RTC first: what passes until the others are read can only hide a pause that
// short, never invent one.
func (r RTC) Sample() (Sample, error) {
	rtc, err := r.read()
	if err != nil {
		return Sample{}, err
	}
	return Sample{Boot: Now(), Real: time.Duration(time.Now().UnixNano()), RTC: rtc}, nil
}

func (r RTC) read() (time.Duration, error) {
	text, err := os.ReadFile(r.path)
	if err != nil {
		return 0, fmt.Errorf("read rtc: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n < 0 || n > 1<<33 {
		return 0, fmt.Errorf("read rtc: %q is no time", text)
	}
	return time.Duration(n) * time.Second, nil
}

// Virtual reports whether this machine is a virtual one, by the processor's "hypervisor" flag, /sys/hypervisor or
// the firmware's product name. proc and sysfs are normally "/proc" and "/sys".
func Virtual(proc, sysfs string) bool {
	if cpu, err := os.ReadFile(filepath.Join(proc, "cpuinfo")); err == nil && strings.Contains(string(cpu), " hypervisor") {
		return true
	}
	if _, err := os.Stat(filepath.Join(sysfs, "hypervisor/type")); err == nil {
		return true
	}
	for _, file := range []string{"class/dmi/id/sys_vendor", "class/dmi/id/product_name"} {
		text, err := os.ReadFile(filepath.Join(sysfs, file))
		if err != nil {
			continue
		}
		for _, maker := range []string{"QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Virtual Machine", "Google Compute"} {
			if strings.Contains(string(text), maker) {
				return true
			}
		}
	}
	return false
}
