package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Entry is a certificate that was issued.
type Entry struct {
	Serial   string    `json:"serial"`
	Identity string    `json:"identity"`
	CA       string    `json:"ca"` // its short fingerprint
	Issued   time.Time `json:"issued"`
	NotAfter time.Time `json:"not_after"`
	How      string    `json:"how"`
}

const (
	maxIndex = 64 << 20
	// pruneIndex is the size from which entries that ended long ago are left out.
	pruneIndex = 1 << 20
	keepEnded  = 90 * day
)

// Index lists what was issued, oldest first.
func (f Folder) Index() ([]Entry, error) {
	text, err := f.read(fileIndex, false, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a folder whose CA is elsewhere
	}
	if err != nil {
		return nil, err
	}
	var out []Entry
	for i, line := range bytes.Split(text, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil || !validSerial(e.Serial) {
			return nil, &Error{File: f.path(fileIndex), What: fmt.Sprintf("line %d cannot be read", i+1),
				Do: "it lists issued certificates for people and for revoke; mend or move it", err: err}
		}
		out = append(out, e)
	}
	return out, nil
}

// Serials lists the numbers of every certificate that was issued to an identity.
func (f Folder) Serials(id Identity) ([]string, error) {
	entries, err := f.Index()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.Identity == id.String() {
			out = append(out, e.Serial)
		}
	}
	return out, nil
}

// record writes a certificate down. The caller holds the lock.
func (f Folder) record(cert, ca *x509.Certificate, how string, now time.Time) error {
	id, err := IdentityOf(cert)
	if err != nil {
		return err
	}
	line, err := json.Marshal(Entry{Serial: Serial(cert), Identity: id.String(), CA: ShortFingerprint(ca), Issued: now.UTC().Truncate(time.Second),
		NotAfter: cert.NotAfter.UTC(), How: how})
	if err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	if err := f.prune(now); err != nil {
		return err
	}
	file, err := os.OpenFile(f.path(fileIndex), os.O_CREATE|os.O_APPEND|os.O_WRONLY, publicMode)
	if err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if err = errors.Join(err, giveToOwnerOf(f.Dir, file), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	return nil
}

func (f Folder) prune(now time.Time) error {
	info, err := os.Stat(f.path(fileIndex))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() < pruneIndex {
		return nil
	}
	entries, err := f.Index()
	if err != nil {
		return err
	}
	var text []byte
	for _, e := range entries {
		if e.NotAfter.Add(keepEnded).Before(now) {
			continue
		}
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write the index: %w", err)
		}
		text = append(append(text, line...), '\n')
	}
	return writeFile(f.path(fileIndex), text, publicMode)
}
