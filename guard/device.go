package guard

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Device is an open kernel watchdog (linux/watchdog.h; Documentation/watchdog/watchdog-api.rst). Opening it started
// it. Times are whole seconds, as the kernel has them.
type Device interface {
	// Support returns the driver's identity and its WDIOF_ options.
	Support() (identity string, options uint32, err error)
	SetTimeout(seconds int) error
	Timeout() (seconds int, err error)
	Keepalive() error
	// Disarm stops the device (magic close) and closes it.
	Disarm() error
	// Abandon closes it without the magic: it counts on, if the driver knows magic close or nowayout.
	Abandon() error
}

type linuxDevice struct{ f *os.File }

func openDevice(path string) (Device, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &linuxDevice{f: os.NewFile(uintptr(fd), path)}, nil
}

func (d *linuxDevice) fd() int { return int(d.f.Fd()) }

func (d *linuxDevice) Support() (string, uint32, error) {
	info, err := unix.IoctlGetWatchdogInfo(d.fd())
	if err != nil {
		return "", 0, fmt.Errorf("read what %s supports: %w", d.f.Name(), err)
	}
	return unix.ByteSliceToString(info.Identity[:]), info.Options, nil
}

func (d *linuxDevice) SetTimeout(seconds int) error {
	if err := unix.IoctlSetPointerInt(d.fd(), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return fmt.Errorf("set the timeout of %s to %d s: %w", d.f.Name(), seconds, err)
	}
	return nil
}

func (d *linuxDevice) Timeout() (int, error) {
	n, err := unix.IoctlGetInt(d.fd(), unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return 0, fmt.Errorf("read back the timeout of %s: %w", d.f.Name(), err)
	}
	return n, nil
}

// Keepalive is an ioctl without an argument: no user memory is read, so nothing can page in the kernel.
func (d *linuxDevice) Keepalive() error { return unix.IoctlWatchdogKeepalive(d.fd()) }

func (d *linuxDevice) Disarm() error {
	_, err := d.f.WriteString("V")
	return errors.Join(err, d.f.Close())
}

func (d *linuxDevice) Abandon() error { return d.f.Close() }

// maxTimeout bounds the walk-up; longer ones make no usable hold.
const maxTimeout = 60

// watchdog is an open device that counts as one: whatever happens to this process, it fires.
type watchdog struct {
	dev      Device
	path     string
	identity string
	timeout  time.Duration // W, as read back
	stays    bool          // nowayout, or unknown: it cannot be stopped
}

// startWatchdog opens the device and sets its timeout to the wanted one or, if that is too short for it, to the
// smallest that it takes. On an error the device is stopped again where that is possible; stuck tells where it is not.
func startWatchdog(info WatchdogInfo, want time.Duration, open func(path string) (Device, error)) (w *watchdog, stuck bool, err error) {
	if err := info.refusal(); err != nil {
		return nil, false, err
	}
	dev, err := open(info.Path)
	if err != nil {
		return nil, false, fmt.Errorf("%w%s", err, ownerHint(err, info))
	}
	w = &watchdog{dev: dev, path: info.Path, stays: info.NoWayOut != No}
	if err := w.configure(info, want); err != nil {
		if w.stays {
			return w, true, err
		}
		return nil, false, errors.Join(err, dev.Disarm())
	}
	return w, false, nil
}

func (w *watchdog) configure(info WatchdogInfo, want time.Duration) error {
	identity, options, err := w.dev.Support()
	if err != nil {
		return err
	}
	w.identity = identity
	if options&unix.WDIOF_MAGICCLOSE == 0 && info.NoWayOut != Yes {
		return errNoMagicClose(info.Path, identity)
	}
	if options&unix.WDIOF_SETTIMEOUT != 0 {
		if err := w.walkUp(want); err != nil {
			return err
		}
	}
	seconds, err := w.dev.Timeout()
	if err != nil {
		return err
	}
	if seconds <= 0 {
		return fmt.Errorf("read back the timeout of %s (%s): %d s makes no bound", info.Path, identity, seconds)
	}
	w.timeout = time.Duration(seconds) * time.Second
	return w.dev.Keepalive()
}

// walkUp asks for the wanted timeout and, as long as the driver says EINVAL, for a second more.
func (w *watchdog) walkUp(want time.Duration) error {
	first := int((want + time.Second - 1) / time.Second)
	for seconds := max(1, first); seconds <= maxTimeout; seconds++ {
		err := w.dev.SetTimeout(seconds)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return fmt.Errorf("set the timeout of %s: no timeout from %d s to %d s is accepted", w.path, first, maxTimeout)
}

// end stops the device at the guard's own end. One that cannot be stopped gets the longest timeout that it takes,
// which leaves the shutdown that is going on time to finish.
func (w *watchdog) end() error {
	if !w.stays {
		return w.dev.Disarm()
	}
	for _, seconds := range []int{600, 300, 120, 60, 30} {
		if w.dev.SetTimeout(seconds) == nil {
			break
		}
	}
	return errors.Join(w.dev.Keepalive(), w.dev.Abandon())
}

func errNoMagicClose(path, identity string) error {
	return fmt.Errorf("%s (%s) is no kernel watchdog for leasedog: it has no magic close, so it stops when its owner is killed; "+
		"load its driver with nowayout=1 or use another device", path, identity)
}
