package systemd

import (
	"context"
	"errors"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// CallTimeout bounds a call whose context has no nearer deadline.
const CallTimeout = 5 * time.Second

const (
	manager       = "org.freedesktop.systemd1"
	managerObject = "/org/freedesktop/systemd1"
)

// ErrNotLoaded means that systemd knows no such unit.
var ErrNotLoaded = errors.New("unit is not loaded")

// Manager is a connection to PID 1. Any number of goroutines may use it. After an error that is not the answer to
// the question (see Connected) a new one is needed.
type Manager struct {
	conn   *sd.Conn
	raw    *dbus.Conn
	cancel context.CancelFunc
}

// Connect connects as root to PID 1's own socket, without a broker between, and by the system bus if that cannot be
// reached.
func Connect(ctx context.Context) (*Manager, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	type result struct {
		m   *Manager
		err error
	}
	// The connection lives as long as the context that it was made with, so that one is not the caller's.
	life, end := context.WithCancel(context.Background())
	done := make(chan result, 1)
	go func() {
		m, err := connect(life)
		done <- result{m, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			end()
			return nil, fmt.Errorf("connect to systemd: %w", r.err)
		}
		r.m.cancel = end
		return r.m, nil
	case <-ctx.Done():
		end()
		go func() {
			if r := <-done; r.m != nil {
				r.m.conn.Close()
			}
		}()
		return nil, fmt.Errorf("connect to systemd: %w", ctx.Err())
	}
}

func connect(life context.Context) (*Manager, error) {
	m := &Manager{}
	dial := func(open func() (*dbus.Conn, error)) func() (*dbus.Conn, error) {
		return func() (*dbus.Conn, error) {
			c, err := open()
			if m.raw == nil {
				m.raw = c
			}
			return c, err
		}
	}
	private := dial(func() (*dbus.Conn, error) { return authenticated("unix:path=/run/systemd/private", false, life) })
	conn, err := sd.NewConnection(private)
	if err != nil {
		m.raw = nil
		bus := dial(func() (*dbus.Conn, error) {
			return authenticated("unix:path=/run/dbus/system_bus_socket", true, life)
		})
		var second error
		if conn, second = sd.NewConnection(bus); second != nil {
			return nil, errors.Join(err, second)
		}
	}
	m.conn = conn
	return m, nil
}

func authenticated(address string, hello bool, life context.Context) (*dbus.Conn, error) {
	c, err := dbus.Dial(address, dbus.WithContext(life))
	if err != nil {
		return nil, err
	}
	if err = c.Auth([]dbus.Auth{dbus.AuthExternal("0")}); err == nil && hello {
		err = c.Hello()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection.
func (m *Manager) Close() {
	m.conn.Close()
	m.cancel()
}

// Connected reports whether the connection stands.
func (m *Manager) Connected() bool { return m.conn.Connected() }

// Ping returns when PID 1 itself has answered.
func (m *Manager) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	call := m.raw.Object(manager, managerObject).CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0)
	if call.Err != nil {
		return fmt.Errorf("ping systemd: %w", call.Err)
	}
	return nil
}

// StartUnit starts a unit and waits for the end of its job. Anything but the result "done" is an error. A unit whose
// ExecCondition= says no is "done" as well: look at its State.
func (m *Manager) StartUnit(ctx context.Context, name string) error {
	return m.job(ctx, "start", name, m.conn.StartUnitContext)
}

// StopUnit stops a unit and waits for the end of its job.
func (m *Manager) StopUnit(ctx context.Context, name string) error {
	return m.job(ctx, "stop", name, m.conn.StopUnitContext)
}

func (m *Manager) job(ctx context.Context, verb, name string,
	call func(context.Context, string, string, chan<- string) (int, error)) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, CallTimeout)
		defer cancel()
	}
	result := make(chan string, 1)
	if _, err := call(ctx, name, "replace", result); err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	select {
	case r := <-result:
		if r != "done" {
			return fmt.Errorf("%s %s: job ended with result %q", verb, name, r)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s %s: wait for its job: %w", verb, name, ctx.Err())
	}
}

// Reboot reboots at once: no unit is stopped before, whoever runs is killed (org.freedesktop.systemd1(5)).
func (m *Manager) Reboot(ctx context.Context) error { return m.end(ctx, "Reboot") }

// PowerOff powers down in the same way.
func (m *Manager) PowerOff(ctx context.Context) error { return m.end(ctx, "PowerOff") }

func (m *Manager) end(ctx context.Context, method string) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	call := m.raw.Object(manager, managerObject).CallWithContext(ctx, "org.freedesktop.systemd1.Manager."+method, 0)
	if call.Err != nil {
		return fmt.Errorf("ask systemd for %s: %w", method, call.Err)
	}
	return nil
}

// UnitState is what systemd says about a unit.
type UnitState struct {
	Load, Active, Sub string // LoadState, ActiveState, SubState
	FileState         string // UnitFileState: enabled, disabled, static, masked, generated, …; "" without a file
	MainPID           int    // 0: none, or no service
	Result            string // of a service: success, exec-condition, watchdog, …
	StatusText        string // last STATUS=
	Job               string // type of the queued or running job: start, stop, restart, …; "" if none
	WantedBy          []string
	RequiredBy        []string
}

// Inactive reports whether nothing of the unit runs as far as its state says.
func (u UnitState) Inactive() bool { return u.Active == "inactive" || u.Active == "failed" }

// StartsAtBoot reports whether the unit is enabled, or wanted or required by anything.
func (u UnitState) StartsAtBoot() bool {
	switch u.FileState {
	case "enabled", "enabled-runtime", "generated", "linked":
		return true
	}
	return len(u.WantedBy)+len(u.RequiredBy) > 0
}

// Unit reads the state of a unit. ErrNotLoaded if systemd finds no such unit.
func (m *Manager) Unit(ctx context.Context, name string) (UnitState, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	props, err := m.conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return UnitState{}, fmt.Errorf("read unit %s: %w", name, err)
	}
	u := UnitState{
		Load: text(props["LoadState"]), Active: text(props["ActiveState"]), Sub: text(props["SubState"]),
		FileState: text(props["UnitFileState"]), WantedBy: texts(props["WantedBy"]), RequiredBy: texts(props["RequiredBy"]),
	}
	if u.Load == "not-found" {
		return u, fmt.Errorf("read unit %s: %w", name, ErrNotLoaded)
	}
	if u.Load == "" || u.Active == "" {
		return u, fmt.Errorf("read unit %s: systemd's answer lacks LoadState or ActiveState", name)
	}
	if len(name) > 8 && name[len(name)-8:] == ".service" {
		service, err := m.conn.GetUnitTypePropertiesContext(ctx, name, "Service")
		if err != nil {
			return u, fmt.Errorf("read service %s: %w", name, err)
		}
		pid, ok := service["MainPID"].(uint32)
		if !ok {
			return u, fmt.Errorf("read service %s: systemd's answer lacks MainPID", name)
		}
		u.MainPID, u.Result, u.StatusText = int(pid), text(service["Result"]), text(service["StatusText"])
	}
	u.Job, err = m.JobType(ctx, name)
	return u, err
}

// JobType is the type of the job that the unit has now ("start", "stop", "restart", …), "" if it has none. It tells
// a stop from a restart; an error is neither.
func (m *Manager) JobType(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	jobs, err := m.conn.ListJobsContext(ctx)
	if err != nil {
		return "", fmt.Errorf("read the job of %s: %w", name, err)
	}
	for _, j := range jobs {
		if j.Unit == name {
			return j.JobType, nil
		}
	}
	return "", nil
}

// noSuchUnit is how PID 1 says that a unit is not in its memory. It forgets none whose control group has a process.
const noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"

// Processes lists the processes in the unit's control group: none, if the unit is not loaded.
func (m *Manager) Processes(ctx context.Context, name string) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	var list []struct {
		Path string
		PID  uint32
		Args string
	}
	call := m.raw.Object(manager, managerObject).
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager.GetUnitProcesses", 0, name)
	if err := call.Store(&list); err != nil {
		var answer dbus.Error
		if errors.As(err, &answer) && answer.Name == noSuchUnit {
			return nil, nil
		}
		return nil, fmt.Errorf("list processes of %s: %w", name, err)
	}
	pids := make([]int, 0, len(list))
	for _, p := range list {
		pids = append(pids, int(p.PID))
	}
	return pids, nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func texts(v any) []string {
	s, _ := v.([]string)
	return s
}
