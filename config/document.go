package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is one parsed file. Its tables hand out typed values and write down every problem with its place; a
// decoder into structs stops at the first wrong type, and an administrator wants to see all of them.
type document struct {
	src      []byte
	places   map[string]unstable.Range // of every key and array element, by path
	parser   unstable.Parser
	problems []Problem
	asked    []string // paths of every key that was asked for: what the reference files must document
}

// table is a TOML table, present or not.
type table struct {
	doc     *document
	path    string
	present bool
	values  map[string]any
	known   []string
}

// parse reads src. With a syntax error the only problem is that one, and there is no table.
func parse(src []byte) (*document, *table) {
	d := &document{src: src, places: map[string]unstable.Range{}}
	root := map[string]any{}
	if line := tooDeep(src); line > 0 {
		d.problems = append(d.problems, Problem{Line: line, Column: 1, What: fmt.Sprintf("is nested more than %d deep", maxNesting)})
		return d, nil
	}
	if err := toml.Unmarshal(src, &root); err != nil {
		p := Problem{What: strings.TrimPrefix(err.Error(), "toml: ")}
		var de *toml.DecodeError
		if errors.As(err, &de) {
			p.Line, p.Column = de.Position()
			p.Excerpt = excerpt(src, p.Line, p.Column, 1)
		}
		d.problems = append(d.problems, p)
		return d, nil
	}
	d.locate()
	return d, &table{doc: d, present: true, values: root}
}

// maxNesting bounds brackets and dotted keys: the decoder needs the square of it in time. Ours are three deep.
const maxNesting = 500

// tooDeep returns the first line that is nested too deeply, 0 if there is none. It takes no notice of strings and
// comments, so it may refuse a text with hundreds of brackets in them.
func tooDeep(src []byte) int {
	depth, dots, line := 0, 0, 1
	for _, c := range src {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '.':
			dots++
		case '\n':
			dots, line = 0, line+1
		}
		if depth > maxNesting || dots > maxNesting {
			return line
		}
	}
	return 0
}

// locate remembers where each key stands. The text has been decoded before, so it is well formed.
func (d *document) locate() {
	count := map[string]int{} // elements of each array of tables
	prefix := ""
	d.parser.Reset(d.src)
	for d.parser.NextExpression() {
		switch e := d.parser.Expression(); e.Kind {
		case unstable.Table:
			prefix = d.locateKey("", e.Key(), count)
		case unstable.ArrayTable:
			name := d.locateKey("", e.Key(), nil)
			prefix = fmt.Sprintf("%s[%d]", name, count[name])
			d.places[prefix] = d.places[name]
			count[name]++
		case unstable.KeyValue:
			d.locateValue(d.locateKey(prefix, e.Key(), nil), e.Value())
		default: // comments
		}
	}
}

func (d *document) locateKey(prefix string, keys unstable.Iterator, count map[string]int) string {
	for keys.Next() {
		node := keys.Node()
		prefix = join(prefix, string(node.Data))
		d.places[prefix] = node.Raw
		if n := count[prefix]; n > 0 {
			prefix = fmt.Sprintf("%s[%d]", prefix, n-1)
		}
	}
	return prefix
}

func (d *document) locateValue(path string, v *unstable.Node) {
	children := v.Children()
	switch v.Kind {
	case unstable.Array:
		for i := 0; children.Next(); i++ {
			element := fmt.Sprintf("%s[%d]", path, i)
			d.places[element] = children.Node().Raw
			d.locateValue(element, children.Node())
		}
	case unstable.InlineTable:
		for children.Next() {
			d.locateValue(d.locateKey(path, children.Node().Key(), nil), children.Node().Value())
		}
	default: // scalars have no parts
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// bad writes a problem of the key at path down. A key that is absent is placed at the table that lacks it.
func (d *document) bad(path, what, do string) {
	p := Problem{Key: path, What: what, Do: do}
	at, ok := d.places[path]
	for up := path; !ok && strings.Contains(up, "."); {
		up = up[:strings.LastIndex(up, ".")]
		at, ok = d.places[up]
	}
	if ok && at.Length > 0 {
		start := d.parser.Shape(at).Start
		p.Line, p.Column = start.Line, start.Column
		p.Excerpt = excerpt(d.src, start.Line, start.Column, int(at.Length))
	}
	d.problems = append(d.problems, p)
}

func (t *table) bad(key, what, do string) { t.doc.bad(join(t.path, key), what, do) }

// take hands out the raw value of a key, which is known from then on.
func (t *table) take(key string) (any, bool) {
	t.known = append(t.known, key)
	t.doc.asked = append(t.doc.asked, join(t.path, key))
	v, ok := t.values[key]
	return v, ok
}

// text returns a string that is not empty, or fallback if the key is absent.
func (t *table) text(key, fallback string) string {
	v, ok := t.take(key)
	if !ok {
		return fallback
	}
	s, ok := v.(string)
	switch {
	case !ok:
		t.wrongType(key, "a string in quotes", v)
	case s == "":
		t.bad(key, "must not be empty", "write a value, or remove the line")
	default:
		return s
	}
	return fallback
}

// required is text for a key that must be there.
func (t *table) required(key, example string) string {
	if _, ok := t.values[key]; !ok && t.present {
		t.take(key)
		t.bad(key, "is missing", fmt.Sprintf("add %s = %q", key, example))
		return ""
	}
	return t.text(key, "")
}

func (t *table) flag(key string) bool {
	v, ok := t.take(key)
	if !ok {
		return false
	}
	b, ok := v.(bool)
	if !ok {
		t.wrongType(key, "true or false", v)
	}
	return b
}

func (t *table) integer(key string, fallback, lowest, highest int) int {
	v, ok := t.take(key)
	if !ok {
		return fallback
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		t.wrongType(key, "a whole number", v)
	case n < int64(lowest) || n > int64(highest):
		t.bad(key, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("use %d to %d", lowest, highest))
	default:
		return int(n)
	}
	return fallback
}

// maxDuration bounds every duration: far above any use, far below an overflow of the budget's sums.
const maxDuration = 30 * 24 * time.Hour

func (t *table) duration(key string, fallback time.Duration) time.Duration {
	return t.durationUpTo(key, fallback, maxDuration)
}

// durationUpTo is duration with a bound of its own.
func (t *table) durationUpTo(key string, fallback, longest time.Duration) time.Duration {
	v, ok := t.take(key)
	if !ok {
		return fallback
	}
	s, ok := v.(string)
	if !ok {
		t.wrongType(key, `a duration in quotes, such as "1.5s"`, v)
		return fallback
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		t.bad(key, fmt.Sprintf("%q is not a duration", s), `write a number with its unit: "750ms", "2s", "1m30s", "8h"; `+
			fmt.Sprintf(`at most %dh`, int(longest.Hours())))
	case d <= 0:
		t.bad(key, fmt.Sprintf("%q is not above 0", s), "a duration must be positive")
	case d > longest:
		t.bad(key, fmt.Sprintf("%q is too long", s), fmt.Sprintf("the longest duration is %dh", int(longest.Hours())))
	default:
		return d
	}
	return fallback
}

// list returns strings that are not empty. Elements of another type are problems and are left out.
func (t *table) list(key string) []string {
	v, ok := t.take(key)
	if !ok {
		return nil
	}
	elements, ok := v.([]any)
	if !ok {
		t.wrongType(key, `a list of strings, such as ["a", "b"]`, v)
		return nil
	}
	var out []string
	for i, e := range elements {
		place := fmt.Sprintf("%s[%d]", key, i)
		switch s, ok := e.(string); {
		case !ok:
			t.wrongType(place, "a string in quotes", e)
		case s == "":
			t.bad(place, "must not be empty", "")
		case slices.Contains(out, s):
			t.bad(place, fmt.Sprintf("%q is listed twice", s), "remove one")
		default:
			out = append(out, s)
		}
	}
	return out
}

// table returns a table that may be absent: then it has no values.
func (t *table) table(key string) *table {
	sub := &table{doc: t.doc, path: join(t.path, key)}
	v, ok := t.take(key)
	if !ok {
		return sub
	}
	if sub.values, sub.present = v.(map[string]any); !sub.present {
		t.wrongType(key, fmt.Sprintf("a table: write [%s] on a line of its own", sub.path), v)
	}
	return sub
}

func (t *table) tables(key string) []*table {
	v, ok := t.take(key)
	if !ok {
		return nil
	}
	elements, ok := v.([]any)
	if !ok {
		t.wrongType(key, fmt.Sprintf("a list of tables: write [[%s]] above each", key), v)
	}
	var out []*table
	for i, e := range elements {
		place := fmt.Sprintf("%s[%d]", key, i)
		values, ok := e.(map[string]any)
		if !ok {
			t.wrongType(place, fmt.Sprintf("a table: write [[%s]] above each", key), e)
			continue
		}
		out = append(out, &table{doc: t.doc, path: join(t.path, place), present: true, values: values})
	}
	return out
}

func (t *table) wrongType(key, want string, v any) {
	t.bad(key, "has the wrong type: "+kindOf(v), "write "+want)
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

// finish reports every key that nobody asked for. Call it after the last key was taken.
func (t *table) finish() {
	var unknown []string
	for key := range t.values {
		if !slices.Contains(t.known, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		do := "remove it; the keys here are " + strings.Join(t.known, ", ")
		if near := nearest(key, t.known); near != "" {
			do = fmt.Sprintf("did you mean %q?", near)
		}
		t.bad(key, "is not a key of this file", do)
	}
}

// nearest returns the known word that key is most likely a slip of, or "".
func nearest(key string, known []string) string {
	best, word := 3, ""
	for _, k := range known {
		if d := distance(key, k); d < best && d < len(k) {
			best, word = d, k
		}
	}
	return word
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// sorted orders problems by place; those without one come last.
func (d *document) sorted() []Problem {
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		switch {
		case a.Line == b.Line:
			return a.Column - b.Column
		case a.Line == 0:
			return 1
		case b.Line == 0:
			return -1
		}
		return a.Line - b.Line
	})
	return d.problems
}
