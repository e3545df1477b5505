package main

import (
	"fmt"
	"strings"

	"github.com/leasedog/leasedog/agent/control"
)

// clockText shows how fast the clock runs, and every server that it was measured against.
func clockText(b *strings.Builder, c *control.Clock) {
	if c == nil {
		return
	}
	what := map[string]string{"unknown": "not measured yet", "within": "within", "warning": "MORE THAN HALF OF", "off": "BEYOND"}[c.Verdict]
	if c.Verdict != "unknown" {
		what += fmt.Sprintf(" drift_ppm (%d)", c.DriftPPM)
	}
	text := what + "; against the arbiter's clock " + rateText(c.Arbiter)
	switch {
	case len(c.Servers) == 0:
		text += "; no NTP server is configured"
	case c.NTP == nil:
		text += "; against NTP not measured yet"
	default:
		text += fmt.Sprintf("; against NTP %s, by %d of %d servers", rate(*c.NTP), c.Agree, len(c.Servers))
	}
	row(b, "Clock", text)
	if c.Text != "" {
		row(b, "", c.Text)
	}
	for _, s := range c.Servers {
		row(b, " server", serverText(s))
	}
	if c.SuspendedS > 0 {
		row(b, "", "was suspended for "+seconds(c.SuspendedS)+" since the agent's start")
	}
	if c.Pauses > 0 {
		text := fmt.Sprintf("stood still %d times, %s in all", c.Pauses, seconds(c.PausedS))
		if c.LastPauseAgoS != nil {
			text += ", last " + seconds(*c.LastPauseAgoS) + " ago"
		}
		row(b, "", text)
	}
}

func serverText(s control.ClockSource) string {
	text := s.Name + " " + rateText(s)
	if s.Differs {
		text += ", DIFFERS from the others"
	}
	if s.OffsetS != nil && s.OffsetDoubtS != nil {
		text += fmt.Sprintf(", wall clock %+.4fs (±%.4fs)", *s.OffsetS, *s.OffsetDoubtS)
	}
	if s.Steps > 0 {
		text += fmt.Sprintf(", went back %d times", s.Steps)
	}
	if s.AnsweredAgoS != nil {
		text += ", answered " + seconds(*s.AnsweredAgoS) + " ago"
	}
	if s.Problem != "" {
		text += ": " + s.Problem
	}
	return text
}

func rateText(s control.ClockSource) string {
	switch {
	case s.Rate == nil:
		return "not measured yet"
	case !s.Enough:
		return rate(*s.Rate) + " so far"
	}
	return rate(*s.Rate)
}

// tooFast is what a bound that is not known is above of.
const tooFast = 1e9

func rate(r control.ClockRate) string {
	if r.LowPPM > 1e6 {
		return "more than twice as fast"
	}
	if r.HighPPM > tooFast {
		return fmt.Sprintf("%+.0f ppm or more", r.LowPPM)
	}
	return fmt.Sprintf("%+.0f to %+.0f ppm", r.LowPPM, r.HighPPM)
}
