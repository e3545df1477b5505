package ntpaudit

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const rho = 1000.0

func measured(name string, low, high float64) Source {
	return Source{Name: name, Rate: Rate{low, high}, RateKnown: true, Enough: true}
}

// The names say what a server measures.
func fine(name string) Source   { return measured(name, -20, 20) }
func fast(name string) Source   { return measured(name, 4900, 5100) }
func slow(name string) Source   { return measured(name, -5100, -4900) }
func half(name string) Source   { return measured(name, 600, 700) }
func vague(name string) Source  { return measured(name, -100, 1600) }
func silent(name string) Source { return Source{Name: name, Problem: "no answer"} }
func early(name string) Source  { return Source{Name: name, Rate: Rate{4900, 5100}, RateKnown: true} }

func TestJudge(t *testing.T) {
	none := Source{}
	for _, c := range []struct {
		name     string
		servers  []Source
		arbiter  Source
		want     Level
		disagree bool
		words    string
	}{
		{"nothing configured, nothing measured", nil, none, Unknown, false, ""},
		{"nothing configured, the arbiter's clock agrees", nil, fine(""), Within, false, ""},
		{"nothing configured, off against the arbiter", nil, fast(""), Off, false, "against the arbiter's"},
		{"slow against the arbiter", nil, slow(""), Off, false, "-5100 to -4900 ppm"},
		{"half of it against the arbiter", nil, half(""), Warning, false, "+600 to +700 ppm"},
		{"not enough windows against the arbiter", nil, early(""), Unknown, false, ""},
		{"an interval that is not wholly above proves nothing", nil, vague(""), Within, false, ""},
		{"one server, and nothing of the arbiter", []Source{fast("a")}, none, Off, false, "a (+4900 to +5100 ppm)"},
		{"one server, and the arbiter agrees", []Source{fast("a")}, fast(""), Off, false, ""},
		{"one server against the arbiter", []Source{fast("a")}, fine(""), Warning, true, "one of the two is wrong"},
		{"one server against an arbiter that is not sure", []Source{fast("a")}, vague(""), Off, false, ""},
		{"one server that finds half", []Source{half("a")}, fine(""), Warning, false, "against NTP"},
		{"one silent server", []Source{silent("a")}, none, Unknown, false, ""},
		{"one server, not enough windows", []Source{early("a")}, none, Unknown, false, ""},
		{"one liar among three", []Source{fine("a"), fast("b"), fine("c")}, none, Within, true, "it is that server's clock"},
		{"one liar among three, one silent", []Source{fine("a"), fast("b"), silent("c")}, none, Warning, true, "not a majority"},
		{"one liar, two silent", []Source{silent("a"), fast("b"), silent("c")}, none, Warning, true, "not a majority"},
		{"two of three", []Source{fine("a"), fast("b"), fast("c")}, none, Off, false, "b (+4900 to +5100 ppm), c"},
		{"two of three, and the arbiter's clock is as wrong", []Source{fine("a"), fast("b"), fast("c")}, fine(""), Off, true, "as wrong as this one"},
		{"two of three in two directions", []Source{fine("a"), fast("b"), slow("c")}, none, Warning, true, "not a majority"},
		{"one of two", []Source{fine("a"), fast("b")}, none, Warning, true, "not a majority"},
		{"both of two", []Source{slow("a"), slow("b")}, none, Off, false, ""},
		{"half by two of three", []Source{half("a"), half("b"), silent("c")}, none, Warning, false, "+600 to +700 ppm against NTP"},
		{"half by one of three", []Source{half("a"), fine("b"), fine("c")}, none, Within, false, ""},
		{"vague servers", []Source{vague("a"), vague("b"), fine("c")}, none, Within, false, ""},
		{"good by NTP, off against the arbiter", []Source{fine("a"), fine("b"), fine("c")}, slow(""), Off, true, "look at the arbiter's clock"},
		{"a majority is silent", []Source{fine("a"), silent("b"), silent("c")}, none, Unknown, false, ""},
		{"a majority is silent, the arbiter is not", []Source{fine("a"), silent("b"), silent("c")}, fine(""), Within, false, ""},
	} {
		got := judge(c.servers, c.arbiter, rho)
		if got.Level != c.want || got.Disagree != c.disagree || !strings.Contains(got.Text, c.words) || c.words == "" && c.want == Within && got.Text != "" {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// Whatever fewer than half of the servers say, they cannot make this node stop competing, and cannot hide that its clock is off.
func TestJudgeNeedsAMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		honest := rapid.IntRange(1, 4).Draw(t, "honest")
		liars := rapid.IntRange(0, honest-1).Draw(t, "liars")
		if honest == 1 && liars == 0 {
			honest = 2
		}
		off := rapid.Bool().Draw(t, "off")
		var servers []Source
		for range honest {
			if off {
				servers = append(servers, fast("honest"))
			} else {
				servers = append(servers, fine("honest"))
			}
		}
		for range liars {
			low := rapid.Float64Range(-1e6, 1e6).Draw(t, "low")
			servers = append(servers, measured("liar", low, low+rapid.Float64Range(0, 1e6).Draw(t, "width")))
		}
		servers = rapid.Permutation(servers).Draw(t, "order")
		if got := judge(servers, Source{}, rho); (got.Level == Off) != off {
			t.Fatalf("%+v: %+v", servers, got)
		}
	})
}

func TestAgreed(t *testing.T) {
	for _, c := range []struct {
		name    string
		servers []Source
		want    Rate
		n       int
	}{
		{"nobody", []Source{silent("a")}, Rate{}, 0},
		{"one", []Source{fine("a")}, Rate{-20, 20}, 1},
		{"all overlap", []Source{measured("a", -10, 20), measured("b", 0, 30), measured("c", -5, 5)}, Rate{0, 5}, 3},
		{"a liar", []Source{fine("a"), fast("b"), measured("c", 10, 30)}, Rate{10, 20}, 2},
		{"they touch", []Source{measured("a", 0, 10), measured("b", 10, 20)}, Rate{10, 10}, 2},
	} {
		if r, n := agreed(c.servers); r != c.want || n != c.n {
			t.Errorf("%s: %v of %d", c.name, r, n)
		}
	}
}
