package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// beatPeriod is how often the canary and the observer write.
const beatPeriod = 10 * time.Millisecond

// A Beat says that one process lived at an instant.
type Beat struct {
	At Monotonic
	// Instance tells one process from the next: the boot it lives in and its number there.
	Instance string
}

// WriteBeats appends the time to a file every 10 ms until ctx ends. A tick that comes late is written late: a stall
// shows as a gap.
func WriteBeats(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	defer f.Close()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	suffix := fmt.Sprintf(" %.8s/%d\n", boot, os.Getpid())
	tick := time.NewTicker(beatPeriod)
	defer tick.Stop()
	line := make([]byte, 0, 64)
	for {
		line = append(strconv.AppendInt(line[:0], int64(Now()), 10), suffix...)
		if _, err := f.Write(line); err != nil {
			return fmt.Errorf("beat: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// beatsFile is where a node's canary, or the observer, writes.
func (c *Cluster) beatsFile(who string) string { return filepath.Join(c.Shared(), "beats-"+who) }

const observer = "observer"

// Observe beats on the lab machine itself, so that a stall of the machine is seen as one.
func (c *Cluster) Observe(ctx context.Context) error { return WriteBeats(ctx, c.beatsFile(observer)) }

// Beats reads what was written since an instant. Nothing written yet is no beats.
func (c *Cluster) Beats(who string, since Monotonic) ([]Beat, error) {
	text, err := readSince(c.beatsFile(who), since, 64<<10)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read beats of %s: %w", who, err)
	}
	beats, err := parseBeats(text, since)
	if err != nil {
		return nil, fmt.Errorf("read beats of %s: %w", who, err)
	}
	return beats, nil
}

// readSince returns the whole lines of the end of a file that has every beat since an instant, reading chunk bytes first.
// Whoever watches a run of half an hour looks at its last moments ten times a second: reading all of it each time would make
// the machine stall that is measured.
func readSince(path string, since Monotonic, chunk int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	for {
		at := max(0, info.Size()-chunk)
		data := make([]byte, info.Size()-at)
		if _, err := f.ReadAt(data, at); err != nil && err != io.EOF {
			return "", err
		}
		text := string(data)
		if at == 0 {
			return text, nil
		}
		_, text, _ = strings.Cut(text, "\n") // the first line may be a part of one
		first, _, _ := strings.Cut(text, " ")
		// Two processes that beat at once may write in the other order, by much less than this.
		if ns, err := strconv.ParseInt(first, 10, 64); err == nil && Monotonic(ns).Add(time.Second) < since {
			return text, nil
		}
		chunk *= 4
	}
}

// parseBeats reads whole lines; a last line without its end is still being written.
func parseBeats(text string, since Monotonic) ([]Beat, error) {
	var beats []Beat
	for n := 1; ; n++ {
		line, rest, whole := strings.Cut(text, "\n")
		if !whole {
			return beats, nil
		}
		text = rest
		at, instance, ok := strings.Cut(line, " ")
		ns, err := strconv.ParseInt(at, 10, 64)
		if err != nil || !ok {
			return nil, fmt.Errorf("line %d: %q is not a beat", n, line)
		}
		if Monotonic(ns) >= since {
			beats = append(beats, Beat{Monotonic(ns), instance})
		}
	}
}
