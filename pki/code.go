package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// A join code is 48 letters and digits: a secret that is good once, the fingerprint of the CA, and a check against slips.
// With it a node knows the arbiter before it has a certificate, and the arbiter knows the node.
const (
	secretBytes = 12
	pinBytes    = 16
	checkBytes  = 2
	codeBytes   = secretBytes + pinBytes + checkBytes
	codeGroup   = 6
)

// Code is a join code. Its Secret is what the arbiter compares; Pin is the first half of the CA's fingerprint.
type Code struct {
	Secret [secretBytes]byte
	Pin    [pinBytes]byte
}

// NewCode makes a code that nobody can guess, for a CA.
func NewCode(ca *x509.Certificate) Code {
	var c Code
	_, _ = rand.Read(c.Secret[:]) // never fails (crypto/rand)
	sum := Fingerprint(ca)
	copy(c.Pin[:], sum[:])
	return c
}

func (c Code) check() []byte {
	sum := sha256.Sum256(append(append([]byte("leasedog join code"), c.Secret[:]...), c.Pin[:]...))
	return sum[:checkBytes]
}

// String is what is typed.
func (c Code) String() string {
	raw := append(append(append([]byte{}, c.Secret[:]...), c.Pin[:]...), c.check()...)
	text := base32.StdEncoding.EncodeToString(raw)
	var groups []string
	for i := 0; i < len(text); i += codeGroup {
		groups = append(groups, text[i:i+codeGroup])
	}
	return strings.Join(groups, "-")
}

// ParseCode reads what was typed: case, dashes and spaces do not matter, a slip is found.
func ParseCode(text string) (Code, error) {
	text = strings.ToUpper(strings.NewReplacer("-", "", " ", "", "\n", "").Replace(text))
	raw, err := base32.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != codeBytes {
		return Code{}, errors.New("this is no join code: it has 48 letters and digits in groups of six")
	}
	var c Code
	copy(c.Secret[:], raw)
	copy(c.Pin[:], raw[secretBytes:])
	if subtle.ConstantTimeCompare(c.check(), raw[secretBytes+pinBytes:]) != 1 {
		return Code{}, errors.New("this join code has a slip in it: compare it with what leasedog-arbiter pki code printed")
	}
	return c, nil
}

// Joining is the TLS side of a node that has nothing but a code: the peer must be an arbiter of the CA in the code.
func (c Code) Joining(clock *Clock) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		InsecureSkipVerify: true, // VerifyConnection compares the fingerprint in the code
		VerifyConnection: func(s tls.ConnectionState) error {
			ca := c.find(s.PeerCertificates)
			if ca == nil {
				return errors.New("whoever answers has not the CA that the code names: this is another arbiter, or somebody in between")
			}
			trust := &Live{clock: clock}
			roots := x509.NewCertPool()
			roots.AddCert(ca)
			trust.cur.Store(&Credentials{CAs: []*x509.Certificate{ca}, roots: roots})
			_, err := trust.Check(s.PeerCertificates, true)
			return err
		},
	}
}

// find returns the CA with the code's fingerprint.
func (c Code) find(chain []*x509.Certificate) *x509.Certificate {
	for _, x := range chain {
		sum := Fingerprint(x)
		if x.IsCA && subtle.ConstantTimeCompare(sum[:pinBytes], c.Pin[:]) == 1 {
			return x
		}
	}
	return nil
}

// Accept checks what an arbiter issued to a node that joins, and writes it: the bundle must have the code's CA.
func (c Code) Accept(f Files, id Identity, keyText, bundle, certText []byte) error {
	cas, err := DecodeCAs(bundle)
	if err != nil {
		return fmt.Errorf("the arbiter's bundle %w", err)
	}
	if c.find(cas) == nil {
		return errors.New("the arbiter's bundle has not the CA that the code names")
	}
	return Install(f, id, keyText, bundle, certText)
}
