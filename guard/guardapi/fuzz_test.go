package guardapi

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzSetup: what the guard is told to be is whole and valid, or it does not start.
func FuzzSetup(f *testing.F) {
	for _, s := range []Setup{
		{Mode: ModeRequired, Device: "auto", Watchdog: 5 * time.Second, TimerSlack: 200 * time.Millisecond},
		{Mode: ModeSystemd, TimerSlack: 100 * time.Millisecond},
	} {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`null`))
	f.Add([]byte(`{"mode":"systemd","timer_slack":1} trailing`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "guard.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ReadSetup(path)
		if err != nil {
			return
		}
		if s.Validate() != nil || !json.Valid(text) {
			t.Errorf("%q is read as %+v", text, s)
		}
		if err := WriteSetup(path, s); err != nil {
			t.Fatal(err)
		}
		if again, err := ReadSetup(path); err != nil || again != s {
			t.Errorf("written again %+v is %+v (%v)", s, again, err)
		}
	})
}
