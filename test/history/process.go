package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is an arbiter that runs from a binary, with its files in a folder. One goroutine owns it.
type Process struct {
	Dir string // short: the control socket is in it
	URL string

	binary string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// Edit is a mistake that is built into an arbiter: Old, which stands in File exactly once, becomes New.
type Edit struct{ File, Old, New string }

// Build builds the arbiter of the module at root into dir, with mistakes laid over its source by go build -overlay.
func Build(root, dir string, edits ...Edit) (string, error) {
	root, err := filepath.Abs(root) // go build takes no notice of a replacement for a file that is not there
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for i, e := range edits {
		path := filepath.Join(root, e.File)
		source := path
		if before, ok := replace[path]; ok {
			source = before
		}
		text, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), e.Old); n != 1 {
			return "", fmt.Errorf("%s has %d times %q, want once", e.File, n, e.Old)
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(e.File)))
		if err := os.WriteFile(replace[path], []byte(strings.Replace(string(text), e.Old, e.New, 1)), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "leasedog-arbiter")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "./cmd/leasedog-arbiter")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the arbiter: %w\n%s", err, out)
	}
	return binary, nil
}

// NewProcess prepares an arbiter that keeps its store in dir.
func NewProcess(binary, dir string, minHold, maxHold time.Duration) (*Process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the same address after each restart
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_ = l.Close()
	text := fmt.Sprintf("listen = %q\nstore = %q\ncontrol = %q\ninsecure = true\nallow_insecure_from = [\"127.0.0.0/8\"]\n"+
		"min_hold = %q\nmax_hold = %q\n", addr, filepath.Join(dir, "a.db"), filepath.Join(dir, "a.sock"), minHold, maxHold)
	if err := os.WriteFile(filepath.Join(dir, "arbiter.toml"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	return &Process{Dir: dir, URL: "http://" + addr, binary: binary}, nil
}

// Start starts it and waits until it serves.
func (p *Process) Start() error {
	cmd := exec.Command(p.binary, "--config", filepath.Join(p.Dir, "arbiter.toml"), "serve")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	keep, err := os.OpenFile(filepath.Join(p.Dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		_ = keep.Close()
		return err
	}
	p.cmd, p.ended = cmd, make(chan struct{})
	ready := make(chan struct{})
	go func() {
		defer close(p.ended)
		defer keep.Close()
		lines := bufio.NewScanner(log)
		for told := false; lines.Scan(); {
			_, _ = io.WriteString(keep, lines.Text()+"\n")
			if !told && strings.Contains(lines.Text(), "serving leases") {
				told = true
				close(ready)
			}
		}
	}()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	select {
	case <-ready:
		return nil
	case <-p.ended:
		err = fmt.Errorf("the arbiter did not start: see %s", keep.Name())
	case <-limit.C:
		err = errors.New("the arbiter does not serve")
	}
	return errors.Join(err, p.Kill())
}

// Kill is kill -9. It returns when the process is gone.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.ended
	_ = p.cmd.Wait() // it says "killed"
	return err
}

// Freeze stops it, and Thaw lets it go on, as if its machine had been busy elsewhere.
func (p *Process) Freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (p *Process) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
