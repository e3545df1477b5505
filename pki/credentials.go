package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Files are where one side keeps what it presents and what it accepts.
type Files struct {
	CA      string // bundle of the CAs that are trusted: two during a roll
	Cert    string // this side's certificate
	Key     string
	Revoked string // "" on a node: only the arbiter knows of revoked ones

	other int // a user besides root and this process's who may own the files; 0: nobody
}

// Credentials are one consistent set of Files. They do not change.
type Credentials struct {
	Identity Identity
	Leaf     *x509.Certificate
	CAs      []*x509.Certificate

	pair    tls.Certificate
	roots   *x509.CertPool
	revoked map[string]bool
	digest  [sha256.Size]byte
}

// Load reads a set. It must fit together: the key to the certificate, the certificate to a CA of the bundle and to the
// role. Dates are not judged here: an expired certificate must not keep an agent from giving up its leases in order.
func Load(f Files, role Role) (*Credentials, error) {
	sum := sha256.New()
	read := func(path string, secret bool) ([]byte, error) {
		text, err := readFileOf(path, secret, maxFile, f.other)
		sum.Write(text)
		return text, err
	}
	caText, err := read(f.CA, false)
	if err != nil {
		return nil, err
	}
	certText, err := read(f.Cert, false)
	if err != nil {
		return nil, err
	}
	keyText, err := read(f.Key, true)
	if err != nil {
		return nil, err
	}
	out, err := assemble(f, role, caText, certText, keyText)
	if err != nil {
		return nil, err
	}
	if f.Revoked != "" {
		var text []byte
		if out.revoked, text, err = readRevoked(f.Revoked, f.other); err != nil {
			return nil, err
		}
		sum.Write(text)
	}
	sum.Sum(out.digest[:0])
	return out, nil
}

func assemble(f Files, role Role, caText, certText, keyText []byte) (*Credentials, error) {
	bad := func(file string, err error, do string) error {
		return &Error{File: file, What: err.Error(), Do: do, err: err}
	}
	cas, err := DecodeCAs(caText)
	if err != nil {
		return nil, bad(f.CA, err, "")
	}
	chain, err := DecodeCerts(certText)
	if err != nil {
		return nil, bad(f.Cert, err, "")
	}
	key, err := DecodeKey(keyText)
	if err != nil {
		return nil, bad(f.Key, err, "")
	}
	c := &Credentials{Leaf: chain[0], CAs: cas, roots: x509.NewCertPool()}
	for _, ca := range cas {
		c.roots.AddCert(ca)
	}
	if !key.PublicKey.Equal(c.Leaf.PublicKey) {
		return nil, bad(f.Key, errors.New("is not the key of "+f.Cert), "copy both from the same place")
	}
	if c.Identity, err = IdentityOf(c.Leaf); err != nil {
		return nil, bad(f.Cert, err, "")
	}
	if c.Identity.Role != role {
		return nil, bad(f.Cert, fmt.Errorf("is a certificate of %s, and one of a role %s is needed", c.Identity, role), "")
	}
	if err := c.chain(chain, c.Identity.usage()); err != nil {
		return nil, bad(f.Cert, fmt.Errorf("is not signed by a CA of %s: %w", f.CA, err), "copy both from the same place")
	}
	c.pair = tls.Certificate{PrivateKey: key, Leaf: c.Leaf}
	for _, x := range chain {
		c.pair.Certificate = append(c.pair.Certificate, x.Raw)
	}
	// The CA that signed comes along: a node that joins compares its fingerprint with the code's.
	if ca := c.Issuer(c.Leaf); len(chain) == 1 && ca != nil {
		c.pair.Certificate = append(c.pair.Certificate, ca.Raw)
	}
	return c, nil
}

// chain checks signatures and purpose. Dates are judged by Clock: here it is as if it were within the leaf's own.
func (c *Credentials) chain(chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	leaf := chain[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: x509.NewCertPool(), // no others' intermediates
		CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2), KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// Issuer returns the CA of the bundle that signed a certificate, or nil.
func (c *Credentials) Issuer(cert *x509.Certificate) *x509.Certificate {
	for _, ca := range c.CAs {
		if cert.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// Live are credentials that are replaced while they are used.
type Live struct {
	files Files
	role  Role
	clock *Clock

	cur  atomic.Pointer[Credentials]
	look sync.Mutex            // held while files are read, which may take as long as a disk hangs
	err  atomic.Pointer[error] // of the last look
}

// Open loads credentials for the first time.
func Open(f Files, role Role, clock *Clock) (*Live, error) {
	l := &Live{files: f, role: role, clock: clock}
	_, err := l.Reload()
	return l, err
}

// Current returns what is in use, or nil if nothing was ever readable.
func (l *Live) Current() *Credentials { return l.cur.Load() }

// Clock returns the time by which certificates are judged.
func (l *Live) Clock() *Clock { return l.clock }

// Err says what is wrong with the files as they are now; what was read before is still in use. It never waits.
func (l *Live) Err() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Reload looks at the files again. What is broken is not taken, and told.
func (l *Live) Reload() (changed bool, err error) {
	l.look.Lock()
	defer l.look.Unlock()
	next, err := Load(l.files, l.role)
	old := l.cur.Load()
	if err == nil && old != nil && next.Identity != old.Identity {
		err = &Error{File: l.files.Cert, What: fmt.Sprintf("is now a certificate of %s, and was one of %s", next.Identity, old.Identity),
			Do: "restart to become another one"}
	}
	l.err.Store(&err)
	if err != nil || old != nil && bytes.Equal(old.digest[:], next.digest[:]) {
		return false, err
	}
	l.clock.notBefore(next.Leaf.NotBefore)
	l.cur.Store(next)
	return old != nil, nil
}
