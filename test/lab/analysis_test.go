package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// ms builds instants in milliseconds.
func ms(n int) Monotonic { return Monotonic(n) * Monotonic(time.Millisecond) }

// beatsOf writes a beat every 10 ms in [from, to).
func beatsOf(instance string, from, to int) []Beat {
	var beats []Beat
	for t := from; t < to; t += 10 {
		beats = append(beats, Beat{ms(t), instance})
	}
	return beats
}

func TestAlive(t *testing.T) {
	for _, test := range []struct {
		name  string
		beats []Beat
		want  []Interval
	}{
		{"nothing", nil, nil},
		{"one beat lives for a period", beatsOf("a", 0, 10), []Interval{{ms(0), ms(10)}}},
		{"a silent process was still there", append(beatsOf("a", 0, 100), beatsOf("a", 5000, 5100)...),
			[]Interval{{ms(0), ms(5100)}}},
		{"a restart is two lives", append(beatsOf("a", 0, 100), beatsOf("b", 150, 200)...),
			[]Interval{{ms(0), ms(100)}, {ms(150), ms(200)}}},
		{"order does not matter", []Beat{{ms(90), "a"}, {ms(0), "a"}}, []Interval{{ms(0), ms(100)}}},
	} {
		t.Run(test.name, func(t *testing.T) { equal(t, Alive(test.beats), test.want) })
	}
}

func equal(t *testing.T, got, want []Interval) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestServed(t *testing.T) {
	short := append(beatsOf("a", 0, 100), beatsOf("b", 200, 300)...)
	equal(t, Served(short), []Interval{{ms(0), ms(300)}})
	long := append(beatsOf("b", 201, 301), beatsOf("a", 0, 100)...)
	equal(t, Served(long), []Interval{{ms(0), ms(100)}, {ms(201), ms(301)}})
	equal(t, Served(nil), nil)
}

func TestOverlap(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b []Interval
		want int
	}{
		{"one side only", []Interval{{0, ms(10)}}, nil, 0},
		{"touching is not overlapping", []Interval{{0, ms(10)}}, []Interval{{ms(10), ms(20)}}, 0},
		{"inside", []Interval{{0, ms(100)}}, []Interval{{ms(10), ms(20)}}, 10},
		{"several", []Interval{{0, ms(100)}, {ms(200), ms(300)}}, []Interval{{ms(50), ms(250)}}, 100},
		{"two copies on one side are not counted twice", []Interval{{0, ms(100)}, {ms(50), ms(150)}},
			[]Interval{{0, ms(200)}}, 150},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, got := range []time.Duration{Overlap(test.a, test.b), Overlap(test.b, test.a)} {
				if got != time.Duration(ms(test.want)) {
					t.Fatalf("got %v, want %d ms", got, test.want)
				}
			}
		})
	}
}

// A frozen canary is still a copy of the resource.
func TestSilenceDoesNotHideAnOverlap(t *testing.T) {
	frozen := append(beatsOf("a", 0, 100), beatsOf("a", 9000, 9010)...)
	other := beatsOf("b", 3000, 4000)
	if got := Overlap(Alive(frozen), Alive(other)); got != time.Second {
		t.Fatalf("got %v, want 1s", got)
	}
}

func TestGap(t *testing.T) {
	window := Interval{ms(0), ms(1000)}
	for _, test := range []struct {
		name   string
		served []Interval
		want   int
	}{
		{"nobody served", nil, 1000},
		{"always", []Interval{{ms(-50), ms(2000)}}, 0},
		{"in the middle", []Interval{{ms(0), ms(300)}, {ms(700), ms(1000)}}, 400},
		{"late start", []Interval{{ms(600), ms(1000)}}, 600},
		{"never came back", []Interval{{ms(0), ms(100)}}, 900},
		{"outside does not count", []Interval{{ms(-500), ms(-400)}, {ms(0), ms(1000)}, {ms(5000), ms(5010)}}, 0},
		{"both serve", []Interval{{ms(0), ms(800)}, {ms(100), ms(200)}, {ms(900), ms(1000)}}, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Gap(test.served, window); got != time.Duration(ms(test.want)) {
				t.Fatalf("got %v, want %d ms", got, test.want)
			}
		})
	}
}

func TestStall(t *testing.T) {
	window := Interval{ms(0), ms(10000)}
	stalled := append(beatsOf("o", 0, 5000), beatsOf("o", 5070, 10000)...) // silent for 80 ms from 4990 on
	for _, test := range []struct {
		name      string
		observed  []Beat
		intervals []Interval
		want      int
	}{
		{"steady", beatsOf("o", 0, 10000), []Interval{{ms(-5), ms(5000)}}, 10},
		{"near an end", stalled, []Interval{{ms(-5), ms(4200)}}, 80},
		{"near a start", stalled, []Interval{{ms(5900), ms(20000)}}, 80},
		{"far from both", stalled, []Interval{{ms(-5), ms(1000)}, {ms(8000), ms(20000)}}, 10},
		{"no transition, nothing to hide", stalled, []Interval{{ms(-5), ms(20000)}}, 0},
		{"an observer that died proves nothing", beatsOf("o", 0, 4000), []Interval{{ms(-5), ms(5000)}}, 6010},
		{"no observer at all", nil, []Interval{{ms(-5), ms(5000)}}, 10000},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Stall(test.observed, test.intervals, window); got != time.Duration(ms(test.want)) {
				t.Fatalf("got %v, want %d ms", got, test.want)
			}
		})
	}
}

func TestParseBeats(t *testing.T) {
	beats, err := parseBeats("100 boot/7\n200 boot/7\n300 bo", 150)
	if err != nil || len(beats) != 1 || beats[0] != (Beat{200, "boot/7"}) {
		t.Fatalf("got %v, %v: want the one whole line since 150", beats, err)
	}
	for _, broken := range []string{"x boot/7\n", "100\n", "\n"} {
		if _, err := parseBeats(broken, 0); err == nil {
			t.Errorf("%q was taken for a beat", broken)
		}
	}
}

// What is read from the end of a file is what reading all of it gives, however much is read at first.
func TestReadSince(t *testing.T) {
	path := filepath.Join(t.TempDir(), "beats")
	var all strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&all, "%d boot/%d\n", 5_000_000_000+int64(i)*int64(beatPeriod), i/500)
	}
	text := all.String() + "25000000000 bo" // still being written
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, chunk := range []int64{1, 40, 1000, 1 << 20} {
		for _, since := range []Monotonic{0, 4_999_999_999, 5_000_000_001, 14_123_000_000, 24_990_000_000, 24_990_000_001, 30_000_000_000} {
			want, err := parseBeats(text, since)
			if err != nil {
				t.Fatal(err)
			}
			part, err := readSince(path, since, chunk)
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseBeats(part, since)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("since %d, %d bytes first: %d beats, expected %d (%v)", since, chunk, len(got), len(want), err)
			}
			if since > 20_000_000_000 && chunk == 1000 && len(part) > len(text)/2 {
				t.Errorf("since %d: %d of %d bytes are read", since, len(part), len(text))
			}
		}
	}
}
