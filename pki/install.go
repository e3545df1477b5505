package pki

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Install checks that a key, a certificate and a bundle belong together and to an identity, and writes them.
func Install(f Files, id Identity, keyText, bundle, certText []byte) error {
	if err := fits(f, id, keyText, bundle, certText); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(f.Key)), 0o755); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	for _, path := range []string{f.Key, f.Cert, f.CA} {
		if err := makeFolder(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if err := writeFile(f.Key, keyText, keyMode); err != nil {
		return err
	}
	return replace(f, bundle, certText)
}

// fits says why a set of credentials is none.
func fits(f Files, id Identity, keyText, bundle, certText []byte) error {
	c, err := assemble(f, id.Role, bundle, certText, keyText)
	if err != nil {
		return err
	}
	if c.Identity != id {
		return fmt.Errorf("the certificate is one of %s, asked was for %s", c.Identity, id)
	}
	return nil
}

// replace writes the bundle first: a certificate never comes before the CA that signed it. During a roll the old bundle
// is part of the new one, and at its end the certificate is of the new CA already.
func replace(f Files, bundle, certText []byte) error {
	if err := writeFile(f.CA, bundle, publicMode); err != nil {
		return err
	}
	return writeFile(f.Cert, certText, publicMode)
}

// Missing reports which of a node's files are not there.
func (f Files) Missing() []string {
	var out []string
	for _, path := range []string{f.CA, f.Cert, f.Key} {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			out = append(out, path)
		}
	}
	return out
}

// KeyAndRequest returns a request for the key of Files, which is made if it is not there.
func KeyAndRequest(f Files, id Identity) ([]byte, error) {
	text, err := readFile(f.Key, true, maxFile)
	if errors.Is(err, os.ErrNotExist) {
		text, err = makeKey(f.Key)
	}
	if err != nil {
		return nil, err
	}
	key, err := DecodeKey(text)
	if err != nil {
		return nil, &Error{File: f.Key, What: err.Error(), err: err}
	}
	return NewCSR(id, key)
}

func makeKey(path string) ([]byte, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	text, err := EncodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return text, writeFile(path, text, keyMode)
}

// InstallFrom puts a certificate that was issued for the key of Files into its place.
func InstallFrom(f Files, id Identity, certFile, caFile string) error {
	keyText, err := readFile(f.Key, true, maxFile)
	if err != nil {
		return err
	}
	certText, err := readFile(certFile, false, maxFile)
	if err != nil {
		return err
	}
	bundle, err := readFile(caFile, false, maxFile)
	if err != nil {
		return err
	}
	return Install(f, id, keyText, bundle, certText)
}
