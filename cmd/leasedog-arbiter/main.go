// Command leasedog-arbiter is the third host: it serves leases (serve), shows them (status), issues certificates (pki),
// and carries out what only a human may decide (recover, free, unbar). It decides nothing itself.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pki"
)

// Exit codes, from sysexits.h.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 64
	exitUnavailable = 69
	exitTryAgain    = 75
	exitConfig      = config.ExitCode
)

const defaultConfig = "/etc/leasedog/arbiter.toml"

// version is set by the linker.
var version = "unknown"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// options are the flags that every verb has.
type options struct {
	configPath string
	output     string
}

// exitError is an error with an exit code of its own, and possibly a hint on a line of its own.
type exitError struct {
	code int
	err  error
	hint string
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "leasedog-arbiter: %v\n", err)
	var bad *config.Error
	var exit *exitError
	var file *pki.Error
	switch {
	case errors.As(err, &exit):
		if exit.hint != "" {
			fmt.Fprintf(stderr, "leasedog-arbiter: hint: %s\n", exit.hint)
		}
		return exit.code
	case errors.As(err, &bad):
		return exitConfig
	case errors.As(err, &file):
		if file.Do != "" {
			fmt.Fprintf(stderr, "leasedog-arbiter: hint: %s\n", file.Do)
		}
		return exitConfig
	}
	return exitFailure
}

func newRootCommand() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use: "leasedog-arbiter", Short: "keeps the leases of leasedog's clusters, on a third host", Version: versionText(),
		SilenceUsage: true, SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown verb %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError("%v", err) })
	root.PersistentFlags().StringVar(&o.configPath, "config", defaultConfig, "configuration file")
	root.AddCommand(newServeCommand(o), newStatusCommand(o), newRecoverCommand(o), newFreeCommand(o), newUnbarCommand(o), newPKICommand(o), newRemovableCommand(o), &cobra.Command{
		Use: "version", Short: "print the version", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionText())
			return err
		},
	})
	return root
}

func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), hint: `"leasedog-arbiter --help" lists the verbs`}
}

func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError("%s takes %d arguments, not %d", cmd.Name(), n, len(args))
		}
		return nil
	}
}

func versionText() string {
	return fmt.Sprintf("leasedog-arbiter %s (%s %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
