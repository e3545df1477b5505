package main

import (
	"strings"
	"testing"

	"github.com/leasedog/leasedog/agent/control"
)

func TestClockText(t *testing.T) {
	measured := func(low, high float64) control.ClockSource {
		return control.ClockSource{Rate: &control.ClockRate{LowPPM: low, HighPPM: high}, Enough: true}
	}
	liar := measured(50_000, 1e12)
	liar.Name, liar.Differs, liar.Steps, liar.OffsetS, liar.OffsetDoubtS = "ntp2", true, 3, control.Known(-61.5), control.Known(0.002)
	liar.AnsweredAgoS = control.Known(4.0)
	early := measured(-9, 9)
	early.Name, early.Enough, early.Problem = "ntp1", false, "no answer in time"
	for name, c := range map[string]struct {
		clock *control.Clock
		want  string
	}{
		"an agent that does not measure it": {nil, ""},
		"nothing yet": {&control.Clock{Verdict: "unknown"}, "Clock     not measured yet; against the arbiter's clock not measured yet; " +
			"no NTP server is configured\n"},
		"within": {&control.Clock{Verdict: "within", DriftPPM: 1000, Arbiter: measured(-20, 15)},
			"Clock     within drift_ppm (1000); against the arbiter's clock -20 to +15 ppm; no NTP server is configured\n"},
		"off": {&control.Clock{Verdict: "off", Text: "why", DriftPPM: 1000, Arbiter: measured(4000, 4010), Agree: 1, Pauses: 2, PausedS: 5,
			LastPauseAgoS: control.Known(61.0), SuspendedS: 90, NTP: &control.ClockRate{LowPPM: -9, HighPPM: 9}, Servers: []control.ClockSource{early, liar}},
			"Clock     BEYOND drift_ppm (1000); against the arbiter's clock +4000 to +4010 ppm; against NTP -9 to +9 ppm, by 1 of 2 servers\n" +
				"          why\n" +
				" server   ntp1 -9 to +9 ppm so far: no answer in time\n" +
				" server   ntp2 +50000 ppm or more, DIFFERS from the others, wall clock -61.5000s (±0.0020s), went back 3 times, answered 4.0s ago\n" +
				"          was suspended for 1m30s since the agent's start\n" +
				"          stood still 2 times, 5.0s in all, last 1m1s ago\n"},
	} {
		var b strings.Builder
		if clockText(&b, c.clock); b.String() != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, b.String(), c.want)
		}
	}
}
