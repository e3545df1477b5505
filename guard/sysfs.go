package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Known is a fact that sysfs may not tell.
type Known uint8

// Values of Known.
const (
	Unknown Known = iota
	No
	Yes
)

// WatchdogInfo is what sysfs says about a device that is not opened (Documentation/ABI/testing/sysfs-class-watchdog):
// opening it would start it, and with nowayout nothing could stop it again.
type WatchdogInfo struct {
	Name, Path string // watchdog0, /dev/watchdog0
	Identity   string
	Active     Known // somebody has it open
	NoWayOut   Known
	MagicClose Known
	Min        time.Duration // smallest timeout, 0 unknown
	Owner      string        // "sbd (pid 812)", "" if unknown or nobody
}

// Software reports whether it is the kernel's softdog, which dies with the kernel.
func (w WatchdogInfo) Software() bool { return strings.Contains(w.Identity, "Software Watchdog") }

// refusal says why the device cannot be used, as far as can be told without opening it.
func (w WatchdogInfo) refusal() error {
	if w.Active == Yes && w.Owner != "" {
		return fmt.Errorf("%s (%s) belongs to %s, and a watchdog has one owner: name another device in [watchdog] device",
			w.Path, w.Identity, w.Owner)
	}
	if w.MagicClose == No && w.NoWayOut != Yes {
		return errNoMagicClose(w.Path, w.Identity)
	}
	return nil
}

// ownerHint explains EBUSY where the owner could not be found.
func ownerHint(err error, w WatchdogInfo) string {
	if errors.Is(err, unix.EBUSY) && w.Owner == "" {
		return " (another program has it open: sbd, corosync, or systemd's RuntimeWatchdogSec=?)"
	}
	return ""
}

// errNoWatchdog says how to get one.
var errNoWatchdog = errors.New(`no kernel watchdog is there: load one, "modprobe softdog soft_noboot=0" if the ` +
	`hardware has none (and name it in /etc/modules-load.d), or set [watchdog] mode = "systemd" where no kernel ` +
	`watchdog can exist`)

// ScanWatchdogs lists the devices under root (normally ""), hardware before softdog, opening none.
func ScanWatchdogs(root string) ([]WatchdogInfo, error) {
	folder := root + "/sys/class/watchdog"
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list watchdog devices: %w", err)
	}
	var all []WatchdogInfo
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "watchdog") {
			continue
		}
		all = append(all, readWatchdog(root, folder, entry.Name()))
	}
	sort.SliceStable(all, func(i, j int) bool { return !all[i].Software() && all[j].Software() })
	return all, nil
}

func readWatchdog(root, folder, name string) WatchdogInfo {
	attribute := func(file string) (string, bool) {
		text, err := os.ReadFile(filepath.Join(folder, name, file))
		return strings.TrimSpace(string(text)), err == nil
	}
	w := WatchdogInfo{Name: name, Path: "/dev/" + name}
	w.Identity, _ = attribute("identity")
	if text, ok := attribute("state"); ok {
		w.Active = known(text == "active")
	}
	if text, ok := attribute("nowayout"); ok {
		w.NoWayOut = known(text != "0")
	}
	if text, ok := attribute("options"); ok {
		if bits, err := strconv.ParseUint(text, 0, 32); err == nil {
			w.MagicClose = known(bits&unix.WDIOF_MAGICCLOSE != 0)
		}
	}
	if text, ok := attribute("min_timeout"); ok {
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			w.Min = time.Duration(n) * time.Second
		}
	}
	if w.Active != No {
		w.Owner = findOwner(root, w.Path)
	}
	return w
}

func known(b bool) Known {
	if b {
		return Yes
	}
	return No
}

// findOwner looks for the process that has the device open, under either of its names.
func findOwner(root, path string) string {
	links, _ := filepath.Glob(root + "/proc/[0-9]*/fd/*")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || target != path && !(path == "/dev/watchdog0" && target == "/dev/watchdog") {
			continue
		}
		pid := strings.Split(strings.TrimPrefix(link, root+"/proc/"), "/")[0]
		if pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		comm, _ := os.ReadFile(root + "/proc/" + pid + "/comm")
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid)
	}
	return ""
}

// ChooseWatchdog picks the named device, or with "auto" the first that can be used.
func ChooseWatchdog(root, device string) (WatchdogInfo, error) {
	all, err := ScanWatchdogs(root)
	if err != nil {
		return WatchdogInfo{}, err
	}
	if len(all) == 0 {
		return WatchdogInfo{}, errNoWatchdog
	}
	if device == "/dev/watchdog" {
		device = "/dev/watchdog0"
	}
	var refused []error
	for _, w := range all {
		if device != "auto" && w.Path != device {
			continue
		}
		err := w.refusal()
		if err == nil {
			return w, nil
		}
		refused = append(refused, err)
	}
	if len(refused) == 0 {
		return WatchdogInfo{}, fmt.Errorf("%s does not exist: there are %s", device, paths(all))
	}
	return WatchdogInfo{}, fmt.Errorf("no kernel watchdog can be used: %w", errors.Join(refused...))
}

func paths(all []WatchdogInfo) string {
	var names []string
	for _, w := range all {
		names = append(names, fmt.Sprintf("%s (%s)", w.Path, w.Identity))
	}
	return strings.Join(names, ", ")
}
