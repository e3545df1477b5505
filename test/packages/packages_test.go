package packages

import (
	"encoding/xml"
	"errors"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/leasedog/leasedog/config"
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

// firewalld refuses what it cannot parse only when somebody uses it. The arbiter's configuration is one that it starts with.
func TestFirewalldService(t *testing.T) {
	text, err := os.ReadFile("../../packaging/firewalld/leasedog-arbiter.xml")
	if err != nil {
		t.Fatal(err)
	}
	var service struct {
		XMLName xml.Name `xml:"service"`
		Short   string   `xml:"short"`
		Port    []struct {
			Protocol string `xml:"protocol,attr"`
			Port     string `xml:"port,attr"`
		} `xml:"port"`
	}
	if err := xml.Unmarshal(text, &service); err != nil {
		t.Fatal(err)
	}
	conf, err := os.Open("../../packaging/etc/arbiter.toml")
	if err != nil {
		t.Fatal(err)
	}
	defer conf.Close()
	arbiter, err := config.ParseArbiter(conf, "arbiter.toml")
	if err != nil {
		t.Fatalf("the arbiter's configuration as it is installed is refused: %v", err)
	}
	_, port, err := net.SplitHostPort(arbiter.Listen)
	if err != nil || service.Short == "" || len(service.Port) != 1 || service.Port[0].Protocol != "tcp" || service.Port[0].Port != port {
		t.Errorf("the service is %+v, the arbiter listens at port %s (%v)", service, port, err)
	}
}
