package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// This file runs inside of the machine: as the first program of the initial RAM disk, and as the service that carries
// out the test's commands.

// Where things stand inside of the machine.
const (
	guestBin     = "/usr/lib/leasedog-vm/vm"
	guestModules = "/usr/lib/leasedog-vm/modules"
	commandPort  = "/dev/vport*p1"
	bootModules  = "/modules" // in the RAM disk: NN-name.ko, loaded in this order
)

// Init is process 1 of the initial RAM disk: it loads drivers, mounts the disk and goes over to systemd. It returns
// only if it could not.
func Init() error {
	if err := unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	drivers, err := filepath.Glob(bootModules + "/*.ko")
	if err != nil {
		return err
	}
	for _, path := range drivers {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	if err := waitDisk("/dev/vda"); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vda", "/root", "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	if err := unix.Mount("/dev", "/root/dev", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move /dev: %w", err)
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), os.Chdir("/")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	ip := exec.Command("/bin/ip", "-batch", "-")
	ip.Stdin = strings.NewReader("link set lo up\naddr add " + guestAddress + "/24 dev eth0\nlink set eth0 up\n" +
		"route add default via " + hostAddress + "\n")
	if out, err := ip.CombinedOutput(); err != nil {
		return fmt.Errorf("set up the network: %w: %s", err, out)
	}
	return unix.Exec("/lib/systemd/systemd", []string{"/lib/systemd/systemd"}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
}

func waitDisk(path string) error {
	for range 500 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s did not appear", path)
}

// loadModule is insmod(8). A driver that is loaded already is fine.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// LoadDrivers loads the named drivers, which stand in a folder of the disk, one after the other.
func LoadDrivers(names []string) error {
	for _, name := range names {
		if err := loadModule(filepath.Join(guestModules, name+".ko")); err != nil {
			return err
		}
	}
	return nil
}

// A guestRequest is one program to run. A guestReply is what came of it; with Boot and no ID it says that the machine
// has come up and listens.
type (
	guestRequest struct {
		ID      int      `json:"id"`
		Argv    []string `json:"argv"`
		Stdin   string   `json:"stdin,omitempty"`
		LimitMS int64    `json:"limit_ms"`
	}
	guestReply struct {
		ID   int    `json:"id"`
		Boot string `json:"boot,omitempty"`
		Code int    `json:"code"`
		Out  string `json:"out"` // stdout
		Err  string `json:"err"` // stderr, or why it could not be run
	}
)

// ServeCommands carries out commands from the host, one after the other, for as long as the machine lives. It needs
// nothing of PID 1, so it works when that is frozen.
func ServeCommands(ctx context.Context) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	ports, _ := filepath.Glob(commandPort)
	if len(ports) != 1 {
		return fmt.Errorf("find the port to the host: %d match %s", len(ports), commandPort)
	}
	port, err := os.OpenFile(ports[0], os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the port to the host: %w", err)
	}
	defer port.Close()
	answers := json.NewEncoder(port)
	if err := answers.Encode(guestReply{Boot: strings.TrimSpace(string(boot))}); err != nil {
		return err
	}
	in := bufio.NewReader(port)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("read from the host: %w", err)
		}
		var r guestRequest
		if json.Unmarshal(line, &r) != nil || len(r.Argv) == 0 {
			continue // the rest of a line to an earlier boot
		}
		if err := answers.Encode(carryOut(ctx, r)); err != nil {
			return err
		}
	}
}

func carryOut(ctx context.Context, r guestRequest) guestReply {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.LimitMS)*time.Millisecond)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Argv[0], r.Argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(r.Stdin), &out, &errs
	err := cmd.Run()
	reply := guestReply{ID: r.ID, Out: out.String(), Err: errs.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		reply.Code = exit.ExitCode()
	case err != nil:
		reply.Code, reply.Err = -1, err.Error()+" "+reply.Err
	}
	return reply
}
