package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzStatus: no text of a status becomes an assignment of its own, such as READY=1 or WATCHDOG=trigger.
func FuzzStatus(f *testing.F) {
	f.Add("held by node1, epoch 7")
	f.Add("x\nWATCHDOG=trigger")
	f.Add("x\rFDSTORE=1\x00READY=1")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "n")
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		t.Setenv("NOTIFY_SOCKET", path)
		n, err := NewNotifier()
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if err := n.Status(text); err != nil {
			if len(text) > 64<<10 {
				return // too large for a datagram
			}
			t.Fatal(err)
		}
		buf := make([]byte, 1<<20)
		if err := l.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		size, err := l.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(buf[:size]); strings.Count(got, "\n") > 0 || !strings.HasPrefix(got, "STATUS=") {
			t.Errorf("%q is sent as %q", text, got)
		}
	})
}

// FuzzWatchdogInterval: $WATCHDOG_USEC is a time that a timer can keep, or an error.
func FuzzWatchdogInterval(f *testing.F) {
	for _, text := range []string{"10000000", "", "0", "-1", "9223372036854775807", "1e6", " 5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) {
			return // no environment can say that
		}
		t.Setenv("WATCHDOG_USEC", text)
		_ = os.Unsetenv("WATCHDOG_PID")
		d, err := WatchdogInterval()
		if err == nil && (d < 0 || d > 24*time.Hour || d == 0 && text != "") || err != nil && d != 0 {
			t.Errorf("%q is %v, %v", text, d, err)
		}
	})
}
