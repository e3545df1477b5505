package arbiterclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/pki"
)

// Authorities asks what the arbiter trusts and which CA signs.
func (c *Client) Authorities(ctx context.Context) (pki.Authorities, error) {
	var w api.Authorities
	err := c.each(func(t *target) error { return t.call(ctx, http.MethodGet, api.PathCA, nil, &w) })
	return pki.Authorities{Bundle: []byte(w.CA), Issuer: w.Issuer}, err
}

// RenewCertificate asks for a new certificate for this node.
func (c *Client) RenewCertificate(ctx context.Context, csr []byte) (pki.Issued, error) {
	var w api.Certificate
	err := c.each(func(t *target) error {
		return t.call(ctx, http.MethodPost, api.PathCert, api.Renewal{Proto: api.Proto, CSR: string(csr)}, &w)
	})
	return pki.Issued{Bundle: []byte(w.CA), Cert: []byte(w.Certificate)}, err
}

// Try asks over a new connection with other credentials than those in use.
func (c *Client) Try(ctx context.Context, with *pki.Live) error {
	return c.each(func(t *target) error {
		trial := newTarget(t.url, t.timeout, with.Client())
		defer trial.http.Load().CloseIdleConnections()
		var w api.Authorities
		return trial.call(ctx, http.MethodGet, api.PathCA, nil, &w)
	})
}

// Reconnect makes new connections from now on, with the credentials of now. What is under way goes on.
func (c *Client) Reconnect() {
	for _, t := range c.targets {
		old := t.http.Swap(t.client(c.opt.TLS.Client()))
		old.CloseIdleConnections()
	}
}

// each asks one address after the other until one answers.
func (c *Client) each(ask func(*target) error) error {
	var errs []error
	for _, t := range c.targets {
		err := ask(t)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (t *target) call(ctx context.Context, method, path string, body, out any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("ask the arbiter: %w", err)
		}
	}
	return t.exchange(ctx, method, path, text, func(resp *http.Response) error { return decodeInto(resp, out) })
}

// Join asks for a node's first certificate. The arbiter is known by the CA's fingerprint in the code; the node by its
// secret, which is good once.
func Join(ctx context.Context, rawURL string, code pki.Code, id pki.Identity, csr []byte, clock *pki.Clock) (pki.Issued, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "https" || u.Port() == "" {
		return pki.Issued{}, fmt.Errorf("address %q: want https://HOST:PORT", rawURL)
	}
	const userTimeout = 10 * time.Second
	t := newTarget(u, userTimeout, code.Joining(clock))
	defer t.http.Load().CloseIdleConnections()
	var w api.Certificate
	err = t.call(ctx, http.MethodPost, api.PathJoin, api.Join{Proto: api.Proto, Cluster: id.Cluster, Node: id.Node,
		Secret: code.Secret[:], CSR: string(csr)}, &w)
	return pki.Issued{Bundle: []byte(w.CA), Cert: []byte(w.Certificate)}, err
}
