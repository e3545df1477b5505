package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Addresses of the emulator's user mode network: the host's own loopback is reached under hostAddress.
const (
	guestAddress = "10.0.2.15"
	hostAddress  = "10.0.2.2"
	nodeName     = "node1"
)

// kernelLine: what only costs time in emulation is off. The console says what ends the machine and hardly anything else.
const kernelLine = "console=ttyS0 loglevel=4 panic=0 mitigations=off nokaslr init_on_alloc=0 cryptomgr.notests audit=0 " +
	"apparmor=0 random.trust_cpu=on rcupdate.rcu_expedited=1 8250.nr_uarts=1 systemd.unit=vm.target systemd.show_status=no"

// Machine is the emulated computer. What is inside of it may reset it; then it stands still until Restart.
type Machine struct {
	dir  string
	cmd  *exec.Cmd
	qmp  *qmp
	port net.Conn
	exit chan struct{}

	mu      sync.Mutex
	boot    string // of the boot that listens, "" while none does
	hello   chan struct{}
	waiting map[int]chan guestReply
	lastID  int
}

// startMachine switches the machine on. Its disk is changed by it.
func startMachine(img image, dir string) (*Machine, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start the machine: %w", err)
	}
	m := &Machine{dir: dir, exit: make(chan struct{}), hello: make(chan struct{}), waiting: map[int]chan guestReply{}}
	for _, name := range []string{"qmp", "port", "console"} {
		if err := os.Remove(m.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("start the machine: %w", err)
		}
	}
	log, err := os.Create(m.path("emulator.log"))
	if err != nil {
		return nil, fmt.Errorf("start the machine: %w", err)
	}
	defer log.Close()
	m.cmd = exec.Command("qemu-system-x86_64", m.arguments(img)...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	// A test that dies takes the emulator with it: a forgotten one would spin for ever.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the machine: %w", err)
	}
	go func() { _ = m.cmd.Wait(); close(m.exit) }()
	if err := m.connect(); err != nil {
		m.Stop()
		text, _ := os.ReadFile(m.path("emulator.log"))
		return nil, fmt.Errorf("start the machine: %w: %s", err, tail(string(text)))
	}
	return m, nil
}

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *Machine) arguments(img image) []string {
	return []string{
		"-machine", "pc,accel=tcg", "-cpu", "qemu64,+rdrand", "-smp", "1", "-m", "640", "-nodefaults", "-display", "none",
		// The real-time clock is the host's: it goes on while the machine is stopped.
		"-rtc", "base=utc,clock=host",
		"-kernel", img.kernel, "-initrd", img.initrd, "-append", kernelLine,
		// The emulator outlives every reset, so what the machine has flushed to it is safe from them.
		"-drive", "file=" + img.disk + ",if=virtio,format=raw,cache=unsafe",
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=,disable-legacy=on",
		"-device", "virtio-serial-pci,vectors=0", "-chardev", "socket,id=port,path=" + m.path("port") + ",server=on,wait=off",
		"-device", "virtserialport,chardev=port,name=commands,nr=1",
		"-serial", "file:" + m.path("console"),
		"-qmp", "unix:" + m.path("qmp") + ",server=on,wait=off",
		"-device", "i6300esb",
		"-action", "watchdog=reset,shutdown=pause",
	}
}

func (m *Machine) connect() error {
	dial := func(name string) (net.Conn, error) {
		for {
			conn, err := net.Dial("unix", m.path(name))
			if err == nil {
				return conn, nil
			}
			select {
			case <-m.exit:
				return nil, errClosed
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	conn, err := dial("qmp")
	if err != nil {
		return err
	}
	if m.qmp, err = newQMP(conn); err != nil {
		return err
	}
	if m.port, err = dial("port"); err != nil {
		return err
	}
	go m.readPort()
	return nil
}

func (m *Machine) readPort() {
	in := bufio.NewReader(m.port)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var r guestReply
		if json.Unmarshal(line, &r) != nil {
			continue // a line that a reset has cut off
		}
		m.mu.Lock()
		if r.Boot != "" {
			m.boot = r.Boot
			close(m.hello)
			m.hello = make(chan struct{})
		} else if c, ok := m.waiting[r.ID]; ok {
			delete(m.waiting, r.ID)
			c <- r
		}
		m.mu.Unlock()
	}
}

// Stop switches the machine off.
func (m *Machine) Stop() {
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
	<-m.exit
	if m.port != nil {
		m.port.Close()
	}
	if m.qmp != nil {
		m.qmp.close()
	}
}

// Restart boots the machine again, after a reset or instead of one.
func (m *Machine) Restart(ctx context.Context) error {
	start := time.Now()
	for _, c := range []struct {
		name      string
		arguments map[string]any
	}{
		{"set_link", map[string]any{"name": "net", "up": true}}, {"set-action", map[string]any{"reboot": "reset"}}, {"system_reset", nil},
	} {
		if err := m.qmp.command(c.name, c.arguments); err != nil {
			return err
		}
	}
	if err := m.qmp.await(ctx, start, "RESET"); err != nil {
		return err
	}
	return m.qmp.command("cont", nil)
}

// Arm makes the next reset an event, and the machine stand still from there on: the event names the instant after which
// nothing of this boot can write. (A RESET event comes only after the emulator has put everything back, a second later.)
// It is for a machine that has booted: its firmware resets it once more at the beginning.
func (m *Machine) Arm() error {
	return m.qmp.command("set-action", map[string]any{"reboot": "shutdown"})
}

// WaitBoot waits until a boot other than the last one listens, and returns its id.
func (m *Machine) WaitBoot(ctx context.Context, last string) (string, error) {
	for {
		m.mu.Lock()
		boot, hello := m.boot, m.hello
		m.mu.Unlock()
		if boot != "" && boot != last {
			return boot, nil
		}
		select {
		case <-hello:
		case <-m.exit:
			return "", errClosed
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the machine to boot: %w", ctx.Err())
		}
	}
}

// ExitError is a program in the machine that ran and said no.
type ExitError struct {
	Code int
	Text string
}

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d: %s", e.Code, e.Text) }

// Run runs a program in the machine and returns what it wrote to stdout.
func (m *Machine) Run(ctx context.Context, limit time.Duration, argv ...string) (string, error) {
	return m.RunInput(ctx, limit, "", argv...)
}

// RunInput is Run with something on stdin.
func (m *Machine) RunInput(ctx context.Context, limit time.Duration, stdin string, argv ...string) (string, error) {
	m.mu.Lock()
	m.lastID++
	id := m.lastID
	reply := make(chan guestReply, 1)
	m.waiting[id] = reply
	m.mu.Unlock()
	defer func() { m.mu.Lock(); delete(m.waiting, id); m.mu.Unlock() }()
	text, err := json.Marshal(guestRequest{ID: id, Argv: argv, Stdin: stdin, LimitMS: limit.Milliseconds()})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, limit+5*time.Second)
	defer cancel()
	what := strings.Join(argv, " ")
	if err := m.port.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := m.port.Write(append(text, '\n')); err != nil {
		return "", fmt.Errorf("in the machine: %s: %w", what, err)
	}
	select {
	case r := <-reply:
		if r.Code != 0 {
			return r.Out, fmt.Errorf("in the machine: %s: %w", what, &ExitError{r.Code, tail(r.Err + r.Out)})
		}
		return r.Out, nil
	case <-m.exit:
		return "", errClosed
	case <-ctx.Done():
		return "", fmt.Errorf("in the machine: %s: no answer: %w", what, ctx.Err())
	}
}

// Console returns what the machine wrote to its serial line from an offset on, and where that ends.
func (m *Machine) Console(from int64) (string, int64) {
	text, err := os.ReadFile(m.path("console"))
	if err != nil || from > int64(len(text)) {
		return "", from
	}
	return strings.ToValidUTF8(string(text[from:]), "?"), int64(len(text))
}
