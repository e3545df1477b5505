package ntpaudit

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/leasedog/leasedog/lease"
	fake "github.com/leasedog/leasedog/test/ntp"
)

// serve runs a server with manners and returns its address.
func serve(t *testing.T, m fake.Manners) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() { _ = fake.Serve(conn, func() fake.Manners { return m }) })
	t.Cleanup(func() { conn.Close(); all.Wait() })
	return conn.LocalAddr().String()
}

// testClock is this machine's clock for these tests: what it is does not matter.
func testClock() func() lease.Instant {
	began := time.Now()
	return func() lease.Instant { return lease.Instant(time.Since(began)) + 1 }
}

func TestQuery(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	now := testClock()
	began := time.Now()
	x, err := Query(t.Context(), serve(t, fake.Manners{Dispersion: 3 * ms, Delay: 4 * ms}), now)
	if err != nil {
		t.Fatal(err)
	}
	if x.Bound < 5*ms || x.Bound > 6*ms || x.Received <= x.Sent || x.Received > now() {
		t.Errorf("%+v", x)
	}
	if x.In < sinceEpoch(began)-ms || x.Out > sinceEpoch(time.Now())+ms {
		t.Errorf("%v to %v is not between %v and now", x.In, x.Out, sinceEpoch(began))
	}
}

// Nothing of this is the time: a server that lies is another matter.
func TestQueryRefuses(t *testing.T) {
	stratum := func(n uint8) *uint8 { return &n }
	for name, c := range map[string]struct {
		manners fake.Manners
		words   string
	}{
		"leap 3":                     {fake.Manners{Leap: 3}, "not synchronised"},
		"stratum 16":                 {fake.Manners{Stratum: stratum(16)}, "stratum"},
		"stratum 0":                  {fake.Manners{Stratum: stratum(0), Kiss: "RATE"}, "kiss of death RATE"},
		"stratum 0 without a code":   {fake.Manners{Stratum: stratum(0)}, "kiss of death"},
		"20 s of dispersion":         {fake.Manners{Dispersion: 20 * time.Second}, "dispersion"},
		"another question's answer":  {fake.Manners{Stranger: true}, "match"},
		"half a packet":              {fake.Manners{Short: true}, "invalid"},
		"answers before it is asked": {fake.Manners{Backwards: true}, "backwards"},
	} {
		_, err := Query(t.Context(), serve(t, c.manners), testClock())
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(err, errKiss) != strings.HasPrefix(name, "stratum 0") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A far-off clock is still a clock: only its rate counts.
func TestQueryTakesAFarOffClock(t *testing.T) {
	for name, off := range map[string]time.Duration{"a year ahead": 365 * 24 * time.Hour, "in the next era": 15 * 365 * 24 * time.Hour,
		"in 1995": -31 * 365 * 24 * time.Hour} {
		began := time.Now()
		x, err := Query(t.Context(), serve(t, fake.Manners{Offset: off}), testClock())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := x.In - sinceEpoch(began); (got - off).Abs() > time.Minute {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An agent that ends does not wait for a server that does not answer.
func TestQueryEndsWithItsContext(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	ctx, cancel := context.WithCancel(t.Context())
	address := serve(t, fake.Manners{Silent: true})
	done := make(chan error)
	go func() {
		_, err := Query(ctx, address, testClock())
		done <- err
	}()
	began := time.Now()
	cancel()
	if err := <-done; err == nil || time.Since(began) > queryTime/2 {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// FuzzQuery: whatever comes in a packet is an error or an exchange that can be.
func FuzzQuery(f *testing.F) {
	for _, m := range []fake.Manners{{}, {Leap: 3}, {Stratum: new(uint8)}, {Backwards: true}, {Offset: 20 * 365 * 24 * time.Hour}, {Short: true}} {
		packet := make([]byte, 48)
		packet[0] = 0x23
		f.Add(m.Answer(packet, time.Now(), time.Now()))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		ours, theirs := net.Pipe()
		var all sync.WaitGroup
		all.Go(func() {
			defer theirs.Close()
			var question [1024]byte
			n, err := theirs.Read(question[:])
			if err != nil || n < 48 {
				return
			}
			if len(answer) >= 32 {
				copy(answer[24:32], question[40:48]) // or the library looks no further
			}
			_, _ = theirs.Write(answer)
		})
		x, err := query(t.Context(), "127.0.0.1", testClock(), func(context.Context, string) (net.Conn, error) { return ours, nil })
		all.Wait()
		if err == nil && x.check() != nil {
			t.Errorf("%+v", x)
		}
		if err != nil {
			return
		}
		later := Sample{Sent: x.Received + 1, Received: x.Received + 2, In: x.Out + 1, Out: x.Out + 1, Bound: x.Bound}
		if r, ok := between(x, later); ok && !(r.Low <= r.High) {
			t.Errorf("%+v: %v", x, r)
		}
	})
}
