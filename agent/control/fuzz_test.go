package control

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
)

// FuzzAnswer: whatever is sent to the agent's socket, only root gets anything done, and only a known verb does.
func FuzzAnswer(f *testing.F) {
	for _, v := range []Verb{VerbStatus, VerbWhy, VerbPoke, VerbSwitchover, VerbRelease, VerbAcquire, VerbPause, VerbResume, VerbFence} {
		text, err := json.Marshal(Request{Verb: v, Lease: "pg", To: "node2", ForS: 600})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Add([]byte(`{"verb":"status","VERB":"release"}`), false)
	f.Add([]byte(`null`), true)
	f.Fuzz(func(t *testing.T, text []byte, root bool) {
		h := &fakeHandler{}
		out := (&Server{handler: h}).answer(t.Context(), text, root)
		if _, err := json.Marshal(out); err != nil {
			t.Errorf("the answer cannot be encoded: %v", err)
		}
		for _, r := range h.done {
			known := slices.Contains([]Verb{VerbPoke, VerbSwitchover, VerbRelease, VerbAcquire, VerbPause, VerbResume, VerbFence}, r.Verb)
			if !known || !root && r.Verb != VerbPoke {
				t.Errorf("%q by root %v has the agent do %+v", text, root, r)
			}
		}
		if out.Error != nil && len(h.done) > 0 {
			t.Errorf("%q is refused, and done", text)
		}
		if out.Error == nil && !bytes.Contains(text, []byte("{")) {
			t.Errorf("%q is answered %+v", text, out)
		}
	})
}
