package guard

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leasedog/leasedog/boottime"
)

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }

// A guard that is stopped (SIGSTOP), and so cannot run an instruction, dies by its kill timer. The child of this test
// stops itself; if the timer did not work, the parent would wait until the test binary's own time limit.
func TestKillTimerEndsAStoppedGuard(t *testing.T) {
	switch os.Getenv("LEASEDOG_TEST_KILLTIMER") {
	case "stop":
		timer, err := newKillTimer()
		if err == nil {
			err = timer.Set(boottime.Now().Add(200 * time.Millisecond))
		}
		if err != nil {
			os.Exit(3)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-time.NewTimer(time.Minute).C // other threads stop a moment later
		os.Exit(4)
	case "cancel":
		timer, err := newKillTimer()
		if err != nil || timer.Set(boottime.Now().Add(20*time.Millisecond)) != nil ||
			timer.Set(boottime.Now().Add(time.Hour)) != nil {
			os.Exit(3)
		}
		<-time.NewTimer(60 * time.Millisecond).C
		if timer.Set(boottime.Now().Add(20*time.Millisecond)) != nil || timer.Cancel() != nil {
			os.Exit(3)
		}
		<-time.NewTimer(60 * time.Millisecond).C
		os.Exit(0)
	}
	run := func(what string) syscall.WaitStatus {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		p, err := os.StartProcess(exe, []string{exe, "-test.run=^TestKillTimerEndsAStoppedGuard$"},
			&os.ProcAttr{Env: append(os.Environ(), "LEASEDOG_TEST_KILLTIMER="+what)})
		if err != nil {
			t.Fatal(err)
		}
		state, err := p.Wait()
		if err != nil {
			t.Fatal(err)
		}
		return state.Sys().(syscall.WaitStatus)
	}
	if s := run("stop"); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		t.Fatalf("a stopped guard was not killed: %v", s)
	}
	if s := run("cancel"); !s.Exited() || s.ExitStatus() != 0 {
		t.Fatalf("an extended and then cancelled timer: %v", s)
	}
}
