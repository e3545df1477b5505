package section_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/leasedog/leasedog/test/section"
)

func TestReplace(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"empty", "", "## Models\n\nnew\n"},
		{"append", "# Title\n\ntext\n", "# Title\n\ntext\n\n## Models\n\nnew\n"},
		{"only", "## Models\n\nold\n", "## Models\n\nnew\n"},
		{"middle", "# Title\n\n## A\n\na\n\n## Models\n\nold\n### part\nold\n\n## B\n\nb\n",
			"# Title\n\n## A\n\na\n\n## Models\n\nnew\n\n## B\n\nb\n"},
		{"longer name", "## Models of cars\n\nkept\n", "## Models of cars\n\nkept\n\n## Models\n\nnew\n"},
	} {
		if got := section.Replace(c.doc, "Models", "\nnew\n\n"); got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
		}
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	for _, text := range []string{"one", "two"} {
		if err := section.Write(path, "Models", text); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "## Models\n\ntwo\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := section.Write(filepath.Join(path, "not a folder"), "Models", "x"); err == nil {
		t.Error("a path that cannot be written is no error")
	}
}
