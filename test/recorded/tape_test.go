package recorded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/leasedog/leasedog/lease"
)

// tape is one exchange, or something that is done to the arbiter between two.
type tape struct {
	Name     string            `json:"name"`
	Do       string            `json:"do,omitempty"`
	Method   string            `json:"method,omitempty"`
	Path     string            `json:"path,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"` // of the request
	Request  json.RawMessage   `json:"request,omitempty"`
	Status   int               `json:"status,omitempty"`
	Says     map[string]string `json:"says,omitempty"` // headers of the answer
	Answer   json.RawMessage   `json:"answer,omitempty"`
	Meaning  map[string]any    `json:"meaning,omitempty"`  // of the answer, as the release's own client understood it
	Mistaken bool              `json:"mistaken,omitempty"` // the client takes the answer for an error
}

// release is a recorded one.
type release struct {
	name  string
	tapes []tape
	store map[string]map[string]json.RawMessage // cluster, key
}

func folders(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join("testdata", "*", "traffic.json"))
	if err != nil || len(list) == 0 {
		t.Fatalf("no release is recorded: %v", err)
	}
	slices.SortFunc(list, func(a, b string) int { return compareReleases(releaseOf(a), releaseOf(b)) })
	return list
}

func releaseOf(path string) string { return filepath.Base(filepath.Dir(path)) }

// compareReleases knows that 0.10 comes after 0.9.
func compareReleases(a, b string) int {
	number := func(s string) (major, minor int) {
		if _, err := fmt.Sscanf(s, "%d.%d", &major, &minor); err != nil {
			panic("recorded: " + s + " is not MAJOR.MINOR")
		}
		return major, minor
	}
	am, an := number(a)
	bm, bn := number(b)
	return (am-bm)*1000 + an - bn
}

func releases(t *testing.T) (all []release) {
	t.Helper()
	for _, path := range folders(t) {
		r := release{name: releaseOf(path)}
		readFile(t, path, &r.tapes)
		readFile(t, filepath.Join(filepath.Dir(path), "store.json"), &r.store)
		all = append(all, r)
	}
	return all
}

func readFile(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func writeFile(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// generic is a JSON text as maps, lists and exact numbers.
func generic(t *testing.T, text []byte) any {
	t.Helper()
	v, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// level takes out of a value what differs each time it is asked for.
func level(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			switch n, isNumber := x.(json.Number); {
			case isNumber && measured()[k] && n != "0" && !strings.HasPrefix(n.String(), "-"):
				v[k] = json.Number("1000000000")
			case k == "id":
				v[k] = "clock"
			case k == "at":
				v[k] = "2026-01-01T00:00:00Z"
			default:
				v[k] = level(x)
			}
		}
	case []any:
		for i := range v {
			v[i] = level(v[i])
		}
	}
	return v
}

// meaning is what an agent is told by an answer, in words that no refactoring changes.
func meaning(t *testing.T, a lease.Answer) map[string]any {
	t.Helper()
	m := map[string]any{"verdict": a.Verdict, "epoch": a.Epoch, "seq": a.Seq, "hold": a.Hold, "store": a.Stamp.StoreID,
		"generation": a.Stamp.Generation, "reason": a.Reason, "holder": a.Holder, "free_in_ns": a.FreeIn, "move_to": a.MoveTo,
		"resume_ask": a.ResumeAsk, "paused": a.Paused, "barred": a.BarredBoot, "off": a.Off, "boot": a.Boot, "quiet_ns": a.Quiet,
		"elapsed_ns": a.Elapsed, "clock": a.Clock.ID != "", "in_ns": a.Clock.In, "out_ns": a.Clock.Out}
	if a.Echo != nil {
		m["echo"] = []any{a.Echo.StoreID, a.Echo.Generation}
	}
	waiters := []any{}
	for _, w := range a.Waiters {
		waiters = append(waiters, map[string]any{"node": w.Node, "ready": w.Ready, "last_resort": w.LastResort})
	}
	m["waiters"] = waiters
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return generic(t, text).(map[string]any)
}
