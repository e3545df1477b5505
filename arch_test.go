// Package leasedog_test holds the rules of the layout that a compiler does not know. Each says why it is there.
package leasedog_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/leasedog/leasedog"

// file is one parsed source file.
type file struct {
	path    string // slashes, from the root
	test    bool
	ast     *ast.File
	imports []string
}

// tree is every Go file outside test/lab and test/vm, by folder.
type tree struct {
	set     *token.FileSet
	folders map[string][]file
}

func parseTree(t *testing.T) tree {
	t.Helper()
	out := tree{set: token.NewFileSet(), folders: map[string][]file{}}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"),
			d.IsDir() && p == filepath.Join("test", "lab"), // these may import anything; nothing may import them
			d.IsDir() && p == filepath.Join("test", "vm"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(out.set, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(p), test: strings.HasSuffix(p, "_test.go"), ast: parsed}
		for _, i := range parsed.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, name)
		}
		dir := path.Dir(f.path)
		out.folders[dir] = append(out.folders[dir], f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.folders["lease"]) == 0 {
		t.Fatal("the test does not run at the root of the project")
	}
	return out
}

// production calls f for every file that is not a test.
func (tr tree) production(f func(dir string, f file)) {
	for dir, files := range tr.folders {
		for _, one := range files {
			if !one.test {
				f(dir, one)
			}
		}
	}
}

// rule says what of ours the packages in a folder may import. The first rule that matches counts.
type rule struct {
	dir    string // a folder; with /... everything below it too
	may    string // folders, separated by spaces; with /... everything below
	reason string
}

func rules() []rule {
	return []rule{
		{"lease", "", "the protocol is pure: nothing that could fail, wait or read a clock comes in"},
		{"arbiter/api", "", "the wire is read by both sides and knows neither"},
		{"sim/...", "lease sim/...", "the simulator proves the protocol and nothing around it"},
		{"boottime", "lease", "a clock for Instants"},
		{"ntpaudit", "lease", "it measures; wall clocks never decide about a lease"},
		{"config", "lease", "configuration is text and the budget; it asks no machine"},
		{"pki", "lease", "identities only"},
		{"command", "", "runs programs, whichever"},
		{"systemd", "", "talks to systemd, for anybody"},
		{"pcmk", "command", "a wrapper without policy must not know what a lease is for"},
		{"arbiterclient", "lease arbiter/api pki", "a node must not be able to link the arbiter's store"},
		{"arbiter/store/...", "lease arbiter/store arbiter/api", "an engine keeps records and decides nothing"},
		{"arbiter/...", "lease arbiter/... boottime pki config", "the arbiter knows no node's tools: it must run anywhere"},
		{"guard/guardapi", "lease", "messages of the guard"},
		{"guard", "lease guard/guardapi systemd boottime agent/cause", "the guard must be small enough to be right: no " +
			"network, no Pacemaker, no configuration"},
		{"agent/control", "lease", "messages of the agent"},
		{"agent/cause", "", "the guard links it"},
		{"agent/hooks", "command lease", "runs the site's programs"},
		{"agent/drbd", "command lease agent/control", "runs drbdadm; asks the agent"},
		{"agent/doctor", "command lease config pcmk systemd boottime guard/guardapi agent/control", "checks as data"},
		{"agent/...", "lease arbiterclient arbiter/api guard/guardapi pcmk systemd config boottime ntpaudit command agent/...",
			"the agent never links the guard itself or the arbiter: they are other processes"},
		{"cmd/leasedog", "lease sim agent/... guard/... arbiterclient arbiter/api pcmk systemd config boottime ntpaudit pki command",
			"the node's binary has no arbiter in it"},
		{"cmd/leasedog-arbiter", "lease arbiter/... config boottime pki systemd", "the arbiter's binary has no agent, guard or " +
			"Pacemaker in it"},
		{"test/...", "/...", "tests look at everything"},
		{".", "", "the root has no code"},
	}
}

func matches(pattern, dir string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return base == "" || dir == base || strings.HasPrefix(dir, base+"/")
	}
	return pattern == dir
}

func ruleFor(dir string) (rule, bool) {
	for _, r := range rules() {
		if matches(r.dir, dir) {
			return r, true
		}
	}
	return rule{}, false
}

// ours returns the folder of an import of this module.
func ours(name string) (string, bool) { return strings.CutPrefix(name, module+"/") }

func TestImports(t *testing.T) {
	tr := parseTree(t)
	tr.production(func(dir string, f file) {
		r, ok := ruleFor(dir)
		if !ok {
			t.Errorf("%s: no rule says what package %s may import: add one to arch_test.go, with its reason", f.path, dir)
			return
		}
		for _, name := range f.imports {
			to, ok := ours(name)
			if ok && !slices.ContainsFunc(strings.Fields(r.may), func(p string) bool { return matches(p, to) }) {
				t.Errorf("%s imports %s: %s", f.path, to, r.reason)
			}
		}
	})
}

func TestRestrictedImports(t *testing.T) {
	tr := parseTree(t)
	for _, r := range []struct{ name, may, reason string }{
		{"golang.org/x/sys", "boottime guard systemd command agent/control test/...", "system calls stay where they are explained"},
		{"os/exec", "command test/...", "a program is run with a deadline, an absolute path and a clean environment, or not at all"},
		{"plugin", "", "code is known when it is built"},
		{"unsafe", "guard test/...", "only the kill timer and the watchdog need it"},
		{"github.com/sirupsen/logrus", "agent arbiter systemd cmd/...", "a package that does not decide does not log"},
		{"log", "", "there is one logger"},
		{"log/slog", "", "there is one logger"},
		{"go.etcd.io/bbolt", "arbiter/store/...", "one engine, one room"},
		{"github.com/spf13/cobra", "cmd/...", "verbs belong to the commands"},
		{"github.com/beevik/ntp", "ntpaudit", "nobody else may ask for the wall clock of others"},
		{"github.com/pelletier/go-toml", "config", "one reader of configuration"},
		{module + "/test", "test/...", "production never depends on the laboratory"},
		{module + "/sim", "sim/... cmd/leasedog", "production never depends on the simulator; one verb shows it"},
	} {
		tr.production(func(dir string, f file) {
			for _, name := range f.imports {
				hit := name == r.name || strings.HasPrefix(name, r.name+"/")
				if hit && !slices.ContainsFunc(strings.Fields(r.may), func(p string) bool { return matches(p, dir) }) {
					t.Errorf("%s imports %s: %s", f.path, name, r.reason)
				}
			}
		})
	}
}

// What a node runs must not be able to open an arbiter's store, whoever imports whom.
func TestNodeDoesNotLinkTheStore(t *testing.T) {
	tr := parseTree(t)
	next := map[string][]string{}
	tr.production(func(dir string, f file) {
		for _, name := range f.imports {
			if to, ok := ours(name); ok {
				next[dir] = append(next[dir], to)
			}
		}
	})
	for binary, banned := range map[string][]string{
		"cmd/leasedog":         {"arbiter/store", "arbiter/store/...", "arbiter"},
		"cmd/leasedog-arbiter": {"agent/...", "guard/...", "pcmk", "command"},
	} {
		seen, queue := map[string]bool{}, []string{binary}
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			for _, to := range next[at] {
				if seen[to] {
					continue
				}
				seen[to] = true
				queue = append(queue, to)
				if slices.ContainsFunc(banned, func(p string) bool { return matches(p, to) }) {
					t.Errorf("%s links %s (through %s)", binary, to, at)
				}
			}
		}
	}
}

func isPure(dir string) bool { return dir == "lease" || matches("sim/...", dir) }

// The protocol is the same in production, in the simulator and under model tests only if nothing but its arguments
// reaches it.
func TestPurePackages(t *testing.T) {
	tr := parseTree(t)
	banned := map[string][]string{
		"time": {"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"},
		"rand": {"Int", "IntN", "Intn", "Int63", "Int64", "Int64N", "Uint32", "Uint64", "Uint64N", "N", "Float64", "Perm", "Shuffle",
			"Seed", "Read", "ExpFloat64", "NormFloat64"},
	}
	imports := []string{"os", "net", "sync", "log", "syscall", "context", "io/fs", "crypto/rand", "net/http", "runtime"}
	tr.production(func(dir string, f file) {
		if !isPure(dir) {
			return
		}
		for _, name := range f.imports {
			if slices.Contains(imports, name) || dir == "lease" && strings.HasPrefix(name, "math/rand") {
				t.Errorf("%s imports %s: a pure package has no I/O, no concurrency and no randomness", f.path, name)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: a pure package has no goroutine", tr.set.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && slices.Contains(banned[x.Name], n.Sel.Name) {
					t.Errorf("%s: %s.%s: a pure package gets the time and every number as an argument",
						tr.set.Position(n.Pos()), x.Name, n.Sel.Name)
				}
			}
			return true
		})
	})
}

// Durations of the protocol are derived in one place, where the inequality is. Elsewhere in lease one may only stand as a
// named constant, or round a number for a person.
func TestDurationsStandInTheBudget(t *testing.T) {
	tr := parseTree(t)
	units := []string{"Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}
	for _, f := range tr.folders["lease"] {
		if f.test || f.path == "lease/budget.go" || f.path == "lease/protocol.go" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GenDecl:
				return n.Tok != token.CONST
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Round" {
					return false
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(units, n.Sel.Name) {
					t.Errorf("%s: time.%s: write durations of the protocol in lease/budget.go or lease/protocol.go, or give "+
						"it a name and a reason", tr.set.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestNames(t *testing.T) {
	tr := parseTree(t)
	for dir, files := range tr.folders {
		for _, word := range []string{"util", "utils", "common", "helpers", "helper", "types", "internal", "misc"} {
			if slices.Contains(strings.Split(dir, "/"), word) || files[0].ast.Name.Name == word {
				t.Errorf("%s: %q says nothing about what is inside", dir, word)
			}
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	tr := parseTree(t)
	for dir, files := range tr.folders {
		said, code := false, false
		for _, f := range files {
			code = code || !f.test
			said = said || !f.test && f.ast.Doc != nil && len(f.ast.Doc.Text()) > 80
		}
		if code && !said {
			t.Errorf("%s: no package comment says what it does and what it does not do", dir)
		}
	}
}

// State that everybody can reach has no owner. Sentinel errors, compiled patterns, embedded files and assertions that a
// type satisfies an interface are values, not state; main.version can be set by the linker only in a variable.
func TestNoPackageState(t *testing.T) {
	tr := parseTree(t)
	tr.production(func(_ string, f file) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init runs before anybody can say what it needs", tr.set.Position(d.Pos()))
			}
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR || isEmbedded(g) {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				if v.Names[0].Name != "_" && !isConstantValue(v) && !(f.ast.Name.Name == "main" && v.Names[0].Name == "version") {
					t.Errorf("%s: package variable %s", tr.set.Position(v.Pos()), v.Names[0].Name)
				}
			}
		}
	})
}

// isEmbedded looks at the comments themselves: their Text leaves directives out.
func isEmbedded(g *ast.GenDecl) bool {
	return g.Doc != nil && slices.ContainsFunc(g.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

func isConstantValue(v *ast.ValueSpec) bool {
	for _, value := range v.Values {
		call, ok := value.(*ast.CallExpr)
		if !ok {
			return false
		}
		s, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		x, ok := s.X.(*ast.Ident)
		if !ok || !slices.Contains([]string{"errors.New", "fmt.Errorf", "regexp.MustCompile"}, x.Name+"."+s.Sel.Name) {
			return false
		}
	}
	return len(v.Values) > 0
}

// What is packaged is what "make install" lists: a unit that is not in the list is never installed.
func TestInstallList(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(makefile), "define FILES\n")
	list, _, ok := strings.Cut(list, "endef")
	if !ok {
		t.Fatal("the Makefile has no list of files")
	}
	listed := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			t.Fatalf("%q is not PACKAGE FOLDER MODE FILE", line)
		}
		pkg, format, _ := strings.Cut(fields[0], ":")
		if pkg != "leasedog" && pkg != "leasedog-arbiter" || format != "" && format != "deb" && format != "rpm" {
			t.Errorf("%q: there are the packages leasedog and leasedog-arbiter, as :deb or as :rpm", line)
		}
		file := fields[3]
		// A manual page is made from its source, programs and completions from code.
		if page, ok := strings.CutPrefix(file, "$(MADE)/man/"); ok {
			file = "packaging/man/" + strings.TrimSuffix(page, ".gz") + ".md"
		}
		listed[file] = true
		if strings.HasPrefix(file, "$(BIN)/") || strings.HasPrefix(file, "$(MADE)/") {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("the Makefile lists a file that is missing: %v", err)
		}
	}
	for _, program := range []string{"leasedog", "leasedog-arbiter"} {
		for _, file := range []string{"$(BIN)/" + program, "$(MADE)/bash/" + program, "$(MADE)/zsh/_" + program, "$(MADE)/fish/" + program + ".fish",
			"$(MADE)/third-party-" + program} {
			if !listed[file] {
				t.Errorf("%s is not in the Makefile's list of files", file)
			}
		}
	}
	rooms, err := os.ReadDir("packaging")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		// How packages are made and looked at is not in them.
		if !room.IsDir() || room.Name() == "nfpm" || room.Name() == "scripts" {
			continue
		}
		entries, err := os.ReadDir("packaging/" + room.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if file := "packaging/" + room.Name() + "/" + e.Name(); !listed[file] && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s is not in the Makefile's list of files", file)
			}
		}
	}
}
