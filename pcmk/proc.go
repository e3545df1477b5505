package pcmk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// DefaultProc is where /proc is mounted. What is seen is this PID namespace.
const DefaultProc = "/proc"

// Daemons of Pacemaker, by the names of their executables: alike from 2.0.0 on (attrd, cib, crmd, lrmd,
// stonithd and pengine of 1.1 live on as links to these).
const (
	Pacemakerd = "pacemakerd"
	Attrd      = "pacemaker-attrd"
	Based      = "pacemaker-based"
	Controld   = "pacemaker-controld"
	Execd      = "pacemaker-execd"
	Fenced     = "pacemaker-fenced"
	Schedulerd = "pacemaker-schedulerd"
)

func isDaemon(exe string) bool {
	switch exe {
	case Pacemakerd, Attrd, Based, Controld, Execd, Fenced, Schedulerd:
		return true
	}
	return false
}

// Process names one process for as long as it lives: a pid alone may be reused.
type Process struct {
	PID   int
	Start uint64 // start time in clock ticks since boot
}

// Daemons lists which of Pacemaker's daemons run here, by /proc/PID/exe. An executable that a package
// upgrade has replaced counts too; so does a child of the executor that has not yet become the agent it was
// forked for. A process that cannot be looked at (not root) is an error: unknown.
func Daemons(proc string) (map[string][]Process, error) {
	found := make(map[string][]Process)
	err := eachProcess(proc, func(pid int, dir string) error {
		exe, err := exeName(dir)
		if err != nil || !isDaemon(exe) {
			return err
		}
		st, err := readStat(dir)
		if err != nil {
			return err
		}
		found[exe] = append(found[exe], Process{PID: pid, Start: st.start})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for Pacemaker's daemons: %w", err)
	}
	return found, nil
}

// AgentProcess is a process that belongs to a guarded primitive.
type AgentProcess struct {
	Process
	Resource string // the primitive, without an instance number; "" for an executor's child before its exec
	// Agent: this is the agent at work (or a subshell of it), not something that it left behind. A database
	// inherits OCF_RESOURCE_INSTANCE from the agent that started it and keeps it for all its life, so the
	// environment alone says nothing: what makes an agent is its path among the arguments, followed by an
	// action.
	Agent  bool
	Action string // of an Agent: start, promote, stop, …; "" before the exec
	Args   []string
}

// AgentProcesses lists processes that belong to the primitives. With Agent: a resource agent (or init
// script) at work, whoever started it; an executor that was killed leaves its agents running, and a start
// among them completes. Without Agent: processes that have OCF_RESOURCE_INSTANCE of a primitive in their
// environment, normally the service itself. For an executor's child between fork and exec, whose purpose
// cannot be known, Agent is true and Resource is empty. /proc is read twice and the union given, since a
// process that forks during one reading may hide its child. Anything that cannot be looked at is an error:
// unknown.
func AgentProcesses(proc string, primitives []Primitive) ([]AgentProcess, error) {
	seen := make(map[Process]AgentProcess)
	for range 2 {
		err := eachProcess(proc, func(pid int, dir string) error {
			p, ok, err := agentProcess(dir, primitives)
			if err != nil || !ok {
				return err
			}
			p.PID = pid
			if old, dup := seen[p.Process]; !dup || !old.Agent {
				seen[p.Process] = p
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for resource agents: %w", err)
		}
	}
	all := make([]AgentProcess, 0, len(seen))
	for _, p := range seen {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b AgentProcess) int { return a.PID - b.PID })
	return all, nil
}

func agentProcess(dir string, primitives []Primitive) (AgentProcess, bool, error) {
	none := AgentProcess{}
	exe, err := exeName(dir)
	if err != nil || exe == "" { // a kernel thread or a zombie
		return none, false, err
	}
	st, err := readStat(dir)
	if err != nil {
		return none, false, err
	}
	if exe == Execd {
		parent, err := exeName(filepath.Join(filepath.Dir(dir), strconv.Itoa(st.parent)))
		if gone(err) || err == nil && parent != Execd {
			return none, false, nil
		}
		return AgentProcess{Process: Process{Start: st.start}, Agent: true}, err == nil, err
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return none, false, err
	}
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return none, false, err
	}
	args, instance := splitNul(cmdline), ""
	for _, kv := range splitNul(environ) {
		if v, ok := strings.CutPrefix(kv, "OCF_RESOURCE_INSTANCE="); ok {
			instance = v
		}
	}
	for _, p := range primitives {
		action := agentAction(args, p)
		ours := p.Class == "lsb" && action != "" || // init scripts get no OCF environment
			p.Class == "ocf" && (instance == p.ID || BaseID(instance) == p.ID)
		if ours {
			return AgentProcess{Process: Process{Start: st.start}, Resource: p.ID, Agent: action != "", Action: action,
				Args: args}, true, nil
		}
	}
	return none, false, nil
}

// agentAction finds the agent's path among the arguments ("/bin/sh PATH start", "PATH start") and what
// follows it. A path without an argument is an agent too: unknown what it does.
func agentAction(args []string, p Primitive) string {
	if p.Agent == "" {
		return ""
	}
	for i, a := range args {
		if filepath.Clean(a) != p.Agent {
			continue
		}
		if i+1 < len(args) && args[i+1] != "" {
			return args[i+1]
		}
		return "?"
	}
	return ""
}

func splitNul(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
}

// eachProcess visits every process; one that ends meanwhile is left out.
func eachProcess(proc string, visit func(pid int, dir string) error) error {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid <= 0 {
			continue
		}
		found = true
		if err := visit(pid, filepath.Join(proc, e.Name())); err != nil && !gone(err) {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s shows no process: it is not mounted or hidden", proc)
	}
	return nil
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// exeName is the base name of a process's executable, "" for a kernel thread or a zombie.
func exeName(dir string) (string, error) {
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil {
		if gone(err) {
			_, err = os.Stat(filepath.Join(dir, "stat")) // there, but without an executable?
		}
		return "", err
	}
	return filepath.Base(strings.TrimSuffix(exe, " (deleted)")), nil
}

type stat struct {
	parent int
	start  uint64
}

func readStat(dir string) (stat, error) {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return stat{}, err
	}
	// The second field is the name in parentheses, which may hold anything; the third is the state.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return stat{}, fmt.Errorf("%s/stat cannot be parsed", dir)
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return stat{}, fmt.Errorf("%s/stat: parent: %w", dir, err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("%s/stat: start time: %w", dir, err)
	}
	return stat{parent: parent, start: start}, nil
}

// Kill sends SIGKILL to exactly this process: nil if it was sent or the process no longer is. It does not
// wait for the end, and a process in D state does not end: look again.
func Kill(proc string, p Process) error {
	h, err := os.FindProcess(p.PID) // holds a pidfd, so that the check below and the signal mean the same process
	if err != nil {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	defer h.Release()
	st, err := readStat(filepath.Join(proc, strconv.Itoa(p.PID)))
	if gone(err) || err == nil && st.start != p.Start {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	if err := h.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	return nil
}

// KillDaemons sends SIGKILL to every process of the named daemons and returns those it was sent to. Their
// queues die with them, what they have started lives on. pacemakerd respawns them, controld only after the
// node has left the cluster: this is a last resort, just before a reset. Call Daemons or AgentProcesses
// again to see what is left.
func KillDaemons(proc string, names ...string) ([]Process, error) {
	for _, n := range names {
		if !isDaemon(n) {
			return nil, fmt.Errorf("kill daemons: %q is none of Pacemaker's", n)
		}
	}
	found, err := Daemons(proc)
	if err != nil {
		return nil, err
	}
	var killed []Process
	var errs []error
	for _, n := range names {
		for _, p := range found[n] {
			if err := Kill(proc, p); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", n, err))
				continue
			}
			killed = append(killed, p)
		}
	}
	return killed, errors.Join(errs...)
}
