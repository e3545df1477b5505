package guard

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/leasedog/leasedog/agent/cause"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/guard/guardapi"
	"github.com/leasedog/leasedog/lease"
)

const second = lease.Instant(time.Second)

type fakeTimer struct {
	at  lease.Instant
	err error
}

func (t *fakeTimer) Set(at lease.Instant) error { t.at = at; return t.err }
func (t *fakeTimer) Cancel() error              { t.at = 0; return nil }
func (t *fakeTimer) Delete() error              { return nil }

// rig is a guard in mode systemd whose clock the test turns, and whose reset only counts.
type rig struct {
	*guard
	clock  lease.Instant
	timer  *fakeTimer
	dog    *fakeDevice
	resets int
	closed bool
	dir    string
}

func newRig(t *testing.T, stays bool) *rig {
	t.Helper()
	r := &rig{clock: 100 * second, timer: &fakeTimer{}, dog: &fakeDevice{}, dir: t.TempDir()}
	r.guard = &guard{now: func() lease.Instant { return r.clock }, timer: r.timer, logf: t.Logf, last: &resetter{},
		dog:     &watchdog{dev: r.dog, path: "/dev/watchdog9", stays: stays},
		reset:   func(string) { r.resets++ },
		closer:  func() { r.closed = true },
		clients: map[*client]struct{}{}, slack: 200 * time.Millisecond,
		scribe: newScribe(filepath.Join(r.dir, cause.GuardFile)),
		base:   guardapi.Status{BootID: "boot-1", NoWayOut: stays}}
	t.Cleanup(func() { r.scribe.close(time.Minute) })
	r.dead = lease.NewDeadman(lease.DeadmanConfig{Born: r.clock, TimerSlack: r.slack, Stays: stays})
	return r
}

func (r *rig) connect() *client {
	c := &client{}
	r.connected(c)
	return c
}

func (r *rig) arm(c *client, epoch lease.Epoch, started lease.Instant, length time.Duration) guardapi.Reply {
	return r.handle(c, guardapi.Request{Op: guardapi.OpArm, Lease: "pg", Epoch: epoch, Instance: instance(started),
		Sent: r.clock, Until: r.clock.Add(length), StopBudget: 2 * time.Second})
}

func (r *rig) disarm(c *client, epoch lease.Epoch, started lease.Instant) guardapi.Reply {
	return r.handle(c, guardapi.Request{Op: guardapi.OpDisarm, Lease: "pg", Epoch: epoch, Instance: instance(started)})
}

func (r *rig) tick() {
	r.step(lease.DeadmanTick{})
	r.closeIfDue()
}

func instance(started lease.Instant) string { return lease.Instance{Start: started, Nonce: 1}.String() }

func (r *rig) mustBeArmed(t *testing.T, epoch lease.Epoch) {
	t.Helper()
	if !r.status().Shows("pg", epoch) {
		t.Fatalf("epoch %d is not armed: %+v", epoch, r.status().Armed)
	}
}

func TestStaleDisarm(t *testing.T) {
	r := newRig(t, false)
	old, young := r.connect(), r.connect()
	if reply := r.arm(old, 7, 50, 5*time.Second); !reply.OK {
		t.Fatal(reply)
	}
	if reply := r.arm(young, 7, 80, 5*time.Second); !reply.OK {
		t.Fatal(reply)
	}
	// What the old agent had written before it died is read only now.
	if reply := r.disarm(old, 7, 50); reply.OK || reply.Code != guardapi.CodeReplaced {
		t.Fatalf("a dropped connection was listened to: %+v", reply)
	}
	if reply := r.disarm(r.connect(), 7, 50); reply.OK {
		t.Fatal("a disarm of an older instance was accepted")
	}
	if reply := r.disarm(young, 6, 80); reply.OK {
		t.Fatal("a disarm for another epoch was accepted")
	}
	r.mustBeArmed(t, 7)
	if r.timer.at == 0 {
		t.Fatal("the kill timer was cancelled")
	}
}

func TestStatusDoesNotDropAgent(t *testing.T) {
	r := newRig(t, false)
	agent := r.connect()
	r.arm(agent, 7, 50, 5*time.Second)
	if reply := r.handle(r.connect(), guardapi.Request{Op: guardapi.OpStatus}); !reply.OK || agent.dropped {
		t.Fatalf("status: %+v, agent dropped: %v", reply, agent.dropped)
	}
	if reply := r.arm(r.connect(), 7, 40, 5*time.Second); reply.OK || agent.dropped {
		t.Fatalf("arm of an older instance: %+v, agent dropped: %v", reply, agent.dropped)
	}
	r.clock += second
	if reply := r.arm(agent, 7, 50, 5*time.Second); !reply.OK || reply.Until != r.clock+5*second {
		t.Fatalf("the agent's next extension: %+v", reply)
	}
	if r.arm(r.connect(), 7, 60, 5*time.Second); !agent.dropped {
		t.Fatal("a newer instance did not take the agent's place")
	}
}

func TestBirthGrace(t *testing.T) {
	r := newRig(t, false)
	r.clock += 5*second - 1
	if r.tick(); r.closed || r.done {
		t.Fatal("the guard ended before its agent could arm it")
	}
	r.clock++
	if r.tick(); !r.closed || !r.done {
		t.Fatal("the guard did not end although nothing was armed")
	}
}

func TestNowayoutStays(t *testing.T) {
	r := newRig(t, true)
	c := r.connect()
	r.arm(c, 7, 50, 5*time.Second)
	r.disarm(c, 7, 50)
	r.gone(c)
	fed := r.dog.fed
	for range 5 {
		r.clock += 10 * second
		r.tick()
	}
	if r.done || r.closed || r.dog.fed != fed+5 {
		t.Fatalf("done %v, closed %v, fed %d times in 5 ticks", r.done, r.closed, r.dog.fed-fed)
	}
	r.step(lease.DeadmanTerminate{})
	r.closeIfDue()
	if err := r.end(); err != nil || !r.done || r.dog.end != "abandoned" || r.dog.seconds < 60 {
		t.Fatalf("at shutdown: %v, done %v, device %+v", err, r.done, r.dog)
	}
}

func TestJumpSubtractsFromUntil(t *testing.T) {
	r := newRig(t, false)
	c := r.connect()
	r.arm(c, 7, 50, 10*time.Second) // sent 100, until 110
	r.clock += second
	r.step(lease.DeadmanJump{S1: 100 * second, S2: 101 * second, Size: 4 * time.Second})
	if got := r.status().Armed[0].Until; got != 106*second || r.timer.at != 106*second+200_000_000 {
		t.Fatalf("until %v, kill timer %v", got, r.timer.at)
	}
	// A renewal that left before the second sample, acknowledged after it: the same comes off.
	reply := r.handle(c, guardapi.Request{Op: guardapi.OpArm, Lease: "pg", Epoch: 7, Instance: instance(50),
		Sent: 101*second - 1, Until: 111 * second})
	if !reply.OK || reply.Until != 107*second {
		t.Fatalf("%+v", reply)
	}
	r.clock = 107*second + 1
	if r.tick(); r.resets == 0 {
		t.Fatal("no reset at the shortened deadline")
	}
}

func TestResetWhenUntilHasPassed(t *testing.T) {
	r := newRig(t, false)
	c := r.connect()
	r.arm(c, 7, 50, 5*time.Second)
	r.clock = 105 * second
	r.tick()
	fed := r.dog.fed
	if r.resets != 0 || fed == 0 {
		t.Fatalf("at until itself: %d resets, fed %d", r.resets, fed)
	}
	// The loop is awake for the deadline even if no feed is due.
	r.feedDue = r.clock + second
	r.clock++
	if r.turn(time.Second); r.resets == 0 || r.dog.fed != fed {
		t.Fatalf("after until: %d resets, fed %d times more", r.resets, r.dog.fed-fed)
	}
	if reply := r.arm(c, 7, 50, 5*time.Second); reply.OK {
		t.Fatal("a reset was taken back")
	}
	if r.dog.end != "" {
		t.Fatalf("the device was %s", r.dog.end)
	}
}

// The thread stands still between the decision and the feed.
func TestFeedReadsTheClockAgain(t *testing.T) {
	r := newRig(t, false)
	r.arm(r.connect(), 7, 50, 5*time.Second)
	readings := []lease.Instant{105 * second, 105*second + 1}
	r.now = func() lease.Instant {
		now := readings[0]
		if len(readings) > 1 {
			readings = readings[1:]
		}
		return now
	}
	if r.tick(); r.dog.fed != 0 {
		t.Fatal("fed after until")
	}
}

func TestTermWhileArmedIsRefused(t *testing.T) {
	r := newRig(t, false)
	c := r.connect()
	r.arm(c, 7, 50, 5*time.Second)
	r.step(lease.DeadmanTerminate{})
	if r.closeIfDue(); r.closed || r.done {
		t.Fatal("ended while armed")
	}
	if reply := r.disarm(c, 7, 50); !reply.OK {
		t.Fatal(reply)
	}
	if r.closeIfDue(); !r.done {
		t.Fatal("did not end after the disarm")
	}
}

func TestNoKillTimerIsNoAcknowledgement(t *testing.T) {
	r := newRig(t, false)
	r.timer.err = unix.EINVAL
	if reply := r.arm(r.connect(), 7, 50, 5*time.Second); reply.OK || reply.Code != guardapi.CodeNoTimer {
		t.Fatalf("%+v", reply)
	}
	r.mustBeArmed(t, 7)
}

func TestUnusableGuardRefusesArms(t *testing.T) {
	r := newRig(t, true)
	r.unusable = "no timeout fits"
	if reply := r.arm(r.connect(), 7, 50, 5*time.Second); reply.OK || len(r.status().Armed) != 0 {
		t.Fatalf("%+v", reply)
	}
}

func TestTickAllocatesNothing(t *testing.T) {
	r := newRig(t, false)
	r.arm(r.connect(), 7, 50, time.Hour)
	n := testing.AllocsPerRun(100, func() {
		r.clock += second
		r.turn(time.Millisecond)
	})
	if n != 0 || r.dog.fed < 100 {
		t.Fatalf("%v allocations a tick, fed %d times", n, r.dog.fed)
	}
}

func TestCauseIsWrittenAhead(t *testing.T) {
	stage := func(t *testing.T, r *rig) cause.Record {
		r.scribe.close(time.Minute)
		records, err := cause.Read(r.dir)
		if err != nil || len(records) != 1 {
			t.Fatalf("%v, %v", records, err)
		}
		return records[0]
	}
	at := func(r *rig, now lease.Instant) { r.clock = now; r.mark(now) }
	for _, c := range []struct {
		name string
		do   func(r *rig, c *client)
		want cause.Stage
	}{
		{"armed", func(r *rig, c *client) { at(r, 102*second) }, cause.Armed},
		{"nearer than the stop budget", func(r *rig, c *client) { at(r, 103*second) }, cause.Announced},
		{"losing", func(r *rig, c *client) {
			r.handle(c, guardapi.Request{Op: guardapi.OpNote, Lease: "pg", Epoch: 7, Instance: instance(50),
				State: "losing", Because: "the arbiter does not answer"})
		}, cause.Announced},
		{"moments before", func(r *rig, c *client) { at(r, 103*second); at(r, 104*second+900_000_000) }, cause.Imminent},
		{"disarmed in time", func(r *rig, c *client) { at(r, 103*second); r.disarm(c, 7, 50) }, cause.Averted},
		{"disarmed early", func(r *rig, c *client) { r.disarm(c, 7, 50) }, cause.Closed},
		{"extended in time", func(r *rig, c *client) {
			at(r, 103*second)
			r.arm(c, 7, 50, 5*time.Second)
			r.mark(r.clock)
		}, cause.Armed},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, false)
			conn := r.connect()
			r.arm(conn, 7, 50, 5*time.Second) // until 105, S 2 s
			r.mark(r.clock)
			c.do(r, conn)
			if got := stage(t, r); got.Stage != c.want || got.Lease != "pg" || got.BootID != "boot-1" {
				t.Fatalf("%+v, want %s", got, c.want)
			}
		})
	}
}

// The arbiter hears of a reset once, and nothing is waited for.
func TestLastWords(t *testing.T) {
	arbiter, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer arbiter.Close()
	kmsg, err := os.Create(filepath.Join(t.TempDir(), "kmsg"))
	if err != nil {
		t.Fatal(err)
	}
	defer kmsg.Close()
	r := newRig(t, false)
	r.last.kmsg = kmsg
	r.handle(r.connect(), guardapi.Request{Op: guardapi.OpArm, Lease: "pg", Epoch: 7, Instance: instance(50),
		Sent: r.clock, Until: r.clock + second, DyingTo: arbiter.LocalAddr().String(), DyingText: "node1 is dying"})
	defer r.last.dying.Close()
	r.clock += 2 * second
	r.tick()
	r.tick()
	buf := make([]byte, 100)
	n, err := arbiter.Read(buf)
	if err != nil || string(buf[:n]) != "node1 is dying" || r.resets < 2 {
		t.Fatalf("%q, %v, %d resets", buf[:n], err, r.resets)
	}
	if text, err := os.ReadFile(kmsg.Name()); err != nil || strings.Count(string(text), "lease pg epoch 7") != 1 {
		t.Fatalf("%q, %v", text, err)
	}
}

// A hung disk costs records, never a feed.
func TestScribeNeverWaits(t *testing.T) {
	s := newScribe(filepath.Join(t.TempDir(), "x"))
	release := make(chan struct{})
	s.do(func() error { <-release; return nil })
	for range 2 * scribeQueue {
		s.put(cause.Record{})
	}
	if s.lost.Load() == 0 {
		t.Fatal("nothing is counted as lost")
	}
	close(release)
	s.close(time.Minute)
}

func TestRTCWritten(t *testing.T) {
	at := func(boot, real, rtc time.Duration) boottime.Sample {
		return boottime.Sample{Boot: lease.Instant(boot * time.Second), Real: 1_700_000_000*time.Second + real*time.Second,
			RTC: 1_700_000_000*time.Second + rtc*time.Second}
	}
	for _, c := range []struct {
		name string
		a, b boottime.Sample
		size time.Duration // 0: no pause
	}{
		{"a quiet second", at(10, 10, 10), at(11, 11, 11), 0},
		{"whole seconds read badly", at(10, 10, 10), at(11, 11, 12), 0},
		{"paused for 10 s", at(10, 10, 10), at(11, 11, 21), 12 * time.Second},
		{"paused, rtc in local time", at(10, 10, 10+7200), at(11, 11, 21+7200), 12 * time.Second},
		{"paused a second time", at(10, 10, 25), at(11, 11, 36), 12 * time.Second},
		{"chrony writes a slow rtc", at(10, 10, 4), at(11, 11, 11), 0},
		{"hwclock writes a fast rtc", at(10, 10, 40), at(11, 11, 11), 0},
		{"the wall clock is stepped back", at(10, 10, 10), at(11, -49, 11), 0},
		{"the wall clock is stepped on", at(10, 10, 10), at(11, 71, 11), 0},
		{"suspended: every clock went on", at(10, 10, 10), at(71, 71, 71), 0},
		{"the sampler starved", at(10, 10, 10), at(40, 40, 40), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, found := boottime.FindJump(c.a, c.b)
			if found != (c.size != 0) || found && (j.Size != c.size || j.S1 != c.a.Boot || j.S2 != c.b.Boot) {
				t.Fatalf("found %v: %+v, want size %v", found, j, c.size)
			}
		})
	}
}

// The exit races with an arm: either the arm is acknowledged and the guard stays, or it is not and the guard ends.
func TestExitVersusArm(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for range 100 {
		r := newRig(t, false)
		path := filepath.Join(t.TempDir(), "s")
		s, err := listen(path)
		if err != nil {
			t.Fatal(err)
		}
		r.closer = func() { s.close(r.clients) }
		r.clock += 5 * second // it would end at its first tick
		ended := make(chan struct{})
		s.serve()
		go func() {
			defer close(ended)
			r.loop(s, time.Second, nil, nil)
		}()
		c := guardapi.NewClient(path)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { // whoever waits for a guard that has ended gives up
			<-ended
			cancel()
		}()
		who := lease.Instance{Start: 50, Nonce: 1}
		_, err = c.Arm(ctx, guardapi.Request{Lease: "pg", Epoch: 7, Instance: who.String(),
			Sent: 104 * second, Until: 200 * second})
		if err == nil {
			select {
			case <-ended:
				t.Fatal("ended after an acknowledged arm")
			default:
			}
			if _, err := c.Disarm(ctx, "pg", 7, who); err != nil {
				t.Fatalf("disarm: %v", err)
			}
		}
		c.Close()
		<-ended
		if err == nil && r.dead.Armed() != 0 {
			t.Fatal("ended while armed")
		}
		r.scribe.close(time.Minute)
	}
}

func TestSocketOfALivingGuardIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	frozen, err := listen(path) // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path); err == nil {
		t.Fatal("a second guard took the socket")
	}
	frozen.listener.SetUnlinkOnClose(false) // as after a SIGKILL
	frozen.listener.Close()
	again, err := listen(path)
	if err != nil {
		t.Fatalf("a dead guard's socket is in the way: %v", err)
	}
	again.listener.Close()
}

func TestFailedStartResetsNothing(t *testing.T) {
	dir := t.TempDir()
	opt := Options{SetupPath: dir + "/guard.json", SocketPath: dir + "/guard.sock", StateDir: dir, Root: dir, Logf: t.Logf,
		Reset:   func(string) { t.Error("reset") },
		process: processHooks{lockMemory: func() error { return nil }, realTime: func() error { return nil }}}
	if _, _, err := start(opt, nil); err == nil {
		t.Fatal("started without a set-up")
	}
	setup := guardapi.Setup{Mode: guardapi.ModeRequired, Device: "auto", Watchdog: 5 * time.Second, TimerSlack: time.Second}
	if err := guardapi.WriteSetup(opt.SetupPath, setup); err != nil {
		t.Fatal(err)
	}
	if _, _, err := start(opt, nil); !errors.Is(err, errNoWatchdog) {
		t.Fatalf("started without a watchdog: %v", err)
	}
}

func TestChances(t *testing.T) {
	g := &guard{logf: t.Logf, base: guardapi.Status{Chances: 1}}
	g.getChances(func() error { return nil })
	if g.base.Chances != 1 || !g.base.KillTimer || !g.base.RealTime {
		t.Fatalf("%+v", g.base)
	}
	if err := g.timer.Delete(); err != nil {
		t.Fatal(err)
	}
	g = &guard{logf: t.Logf, base: guardapi.Status{Chances: 1}}
	g.getChances(func() error { return unix.EPERM })
	if g.base.Chances != 2 || g.base.RealTime || len(g.base.Warnings) != 1 {
		t.Fatalf("without real-time scheduling: %+v", g.base)
	}
	if err := g.timer.Delete(); err != nil {
		t.Fatal(err)
	}
}

// A panic ends the process, and so resets the node, only when something may be armed.
func TestPanicBeforeTheFirstArmIsAnError(t *testing.T) {
	r := newRig(t, false)
	s := &server{}
	r.now = func() lease.Instant { panic("no clock") }
	if err := r.loopSafely(s, nil, nil); err == nil {
		t.Fatal("no error")
	}
	r.everArmed = true
	defer func() {
		if recover() == nil {
			t.Fatal("an armed guard went on after a panic")
		}
	}()
	_ = r.loopSafely(s, nil, nil)
}
