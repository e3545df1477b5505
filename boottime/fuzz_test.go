package boottime

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzRTC: what the real-time clock's file says is a time that can be, or an error.
func FuzzRTC(f *testing.F) {
	f.Add("1764000000\n")
	f.Add("-1")
	f.Add("9223372036854775807")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "since_epoch")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := (RTC{path: path}).read(); err == nil && (d < 0 || d > (1<<33)*time.Second) {
			t.Errorf("%q is %v", text, d)
		}
	})
}
