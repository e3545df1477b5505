package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Peer is who is at the other end.
type Peer struct {
	Identity Identity
	Standing Standing
	Cert     *x509.Certificate
}

// Refusal is why a peer is not let in. Identity is what its certificate claims, proven or not.
type Refusal struct {
	Identity Identity
	Code     string // one of the Reason constants
	text     string
}

func (r *Refusal) Error() string { return r.text }

// Reasons of a Refusal.
const (
	ReasonNoCertificate  = "no-certificate"
	ReasonOtherCA        = "other-ca"
	ReasonNoIdentity     = "no-identity"
	ReasonRole           = "role"
	ReasonExpired        = "expired"
	ReasonNotYetValid    = "not-yet-valid"
	ReasonRevoked        = "revoked"
	ReasonNotReady       = "no-credentials"
	errNothingLoaded     = "there are no credentials"
	errArbiterOnly       = "the peer is %s, and no arbiter"
	errArbiterConnecting = "an arbiter's certificate cannot ask"
)

// Check judges the chain that a peer presented. asServer: the peer serves, so it must be an arbiter; otherwise it must
// be anything else.
func (l *Live) Check(chain []*x509.Certificate, asServer bool) (Peer, error) {
	c := l.Current()
	if c == nil {
		return Peer{}, &Refusal{Code: ReasonNotReady, text: errNothingLoaded}
	}
	if len(chain) == 0 {
		return Peer{}, &Refusal{Code: ReasonNoCertificate, text: "the peer has no certificate"}
	}
	p := Peer{Cert: chain[0]}
	id, idErr := IdentityOf(p.Cert)
	refuse := func(code, format string, args ...any) (Peer, error) {
		return Peer{}, &Refusal{Identity: id, Code: code, text: fmt.Sprintf(format, args...)}
	}
	usage := x509.ExtKeyUsageClientAuth
	if asServer {
		usage = x509.ExtKeyUsageServerAuth
	}
	if err := c.chain(chain, usage); err != nil {
		return refuse(ReasonOtherCA, "the certificate is not of a CA that is trusted here, or not for this: %v", err)
	}
	if idErr != nil {
		return refuse(ReasonNoIdentity, "%v", idErr)
	}
	p.Identity = id
	if asServer != (id.Role == RoleArbiter) {
		if asServer {
			return refuse(ReasonRole, errArbiterOnly, id)
		}
		return refuse(ReasonRole, errArbiterConnecting)
	}
	return l.judge(c, p)
}

// judge is the part that may change while a connection lives: dates and revocation.
func (l *Live) judge(c *Credentials, p Peer) (Peer, error) {
	refuse := func(code, text string) (Peer, error) {
		return Peer{}, &Refusal{Identity: p.Identity, Code: code, text: text}
	}
	if c.revoked[Serial(p.Cert)] {
		return refuse(ReasonRevoked, "the certificate was revoked")
	}
	if p.Standing = l.clock.Standing(p.Cert); p.Standing == Outside {
		if l.clock.Now().Before(p.Cert.NotBefore) {
			return refuse(ReasonNotYetValid, l.clock.dates(p.Cert))
		}
		return refuse(ReasonExpired, l.clock.dates(p.Cert))
	}
	return p, nil
}

// Again judges a peer whose connection was let in before. Dates never end a connection: outside of them it keeps what is
// held, and nothing more. A revoked certificate ends it.
func (l *Live) Again(cert *x509.Certificate) (Peer, error) {
	c := l.Current()
	if c == nil {
		return Peer{}, &Refusal{Code: ReasonNotReady, text: errNothingLoaded}
	}
	id, err := IdentityOf(cert)
	if err != nil {
		return Peer{}, &Refusal{Code: ReasonNoIdentity, text: err.Error()}
	}
	p, err := l.judge(c, Peer{Identity: id, Cert: cert})
	var r *Refusal
	if errors.As(err, &r) && (r.Code == ReasonExpired || r.Code == ReasonNotYetValid) {
		return Peer{Identity: id, Cert: cert, Standing: Grace}, nil
	}
	return p, err
}

// Dates says what is wrong with the dates of a peer that is not Valid.
func (l *Live) Dates(p Peer) string { return l.clock.dates(p.Cert) }

// Server returns the arbiter's side. While open says so, a peer without any certificate is let in, and may do nothing
// but join; whoever serves must see to that.
func (l *Live) Server(open func() bool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13,
		// Each connection proves itself anew: nothing that was true once is resumed.
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequestClientCert, // VerifyConnection requires and verifies it, and says what is wrong
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := l.Current()
			if c == nil {
				return nil, errors.New(errNothingLoaded)
			}
			return &c.pair, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 && open() {
				return nil
			}
			_, err := l.Check(s.PeerCertificates, false)
			return err
		},
	}
}

// Client returns a node's side. The arbiter is known by its role and CA, never by its address, so no name is compared.
func (l *Live) Client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		InsecureSkipVerify: true, // crypto/tls knows neither roles nor our rules for dates: VerifyConnection verifies everything
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := l.Check(s.PeerCertificates, true)
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c := l.Current()
			if c == nil {
				return nil, errors.New(errNothingLoaded)
			}
			return &c.pair, nil
		},
	}
}
