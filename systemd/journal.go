package systemd

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
)

// MessageIDField is the logrus field whose value becomes MESSAGE_ID in the journal.
const MessageIDField = "message_id"

// JournalHook sends logrus entries to the journal with their fields (LEASEDOG_LEASE=…), so that journalctl can
// search for them. The caller turns the normal output off if it adds the hook.
type JournalHook struct {
	// Prefix of the field names, in capitals; MESSAGE_ID has none.
	Prefix string
}

// JournalReachable reports whether journald's socket can be used.
func JournalReachable() bool { return journal.Enabled() }

// Levels makes the hook fire for every entry.
func (h JournalHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire sends one entry.
func (h JournalHook) Fire(e *logrus.Entry) error {
	vars := make(map[string]string, len(e.Data))
	for key, value := range e.Data {
		name := fieldName(h.Prefix, key)
		if key == MessageIDField {
			name = "MESSAGE_ID"
		}
		vars[name] = fmt.Sprint(value)
	}
	if err := journal.Send(e.Message+readable(e.Data), priority(e.Level), vars); err != nil {
		return fmt.Errorf("write to the journal: %w", err)
	}
	return nil
}

// readable repeats the error in the text: journalctl shows nothing else without -o verbose.
func readable(data logrus.Fields) string {
	if err, ok := data[logrus.ErrorKey]; ok {
		return fmt.Sprintf(": %v", err)
	}
	return ""
}

// fieldName makes a name that journald accepts: capitals, digits and underscores, no underscore first.
func fieldName(prefix, key string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, prefix+key)
	return strings.TrimLeft(clean, "_")
}

func priority(l logrus.Level) journal.Priority {
	switch l {
	case logrus.PanicLevel, logrus.FatalLevel:
		return journal.PriCrit
	case logrus.ErrorLevel:
		return journal.PriErr
	case logrus.WarnLevel:
		return journal.PriWarning
	case logrus.InfoLevel:
		return journal.PriInfo
	}
	return journal.PriDebug
}
