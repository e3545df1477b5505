package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of Record.
type Options struct {
	Dir string // the folder whose files are logged
	// Fail is the number of the write, truncation or sync that fails with EIO, counted from 1; 0: none.
	Fail    int
	Row     int // how many more of those that follow it fail too
	Timeout time.Duration
}

// Record runs cmd to its end and returns what it did to the files below opt.Dir. The error says that the log is not
// complete, or that cmd failed.
func Record(cmd *exec.Cmd, opt Options) ([]Event, error) {
	type result struct {
		log []Event
		err error
	}
	out := make(chan result, 1)
	go func() {
		// ptrace(2) is by thread. The thread is not given back: it ends with this goroutine.
		runtime.LockOSThread()
		dir, err := filepath.EvalSymlinks(opt.Dir)
		if err != nil {
			out <- result{nil, err}
			return
		}
		t := &tracer{dir: dir, fail: opt.Fail, row: opt.Row, threads: map[int]*thread{}, files: map[uint64]uint64{}}
		err = t.run(cmd, opt.Timeout)
		out <- result{t.log, err}
	}()
	r := <-out
	return r.log, r.err
}

type tracer struct {
	dir     string
	fail    int
	row     int
	count   int
	threads map[int]*thread
	files   map[uint64]uint64 // by inode, which may be used again: the number of the file that has it now
	made    uint64
	log     []Event
}

// thread is one of the program's, between the entry and the exit of a system call.
type thread struct {
	inside bool
	event  *Event // what its call will be in the log when it succeeds
	create bool   // its call makes a file
	inject bool
}

// info is struct ptrace_syscall_info of ptrace(2).
type info struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	data [8]uint64 // entry: nr, args[6]; exit: rval, is_error
}

const (
	opEntry       = 1
	opExit        = 2
	sysGood       = unix.SIGTRAP | 0x80
	traceOptions  = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACEEXEC
	maxCallLength = 16 << 20
)

func (t *tracer) run(cmd *exec.Cmd, timeout time.Duration) error {
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start under ptrace: %w", err)
	}
	pid := cmd.Process.Pid
	stop := time.AfterFunc(timeout, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	err := t.follow(pid)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	return err
}

// follow resumes every thread that stops, until the program has ended.
func (t *tracer) follow(pid int) error {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for the first stop: %w", err)
	}
	if err := unix.PtraceSetOptions(pid, traceOptions); err != nil {
		return fmt.Errorf("set ptrace options: %w", err)
	}
	t.threads[pid] = &thread{}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return err
	}
	for {
		// WNOTHREAD: the children of this thread only, not those that other tests wait for.
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the program: %w", err)
		}
		switch {
		case ws.Exited() && tid == pid:
			if ws.ExitStatus() != 0 {
				return fmt.Errorf("the program ended with exit code %d", ws.ExitStatus())
			}
			return nil
		case ws.Signaled() && tid == pid:
			return fmt.Errorf("the program was killed by %v", ws.Signal())
		case !ws.Stopped():
			delete(t.threads, tid)
			continue
		}
		pass := 0
		th := t.threads[tid]
		switch sig := ws.StopSignal(); {
		case th == nil: // a new thread stops once by itself
			t.threads[tid] = &thread{}
		case sig == sysGood:
			// ESRCH: the program ends, and takes this thread along in the middle of its call.
			if err := t.call(tid, th); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		case sig == unix.SIGTRAP: // exec, clone
		default:
			pass = int(sig)
		}
		if err := unix.PtraceSyscall(tid, pass); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("resume: %w", err)
		}
	}
}

// call is the entry or the exit of a system call.
func (t *tracer) call(tid int, th *thread) error {
	var i info
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(i),
		uintptr(unsafe.Pointer(&i)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("read a system call: %w", errno)
	}
	switch i.op {
	case opEntry:
		*th = thread{inside: true}
		return t.entry(tid, th, i.data[0], [6]uint64(i.data[1:7]))
	case opExit:
		if !th.inside {
			return nil // it was under way when the thread was seen first
		}
		th.inside = false
		return t.exit(tid, th, int64(i.data[0]))
	}
	return nil
}

// entry notes what a call is about to do.
func (t *tracer) entry(tid int, th *thread, nr uint64, a [6]uint64) error {
	var err error
	switch nr {
	case unix.SYS_PWRITE64:
		th.event, err = t.write(tid, a, int64(a[3]))
	case unix.SYS_WRITE:
		th.event, err = t.write(tid, a, -1)
	case unix.SYS_FTRUNCATE:
		if th.event = t.file(tid, a[0], Truncate); th.event != nil {
			th.event.Off = int64(a[1])
		}
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		th.event = t.file(tid, a[0], Sync)
	case unix.SYS_OPENAT:
		if a[2]&unix.O_CREAT != 0 {
			th.create, err = t.missing(tid, a[1])
		}
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		th.event, err = t.names(tid, Rename, a[1], a[3])
	case unix.SYS_LINKAT:
		th.event, err = t.names(tid, Link, a[1], a[3])
	case unix.SYS_UNLINKAT:
		th.event, err = t.names(tid, Remove, a[1], 0)
	case unix.SYS_MMAP:
		if a[2]&unix.PROT_WRITE != 0 && a[3]&unix.MAP_SHARED != 0 && t.file(tid, a[4], Write) != nil {
			err = errors.New("the program maps a file writable: what it changes there is not logged")
		}
	case unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_FALLOCATE, unix.SYS_SENDFILE:
		err = t.unknown(tid, nr, a[0])
	case unix.SYS_COPY_FILE_RANGE, unix.SYS_SPLICE:
		err = t.unknown(tid, nr, a[2])
	}
	if err != nil || th.event == nil {
		return err
	}
	if th.event.Kind == Mark { // what leaves the program may be seen from here on
		t.log = append(t.log, *th.event)
		th.event = nil
		return nil
	}
	if th.event.CanFail() {
		if t.count++; t.fail > 0 && t.count >= t.fail && t.count <= t.fail+t.row {
			th.inject = true
			return skipCall(tid)
		}
	}
	return nil
}

// exit puts a call that was carried out into the log.
func (t *tracer) exit(tid int, th *thread, result int64) error {
	if th.inject {
		th.event.Failed = true
		t.log = append(t.log, *th.event)
		return setResult(tid, -int64(unix.EIO))
	}
	if th.create && result >= 0 {
		return t.created(tid, uint64(result))
	}
	if th.event == nil || result < 0 {
		return nil
	}
	if th.event.Kind == Write && result != int64(len(th.event.Data)) {
		th.event.Data = th.event.Data[:result]
	}
	t.log = append(t.log, *th.event)
	return nil
}

// file is an event about an open file, nil if it is not below the folder.
func (t *tracer) file(tid int, fd uint64, kind Kind) *Event {
	link := fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd))
	path, err := os.Readlink(link)
	if err != nil {
		return nil
	}
	rel, ok := t.below(strings.TrimSuffix(path, " (deleted)"))
	if !ok {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil {
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if kind != Sync {
			return nil
		}
		kind = SyncDir
	}
	return &Event{Kind: kind, File: t.files[st.Ino], Path: rel}
}

// missing reports whether the file of that name is below the folder and not there yet.
func (t *tracer) missing(tid int, name uint64) (bool, error) {
	path, err := readString(tid, name)
	if err != nil {
		return false, err
	}
	if _, ok := t.below(path); !ok {
		return false, nil
	}
	_, err = os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist), nil
}

// created gives a file that was just made a number.
func (t *tracer) created(tid int, fd uint64) error {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", tid, fd), &st); err != nil {
		return fmt.Errorf("look at a new file: %w", err)
	}
	e := t.file(tid, fd, Create)
	if e == nil || e.Path == MarkFile {
		return nil
	}
	t.made++
	t.files[st.Ino], e.File = t.made, t.made
	t.log = append(t.log, *e)
	return nil
}

// below makes a path relative to the folder.
func (t *tracer) below(path string) (string, bool) {
	if path == t.dir {
		return ".", true
	}
	return strings.CutPrefix(path, t.dir+"/")
}

// write is a write at off, or where the file stands if off is negative.
func (t *tracer) write(tid int, a [6]uint64, off int64) (*Event, error) {
	e := t.file(tid, a[0], Write)
	if e == nil {
		return nil, nil
	}
	if e.File == 0 && e.Path != MarkFile {
		return nil, fmt.Errorf("the program changes %s, which was there before it", e.Path)
	}
	if a[2] > maxCallLength {
		return nil, fmt.Errorf("a write of %d bytes", a[2])
	}
	e.Off, e.Data = off, make([]byte, a[2])
	if err := readMemory(tid, a[1], e.Data); err != nil {
		return nil, err
	}
	if e.Path == MarkFile {
		e.Kind = Mark
		e.Data = bytes.TrimSpace(e.Data)
		return e, nil
	}
	if off < 0 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, int32(a[0])))
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(text), "pos:")
		pos, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
		if e.Off, err = strconv.ParseInt(pos, 10, 64); err != nil {
			return nil, fmt.Errorf("read where a file stands: %w", err)
		}
	}
	return e, nil
}

// names is an event about names. Relative names would need the program's folder, so they are an error.
func (t *tracer) names(tid int, kind Kind, from, to uint64) (*Event, error) {
	path, err := readString(tid, from)
	if err != nil {
		return nil, err
	}
	rel, ok := t.below(path)
	if !ok {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("%s of the relative name %q", kind, path)
		}
		return nil, nil
	}
	e := &Event{Kind: kind, Path: rel}
	if to != 0 {
		if path, err = readString(tid, to); err != nil {
			return nil, err
		}
		if e.To, ok = t.below(path); !ok {
			return nil, fmt.Errorf("%s goes to %q, out of the folder", rel, path)
		}
	}
	return e, nil
}

func (t *tracer) unknown(tid int, nr, fd uint64) error {
	if e := t.file(tid, fd, Write); e != nil {
		return fmt.Errorf("the program changes %s by system call %d, which is not logged", e.Path, nr)
	}
	return nil
}

func readMemory(tid int, at uint64, into []byte) error {
	if len(into) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &into[0], Len: uint64(len(into))}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(into)}}, 0)
	if err == nil && n != len(into) {
		err = errors.New("too short")
	}
	if err != nil {
		return fmt.Errorf("read the program's memory: %w", err)
	}
	return nil
}

// readString reads a zero-terminated name, 8 bytes at a time so as not to run over the end of its page.
func readString(tid int, at uint64) (string, error) {
	var out []byte
	for len(out) < 4096 {
		var word [8]byte
		n := 8 - int(at%8)
		if err := readMemory(tid, at, word[:n]); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(word[:n], 0); i >= 0 {
			return string(append(out, word[:i]...)), nil
		}
		out, at = append(out, word[:n]...), at+uint64(n)
	}
	return "", fmt.Errorf("a name of %d bytes: %w", len(out), unix.ENAMETOOLONG)
}
