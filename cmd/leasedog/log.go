package main

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/leasedog/leasedog/systemd"
)

// newLog writes to the journal with fields when systemd started us, else to standard error. Whoever logs never waits:
// a journal that hangs with its disk must not hold up a renewal. What does not fit is counted and said later.
func newLog() *logrus.Logger {
	log := logrus.New()
	if os.Getenv("JOURNAL_STREAM") == "" || !systemd.JournalReachable() {
		return log
	}
	log.SetOutput(io.Discard)
	h := &patientHook{next: systemd.JournalHook{Prefix: "LEASEDOG_"}, entries: make(chan *logrus.Entry, logBacklog)}
	log.AddHook(h)
	go h.work(log)
	return log
}

// logBacklog is how many lines wait for a slow journal.
const logBacklog = 1024

// patientHook hands entries to a goroutine.
type patientHook struct {
	next    logrus.Hook
	entries chan *logrus.Entry
	lost    atomic.Int64
}

func (h *patientHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *patientHook) Fire(e *logrus.Entry) error {
	kept := &logrus.Entry{Logger: e.Logger, Data: e.Data, Time: e.Time, Level: e.Level, Message: e.Message}
	select {
	case h.entries <- kept:
	default:
		h.lost.Add(1)
	}
	return nil
}

func (h *patientHook) work(log *logrus.Logger) {
	for e := range h.entries {
		if written, ok := e.Data[drainMark].(chan struct{}); ok {
			close(written)
			continue
		}
		_ = h.next.Fire(e) // there is nowhere left to say that the journal cannot be written
		if n := h.lost.Swap(0); n > 0 {
			log.WithField("lines", n).Warn("the journal was too slow: log lines were lost")
		}
	}
}

// drain waits until every line is written, or the journal takes too long.
func drain(log *logrus.Logger) {
	for _, hooks := range log.Hooks {
		for _, hook := range hooks {
			if h, ok := hook.(*patientHook); ok {
				h.drain()
				return
			}
		}
	}
}

// drainTime bounds drain.
const drainTime = time.Second

func (h *patientHook) drain() {
	limit := time.NewTimer(drainTime)
	defer limit.Stop()
	written := make(chan struct{})
	mark := &logrus.Entry{Data: logrus.Fields{drainMark: written}}
	select {
	case h.entries <- mark:
	case <-limit.C:
		return
	}
	select {
	case <-written:
	case <-limit.C:
	}
}

// drainMark is the field of an entry that is no line: it only tells that every line before it was written.
const drainMark = "\x00drain"
