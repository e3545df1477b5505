package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pki"
)

// caLife is how long a CA signs. Whoever wants less rolls it earlier.
const caLife = 20 * 365 * 24 * time.Hour

// pkiOptions are what every pki verb has.
type pkiOptions struct {
	*options
	dir string
}

func newPKICommand(o *options) *cobra.Command {
	p := &pkiOptions{options: o}
	cmd := &cobra.Command{
		Use: "pki", Short: "make, issue, renew, revoke and show certificates",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown verb %q of pki", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&p.dir, "dir", "", "`folder` with the certificates (default: pki of the configuration)")
	cmd.AddCommand(newPKIInit(p), newPKICode(p), newPKIIssue(p), newPKIRenew(p), newPKIRevoke(p), newPKIRoll(p), newPKIShow(p))
	return cmd
}

// folder returns where the certificates are and how long new ones live.
func (p *pkiOptions) folder() (pki.Folder, time.Duration, error) {
	const life = 365 * 24 * time.Hour
	if p.dir != "" {
		return pki.Folder{Dir: p.dir}, life, nil
	}
	cfg, err := config.LoadArbiter(p.configPath)
	if err != nil {
		return pki.Folder{}, 0, err
	}
	if cfg.Insecure {
		return pki.Folder{}, 0, &exitError{code: exitConfig, err: fmt.Errorf("%s says insecure = true: there are no certificates", p.configPath),
			hint: "remove insecure and allow_insecure_from there first"}
	}
	return pki.Folder{Dir: cfg.PKI}, cfg.CertLife, nil
}

// lifeFlag adds --life.
func lifeFlag(cmd *cobra.Command, life *time.Duration) {
	cmd.Flags().DurationVar(life, "life", 0, "life of the certificate (default: cert_life of the configuration)")
}

func pick(life, fallback time.Duration) (time.Duration, error) {
	if life < 0 {
		return 0, usageError("--life must be above 0")
	}
	if life == 0 {
		return fallback, nil
	}
	return life, nil
}

func newPKIInit(p *pkiOptions) *cobra.Command {
	var life, ca time.Duration
	var name string
	cmd := &cobra.Command{
		Use: "init", Short: "make a CA and the arbiter's certificate", Args: exactly(0),
		Long: "Make a CA and the arbiter's certificate. It never replaces one.\n" +
			"The CA's key, ca.key, may be moved to another place afterwards: then this arbiter issues and renews nothing by itself,\n" +
			"and \"pki issue --ca-key FILE\" does it where the key is.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, fallback, err := p.folder()
			if err != nil {
				return err
			}
			if life, err = pick(life, fallback); err != nil {
				return err
			}
			if err := f.Init(name, ca, life, time.Now()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made a CA and the arbiter's certificate in %s\n"+
				"next: systemctl restart leasedog-arbiter, then for each node: leasedog-arbiter pki code CLUSTER NODE\n", f.Dir)
			return err
		},
	}
	lifeFlag(cmd, &life)
	cmd.Flags().DurationVar(&ca, "ca-life", caLife, "life of the CA")
	cmd.Flags().StringVar(&name, "name", "leasedog CA", "name of the CA, for people")
	return cmd
}

func newPKICode(p *pkiOptions) *cobra.Command {
	return &cobra.Command{
		Use: "code CLUSTER NODE", Short: "make a code with which a node joins, once", Args: exactly(2),
		Long: "Make a code with which a node gets its first certificate. It is good once, for this node, for a quarter of an hour, and\n" +
			"until the arbiter is restarted. It names the CA, so that the node knows the arbiter.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var c api.Code
			path := operatorPath(api.PathCode, args[0], "", args[1])
			if err := control(cmd.Context(), p.configPath, http.MethodPost, path, struct{}{}, &c); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "on %s, within %v: leasedog join https://ARBITER:7443 --code CODE\n", args[1], time.Duration(c.ForNS))
			_, err := fmt.Fprintln(cmd.OutOrStdout(), c.Code)
			return err
		},
	}
}

func newPKIIssue(p *pkiOptions) *cobra.Command {
	var life time.Duration
	var csr, out, caKey, role string
	cmd := &cobra.Command{
		Use: "issue CLUSTER NODE --csr FILE --out FILE | issue --role reader|admin --out FILE", Short: "issue a certificate without enrolment",
		Long: "Issue a certificate. With --csr for a node whose request \"leasedog join --csr\" has written: its key stays where it is.\n" +
			"Without --csr a key is made too, in FILE.key beside the certificate; carry both by a way that you trust.",
		Args: func(cmd *cobra.Command, args []string) error {
			if (role == "") != (len(args) == 2) || len(args) != 0 && len(args) != 2 {
				return usageError("issue takes CLUSTER and NODE, or --role reader or admin")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError("issue needs --out FILE")
			}
			f, fallback, err := p.folder()
			if err != nil {
				return err
			}
			if life, err = pick(life, fallback); err != nil {
				return err
			}
			id, err := issueFor(role, args)
			if err != nil {
				return err
			}
			if err := f.IssueToFile(id, csr, out, pki.Request{Life: life, How: "issue", CAKey: caKey}, time.Now()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: certificate of %s; its CAs are in %s.ca\n", out, id, out)
			return err
		},
	}
	lifeFlag(cmd, &life)
	cmd.Flags().StringVar(&csr, "csr", "", "`file` with the node's request")
	cmd.Flags().StringVar(&out, "out", "", "`file` for the certificate")
	cmd.Flags().StringVar(&caKey, "ca-key", "", "`file` with the CA's key, if it is kept elsewhere")
	cmd.Flags().StringVar(&role, "role", "", "reader or admin")
	return cmd
}

func issueFor(role string, args []string) (pki.Identity, error) {
	var id pki.Identity
	var err error
	if role != "" {
		if role == string(pki.RoleArbiter) {
			return id, usageError("the arbiter's certificate comes from pki init and pki renew")
		}
		id, err = pki.RoleIdentity(pki.Role(role))
	} else {
		id, err = pki.NodeIdentity(args[0], args[1])
	}
	if err != nil {
		return id, usageError("%v", err)
	}
	return id, nil
}

func newPKIRenew(p *pkiOptions) *cobra.Command {
	var life time.Duration
	cmd := &cobra.Command{
		Use: "renew", Short: "renew the arbiter's own certificate", Args: exactly(0),
		Long: "Renew the arbiter's own certificate now. While the CA's key is here the arbiter does it by itself, and nodes renew\n" +
			"theirs. A running arbiter takes it within a few seconds; no connection ends.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, fallback, err := p.folder()
			if err != nil {
				return err
			}
			if life, err = pick(life, fallback); err != nil {
				return err
			}
			if err := f.RenewOwn(life, time.Now()); err != nil {
				return noKeyHint(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the arbiter's certificate was renewed, for %s\n", pki.Ago(life))
			return err
		},
	}
	lifeFlag(cmd, &life)
	return cmd
}

func noKeyHint(err error) error {
	if errors.Is(err, pki.ErrNoCAKey) {
		return &exitError{code: exitFailure, err: err, hint: "do it where the key is, on a copy of this folder, or bring the key back for a moment"}
	}
	return err
}

func newPKIRevoke(p *pkiOptions) *cobra.Command {
	var serials []string
	yes := false
	cmd := &cobra.Command{
		Use: "revoke CLUSTER NODE | revoke --serial NUMBER", Short: "revoke every certificate of a node, or single ones",
		Long: "Revoke every certificate that was issued to a node so far, or single ones by their numbers. The running arbiter takes it\n" +
			"within a few seconds and ends the node's connections: what the node holds runs out. A new code lets it join again.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 && (len(args) != 0 || len(serials) == 0) {
				return usageError("revoke takes CLUSTER and NODE, or --serial")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f, _, err := p.folder()
			if err != nil {
				return err
			}
			what := strings.Join(serials, " ")
			var id pki.Identity
			if len(args) == 2 {
				if id, err = pki.NodeIdentity(args[0], args[1]); err != nil {
					return usageError("%v", err)
				}
				if serials, err = f.Serials(id); err != nil {
					return err
				}
				what = id.String()
			}
			if len(serials) == 0 {
				return fmt.Errorf("no certificate of %s was issued here; --serial NUMBER revokes one that was issued elsewhere", what)
			}
			if !yes {
				word := serials[0]
				if len(args) == 2 {
					word = args[1]
				}
				if err := confirm(cmd, "the node's name (or the number)", word, fmt.Sprintf("Whoever uses a certificate of %s is "+
					"refused from now on. What it holds is lost.", what)); err != nil {
					return err
				}
			}
			n := len(serials)
			if len(args) == 2 { // one may have been renewed since
				n, err = f.RevokeAll(id, time.Now())
			} else {
				err = f.Revoke(serials, what, time.Now())
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "revoked %d of %s\n", n, what)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&serials, "serial", nil, "serial `number` of a certificate")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func newPKIRoll(p *pkiOptions) *cobra.Command {
	end, yes := false, false
	var name string
	cmd := &cobra.Command{
		Use: "roll [--end]", Short: "replace the CA without a stop", Args: exactly(0),
		Long: "Replace the CA. It makes a new one that signs from now on, and both are trusted: nodes take it by themselves when they next\n" +
			"look, an hour later at most. \"pki roll --end\" takes the old one away: it asks the running arbiter whether every node has been\n" +
			"there with a certificate of the new one, and is refused until then.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, life, err := p.folder()
			if err != nil {
				return err
			}
			now := time.Now()
			if !end {
				if err := f.Roll(name, caLife, now); err != nil {
					return noKeyHint(err)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "two CAs are trusted now; next, when \"pki show\" says that nobody is behind: leasedog-arbiter pki roll --end")
				return err
			}
			var seen api.Seen
			if !yes {
				if err := control(cmd.Context(), p.configPath, http.MethodGet, api.PathSeen, nil, &seen); err != nil {
					return err
				}
			}
			behind, err := f.Behind(now, seen.CA)
			if err != nil {
				return noKeyHint(err)
			}
			if len(behind) > 0 && !yes {
				return &exitError{code: exitTryAgain, err: fmt.Errorf("the old CA is still needed by %s", join(behind)),
					hint: "nodes renew when they next look, and count when they were here with it; --yes ends the roll all the same, " +
						"and those must join again"}
			}
			if err := f.EndRoll(life, now); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "the old CA is trusted no longer")
			return err
		},
	}
	cmd.Flags().BoolVar(&end, "end", false, "take the old CA away")
	cmd.Flags().BoolVar(&yes, "yes", false, "also while somebody is behind")
	cmd.Flags().StringVar(&name, "name", "leasedog CA", "name of the new CA, for people")
	return cmd
}

func join(ids []pki.Identity) string {
	var out []string
	for _, id := range ids {
		out = append(out, id.String())
	}
	return strings.Join(out, ", ")
}

func newPKIShow(p *pkiOptions) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "show the CAs, the arbiter's certificate and what was issued", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, _, err := p.folder()
			if err != nil {
				return err
			}
			return showPKI(cmd, f, time.Now())
		},
	}
}

func showPKI(cmd *cobra.Command, f pki.Folder, now time.Time) error {
	cas, err := f.CAs()
	if err != nil {
		return err
	}
	entries, err := f.Index()
	if err != nil {
		return err
	}
	revoked, err := f.Revoked()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	signer := ""
	switch ca, err := f.Authority(""); {
	case err == nil:
		signer = pki.ShortFingerprint(ca.Cert)
	case errors.Is(err, pki.ErrNoCAKey):
	default:
		return err
	}
	for _, ca := range cas {
		note := ""
		if pki.ShortFingerprint(ca) == signer {
			note = "signs"
		}
		fmt.Fprintf(w, "CA\t%s\t%s\tends %s\t%s\n", pki.ShortFingerprint(ca), ca.Subject.CommonName, ca.NotAfter.UTC().Format(time.DateOnly), note)
	}
	if signer == "" {
		fmt.Fprintln(w, "the CA's key is not here: nothing is issued or renewed by this arbiter")
	}
	newest := map[string]bool{}
	for _, e := range slices.Backward(entries) { // the newest of each; older ones only while they are good
		state := "ends " + e.NotAfter.Format(time.RFC3339)
		switch {
		case revoked[e.Serial]:
			state = "revoked"
		case e.NotAfter.Before(now):
			state = "ended " + e.NotAfter.Format(time.RFC3339)
		case !newest[e.Identity] && len(cas) > 1 && e.CA != signer && e.Identity != "leasedog:arbiter":
			state += ", behind: of the old CA"
		}
		if newest[e.Identity] && e.NotAfter.Before(now) {
			continue
		}
		newest[e.Identity] = true
		fmt.Fprintf(w, "%s\t%s\tCA %s\t%s\t%s\n", e.Identity, e.Serial, e.CA, state, e.How)
	}
	return w.Flush()
}
