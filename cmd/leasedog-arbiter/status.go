package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
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

// controlTime bounds a question to the running arbiter.
const controlTime = 20 * time.Second

// maxStatus bounds what the running arbiter may answer.
const maxStatus = 64 << 20

// control asks the running arbiter over its local socket.
func control(ctx context.Context, configPath, method, path string, body, out any) error {
	cfg, err := config.LoadArbiter(configPath)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", cfg.Control)
		}}}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://arbiter"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return &exitError{code: exitUnavailable, err: fmt.Errorf("ask the arbiter at %s: %w", cfg.Control, err),
			hint: "is it running, and are you root? \"systemctl status leasedog-arbiter\""}
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return fmt.Errorf("ask the arbiter: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var e api.Error
		if json.Unmarshal(text, &e) != nil || e.Message == "" {
			e.Message = resp.Status
		}
		return fmt.Errorf("the arbiter says: %s", e.Message)
	}
	return json.Unmarshal(text, out)
}

func newStatusCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "show every cluster, lease and node", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.output != "text" && o.output != "json" {
				return usageError("-o %q: must be text or json", o.output)
			}
			var s api.Status
			if err := control(cmd.Context(), o.configPath, http.MethodGet, api.PathClusters, nil, &s); err != nil {
				return err
			}
			if o.output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			return printStatus(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "text", "text or json")
	return cmd
}

func printStatus(out io.Writer, s api.Status) error {
	if s.Insecure {
		fmt.Fprintln(out, "insecure: plain HTTP, whoever reaches the port from an allowed network may take the leases")
	}
	printCertificates(out, s)
	if len(s.Clusters) == 0 {
		fmt.Fprintln(out, "no cluster has asked for a lease yet")
	}
	for _, c := range s.Clusters {
		fmt.Fprintf(out, "cluster %s\n", c.Cluster)
		if c.Recovery != "" {
			fmt.Fprintf(out, "  ! %s\n", c.Recovery)
		}
		if c.WriteError {
			fmt.Fprintln(out, "  ! the store cannot be written: no new grants")
		}
		for _, l := range c.Leases {
			if l.Alarm != "" {
				fmt.Fprintf(out, "  ! lease %s is %s\n", l.Lease, l.Alarm)
			}
		}
		for _, n := range c.Nodes {
			if n.Report != nil {
				for _, a := range n.Report.Alarms {
					fmt.Fprintf(out, "  ! %s says: %s\n", n.Node, a)
				}
			}
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, l := range c.Leases {
			fmt.Fprintf(w, "  lease %s\t%s\tepoch %d\t%s\t%s\n", l.Lease, l.State, l.Epoch, l.Holder, leaseDetail(l))
		}
		for _, n := range c.Nodes {
			fmt.Fprintf(w, "  node %s\t%s\n", n.Node, nodeDetail(c.Cluster, n))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// printCertificates says who this arbiter is, and whom it refused.
func printCertificates(out io.Writer, s api.Status) {
	if c := s.Certificates; c != nil {
		for _, a := range c.Alarms {
			fmt.Fprintln(out, "! "+a)
		}
		fmt.Fprintf(out, "certificate ends in %s", pki.Ago(time.Duration(c.EndsInNS)))
		for _, ca := range c.CAs {
			fmt.Fprintf(out, ", CA %s in %s", ca.Fingerprint, pki.Ago(time.Duration(ca.EndsInNS)))
		}
		if !c.Issues {
			fmt.Fprint(out, "; the CA's key is not here: nothing is issued or renewed")
		}
		fmt.Fprintln(out)
	}
	if len(s.Refused) > 0 {
		fmt.Fprint(out, "refused since the start:")
		for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
			fmt.Fprintf(out, " %s %d", reason, s.Refused[reason])
		}
		fmt.Fprintln(out)
	}
}

func leaseDetail(l api.LeaseStatus) string {
	var out []string
	if l.PausedForNS > 0 {
		out = append(out, fmt.Sprintf("known as paused for %v", time.Duration(l.PausedForNS).Round(time.Second)))
	}
	switch {
	case l.EndsInNS > 0:
		out = append(out, fmt.Sprintf("hold ends in %v", time.Duration(l.EndsInNS).Round(100*time.Millisecond)))
	case l.PausedForNS > 0:
		out = append(out, "without an end")
	}
	if l.MoveTo != "" {
		out = append(out, "is to move to "+l.MoveTo)
	}
	for _, w := range l.Waiters {
		text := w.Node + " waits"
		switch {
		case w.LastResort:
			text += " (stands back)"
		case !w.Ready:
			text += " (not ready)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func nodeDetail(cluster string, n api.NodeStatus) string {
	text := "not heard since the arbiter started"
	if n.HeardAgoNS >= 0 {
		text = fmt.Sprintf("heard %v ago", time.Duration(n.HeardAgoNS).Round(100*time.Millisecond))
	}
	if n.Barred {
		text += fmt.Sprintf(", barred: a new boot ends that, or leasedog-arbiter unbar %s %s", cluster, n.Node)
	}
	if c := n.Certificate; c != nil {
		text += ", certificate ends in " + pki.Ago(time.Duration(c.EndsInNS))
		if c.Alarm != "" {
			text += ", ! " + c.Alarm
		}
	}
	if n.Twins {
		text += ", ! two machines speak under this name"
	}
	return text
}
