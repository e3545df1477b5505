package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Clock is the [clock] table: against what this node's clock is measured, besides the arbiter's.
type Clock struct {
	NTP   []string      // HOST or HOST:PORT; none: nobody is asked
	Every time.Duration // how often each of them is; 0 without any
}

const (
	maxServers = 8
	// defaultEvery is the pace at which public servers put up with anybody.
	defaultEvery = 64 * time.Second
	minEvery     = time.Second
	maxEvery     = time.Hour
	ntpPort      = "123"
)

func readClock(t *table) Clock {
	c := Clock{NTP: t.list("ntp"), Every: t.durationUpTo("ntp_every", defaultEvery, maxEvery)}
	if len(c.NTP) > maxServers {
		t.bad("ntp", fmt.Sprintf("names %d servers", len(c.NTP)), fmt.Sprintf("at most %d are asked; three or more are enough to "+
			"outvote one that is wrong", maxServers))
	}
	seen := map[string]bool{}
	for i, s := range c.NTP {
		key := fmt.Sprintf("ntp[%d]", i)
		name := strings.ToLower(withPort(s))
		switch {
		case !validServer(s):
			t.bad(key, fmt.Sprintf("%q is not a server", s), `write HOST, HOST:PORT or [IPV6]:PORT, such as "ntp1.example.net"`)
		case seen[name]:
			t.bad(key, fmt.Sprintf("%q is there twice", s), "each server has one voice")
		}
		seen[name] = true
	}
	if c.Every < minEvery {
		t.bad("ntp_every", fmt.Sprintf("%v is too often", c.Every), `at least "1s", and "64s" at servers that are not yours`)
	}
	if len(c.NTP) == 0 {
		if _, typed := t.values["ntp_every"]; typed {
			t.bad("ntp_every", "has no effect without ntp", "name servers, or remove it")
		}
		c = Clock{}
	}
	t.finish()
	return c
}

// withPort is a server's name in one form, so that two of them can be compared.
func withPort(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s
	}
	return net.JoinHostPort(strings.Trim(s, "[]"), ntpPort)
}

// validServer accepts a host, an address, or either with a port; an IPv6 address with a port only in brackets.
func validServer(s string) bool {
	host, port := s, ntpPort
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return !strings.Contains(host, "%")
	}
	for i, r := range host {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '.') {
			return false
		}
	}
	return host != "" && len(host) <= 253
}
