package main

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzCorosyncToken: the token timeout is one that Corosync may have, or an error.
func FuzzCorosyncToken(f *testing.F) {
	f.Add("totem {\n  version: 2\n  cluster_name: erp\n  token: 3000\n  interface {\n    ringnumber: 0\n  }\n}\nquorum {\n  provider: corosync_votequorum\n}\n")
	f.Add("totem {\n}\n}\n}\ntotem{\ntoken:99999999999999999999\n")
	f.Add("# token: 1\ntotem {\n token: 9223372036854775807\n}")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "corosync.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := corosyncToken(path)
		if err == nil && (d <= 0 || d > maxToken) {
			t.Errorf("a token timeout of %v", d)
		}
	})
}
