package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/leasedog/leasedog/config"
)

func newConfigCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "check or show the configuration",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown verb %q of config: check or show", args[0])
			}
			return usageError("config needs a verb: check or show")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newConfigCheckCommand(o), newConfigShowCommand(o))
	return cmd
}

func newConfigCheckCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "report every problem of the configuration, each with its place and what to do", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := config.LoadAgent(o.configPath)
			if o.output == outputJSON {
				return checkJSON(cmd, o.configPath, a, err)
			}
			if err != nil {
				return err
			}
			b := a.Budget()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n  cluster %s, leases %d, profile %s, hold %v\n  digest %s\n",
				o.configPath, a.Cluster, len(a.Leases), b.Profile, b.Hold(), a.Digest())
			return err
		},
	}
}

func checkJSON(cmd *cobra.Command, path string, a config.Agent, err error) error {
	out := struct {
		Schema   int       `json:"schema"`
		File     string    `json:"file"`
		OK       bool      `json:"ok"`
		Digest   string    `json:"digest,omitempty"`
		Problems []problem `json:"problems"`
	}{Schema: 1, File: path, OK: err == nil, Problems: []problem{}}
	var ce *config.Error
	switch {
	case err == nil:
		out.Digest = a.Digest()
	case errors.As(err, &ce):
		for _, p := range ce.Problems {
			out.Problems = append(out.Problems, problem{p.Line, p.Column, p.Key, p.What, p.Do})
		}
	default:
		return err
	}
	if err := json.NewEncoder(cmd.OutOrStdout()).Encode(out); err != nil {
		return err
	}
	if !out.OK {
		return &exitError{code: exitConfig}
	}
	return nil
}

// problem is one of config's, in JSON.
type problem struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"`
	What   string `json:"what"`
	Do     string `json:"do,omitempty"`
}

func newConfigShowCommand(o *options) *cobra.Command {
	effective := false
	cmd := &cobra.Command{
		Use: "show", Short: "print the configuration after checking it", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.noJSON("config show"); err != nil {
				return err
			}
			a, err := config.LoadAgent(o.configPath)
			if err != nil {
				return err
			}
			text := a.TOML()
			if !effective {
				if text, err = os.ReadFile(o.configPath); err != nil {
					return err
				}
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().BoolVar(&effective, "effective", false, "with every value that is in force, defaults and profile resolved")
	return cmd
}
