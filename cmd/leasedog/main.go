package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/agent/control"
	"github.com/leasedog/leasedog/config"
	"github.com/leasedog/leasedog/pki"
)

// Exit codes, from sysexits.h where it has one, and the first four as monitoring plugins use them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitCritical    = 2
	exitUnknown     = 3
	exitUsage       = 64
	exitUnavailable = 69
	exitTryAgain    = 75
	exitConfig      = config.ExitCode
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// options are the flags that every verb has.
type options struct {
	configPath string
	output     string
	socketPath string
}

// Values of -o.
const (
	outputText = "text"
	outputJSON = "json"
)

// exitError is an error with an exit code of its own, and possibly a hint on a line of its own.
type exitError struct {
	code int
	err  error // nil: everything has been said
	hint string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), hint: `"leasedog --help" lists the verbs, "leasedog VERB --help" explains one`}
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.Execute())
}

func newRootCommand() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "leasedog",
		Short:         "split-brain guard for two-node Pacemaker clusters",
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("a verb is missing")
			}
			text := fmt.Sprintf("unknown verb %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				text += fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
			}
			return usageError("%s", text)
		},
		RunE: func(*cobra.Command, []string) error { return nil },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if o.output != outputText && o.output != outputJSON {
				return usageError("-o %s: the output is text or json", o.output)
			}
			return nil
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError("%w", err) })
	flags := root.PersistentFlags()
	flags.StringVarP(&o.configPath, "config", "c", config.AgentPath, "configuration `file`")
	flags.StringVarP(&o.output, "output", "o", outputText, "`text` or json")
	flags.StringVar(&o.socketPath, "socket", control.SocketPath, "the agent's control `socket`")
	root.AddCommand(
		newAgentCommand(o), newGuardCommand(),
		newStatusCommand(o), newWhyCommand(o),
		newSwitchoverCommand(o), newReleaseCommand(o), newAcquireCommand(o),
		newPauseCommand(o), newResumeCommand(o), newHandoverCommand(o), newOCFCommand(o), newFenceCommand(o), newPokeCommand(o),
		newBudgetCommand(o), newSimulateCommand(o), newConfigCommand(o), newConstraintsCommand(o), newJoinCommand(o), newInitCommand(o), newRemovableCommand(),
		newVersionCommand(o),
	)
	return root
}

// report prints err and returns the exit code that belongs to it.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code, hint := codeAndHint(err)
	var ce *config.Error
	var ee *exitError
	switch {
	case errors.As(err, &ce): // each problem on a line that begins with its place, as editors want it
		fmt.Fprintf(w, "leasedog: the configuration is refused\n%v\n", ce)
	case !errors.As(err, &ee) || ee.err != nil:
		fmt.Fprintf(w, "leasedog: %v\n", err)
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}

// codeAndHint finds the exit code and the hint of an error.
func codeAndHint(err error) (int, string) {
	var ee *exitError
	if errors.As(err, &ee) {
		return ee.code, ee.hint
	}
	var ce *config.Error
	if errors.As(err, &ce) {
		return exitConfig, ""
	}
	var file *pki.Error
	if errors.As(err, &file) {
		return exitConfig, file.Do
	}
	if errors.Is(err, control.ErrNotRunning) {
		return exitUnavailable, `"systemctl status leasedog" and "journalctl -u leasedog" say why`
	}
	var re *control.Error
	if errors.As(err, &re) {
		if re.Code == control.CodeTryAgain {
			return exitTryAgain, re.Hint
		}
		return exitFailure, re.Hint
	}
	return exitFailure, ""
}

// noJSON refuses -o json for a verb that has no such form.
func (o *options) noJSON(verb string) error {
	if o.output == outputJSON {
		return usageError("%s has no json form", verb)
	}
	return nil
}

// oneLease accepts exactly one argument, a lease.
func oneLease(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError("%s needs exactly one lease", cmd.Name())
	}
	return nil
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s takes no argument %q", cmd.Name(), args[0])
	}
	return nil
}

// version is set by the build (-ldflags -X main.version=…): a linker can set nothing but a variable.
var version = "unknown"

func versionText() string {
	return fmt.Sprintf("leasedog %s (%s, %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
