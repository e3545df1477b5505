package ntpaudit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// world is a simulated network of clocks. Its time is the bubble's.
type world struct {
	mu     sync.Mutex // the maps' and lost's
	began  time.Time
	here   float64 // rate of this machine's clock, in ppm
	off    time.Duration
	lost   time.Duration // while this machine stood still
	rates  map[string]float64
	broken map[string]error
	asked  map[string]int
}

func (w *world) at() time.Duration { return time.Since(w.began) }

// set changes the world.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) now() lease.Instant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.local()
}

func (w *world) local() lease.Instant { return clocks{here: w.here}.local(w.at()).Add(-w.lost) }

func (w *world) query(_ context.Context, server string) (Sample, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[server]++
	if err := w.broken[server]; err != nil {
		return Sample{}, err
	}
	c := clocks{here: w.here, there: w.rates[server]}
	x := c.ask(w.at(), ms, 0, ms, 0, 2*ms)
	x.In, x.Out = x.In+sinceEpoch(w.began), x.Out+sinceEpoch(w.began)
	x.Sent, x.Received = x.Sent.Add(-w.lost), x.Received.Add(-w.lost)
	return x, nil
}

// play runs an audit of three servers for a while, with do at half of it.
func play(t *testing.T, w *world, length time.Duration, do func(*Audit)) (v View) {
	synctest.Test(t, func(t *testing.T) {
		w.began, w.asked = time.Now(), map[string]int{}
		a := New(Options{Servers: []string{"a", "b", "c"}, Every: 64 * time.Second, Drift: func() int { return 1000 }, Now: w.now,
			Wall: func() time.Time { return time.Now().Add(2*time.Hour + w.off) }, Query: w.query})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { a.Work(ctx); close(done) }()
		time.Sleep(length / 2)
		if do != nil {
			do(a)
		}
		time.Sleep(length / 2)
		v = a.View()
		cancel()
		<-done
	})
	return v
}

func TestAudit(t *testing.T) {
	for name, c := range map[string]struct {
		w    *world
		want Level
	}{
		"all is well":                  {&world{here: 40, rates: map[string]float64{"a": 3, "b": -7, "c": 0}}, Within},
		"this clock is fast":           {&world{here: 3000}, Off},
		"this clock is slow":           {&world{here: -3000}, Off},
		"this clock is half off":       {&world{here: 800}, Warning},
		"one lies":                     {&world{rates: map[string]float64{"b": 50_000}}, Within},
		"two lie":                      {&world{rates: map[string]float64{"b": 50_000, "c": 40_000}}, Off},
		"nobody answers":               {&world{broken: map[string]error{"a": errKiss, "b": errors.New("no answer"), "c": errors.New("no answer")}}, Unknown},
		"one answers, and says it all": {&world{here: 3000, broken: map[string]error{"b": errors.New("no answer"), "c": errKiss}}, Warning},
	} {
		t.Run(name, func(t *testing.T) {
			v := play(t, c.w, 20*time.Minute, nil)
			if v.Level != c.want || v.Drift != 1000 || len(v.Servers) != 3 {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestAuditOffset(t *testing.T) {
	w := world{off: -3 * time.Minute}
	v := play(t, &w, 5*time.Minute, nil)
	for _, s := range v.Servers {
		if (s.Offset+3*time.Minute).Abs() > s.OffsetDoubt || s.OffsetDoubt > 10*ms || s.AnsweredAt == 0 {
			t.Errorf("%+v", s)
		}
	}
	if off, ok := v.WallOff(time.Minute); !ok || (off+3*time.Minute).Abs() > 10*ms {
		t.Errorf("%v, %v", off, ok)
	}
	v.Servers[0].Offset, v.Servers[1].Offset = 0, 3*time.Minute
	if off, ok := v.WallOff(time.Minute); ok {
		t.Errorf("one of three is behind, one ahead: %v", off)
	}
}

// A liar among three is shown to differ.
func TestAuditShowsWhoDiffers(t *testing.T) {
	v := play(t, &world{rates: map[string]float64{"b": 50_000}}, 20*time.Minute, nil)
	if v.Agree != 2 || v.Servers[0].Differs || !v.Servers[1].Differs || v.Servers[2].Differs || !v.Disagree {
		t.Errorf("%+v", v)
	}
}

// Silence heals no clock: what was measured stands until it is measured again.
func TestAuditSilenceChangesNothing(t *testing.T) {
	w := world{here: 3000}
	v := play(t, &w, time.Hour, func(*Audit) {
		silent := errors.New("no answer")
		w.set(func() { w.broken = map[string]error{"a": silent, "b": silent, "c": silent} })
	})
	if v.Level != Off || v.Servers[0].Problem == "" {
		t.Errorf("%+v", v)
	}
}

func TestAuditHealsWhenMeasured(t *testing.T) {
	w := world{rates: map[string]float64{"a": 3000, "b": 3000, "c": 3000}}
	v := play(t, &w, time.Hour, func(a *Audit) {
		if v := a.View(); v.Level != Off {
			t.Errorf("%+v", v)
		}
		w.set(func() { w.rates = nil }) // they step back, and are right from now on
	})
	if v.Level != Within {
		t.Errorf("%+v", v)
	}
}

func TestAuditLeavesAServerAlone(t *testing.T) {
	w := world{broken: map[string]error{"b": fmt.Errorf("%w RATE", errKiss)}}
	play(t, &w, 32*time.Minute, nil)
	if w.asked["a"] < 29 || w.asked["b"] > 2 {
		t.Errorf("%v", w.asked)
	}
}

func TestAuditArbiter(t *testing.T) {
	for name, c := range map[string]struct {
		clocks
		want Level
	}{"alike": {clocks{}, Within}, "it is slow": {clocks{there: -2000}, Off}, "this one is slow": {clocks{here: -2000}, Off}} {
		now := lease.Instant(0)
		a := New(Options{Every: time.Minute, Drift: func() int { return 1000 }, Now: func() lease.Instant { return now }})
		// Standing by: polls of 5 s that are answered at their end. One clock in between is another one.
		for at := time.Duration(0); at < 3*time.Minute; at += 5 * time.Second {
			id := "clock 1"
			if at > 30*time.Second {
				id = "clock 2"
			}
			a.Arbiter(id, c.ask(at, ms, 5*time.Second, ms, 0, 0))
			a.Arbiter("", Sample{})
		}
		if v := a.View(); v.Level != c.want {
			t.Errorf("%s: %+v", name, v)
		}
		a.Arbiter("clock 2", Sample{Sent: 5, Received: 4})
		if v := a.View(); v.Arbiter.Problem == "" || v.Level != c.want {
			t.Errorf("nonsense: %+v", v)
		}
	}
}

// Two arbiters behind one address have two clocks, and what lies between them is no rate.
func TestAuditArbiterClocks(t *testing.T) {
	a := New(Options{Every: time.Minute, Drift: func() int { return 1000 }})
	for i := range 100 {
		at := time.Duration(i) * 30 * time.Second
		x := clocks{}.ask(at, ms, 0, ms, time.Duration(i)*time.Second, 0)
		a.Arbiter(fmt.Sprint("clock ", i), x)
	}
	if v := a.View(); v.Level != Unknown {
		t.Errorf("%+v", v)
	}
}

// A pause of this machine is no rate of its clock, and is counted. Nobody could tell it from one without being told.
func TestAuditPause(t *testing.T) {
	for told, want := range map[bool]Level{true: Within, false: Off} {
		w := world{}
		v := play(t, &w, 20*time.Minute, func(a *Audit) {
			if got := a.View(); got.Level != Within {
				t.Errorf("before: %+v", got)
			}
			for range 18 {
				time.Sleep(time.Minute)
				w.set(func() { w.lost += 10 * time.Second })
				if told {
					a.Paused(Pause{Until: w.now(), Size: 10 * time.Second})
				}
			}
			if got := a.View(); got.Level != want {
				t.Errorf("told: %v: %+v", told, got)
			}
		})
		if v.Level != Within || told && (v.Pauses != 18 || v.Paused != 3*time.Minute || v.LastPause == 0) {
			t.Errorf("told: %v: %+v", told, v)
		}
	}
}
