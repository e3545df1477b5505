package lease

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The stories under testdata/deadman are lines "SECONDS EVENT ARGUMENTS"; below each stands what Deadman did. With
// LEASEDOG_REWRITE=1, or -rewrite where that flag exists, the answers are written anew: read the diff.
func TestDeadmanStories(t *testing.T) {
	rewrite := os.Getenv("LEASEDOG_REWRITE") == "1"
	if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
		rewrite = true
	}
	files, err := filepath.Glob("testdata/deadman/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tellDeadman(t, string(want))
			if got == string(want) {
				return
			}
			if !rewrite {
				t.Fatalf("%s tells another story:\n%s", file, got)
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func tellDeadman(t *testing.T, story string) string {
	cfg := DeadmanConfig{Born: deadmanAt("100"), TimerSlack: 200 * time.Millisecond}
	var d *Deadman
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(story, "\n"), "\n") {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "  "):
			continue // an answer of before
		case len(words) < 2 || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&b, line)
			continue
		case words[0] == "config":
			cfg.Stays = words[1] == "stays"
			fmt.Fprintln(&b, line)
			continue
		}
		if d == nil {
			d = NewDeadman(cfg)
		}
		fmt.Fprintln(&b, line)
		for _, a := range d.Step(deadmanAt(words[0]), deadmanEventOf(t, words[1:])) {
			fmt.Fprintf(&b, "  %s\n", deadmanSay(a))
		}
	}
	return b.String()
}

func deadmanAt(s string) Instant {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(err)
	}
	return Instant(f * 1e9)
}

// deadmanEventOf reads "arm pg 7 @50 sent 101 until 106": the number behind @ is when the instance started.
func deadmanEventOf(t *testing.T, w []string) DeadmanEvent {
	lease, epoch, who := "", Epoch(0), Instance{}
	if len(w) > 4 || w[0] == "disarm" {
		n, err := strconv.ParseUint(w[2], 10, 64)
		if err != nil {
			t.Fatalf("%v: %v", w, err)
		}
		lease, epoch, who = w[1], Epoch(n), Instance{Start: deadmanAt(w[3][1:]), Nonce: 1}
	}
	switch w[0] {
	case "tick":
		return DeadmanTick{}
	case "arm":
		return DeadmanArm{lease, epoch, who, deadmanAt(w[5]), deadmanAt(w[7])}
	case "shorten":
		return DeadmanShorten{lease, epoch, who, deadmanAt(w[5]), deadmanAt(w[7])}
	case "disarm":
		return DeadmanDisarm{lease, epoch, who}
	case "jump":
		return DeadmanJump{S1: deadmanAt(w[1]), S2: deadmanAt(w[2]), Size: time.Duration(deadmanAt(w[3][1:]))}
	case "clients":
		n, _ := strconv.Atoi(w[1])
		return DeadmanClients{n}
	case "closed":
		return DeadmanSocketClosed{}
	case "terminate":
		return DeadmanTerminate{}
	}
	t.Fatalf("unknown event %v", w)
	return nil
}

func deadmanSay(a DeadmanAction) string {
	switch a.Do {
	case DeadmanFeed:
		return "feed, not after " + a.At.String()
	case DeadmanReset:
		return "RESET: " + a.Text
	case DeadmanSetTimer:
		return "kill timer at " + a.At.String()
	case DeadmanCancelTimer:
		return "no kill timer"
	case DeadmanAccept:
		return "ok " + a.Lease + " until " + a.At.String()
	case DeadmanRefuse:
		return "refused: " + a.Text
	case DeadmanCloseSocket:
		return "close the socket"
	case DeadmanExit:
		return "EXIT 0"
	}
	return fmt.Sprintf("?%d", a.Do)
}

// Whatever is said in whatever order: a feed is handed out only while every lease that was acknowledged, and was not
// disarmed or shortened since, has time left; after a reset nothing else happens; an exit needs an empty list; the kill timer
// is never nearer than J.
func TestDeadmanNeverFeedsLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := Instant(100 * time.Second)
		d := NewDeadman(DeadmanConfig{Born: now, TimerSlack: time.Second, Stays: rapid.Bool().Draw(t, "stays")})
		acked := map[string]Instant{} // the latest deadline that was acknowledged
		reset := false
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			lease := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "lease")
			epoch := Epoch(rapid.IntRange(1, 3).Draw(t, "epoch"))
			who := Instance{Start: Instant(rapid.IntRange(1, 3).Draw(t, "instance")), Nonce: 1}
			sent := now.Add(-time.Duration(rapid.IntRange(0, 2000).Draw(t, "age")) * time.Millisecond)
			until := sent.Add(time.Duration(rapid.IntRange(1, 8000).Draw(t, "length")) * time.Millisecond)
			kind := rapid.IntRange(0, 6).Draw(t, "event")
			var event DeadmanEvent
			switch kind {
			case 0, 1:
				event = DeadmanArm{lease, epoch, who, sent, until}
			case 2:
				event = DeadmanDisarm{lease, epoch, who}
			case 3:
				event = DeadmanShorten{lease, epoch, who, sent, until}
			case 4:
				event = DeadmanJump{S1: now.Add(-time.Second), S2: now, Size: time.Duration(rapid.IntRange(1, 3).Draw(t, "jump")) * time.Second}
			case 5:
				event = DeadmanTerminate{}
			default:
				event = DeadmanTick{}
			}
			for _, a := range d.Step(now, event) {
				switch a.Do {
				case DeadmanAccept:
					if _, disarm := event.(DeadmanDisarm); disarm {
						delete(acked, lease)
					} else {
						acked[lease] = a.At
					}
				case DeadmanReset:
					reset = true
				case DeadmanSetTimer:
					if a.At < now.Add(time.Second) {
						t.Fatalf("%s at %v ends the guard before it can reset the node", deadmanSay(a), now)
					}
				case DeadmanFeed, DeadmanExit:
					if reset {
						t.Fatalf("%s after the reset", deadmanSay(a))
					}
					for name, until := range acked {
						if now > until || a.At > until {
							t.Fatalf("%s at %v, but %s had until %v", deadmanSay(a), now, name, until)
						}
						if a.Do == DeadmanExit {
							t.Fatalf("exit with %s armed", name)
						}
					}
				case DeadmanCloseSocket:
					for _, b := range d.Step(now, DeadmanSocketClosed{}) {
						if b.Do == DeadmanExit && len(acked) > 0 {
							t.Fatalf("exit with %v armed", acked)
						}
					}
				}
			}
			if len(acked) > 0 && !reset && d.timer != d.Nearest().Add(time.Second) {
				t.Fatalf("kill timer at %v, nearest until %v", d.timer, d.Nearest())
			}
		}
	})
}

func TestDeadmanTickAllocatesNothing(t *testing.T) {
	d := NewDeadman(DeadmanConfig{Born: 1, TimerSlack: time.Second})
	d.Step(10, DeadmanArm{"pg", 7, Instance{Start: 1, Nonce: 1}, 10, Instant(time.Hour)})
	now := Instant(20)
	if n := testing.AllocsPerRun(100, func() { now++; d.Step(now, DeadmanTick{}) }); n != 0 {
		t.Fatalf("%v allocations a tick", n)
	}
}

// The list of jumps is bounded by taking more off, never less.
func TestDeadmanJumpListIsBounded(t *testing.T) {
	d := NewDeadman(DeadmanConfig{Born: 1, TimerSlack: time.Second})
	for i := range 3 * maxJumps {
		at := Instant(100 + 10*i)
		d.Step(at.Add(5), DeadmanJump{S1: at, S2: at.Add(5), Size: 2})
	}
	if n := len(d.Jumps()); n > maxJumps {
		t.Fatalf("%d jumps are kept", n)
	}
	if got := d.paused(1); got < 2*3*maxJumps {
		t.Fatalf("a renewal from before them all gets %d taken off, want at least %d", got, 2*3*maxJumps)
	}
}
