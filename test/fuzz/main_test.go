package main

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	const out = "ok  \tm/a\t0.1s\nFuzzX\nFuzzY\nok  \tm/b/c\t0.2s\n?   \tm/d\t[no test files]\nFuzzZ\nok  \tm\t(cached)\n"
	all, err := parse(out, "m", "")
	if want := []target{{"./b/c", "FuzzX"}, {"./b/c", "FuzzY"}, {".", "FuzzZ"}}; err != nil || !slices.Equal(all, want) {
		t.Errorf("got %v, %v; want %v", all, err, want)
	}
	if some, err := parse(out, "m", "Y"); err != nil || len(some) != 1 {
		t.Errorf("got %v, %v", some, err)
	}
	for _, bad := range []string{"", "ok m/a 0.1s\n", "FuzzX\nFAIL m/a\n"} {
		if all, err := parse(bad, "m", ""); err == nil {
			t.Errorf("%q: %v", bad, all)
		}
	}
}
