package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/arbiterclient"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pki"
)

// joinTime bounds the whole enrolment.
const joinTime = 30 * time.Second

// joinOptions are join's flags.
type joinOptions struct {
	code, cluster, node string
	csr, cert, ca       string
	replace             bool
}

func newJoinCommand(o *options) *cobra.Command {
	j := &joinOptions{}
	cmd := &cobra.Command{
		Use: "join URL --code CODE", Short: "get this node's certificate from the arbiter, once",
		Long: "Get this node's certificate. \"leasedog-arbiter pki code CLUSTER NODE\" at the arbiter prints the code, which is good once.\n" +
			"The node makes its key, which never leaves it, and knows the arbiter by the CA that the code names.\n" +
			"Where that is forbidden: \"leasedog join --csr FILE\" writes a request, \"leasedog-arbiter pki issue\" answers it, and\n" +
			"\"leasedog join --cert FILE --ca FILE\" takes the answer.",
		Args: func(_ *cobra.Command, args []string) error { return j.check(args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.noJSON("join"); err != nil {
				return err
			}
			files, id, err := j.self(cmd, o)
			if err != nil {
				return err
			}
			switch {
			case j.csr != "":
				return j.request(cmd, files, id)
			case j.cert != "":
				return j.take(cmd, files, id)
			}
			return j.join(cmd, args[0], files, id)
		},
	}
	f := cmd.Flags()
	f.StringVar(&j.code, "code", "", "the `code`, or - to read it from standard input")
	f.StringVar(&j.cluster, "cluster", "", "the cluster's `name` (default: the configuration's)")
	f.StringVar(&j.node, "node", "", "this node's `name` in Pacemaker (default: the configuration's, or this host's)")
	f.BoolVar(&j.replace, "replace", false, "also when there is a certificate already")
	f.StringVar(&j.csr, "csr", "", "make a key and write a request to `file`, for an issue by hand")
	f.StringVar(&j.cert, "cert", "", "take the certificate in `file`, which was issued for that request")
	f.StringVar(&j.ca, "ca", "", "`file` with the CAs that came with it")
	return cmd
}

func (j *joinOptions) check(args []string) error {
	byHand := j.csr != "" || j.cert != ""
	switch {
	case byHand && (len(args) > 0 || j.code != "" || j.csr != "" && j.cert != ""):
		return usageError("join takes a URL and --code, or --csr, or --cert and --ca")
	case (j.cert != "") != (j.ca != ""):
		return usageError("--cert and --ca belong together")
	case !byHand && (len(args) != 1 || j.code == ""):
		return usageError("join needs the arbiter's URL and --code")
	}
	return nil
}

// self says who this node is and where its certificate goes.
func (j *joinOptions) self(cmd *cobra.Command, o *options) (pki.Files, pki.Identity, error) {
	files := pki.Files{CA: config.DefaultCA, Cert: config.DefaultCert, Key: config.DefaultKey}
	conf, err := config.LoadAgent(o.configPath)
	switch {
	case err == nil && conf.Insecure:
		return files, pki.Identity{}, &exitError{code: exitConfig, err: fmt.Errorf("%s says insecure = true: there are no certificates", o.configPath),
			hint: "remove insecure there, at the other node and at the arbiter first"}
	case err == nil:
		files = nodeFiles(conf)
		if name := conf.Arbiter.KeyCredential; name != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "leasedog: the key will be in %s: move it to where the credential %s is loaded from\n", files.Key, name)
		}
		if j.cluster == "" {
			j.cluster = conf.Cluster
		}
		if j.node == "" {
			j.node = conf.Node
		}
	case j.cluster == "":
		return files, pki.Identity{}, err
	default:
		fmt.Fprintf(cmd.ErrOrStderr(), "leasedog: %s is not used: it is missing or not complete yet\n", o.configPath)
	}
	if j.node == "" {
		if j.node, err = os.Hostname(); err != nil {
			return files, pki.Identity{}, fmt.Errorf("find this host's name: %w", err)
		}
	}
	id, err := pki.NodeIdentity(j.cluster, j.node)
	if err != nil {
		return files, id, usageError("%v", err)
	}
	if _, err := os.Lstat(files.Cert); !errors.Is(err, fs.ErrNotExist) && !j.replace {
		return files, id, &exitError{code: exitFailure, err: fmt.Errorf("%s is there already: nothing was changed", files.Cert),
			hint: "the agent renews it by itself; --replace gets another one"}
	}
	return files, id, nil
}

func (j *joinOptions) join(cmd *cobra.Command, url string, files pki.Files, id pki.Identity) error {
	if err := j.enrol(cmd, url, files, id); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: this node is %s\nnext: systemctl restart leasedog\n", files.Cert, id)
	return err
}

// enrol gets the certificate and puts it in its place.
func (j *joinOptions) enrol(cmd *cobra.Command, url string, files pki.Files, id pki.Identity) error {
	text := j.code
	if text == "-" {
		raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1024))
		if err != nil {
			return fmt.Errorf("read the code: %w", err)
		}
		text = string(raw)
	}
	code, err := pki.ParseCode(strings.TrimSpace(text))
	if err != nil {
		return usageError("%v", err)
	}
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	keyText, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	csr, err := pki.NewCSR(id, key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), joinTime)
	defer cancel()
	issued, err := arbiterclient.Join(ctx, url, code, id, csr, pki.NewClock(time.Now, boottime.Now))
	if err != nil {
		return &exitError{code: exitUnavailable, err: fmt.Errorf("join: %w", err),
			hint: "a code is good once, for one node and a quarter of an hour: leasedog-arbiter pki code makes another"}
	}
	if err := code.Accept(files, id, keyText, issued.Bundle, issued.Cert); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// request makes a key and a request for it. A key that is there is used again.
func (j *joinOptions) request(cmd *cobra.Command, files pki.Files, id pki.Identity) error {
	csr, err := pki.KeyAndRequest(files, id)
	if err != nil {
		return err
	}
	if err := os.WriteFile(j.csr, csr, 0o644); err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: a request for %s\nnext, where the CA's key is: leasedog-arbiter pki issue %s %s --csr FILE --out FILE\n",
		j.csr, id, id.Cluster, id.Node)
	return err
}

// take installs what was issued by hand for this node's key.
func (j *joinOptions) take(cmd *cobra.Command, files pki.Files, id pki.Identity) error {
	if err := pki.InstallFrom(files, id, j.cert, j.ca); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: this node is %s\nnext: systemctl restart leasedog\n", files.Cert, id)
	return err
}
