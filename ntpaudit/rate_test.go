package ntpaudit

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/leasedog/leasedog/lease"
)

const ms = time.Millisecond

// clocks is a simulated pair: true time, and two clocks that run at constant rates off it, in ppm.
type clocks struct{ here, there float64 }

func (c clocks) local(at time.Duration) lease.Instant {
	return lease.Instant(time.Hour) + lease.Instant(float64(at)*(1+c.here/million))
}

func (c clocks) remote(at time.Duration) time.Duration {
	return 2*time.Hour + time.Duration(float64(at)*(1+c.there/million))
}

// ask is an exchange that begins at a true time and takes out, kept and back; the clock that is asked is wrong by lie.
func (c clocks) ask(at, out, kept, back, lie, bound time.Duration) Sample {
	return Sample{Sent: c.local(at), Received: c.local(at + out + kept + back), In: c.remote(at+out) + lie,
		Out: c.remote(at+out+kept) + lie, Bound: bound}
}

// rate is how fast the one runs against the other.
func (c clocks) rate() float64 { return ((1+c.here/million)/(1+c.there/million) - 1) * million }

// Whatever the network does, and however wrong the other clock is within its own bound, the true rate lies in the interval.
func TestBetweenIsABound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(-80_000, 80_000)
		c := clocks{rate.Draw(t, "here"), rate.Draw(t, "there")}
		delay := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(6*time.Second)).Draw(t, name))
		}
		exchange := func(name string, at time.Duration) Sample {
			bound := delay(name + " bound")
			lie := time.Duration(rapid.Int64Range(-int64(bound), int64(bound)).Draw(t, name+" lie"))
			return c.ask(at, delay(name+" out"), delay(name+" kept"), delay(name+" back"), lie, bound)
		}
		a := exchange("a", 0)
		b := exchange("b", time.Duration(rapid.Int64Range(int64(19*time.Second), int64(time.Hour)).Draw(t, "gap")))
		r, ok := between(a, b)
		if !ok {
			t.Fatalf("%+v, %+v: the other clock went forward and is said to have gone back", a, b)
		}
		const rounding = 0.01 // nanoseconds and floats
		if want := c.rate(); r.Low > want+rounding || r.High < want-rounding {
			t.Fatalf("the rate is %v, and not in %v", want, r)
		}
	})
}

func TestBetweenIsNarrowWhereTheNetworkIsGood(t *testing.T) {
	c := clocks{here: 1500, there: -500}
	r, ok := between(c.ask(0, ms, 0, ms, 0, 0), c.ask(100*time.Second, ms, 5*time.Second, ms, 0, 0))
	if !ok || r.High-r.Low > 50 || math.Abs(r.Low-c.rate()) > 50 {
		t.Fatalf("%v, true is %v", r, c.rate())
	}
}

func TestSampleCheck(t *testing.T) {
	good := Sample{Sent: 1, Received: 1 + lease.Instant(10*ms), In: 5, Out: 5 + ms, Bound: ms}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Sample){
		"answered before it was asked":  func(s *Sample) { s.Received = 0 },
		"never sent":                    func(s *Sample) { s.Sent = 0 },
		"goes back while it answers":    func(s *Sample) { s.Out = s.In - 1 },
		"before its beginning":          func(s *Sample) { s.In = -1 },
		"took longer than the exchange": func(s *Sample) { s.Out = s.In + time.Hour },
		"an exchange of a day":          func(s *Sample) { s.Received = lease.Instant(24 * time.Hour) },
		"a bound below 0":               func(s *Sample) { s.Bound = -1 },
		"a bound of a minute":           func(s *Sample) { s.Bound = time.Minute },
		"an overflow":                   func(s *Sample) { s.In, s.Out = 0, math.MaxInt64 },
	} {
		s := good
		change(&s)
		if s.check() == nil {
			t.Errorf("%s: %+v is taken", name, s)
		}
	}
}

// feed gives a series an exchange each step and returns the newest rate.
func feed(s *series, c clocks, from, to, step time.Duration, lie func(at time.Duration) time.Duration) (Rate, bool) {
	for at := from; at < to; at += step {
		l := time.Duration(0)
		if lie != nil {
			l = lie(at)
		}
		s.add(c.ask(at, ms, 0, ms, l, 5*ms), step/2, 1000)
	}
	r, _, enough := s.rate()
	return r, enough
}

func TestSeriesFindsARate(t *testing.T) {
	for _, rate := range []float64{0, 400, -900, 1500, -5000, 60_000} {
		c := clocks{here: rate}
		var s series
		r, enough := feed(&s, c, 0, 20*time.Minute, 64*time.Second, nil)
		if !enough || r.Low > c.rate() || r.High < c.rate() {
			t.Errorf("%v ppm: %v, enough: %v", rate, r, enough)
		}
		if r.beyond(1000, 1) != (rate > 1100) || r.beyond(1000, -1) != (rate < -1100) {
			t.Errorf("%v ppm is %v", rate, r)
		}
	}
}

// A step of the other clock makes one window wrong. That is no rate.
func TestSeriesTakesNoStepForARate(t *testing.T) {
	for name, size := range map[string]time.Duration{"forward": time.Second, "back": -time.Second, "an hour": time.Hour, "an hour back": -time.Hour} {
		for at := 5 * time.Minute; at < 7*time.Minute; at += 7 * time.Second {
			var s series
			step := func(now time.Duration) time.Duration {
				if now >= at {
					return size
				}
				return 0
			}
			for now := time.Duration(0); now < 20*time.Minute; now += 64 * time.Second {
				r, enough := feed(&s, clocks{}, now, now+1, 64*time.Second, step)
				if enough && (r.beyond(1000, 1) || r.beyond(1000, -1)) {
					t.Errorf("a step %s at %v is a rate of %v", name, at, r)
				}
			}
			if r, enough := feed(&s, clocks{}, 20*time.Minute, 40*time.Minute, 64*time.Second, step); !enough || !r.inside(1000) {
				t.Errorf("long after a step %s: %v", name, r)
			}
			if (size == -time.Hour) != (s.steps > 0) {
				t.Errorf("a step %s: it was found %d times to have gone back", name, s.steps)
			}
		}
	}
}

// Nor are two steps in one direction, soon after each other.
func TestSeriesTakesNoTwoStepsForARate(t *testing.T) {
	var s series
	for now := time.Duration(0); now < 20*time.Minute; now += 64 * time.Second {
		r, enough := feed(&s, clocks{}, now, now+1, 64*time.Second, func(at time.Duration) time.Duration {
			return min(2, max(0, at-5*time.Minute)/(70*time.Second)) * time.Second
		})
		if enough && (r.beyond(1000, 1) || r.beyond(1000, -1)) {
			t.Errorf("at %v two steps are a rate of %v", now, r)
		}
	}
}

// A clock that is always wrong, but never by the same rate, is found all the same.
func TestSeriesFindsARateThatChanges(t *testing.T) {
	var s series
	r, enough := feed(&s, clocks{}, 0, 20*time.Minute, 64*time.Second, func(at time.Duration) time.Duration {
		return -at*2/1000 - time.Duration(float64(80*ms)*math.Sin(at.Seconds()/150)) // loses 1.5 to 2.5 ms in a second
	})
	if !enough || !r.beyond(1000, 1) {
		t.Fatalf("%v, enough: %v", r, enough)
	}
}

// One bad exchange at the beginning of a window does not keep it open for an hour.
func TestSeriesGivesABadBeginningUp(t *testing.T) {
	var s series
	c := clocks{}
	s.add(c.ask(0, 2*time.Second, 0, 2*time.Second, 0, 0), 0, 1000)
	feed(&s, c, 10*time.Second, 3*time.Minute, 10*time.Second, nil)
	if _, _, enough := s.rate(); !enough {
		t.Fatalf("%d windows after 3 minutes", len(s.windows))
	}
}

// What is only bad is no verdict: a server that says it may be off by 10 s.
func TestSeriesIsPatientWithACoarseClock(t *testing.T) {
	var s series
	for at := time.Duration(0); at < time.Hour; at += 64 * time.Second {
		s.add(clocks{here: 1500}.ask(at, ms, 0, ms, 0, 10*time.Second), time.Second, 1000)
	}
	if len(s.windows) != 0 {
		t.Fatalf("%v", s.windows)
	}
}

func TestSeriesCut(t *testing.T) {
	var s series
	c := clocks{}
	s.add(c.ask(0, ms, 0, ms, 0, 0), 0, 1000)
	s.cut(c.local(time.Minute))
	s.add(c.ask(59*time.Second, ms, 0, ms, 0, 0), 0, 1000)
	if s.open {
		t.Fatal("an exchange that began before the cut was taken")
	}
	s.add(c.ask(61*time.Second, ms, 0, ms, 0, 0), 0, 1000)
	s.add(c.ask(61*time.Second, 2*ms, 0, ms, 0, 0), 0, 1000) // overlaps
	if !s.open || s.begin.Sent != c.local(61*time.Second) || len(s.windows) != 0 {
		t.Fatalf("%+v", s)
	}
	if s.cut(c.local(time.Second)); s.since != c.local(time.Minute) {
		t.Fatal("a cut goes back")
	}
}

func TestRateString(t *testing.T) {
	for want, r := range map[string]Rate{"-3 to +12 ppm": {-3, 12}, "+5000 ppm": {5000, 5000.4}, "at least +900 ppm": {900, unbounded},
		"more than twice as fast": {unbounded, unbounded}} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestBetweenOfAClockThatIsSetWhileItAnswers(t *testing.T) {
	x := Sample{Sent: 1, Received: 1 + lease.Instant(300*time.Microsecond), In: 0, Out: ms}
	y := Sample{Sent: x.Received + 1, Received: x.Received + 2, In: x.Out + 1, Out: x.Out + 1}
	if r, ok := between(x, y); !ok || r.Low > r.High || r.Low > -600_000 || r.High < -1 {
		t.Errorf("%v, %v", r, ok)
	}
}
