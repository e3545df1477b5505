package disk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// sector is what a disk writes whole.
const sector = 512

// Crash is one thing that a power failure may leave.
type Crash struct {
	After int      // events of the log that had been made
	Marks []string // those that had left the program
	Why   string   // what of the rest is there
	log   []Event
	keep  map[int]part // writes that are not certain, and what of them is there
	names map[string]uint64
	floor *floor
}

// part is what is there of an event that a crash may have lost.
type part int

const (
	lost part = iota
	whole
	firstHalf
	secondHalf
)

// floor is what the log makes of its files up to the first event that is not certain, kept between crashes.
type floor struct {
	upTo    int
	files   map[uint64][]byte
	scratch []byte
}

// Crashes calls visit with everything that a power failure may leave after each event of the log from number from on. It
// stops at the first error, which it returns. What is on the disk after an event:
//
//   - a write, once its file was synced after it by a sync that did not fail;
//   - of a write that is not: nothing, all, or a half of it, in any combination that is tried;
//   - a name, once its folder was synced; before, the old names or the new ones.
//
// Of n writes that are not certain, all 2^n subsets are more than can be tried. Tried are none, all, every prefix and
// suffix, each alone, all but each, and each torn with all, or none, of those before it.
//
// Coarse tries of the writes since a file's last sync only none and all, together with none and all of those that a sync
// failed to save, and does not stop between two writes.
func Crashes(log []Event, from int, coarse bool, visit func(Crash) error) error {
	f := &floor{files: map[uint64][]byte{}}
	for after := from; after <= len(log); after++ {
		if after > 0 && log[after-1].Kind == Mark && after < len(log) && log[after].Kind == Mark {
			continue // the next point has one more, and the same files
		}
		if coarse && after > 0 && after < len(log) && log[after-1].Kind == Write && log[after].Kind == Write {
			continue
		}
		done := log[:after]
		never, pending := uncertain(done)
		open := append(slices.Clone(never), pending...)
		f.raise(done, open)
		var marks []string
		for _, e := range done {
			if e.Kind == Mark {
				marks = append(marks, string(e.Data))
			}
		}
		for _, names := range namespaces(done) {
			list := coarseVariants(never, pending)
			if !coarse {
				list = variants(done, open)
			}
			for _, v := range list {
				c := Crash{After: after, Marks: marks, Why: v.why + names.why, log: done, keep: v.keep, names: names.files, floor: f}
				if err := visit(c); err != nil {
					return fmt.Errorf("crash after event %d (%s; %s): %w", after, last(done), c.Why, err)
				}
			}
		}
	}
	return nil
}

func last(log []Event) string {
	if len(log) == 0 {
		return "nothing"
	}
	return log[len(log)-1].String()
}

// uncertain lists the writes that are not certain to be on the disk. A sync that failed saves nothing, and what it was to
// save is never saved by a later one either: the kernel took its pages for clean.
func uncertain(log []Event) (never, pending []int) {
	for i, e := range log {
		switch {
		case (e.Kind == Write || e.Kind == Truncate) && !e.Failed:
			pending = append(pending, i)
		case e.Kind == Sync:
			var rest []int
			for _, p := range pending {
				switch {
				case log[p].File != e.File:
					rest = append(rest, p)
				case e.Failed:
					never = append(never, p)
				}
			}
			pending = rest
		}
	}
	return never, pending
}

func (p part) String() string {
	return [...]string{"nothing", "everything", "the first half", "the second half"}[p]
}

type variant struct {
	why  string
	keep map[int]part
}

// coarseVariants are the four corners.
func coarseVariants(never, pending []int) []variant {
	var out []variant
	for _, a := range []part{lost, whole} {
		for _, b := range []part{lost, whole} {
			if len(never) == 0 && a == whole || len(pending) == 0 && b == whole {
				continue
			}
			v := variant{why: fmt.Sprintf("of %d writes whose sync failed %s, of %d after the last sync %s", len(never), a,
				len(pending), b), keep: map[int]part{}}
			for _, i := range never {
				v.keep[i] = a
			}
			for _, i := range pending {
				v.keep[i] = b
			}
			out = append(out, v)
		}
	}
	return out
}

func variants(log []Event, open []int) []variant {
	n := len(open)
	pick := func(why string, what func(i int) part) variant {
		v := variant{why: why, keep: map[int]part{}}
		for i, at := range open {
			v.keep[at] = what(i)
		}
		return v
	}
	if n == 0 {
		return []variant{{why: "everything is synced"}}
	}
	only := func(yes bool) part {
		if yes {
			return whole
		}
		return lost
	}
	out := []variant{
		pick(fmt.Sprintf("the %d writes that are not synced are lost", n), func(int) part { return lost }),
		pick(fmt.Sprintf("the %d writes that are not synced are kept", n), func(int) part { return whole }),
	}
	step := max(1, n/16) // a run of equal writes needs not each of them
	for k := 0; k < n; k += step {
		at := log[open[k]]
		if k > 0 {
			out = append(out, pick(fmt.Sprintf("kept before %s", at), func(i int) part { return only(i < k) }),
				pick(fmt.Sprintf("kept from %s on", at), func(i int) part { return only(i >= k) }))
		}
		if n > 2 {
			out = append(out, pick(fmt.Sprintf("only %s kept", at), func(i int) part { return only(i == k) }),
				pick(fmt.Sprintf("only %s lost", at), func(i int) part { return only(i != k) }))
		}
		if at.Kind != Write || len(at.Data) <= sector {
			continue
		}
		for _, half := range []part{firstHalf, secondHalf} {
			for _, before := range []part{lost, whole} {
				out = append(out, pick(fmt.Sprintf("of %s %s, of those before %s", at, half, before), func(i int) part {
					switch {
					case i < k:
						return before
					case i == k:
						return half
					}
					return lost
				}))
			}
		}
	}
	return out
}

type namespace struct {
	why   string
	files map[string]uint64
}

// namespaces are the names that may be there: those of the last sync of the folder, and those of now.
func namespaces(log []Event) []namespace {
	now, synced := map[string]uint64{}, map[string]uint64{}
	changed := false
	for _, e := range log {
		if e.Failed && e.Kind == SyncDir {
			continue
		}
		switch e.Kind {
		case Create:
			now[e.Path], changed = e.File, true
		case Rename:
			now[e.To] = now[e.Path]
			delete(now, e.Path)
			changed = true
		case Link:
			now[e.To], changed = now[e.Path], true
		case Remove:
			delete(now, e.Path)
			changed = true
		case SyncDir:
			synced, changed = map[string]uint64{}, false
			for k, v := range now {
				synced[k] = v
			}
		}
	}
	if !changed {
		return []namespace{{files: now}}
	}
	return []namespace{{", names of the last sync", synced}, {", names of now", now}}
}

// raise applies what is certain, so that it needs not be applied for each crash.
func (f *floor) raise(log []Event, open []int) {
	end := len(log)
	for _, i := range open {
		end = min(end, i)
	}
	for ; f.upTo < end; f.upTo++ {
		f.files[log[f.upTo].File] = log[f.upTo].apply(f.files[log[f.upTo].File], whole)
	}
}

// apply changes a file's content.
func (e Event) apply(content []byte, what part) []byte {
	if e.Failed || what == lost {
		return content
	}
	switch e.Kind {
	case Truncate:
		return resize(content, int(e.Off))
	case Write:
		data, off := e.Data, e.Off
		half := (len(data)/2 + sector - 1) / sector * sector
		switch what {
		case firstHalf:
			data = data[:half]
		case secondHalf:
			data, off = data[half:], off+int64(half)
		}
		if need := int(off) + len(data); need > len(content) {
			content = resize(content, need)
		}
		copy(content[off:], data)
	}
	return content
}

func resize(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

// WriteTo puts the files that the crash leaves into an empty folder.
func (c Crash) WriteTo(dir string) error {
	for name, file := range c.names {
		content := append(c.floor.scratch[:0], c.floor.files[file]...)
		for i := c.floor.upTo; i < len(c.log); i++ {
			if e := c.log[i]; e.File == file && (e.Kind == Write || e.Kind == Truncate) {
				what, open := c.keep[i]
				if !open {
					what = whole
				}
				content = e.apply(content, what)
			}
		}
		c.floor.scratch = content
		if err := writeSparse(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// writeSparse leaves holes for zeros: most of an image is.
func writeSparse(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	zeros := make([]byte, 4096)
	for at := 0; at < len(content); at += len(zeros) {
		block := content[at:min(at+len(zeros), len(content))]
		if bytes.Equal(block, zeros[:len(block)]) {
			continue
		}
		if _, err := f.WriteAt(block, int64(at)); err != nil {
			return err
		}
	}
	return f.Truncate(int64(len(content)))
}
