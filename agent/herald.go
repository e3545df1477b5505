package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/leasedog/leasedog/lease"
)

// herald tells systemd that the loop lives, and how things stand. It has a goroutine of its own, since a datagram to
// a PID 1 that hangs may wait, and the loop may not.
type herald struct {
	a       *Agent
	beat    atomic.Int64 // Instant of the loop's last turn
	text    atomic.Pointer[string]
	leaving atomic.Bool
	news    chan struct{} // the text or leaving has changed
}

const (
	// heraldEvery is a quarter of WatchdogSec= in the unit.
	heraldEvery = 2500 * time.Millisecond
	// loopSilence is how long the loop may be silent before the watchdog is not fed any more: it never waits, so this
	// is long.
	loopSilence = 3 * time.Second
	// extension is what a stop that goes on asks for, again and again.
	extension = 30 * time.Second
)

// turn is the loop's: it lives, and says how things stand.
func (h *herald) turn(now lease.Instant, text string, leaving bool) {
	h.beat.Store(int64(now))
	old := h.text.Swap(&text)
	if was := h.leaving.Swap(leaving); was != leaving || old == nil || *old != text {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
}

func (h *herald) work(ctx context.Context) {
	ticker := time.NewTicker(heraldEvery)
	defer ticker.Stop()
	said := ""
	for {
		if h.a.opt.Now().Sub(lease.Instant(h.beat.Load())) < loopSilence {
			_ = h.a.opt.Notify.Watchdog()
		}
		if text := h.text.Load(); text != nil && *text != said {
			said = *text
			_ = h.a.opt.Notify.Status(said)
		}
		if h.leaving.Load() {
			_ = h.a.opt.Notify.ExtendTimeout(extension)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-h.news:
		}
	}
}
