package rules

import (
	"encoding/json"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Rule is one way to take one rule away.
type Rule struct {
	ID       string // of the design
	Without  string // what is taken away
	Packages []string
	Hangs    bool // without it a test may never end
	Edits    []Edit
}

// Edit replaces Old, which stands exactly once in File (from the root of the project), by New.
type Edit struct{ File, Old, New string }

// usual are the packages whose tests know the protocol, the quickest first.
func usual() []string { return []string{"lease", "guard", "sim"} }

func (r Rule) packages() []string {
	if len(r.Packages) > 0 {
		return r.Packages
	}
	return usual()
}

// Table is every rule, in the order of the design.
func Table() []Rule {
	return slices.Concat(arbiterRules(), recoveryRules(), nodeRules(), clockRules(), guardRules())
}

// apply returns the changed text of each file of r.
func (r Rule) apply(root string) (map[string]string, error) {
	texts := map[string]string{}
	for _, e := range r.Edits {
		path := filepath.Join(root, e.File)
		if texts[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("read what rule %s changes: %w", r.ID, err)
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], e.Old); n != 1 {
			return nil, fmt.Errorf("rule %s (%s): %d matches of %q in %s: the code has changed, and the table has to follow it",
				r.ID, r.Without, n, e.Old, e.File)
		}
		texts[path] = strings.Replace(texts[path], e.Old, e.New, 1)
	}
	for path, text := range texts {
		if _, err := format.Source([]byte(text)); err != nil {
			return nil, fmt.Errorf("rule %s (%s): %s is no Go any more: %w", r.ID, r.Without, path, err)
		}
	}
	return texts, nil
}

// overlay writes the changed files and the list of them below dir, and returns the list's path.
func (r Rule) overlay(root, dir string) (string, error) {
	texts, err := r.apply(root)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, text := range texts {
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(path)))
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("write rule %s: %w", r.ID, err)
		}
		replace[path] = to
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("write rule %s: %w", r.ID, err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, list, 0o644); err != nil {
		return "", fmt.Errorf("write rule %s: %w", r.ID, err)
	}
	return path, nil
}
