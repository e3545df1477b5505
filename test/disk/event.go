package disk

import "fmt"

// Kind is what an Event is.
type Kind string

// Kinds of events. Only those of the program's folder are logged.
const (
	Create   Kind = "create"   // Path was made; it is there after a crash for certain once its folder was synced
	Write    Kind = "write"    // Data at Off
	Truncate Kind = "truncate" // to Off bytes
	Sync     Kind = "sync"     // of the file
	SyncDir  Kind = "sync dir"
	Rename   Kind = "rename" // Path to To
	Link     Kind = "link"   // Path is To too
	Remove   Kind = "remove"
	Mark     Kind = "mark" // the program wrote Data into the file MarkFile
)

// MarkFile is the file, below the folder, into which a program writes its marks, one write(2) each.
const MarkFile = "marks"

// Event is one system call that the program made.
type Event struct {
	Kind Kind
	File uint64 // which file, whatever its name is
	Path string // relative to the folder
	To   string
	Off  int64
	Data []byte
	// Failed says that the call was made to fail. It was not carried out.
	Failed bool
}

func (e Event) String() string {
	s := fmt.Sprintf("%s %s", e.Kind, e.Path)
	switch e.Kind {
	case Write:
		s += fmt.Sprintf(" [%d,+%d]", e.Off, len(e.Data))
	case Truncate:
		s += fmt.Sprintf(" to %d", e.Off)
	case Rename, Link:
		s += " to " + e.To
	case Mark:
		s = fmt.Sprintf("mark %q", e.Data)
	}
	if e.Failed {
		s += " FAILED"
	}
	return s
}

// CanFail reports whether Options.Fail counts e.
func (e Event) CanFail() bool {
	return e.Kind == Write || e.Kind == Truncate || e.Kind == Sync || e.Kind == SyncDir
}
