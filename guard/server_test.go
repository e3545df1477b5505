package guard

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const askEnv = "GUARD_TEST_ASK"

// TestAskProcess is not a test but the process of somebody who is not root.
func TestAskProcess(t *testing.T) {
	path := os.Getenv(askEnv)
	if path == "" {
		t.Skip("only for TestSocketIsForRootOnly")
	}
	c, err := net.DialTimeout("unixpacket", path, time.Second)
	if err != nil {
		t.Fatal("not connected:", err)
	}
	defer c.Close()
	_, _ = c.Write([]byte(`{"verb":"status"}`)) // it may be closed already
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(make([]byte, 100))
	if n > 0 || os.IsTimeout(err) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	println("refused as user", os.Getuid())
}

// Nobody but root speaks to the guard: by the mode of its socket, and by what the kernel says of who connects.
func TestSocketIsForRootOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	s, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	for p, mode := range map[string]fs.FileMode{dir: 0o755, path: 0o666} { // the rule must not rest on the mode alone
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	s.serve()
	defer s.close(nil)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAskProcess$", "-test.count=1")
	cmd.Env = []string{askEnv + "=" + path}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refused as user 65534") {
		t.Errorf("%v: %s", err, out)
	}
	select {
	case <-s.joined:
		t.Error("somebody else was let in")
	default:
	}
}
