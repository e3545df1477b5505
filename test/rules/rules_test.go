package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// numbered are the rules of the design that have numbers, and the guard's section.
func numbered() []string {
	var out []string
	for i := 1; i <= 13; i++ {
		out = append(out, fmt.Sprintf("4.3.%d", i))
	}
	for i := 1; i <= 9; i++ {
		out = append(out, fmt.Sprintf("4.4.%d", i))
	}
	return append(out, "5.2")
}

func TestEveryRuleIsInTheTable(t *testing.T) {
	have := map[string]int{}
	for _, r := range Table() {
		have[r.ID]++
	}
	for _, id := range numbered() {
		if have[id] == 0 {
			t.Errorf("rule %s is taken away nowhere", id)
		}
	}
}

// The code moves on: each replacement must still match, and leave Go behind.
func TestEveryEditMatchesOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Table() {
		if key := r.ID + " " + r.Without; r.Without == "" || seen[key] {
			t.Errorf("two entries are called %q", key)
		} else {
			seen[key] = true
		}
		texts, err := r.apply("../..")
		if err != nil {
			t.Error(err)
		}
		for path, text := range texts {
			old, err := os.ReadFile(path)
			if err != nil || string(old) == text {
				t.Errorf("rule %s (%s) changes nothing in %s (%v)", r.ID, r.Without, path, err)
			}
		}
	}
}

func TestApply(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.go"), []byte("package a\n\nvar x = 1\nvar y = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit Edit
		ok   bool
	}{
		{"once", Edit{"a.go", "x = 1", "x = 2"}, true},
		{"twice", Edit{"a.go", "= 1", "= 2"}, false},
		{"never", Edit{"a.go", "z", "y"}, false},
		{"no Go", Edit{"a.go", "x = 1", "x = ("}, false},
		{"no file", Edit{"b.go", "x", "y"}, false},
	} {
		if _, err := (Rule{ID: "1", Edits: []Edit{c.edit}}).apply(root); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, out string
		failed    bool
		want      string
		bad       bool
	}{
		{"green", "ok  \tx\t0.1s\n", false, "", false},
		{"red", "--- FAIL: TestA (0.0s)\n    --- FAIL: TestA/b (0.0s)\nFAIL\tx\t0.1s\n", true, "TestA/b", false},
		{"panic", "--- FAIL: TestA (0.0s)\npanic: lease: x [recovered]\nFAIL\tx\t0.1s\n", true, "TestA", false},
		{"does not compile", "FAIL\tx [build failed]\n", true, "", true},
		{"no test failed", "panic: x\nFAIL\tx\t0.1s\n", true, "", true},
		{"timed out", "panic: test timed out after 1m\n\trunning tests:\n\t\tTestA (1m)\nFAIL\tx\t60s\n", true, "", true},
	} {
		got, err := judge([]byte(c.out), c.failed, false)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestJudgeOfARuleAgainstHanging(t *testing.T) {
	out := "panic: test timed out after 2m0s\n\trunning tests:\n\t\tTestA (2m0s)\nFAIL\tx\t60s\n"
	if got, err := judge([]byte(out), true, true); got != "TestA (does not end)" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestReport(t *testing.T) {
	red := Result{Rule: Rule{ID: "4.3.1", Without: "a rule"}, Test: "lease: TestA"}
	green := Result{Rule: Rule{ID: "4.3.2", Without: "another rule"}}
	if !red.Red() || green.Red() || Survivors([]Result{red, green}) != 1 {
		t.Error("a rule without a red test must survive")
	}
	if s := Markdown([]Result{red, green}, 0); !strings.Contains(s, "| 4.3.1 | a rule | lease: TestA |") || strings.Contains(s, "%!") {
		t.Error(s)
	}
}
