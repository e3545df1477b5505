package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	blockCert = "CERTIFICATE"
	blockKey  = "PRIVATE KEY"
	blockCSR  = "CERTIFICATE REQUEST"

	maxCerts = 8 // in one file: a leaf with its CA, or the CAs of a roll
)

// EncodeCerts writes certificates one after the other.
func EncodeCerts(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: blockCert, Bytes: c.Raw}) // a buffer takes everything
	}
	return b.Bytes()
}

// EncodeKey writes a key as PKCS #8.
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// blocks splits PEM into blocks of one kind. Anything else, also a word between two of them, is an error: a file of which
// half was understood is not understood.
func blocks(text []byte, kind string, most int) ([][]byte, error) {
	var out [][]byte
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return nil, fmt.Errorf("something stands beside the %s", kind)
		}
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("is cut off or damaged: no whole %s", kind)
		}
		if block.Type != kind {
			return nil, fmt.Errorf("has a %s where a %s is expected", block.Type, kind)
		}
		if out = append(out, block.Bytes); len(out) > most {
			return nil, fmt.Errorf("has more than %d of %s", most, kind)
		}
		rest = after
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("has no %s", kind)
	}
	return out, nil
}

// DecodeCerts reads certificates, at least one.
func DecodeCerts(text []byte) ([]*x509.Certificate, error) {
	all, err := blocks(text, blockCert, maxCerts)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, der := range all {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("has a certificate that cannot be parsed: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// DecodeCAs reads a bundle: every certificate in it must be a CA's.
func DecodeCAs(text []byte) ([]*x509.Certificate, error) {
	all, err := DecodeCerts(text)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if !c.IsCA || !c.BasicConstraintsValid || c.CheckSignatureFrom(c) != nil {
			return nil, fmt.Errorf("has a certificate that is no CA's: %s", c.Subject.CommonName)
		}
	}
	return all, nil
}

// DecodeKey reads one key of the one kind that is used.
func DecodeKey(text []byte) (*ecdsa.PrivateKey, error) {
	all, err := blocks(text, blockKey, 1)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(all[0])
	if err != nil {
		return nil, errors.New("has a key that cannot be parsed") // what it says might quote the key
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("has a key that is not ECDSA P-256")
	}
	return key, nil
}

// NewCSR asks for a certificate for a key. The identity in it is a wish that the issuer compares with what it allows.
func NewCSR(id Identity, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{}
	template.Subject.CommonName = commonName(id)
	uri, err := id.uri()
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	template.URIs = append(template.URIs, uri)
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der}), nil
}

// DecodeCSR reads a request, checks that its sender has the key, and returns whom it is for.
func DecodeCSR(text []byte) (Identity, crypto.PublicKey, error) {
	all, err := blocks(text, blockCSR, 1)
	if err != nil {
		return Identity{}, nil, fmt.Errorf("the request %w", err)
	}
	r, err := x509.ParseCertificateRequest(all[0])
	if err != nil {
		return Identity{}, nil, fmt.Errorf("the request cannot be parsed: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return Identity{}, nil, fmt.Errorf("the request is not signed by its key: %w", err)
	}
	if len(r.URIs) != 1 {
		return Identity{}, nil, fmt.Errorf("the request has %d URIs, and must have one", len(r.URIs))
	}
	id, err := ParseIdentity(r.URIs[0].String())
	return id, r.PublicKey, err
}
