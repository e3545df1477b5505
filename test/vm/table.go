package vm

import (
	"fmt"
	"strings"
	"time"
)

// Wrong says what is wrong with an outcome; nothing if it is good.
func (o Outcome) Wrong() []string { return judge(o) }

// Seen names the emulator's events in their order.
func (o Outcome) Seen() string {
	var names []string
	for _, e := range o.Events {
		name := e.Name
		if e.Reason != "" {
			name += " (" + e.Reason + ")"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Seconds is how long after the fault an instant lies; "-" if there was none.
func (o Outcome) Seconds(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.2f", at.Sub(o.From).Seconds())
}

// Bounds are from when to when the reset is allowed.
func (r Row) Bounds() string {
	switch {
	case r.By == ByNothing:
		return "-"
	case r.AtLeast == 0:
		return fmt.Sprintf("%.2f", r.Allowed.Seconds())
	}
	return fmt.Sprintf("%.2f to %.2f", r.AtLeast.Seconds(), r.Allowed.Seconds())
}
