package packages

import (
	"errors"
	"slices"
	"testing"
)

func TestParseName(t *testing.T) {
	for path, want := range map[string]name{
		"dist/leasedog_1.2.3-1_amd64.deb":                                   {"leasedog", "1.2.3-1", "amd64", "deb"},
		"leasedog-arbiter_0.0.0~git.20261125.gabc-1_arm64.deb":              {"leasedog-arbiter", "0.0.0~git.20261125.gabc-1", "arm64", "deb"},
		"leasedog-1.2.3-1.x86_64.rpm":                                       {"leasedog", "1.2.3-1", "x86_64", "rpm"},
		"/tmp/leasedog-arbiter-0.0.0~git.20261125.gabc.dirty-1.aarch64.rpm": {"leasedog-arbiter", "0.0.0~git.20261125.gabc.dirty-1", "aarch64", "rpm"},
		"leasedog-amd64.deb":                                                {},
		"leasedog-1.2.3.rpm":                                                {},
		"leasedog_1_amd64.tar":                                              {},
		"leasedog_1_2_amd64.deb":                                            {},
	} {
		got, err := parseName(path)
		if got != want || (err != nil) != (want == name{}) {
			t.Errorf("%s is %+v, %v; want %+v", path, got, err, want)
		}
	}
}

func TestWanted(t *testing.T) {
	list, err := parseList("a /usr/sbin 0755 bin/a\na:deb /usr/share/doc/a 0644 packaging/copyright\na:rpm /l 0644 LICENSE\n\nb /etc 0644 b.toml\n")
	if err != nil {
		t.Fatal(err)
	}
	deb := []string{"-rw-r--r-- root root /usr/share/doc/a/changelog.Debian.gz", "-rw-r--r-- root root /usr/share/doc/a/copyright",
		"-rwxr-xr-x root root /usr/sbin/a"}
	if got := wanted(list, "a", "deb"); !slices.Equal(got, deb) {
		t.Errorf("a deb of a has %q", got)
	}
	if got := wanted(list, "a", "rpm"); !slices.Equal(got, []string{"-rw-r--r-- root root /l/LICENSE", "-rwxr-xr-x root root /usr/sbin/a"}) {
		t.Errorf("an rpm of a has %q", got)
	}
	for _, bad := range []string{"a /usr 0755", "a /usr 0777 x", "a /usr 0644 x y"} {
		if _, err := parseList(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A script that ends without its last line has not looked at everything.
func TestResult(t *testing.T) {
	if got, err := result("noise\nRESULT: 3 files\nmore\n", nil); got != "3 files" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := result("noise\n", nil); err == nil {
		t.Error("no result is taken for one")
	}
	if _, err := result("RESULT: 3 files\n", errors.New("exit status 1")); err == nil {
		t.Error("a failure is lost")
	}
}
