package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Folder is the arbiter's: its own certificate, the CAs, and while they are there the CA's keys. Several processes may use
// it; what changes it takes a lock.
type Folder struct {
	Dir string
	Key string // where the arbiter's own key is, if not in Dir
}

// Names of the files in it.
const (
	fileCA      = "ca.pem"
	fileCAKey   = "ca.key"
	fileOldKey  = "ca-old.key" // of the CA that is being replaced
	fileCert    = "arbiter.pem"
	fileKey     = "arbiter.key"
	fileRevoked = "revoked"
	fileIndex   = "issued"
	fileLock    = "lock"
)

func (f Folder) path(name string) string { return filepath.Join(f.Dir, name) }

// Files are what the arbiter serves with.
func (f Folder) Files() Files {
	key := f.Key
	if key == "" {
		key = f.path(fileKey)
	}
	return Files{CA: f.path(fileCA), Cert: f.path(fileCert), Key: key, Revoked: f.path(fileRevoked), other: f.owner()}
}

// owner is who owns the folder, and so everything in it: a service with a user of its own. 0 if that is not known.
func (f Folder) owner() int {
	info, err := os.Stat(f.Dir)
	if err != nil || info.Mode().Perm()&0o022 != 0 {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return int(st.Uid)
}

func (f Folder) read(name string, secret bool, limit int) ([]byte, error) {
	return readFileOf(f.path(name), secret, limit, f.owner())
}

// CAKey is where the CA's key is, or was: it may be kept elsewhere.
func (f Folder) CAKey() string { return f.path(fileCAKey) }

// ErrNoCAKey says that the CA's key is not here, which is a way to run an arbiter.
var ErrNoCAKey = errors.New("the CA's key is not kept here")

// ErrRevoked says that the certificate which is to be replaced was revoked.
var ErrRevoked = errors.New("the certificate was revoked: it gets no other one")

// Nobody holds the lock for long: after a few seconds somebody hangs, and that is told.
const (
	lockTries = 100
	lockPause = 50 * time.Millisecond
)

// lock keeps other processes out until the returned function is called.
func (f Folder) lock() (unlock func(), err error) {
	file, err := os.OpenFile(f.path(fileLock), os.O_CREATE|os.O_RDWR, keyMode)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Dir, err)
	}
	err = giveToOwnerOf(f.Dir, file)
	for tries := 0; err == nil; tries++ {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if errors.Is(err, syscall.EWOULDBLOCK) && tries < lockTries {
			err = nil
			time.Sleep(lockPause)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Dir, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// Init makes a CA and the arbiter's certificate. It never replaces one.
func (f Folder) Init(name string, caLife, life time.Duration, now time.Time) error {
	if err := makeFolder(f.Dir); err != nil {
		return err
	}
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, file := range []string{fileCA, fileCAKey, fileCert, fileKey, fileRevoked} {
		if _, err := os.Lstat(f.path(file)); !errors.Is(err, fs.ErrNotExist) {
			return &Error{File: f.path(file), What: "is there already: nothing was changed",
				Do: `"leasedog-arbiter pki show" shows it; "pki roll" replaces a CA without a stop`}
		}
	}
	ca, err := NewAuthority(name, caLife, now)
	if err != nil {
		return err
	}
	key, err := NewKey()
	if err != nil {
		return err
	}
	keyText, err := EncodeKey(key)
	if err != nil {
		return err
	}
	if err := f.writeCAKey(fileCAKey, ca); err != nil {
		return err
	}
	if err := writeFile(f.path(fileKey), keyText, keyMode); err != nil {
		return err
	}
	if err := writeFile(f.path(fileRevoked), []byte(revokedHead), publicMode); err != nil {
		return err
	}
	if err := f.signOwn(ca, key.Public(), life, "init", now); err != nil {
		return err
	}
	return writeFile(f.path(fileCA), EncodeCerts(ca.Cert), publicMode)
}

const revokedHead = "# Serial numbers of revoked certificates, one a line. leasedog-arbiter pki revoke writes it.\n"

func (f Folder) writeCAKey(name string, ca *Authority) error {
	key, ok := ca.key.(*ecdsa.PrivateKey)
	if !ok {
		panic("pki: a CA's key that is not ECDSA")
	}
	text, err := EncodeKey(key)
	if err != nil {
		return err
	}
	return writeFile(f.path(name), text, keyMode)
}

// signOwn issues the arbiter's certificate. The caller holds the lock.
func (f Folder) signOwn(ca *Authority, pub crypto.PublicKey, life time.Duration, how string, now time.Time) error {
	cert, err := ca.Issue(Identity{Role: RoleArbiter}, pub, life, now)
	if err != nil {
		return err
	}
	if err := f.record(cert, ca.Cert, how, now); err != nil {
		return err
	}
	return writeFile(f.path(fileCert), EncodeCerts(cert, ca.Cert), publicMode)
}

// CAs returns the bundle, newest first.
func (f Folder) CAs() ([]*x509.Certificate, error) {
	text, err := f.read(fileCA, false, maxFile)
	if err != nil {
		return nil, err
	}
	cas, err := DecodeCAs(text)
	if err != nil {
		return nil, &Error{File: f.path(fileCA), What: err.Error(), err: err}
	}
	return cas, nil
}

// Authority returns the CA that signs. keyFile "" is the folder's own key; ErrNoCAKey if there is none.
func (f Folder) Authority(keyFile string) (*Authority, error) {
	if keyFile == "" {
		keyFile = f.path(fileCAKey)
		if _, err := os.Lstat(keyFile); errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNoCAKey
		}
	}
	cas, err := f.CAs()
	if err != nil {
		return nil, err
	}
	text, err := readFileOf(keyFile, true, maxFile, f.owner())
	if err != nil {
		return nil, err
	}
	key, err := DecodeKey(text)
	if err != nil {
		return nil, &Error{File: keyFile, What: err.Error(), err: err}
	}
	for _, ca := range cas {
		if key.PublicKey.Equal(ca.PublicKey) {
			return &Authority{ca, key}, nil
		}
	}
	return nil, &Error{File: keyFile, What: "is the key of no CA in " + f.path(fileCA), Do: "copy both from the same place"}
}

// Request is a certificate that is to be issued.
type Request struct {
	Identity Identity
	Key      crypto.PublicKey
	Life     time.Duration
	How      string // "issue", "join" or "renew"
	Replaces string // the serial number of the certificate that asks, or ""
	CAKey    string // file; "" is the folder's own
}

// Issue signs a certificate and writes it down before it is handed out.
func (f Folder) Issue(r Request, now time.Time) (*x509.Certificate, error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if r.Replaces != "" { // by the file, under the lock of Revoke: a thief must not be a few seconds ahead of it
		revoked, err := f.Revoked()
		if err != nil {
			return nil, err
		}
		if revoked[r.Replaces] {
			return nil, ErrRevoked
		}
	}
	ca, err := f.Authority(r.CAKey)
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue(r.Identity, r.Key, r.Life, now)
	if err != nil {
		return nil, err
	}
	return cert, f.record(cert, ca.Cert, r.How, now)
}

// RenewOwn replaces the arbiter's certificate. During a roll the old CA goes on signing it: not every node knows the new
// one yet.
func (f Folder) RenewOwn(life time.Duration, now time.Time) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	keyFile := f.path(fileOldKey)
	if _, err := os.Lstat(keyFile); errors.Is(err, fs.ErrNotExist) {
		keyFile = ""
	}
	ca, err := f.Authority(keyFile)
	if err != nil {
		return err
	}
	own, err := f.ownKey()
	if err != nil {
		return err
	}
	return f.signOwn(ca, own, life, "renew", now)
}

// ownKey is the public key of the arbiter's certificate. Its other half may be out of reach here: a credential of the unit.
func (f Folder) ownKey() (crypto.PublicKey, error) {
	text, err := f.read(fileCert, false, maxFile)
	if err != nil {
		return nil, err
	}
	chain, err := DecodeCerts(text)
	if err != nil {
		return nil, &Error{File: f.path(fileCert), What: err.Error(), err: err}
	}
	if id, err := IdentityOf(chain[0]); err != nil || id.Role != RoleArbiter {
		return nil, &Error{File: f.path(fileCert), What: "is not a certificate of the arbiter", err: err}
	}
	return chain[0].PublicKey, nil
}

// Revoke adds certificates to the list. Those that are on it already are left alone.
func (f Folder) Revoke(serials []string, note string, now time.Time) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return f.revoke(serials, note, now)
}

// RevokeAll revokes every certificate that was issued to an identity so far, and returns how many there are. What is being
// renewed meanwhile is either on its list, or refused by it.
func (f Folder) RevokeAll(id Identity, now time.Time) (int, error) {
	unlock, err := f.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	serials, err := f.Serials(id)
	if err != nil {
		return 0, err
	}
	return len(serials), f.revoke(serials, id.String(), now)
}

// revoke is Revoke under the lock.
func (f Folder) revoke(serials []string, note string, now time.Time) error {
	revoked, text, err := readRevoked(f.path(fileRevoked), f.owner())
	if err != nil {
		return err
	}
	for _, s := range serials {
		if !validSerial(s) {
			return fmt.Errorf("%q is no serial number: 32 of 0-9 and a-f", s)
		}
		if !revoked[s] {
			text = fmt.Appendf(text, "%s %s %s\n", s, now.UTC().Format(time.RFC3339), note)
		}
	}
	return writeFile(f.path(fileRevoked), text, publicMode)
}

// Revoked returns the serial numbers on the list.
func (f Folder) Revoked() (map[string]bool, error) {
	out, _, err := readRevoked(f.path(fileRevoked), f.owner())
	return out, err
}

// Roll begins to replace the CA: a new one signs from now on, both are trusted. The arbiter's own certificate stays the
// old one's until EndRoll.
func (f Folder) Roll(name string, caLife time.Duration, now time.Time) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	cas, err := f.CAs()
	if err != nil {
		return err
	}
	if len(cas) > 1 {
		return fmt.Errorf("%s has %d CAs already: end that roll first (pki roll --end)", f.path(fileCA), len(cas))
	}
	old, err := f.Authority("")
	if err != nil {
		return err
	}
	ca, err := NewAuthority(name, caLife, now)
	if err != nil {
		return err
	}
	// In this order: whatever the crash, the key that signs has its CA in the bundle.
	if err := f.writeCAKey(fileOldKey, old); err != nil {
		return err
	}
	if err := writeFile(f.path(fileCA), EncodeCerts(ca.Cert, old.Cert), publicMode); err != nil {
		return err
	}
	return f.writeCAKey(fileCAKey, ca)
}

// Behind returns the identities that are not known to use a certificate of the CA that signs now: after EndRoll they
// would be refused. seen is which CA signed what each has shown to the arbiter; that one was issued is no proof that it
// arrived. Of readers and admins, which need not be there, the issue is enough.
func (f Folder) Behind(now time.Time, seen map[string]string) ([]Identity, error) {
	ca, err := f.Authority("")
	if err != nil {
		return nil, err
	}
	entries, err := f.Index()
	if err != nil {
		return nil, err
	}
	revoked, err := f.Revoked()
	if err != nil {
		return nil, err
	}
	newest := map[string]Entry{}
	for _, e := range entries {
		if !revoked[e.Serial] && e.NotAfter.After(now) {
			newest[e.Identity] = e // the index is in the order of issuing
		}
	}
	var out []Identity
	for name, e := range newest {
		id, err := ParseIdentity(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.path(fileIndex), err)
		}
		signer := ShortFingerprint(ca.Cert)
		shown, there := seen[name]
		if id.Role != RoleArbiter && (e.CA != signer || there && shown != signer || !there && id.Role == RoleNode) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b Identity) int { return compare(a.String(), b.String()) })
	return out, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// EndRoll takes the old CA's word away: the arbiter gets a certificate of the new one, and only that is trusted.
func (f Folder) EndRoll(life time.Duration, now time.Time) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	ca, err := f.Authority("")
	if err != nil {
		return err
	}
	own, err := f.ownKey()
	if err != nil {
		return err
	}
	if err := f.signOwn(ca, own, life, "roll", now); err != nil {
		return err
	}
	if err := writeFile(f.path(fileCA), EncodeCerts(ca.Cert), publicMode); err != nil {
		return err
	}
	if err := os.Remove(f.path(fileOldKey)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the old CA's key: %w", err)
	}
	return syncFolder(f.Dir)
}

// IssueToFile issues a certificate for a request, or for a key that is made here, and writes it with its CAs beside it.
// It replaces no key.
func (f Folder) IssueToFile(id Identity, csrFile, out string, r Request, now time.Time) error {
	var keyText []byte
	r.Identity = id
	if csrFile == "" {
		key, err := NewKey()
		if err != nil {
			return err
		}
		if keyText, err = EncodeKey(key); err != nil {
			return err
		}
		if _, err := os.Lstat(out + ".key"); !errors.Is(err, fs.ErrNotExist) {
			return &Error{File: out + ".key", What: "is there already: nothing was changed"}
		}
		r.Key = key.Public()
	} else {
		text, err := readFile(csrFile, false, maxFile)
		if err != nil {
			return err
		}
		wants, key, err := DecodeCSR(text)
		if err != nil {
			return &Error{File: csrFile, What: err.Error(), err: err}
		}
		if wants != id {
			return &Error{File: csrFile, What: fmt.Sprintf("is a request for %s, not for %s", wants, id)}
		}
		r.Key = key
	}
	cert, err := f.Issue(r, now)
	if err != nil {
		return err
	}
	cas, err := f.CAs()
	if err != nil {
		return err
	}
	if keyText != nil {
		if err := writeFile(out+".key", keyText, keyMode); err != nil {
			return err
		}
	}
	if err := writeFile(out+".ca", EncodeCerts(cas...), publicMode); err != nil {
		return err
	}
	return writeFile(out, EncodeCerts(cert), publicMode)
}
