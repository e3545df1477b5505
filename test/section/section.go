// Package section keeps one section of a Markdown file up to date: a heading "## NAME" and what stands below it, up to
// the next heading of that level. The programs below test/ write what they have measured with it. It knows nothing of
// what the sections say.
package section

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Write replaces the section called name in the file at path, or appends it. text is what stands below the heading.
func Write(path, name, text string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read what %s says until now: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(Replace(string(old), name, text)), 0o644); err != nil {
		return fmt.Errorf("write section %s: %w", name, err)
	}
	return nil
}

// Replace returns doc with text as its section called name.
func Replace(doc, name, text string) string {
	section := "## " + name + "\n\n" + strings.TrimSpace(text) + "\n"
	before, rest, found := cut(doc, "## "+name+"\n")
	if !found {
		if doc = strings.TrimRight(doc, "\n"); doc != "" {
			doc += "\n\n"
		}
		return doc + section
	}
	_, after, more := cut(rest, "## ")
	if more {
		return before + section + "\n## " + after
	}
	return before + section
}

// cut cuts doc at the first line that begins with mark.
func cut(doc, mark string) (before, after string, found bool) {
	if after, found = strings.CutPrefix(doc, mark); found {
		return "", after, true
	}
	before, after, found = strings.Cut(doc, "\n"+mark)
	return before + "\n", after, found
}
