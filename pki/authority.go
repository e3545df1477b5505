package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// Authority signs certificates.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// maxBackdate is how far before its making a certificate begins at most, for clocks that are a little behind. It is never
// more than a tenth of its life, so that fractions of a life stay what they are called.
const maxBackdate = time.Hour

func begin(now time.Time, life time.Duration) time.Time { return now.Add(-min(maxBackdate, life/10)) }

// NewKey makes a key: ECDSA P-256, like all of them.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] &= 0x7f           // positive, and at most 20 bytes (RFC 5280)
	b[15] |= 1             // not 0
	return new(big.Int).SetBytes(b[:])
}

// NewAuthority makes a CA that signs for as long as life.
func NewAuthority(name string, life time.Duration, now time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{Organization: []string{"leasedog"}, CommonName: name},
		NotBefore: begin(now, life), NotAfter: now.Add(life), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	return &Authority{cert, key}, nil
}

// Issue signs a certificate for a public key. It ends with the CA at the latest.
func (a *Authority) Issue(id Identity, pub crypto.PublicKey, life time.Duration, now time.Time) (*x509.Certificate, error) {
	uri, err := id.uri()
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if k, ok := pub.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("issue a certificate: the key is not ECDSA P-256")
	}
	end := now.Add(life)
	if end.After(a.Cert.NotAfter) {
		end = a.Cert.NotAfter
	}
	if life <= 0 || !end.After(now) {
		return nil, fmt.Errorf("issue a certificate: the CA ended at %s", a.Cert.NotAfter.Format(time.RFC3339))
	}
	from := begin(now, life)
	if from.Before(a.Cert.NotBefore) {
		from = a.Cert.NotBefore
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{Organization: []string{"leasedog"}, CommonName: commonName(id)},
		NotBefore: from, NotAfter: end, BasicConstraintsValid: true, URIs: []*url.URL{uri},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{id.usage()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return cert, nil
}

// commonName is for eyes only, and X.509 bounds it to 64 characters.
func commonName(id Identity) string {
	name := string(id.Role)
	if id.Role == RoleNode {
		name = id.Cluster + "/" + id.Node
	}
	return name[:min(64, len(name))]
}

// Fingerprint is the SHA-256 of a certificate.
func Fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }

// ShortFingerprint is what people and the index compare.
func ShortFingerprint(c *x509.Certificate) string {
	f := Fingerprint(c)
	return hex.EncodeToString(f[:8])
}

// Serial writes a certificate's number as the index and the list of revoked ones have it.
func Serial(c *x509.Certificate) string { return fmt.Sprintf("%032x", c.SerialNumber) }
