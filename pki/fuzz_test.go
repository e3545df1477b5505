package pki

import (
	"bytes"
	"testing"
)

// Whatever is typed as a code is refused, or is exactly one code.
func FuzzParseCode(f *testing.F) {
	f.Add("AAAAAA-BBBBBB-CCCCCC-DDDDDD-EEEEEE-FFFFFF-GGGGGG-HHHHHH")
	f.Add(Code{}.String())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCode(text)
		if err != nil {
			return
		}
		if again, err := ParseCode(c.String()); err != nil || again != c {
			t.Errorf("%q is %v, and that is %v (%v)", text, c, again, err)
		}
	})
}

// What is an identity is written in one way only.
func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{"leasedog://erp/node1", "leasedog:admin", "leasedog://erp/..", "leasedog://e/%6e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseIdentity(text)
		if err == nil && (id.String() != text || id.Role == "" || (id.Role == RoleNode) != (id.Cluster != "")) {
			t.Errorf("%q is taken as %+v", text, id)
		}
	})
}

// Files and requests from elsewhere are read whole or not at all.
func FuzzDecode(f *testing.F) {
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	keyText, _ := EncodeKey(key)
	csr, _ := NewCSR(Identity{RoleNode, "erp", "node1"}, key)
	ca, _ := NewAuthority("ca", year, newHands().wall)
	for _, text := range [][]byte{keyText, csr, EncodeCerts(ca.Cert), append(EncodeCerts(ca.Cert), csr...), nil} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := DecodeKey(text); err == nil && k.Curve.Params().BitSize != 256 {
			t.Errorf("a key of another kind: %v", k.Curve)
		}
		if id, pub, err := DecodeCSR(text); err == nil && (id.Role == "" || pub == nil) {
			t.Errorf("a request for nobody: %+v %v", id, pub)
		}
		if certs, err := DecodeCAs(text); err == nil {
			if again, err := DecodeCAs(EncodeCerts(certs...)); err != nil || !bytes.Equal(again[0].Raw, certs[0].Raw) {
				t.Errorf("certificates are not what was read: %v", err)
			}
		}
	})
}
