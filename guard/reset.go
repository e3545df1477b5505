package guard

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// resetter is the first layer. It is made at the start, so that nothing has to be opened, resolved or allocated when
// the node's storage may hang already.
type resetter struct {
	sysrq *os.File // nil in a container, or where there is none
	kmsg  *os.File // nil where it cannot be opened
	dying *net.UDPConn
	bye   []byte
}

// lastWords bounds what is said before the reset: a line to a slow console must not cost the bound.
const lastWords = 20 * time.Millisecond

func newResetter(root string, container bool) *resetter {
	r := &resetter{}
	if !container {
		r.sysrq, _ = os.OpenFile(root+"/proc/sysrq-trigger", os.O_WRONLY, 0)
	}
	r.kmsg, _ = os.OpenFile(root+"/dev/kmsg", os.O_WRONLY, 0)
	return r
}

// by names the way, for status.
func (r *resetter) by() string {
	if r.sysrq != nil {
		return "sysrq"
	}
	return "reboot(2)"
}

// say writes one line to the kernel's log and one datagram to the arbiter, and waits for neither.
func (r *resetter) say(text string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r.dying != nil {
			_ = r.dying.SetWriteDeadline(time.Now().Add(lastWords))
			_, _ = r.dying.Write(r.bye)
		}
		if r.kmsg != nil {
			_, _ = r.kmsg.WriteString("<1>leasedog-guard: reset: " + text + "\n")
		}
	}()
	select {
	case <-done:
	case <-time.After(lastWords):
	}
}

// reset does not return where it works. Without a sync: storage may hang, and the peer is waiting. A process that
// cannot reset ends itself: its death fires FailureAction=, and nobody feeds the watchdog any more.
func (r *resetter) reset() {
	if r.sysrq != nil {
		_, _ = r.sysrq.WriteString("b")
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}
