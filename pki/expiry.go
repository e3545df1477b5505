package pki

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Notice says how near the end of a certificate is. Renewal comes at two thirds of a life, so a notice means that
// renewals have failed for long, or that nobody renews.
type Notice int

// The notices, in the order in which they come.
const (
	NoNotice Notice = iota
	Notice60
	Notice30
	Notice7
	Expired
)

const day = 24 * time.Hour

// NoticeOf judges a certificate. The 60, 30 and 7 days are at most a quarter, an eighth and a sixteenth of its life, so
// that a short-lived one which is renewed in time never alarms.
func NoticeOf(c *x509.Certificate, now time.Time) Notice {
	left, life := c.NotAfter.Sub(now), c.NotAfter.Sub(c.NotBefore)
	switch {
	case left < 0:
		return Expired
	case left < min(7*day, life/16):
		return Notice7
	case left < min(30*day, life/8):
		return Notice30
	case left < min(60*day, life/4):
		return Notice60
	}
	return NoNotice
}

// Text says it to an administrator, or is "" when there is nothing to say.
func (n Notice) Text(what string, c *x509.Certificate, now time.Time) string {
	switch n {
	case NoNotice:
		return ""
	case Expired:
		over := c.NotAfter.Add(grace(c))
		if now.After(over) {
			return fmt.Sprintf("%s expired %s ago: whoever connects anew is refused", what, Ago(now.Sub(c.NotAfter)))
		}
		return fmt.Sprintf("%s expired %s ago: what is held can be kept until %s, nothing new is granted", what,
			Ago(now.Sub(c.NotAfter)), stamp(over))
	}
	return fmt.Sprintf("%s expires in %s, at %s", what, Ago(c.NotAfter.Sub(now)), stamp(c.NotAfter))
}

// Ago writes a long duration in days, a short one as it is.
func Ago(d time.Duration) string {
	if d >= 2*day {
		return fmt.Sprintf("%d days", int(d/day))
	}
	return d.Round(time.Second).String()
}

// RenewAt is when a certificate is to be replaced.
func RenewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// CheckEvery is how often whoever renews a certificate looks whether it must.
func CheckEvery(c *x509.Certificate) time.Duration {
	return max(time.Second, min(time.Hour, c.NotAfter.Sub(c.NotBefore)/20))
}
