package main

import (
	"fmt"
	"html"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fenceOptions are what a call of fence_leasedog is told.
type fenceOptions struct {
	action, plug, separator string
	socket                  string
	delay, timeout          time.Duration
	verbose, help, version  bool
}

// fenceTimeout is within Pacemaker's own pcmk_reboot_timeout, and beyond the longest hold of a profile.
const fenceTimeout = 50 * time.Second

// fenceInput bounds standard input.
const fenceInput = 64 << 10

func fenceActions() []string {
	return []string{"on", "off", "reboot", "status", "list", "list-status", "monitor", "metadata", "manpage", "validate-all"}
}

// fenceParam is one parameter, on the command line and on standard input.
type fenceParam struct {
	name      string // on standard input; with dashes the long option
	short     string
	value     string // what its argument is called; "" is a switch
	kind      string // of its content in the metadata
	standard  string // the default
	text      string
	required  bool
	hidden    bool // not for a device's configuration
	obsoletes string
	set       func(f *fenceOptions, value string) error
}

func (p fenceParam) long() string { return strings.ReplaceAll(p.name, "_", "-") }

func fenceParams() []fenceParam {
	plug := func(f *fenceOptions, v string) error {
		if !regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(v) {
			return fmt.Errorf("%q is not a node's name", v)
		}
		f.plug = v
		return nil
	}
	flag := func(to func(*fenceOptions) *bool) func(*fenceOptions, string) error {
		return func(f *fenceOptions, v string) error {
			*to(f) = !slices.Contains([]string{"0", "no", "off", "false"}, strings.ToLower(v))
			return nil
		}
	}
	return []fenceParam{
		{name: "action", short: "o", value: "action", kind: "string", standard: "reboot", required: true, text: "Fencing action",
			set: func(f *fenceOptions, v string) error {
				if f.action = strings.ToLower(v); f.action == "disable" { // old names of the API
					f.action = "off"
				} else if f.action == "enable" {
					f.action = "on"
				}
				if !slices.Contains(fenceActions(), f.action) {
					return fmt.Errorf("%q is none of %s", v, strings.Join(fenceActions(), ", "))
				}
				return nil
			}},
		{name: "plug", short: "n", value: "node", kind: "string", obsoletes: "port", set: plug,
			text: "Name of the node in Pacemaker, which is its name for leasedog too"},
		{name: "port", value: "node", kind: "string", text: "The same, by its former name", set: plug},
		{name: "power_timeout", value: "seconds", kind: "second", standard: strconv.Itoa(int(fenceTimeout.Seconds())),
			text: "How long to wait until it is certain that the node runs nothing; more than the lease's hold, less than pcmk_reboot_timeout",
			set: func(f *fenceOptions, v string) (err error) {
				if f.timeout, err = fenceSeconds(v); err == nil && f.timeout == 0 {
					err = fmt.Errorf("must be above 0")
				}
				return err
			}},
		{name: "delay", value: "seconds", kind: "second", standard: "0", text: "Wait X seconds before fencing is started",
			set: func(f *fenceOptions, v string) (err error) { f.delay, err = fenceSeconds(v); return err }},
		{name: "separator", short: "C", value: "char", kind: "string", standard: ",", text: "Separator for the lines of list",
			set: func(f *fenceOptions, v string) error { f.separator = v; return nil }},
		{name: "verbose", short: "v", kind: "boolean", text: "Say on standard error what is waited for", set: flag(func(f *fenceOptions) *bool { return &f.verbose })},
		{name: "version", short: "V", kind: "boolean", text: "Display version information and exit", set: flag(func(f *fenceOptions) *bool { return &f.version })},
		{name: "help", short: "h", kind: "boolean", text: "Display help and exit", set: flag(func(f *fenceOptions) *bool { return &f.help })},
		{name: "socket", value: "path", hidden: true, set: func(f *fenceOptions, v string) error { f.socket = v; return nil }},
	}
}

// fenceSeconds reads a number of seconds, with or without an s.
func fenceSeconds(v string) (time.Duration, error) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(v, "s"), 64)
	if err != nil || !(n >= 0 && n <= 86400) {
		return 0, fmt.Errorf("%q is not a number of seconds", v)
	}
	return time.Duration(n * float64(time.Second)), nil
}

// readFenceOptions reads the command line, or, when that is empty, standard input.
func readFenceOptions(args []string, in io.Reader, warn io.Writer) (fenceOptions, error) {
	f := fenceOptions{action: "reboot", separator: ",", timeout: fenceTimeout}
	var err error
	if len(args) > 0 {
		err = f.fromArgs(args)
	} else {
		err = f.fromInput(in, warn)
	}
	needs := []string{"on", "off", "reboot", "status"}
	if err == nil && f.plug == "" && slices.Contains(needs, f.action) && !f.help && !f.version {
		err = fmt.Errorf("the action %s needs a node: -n NODE, or plug=NODE on standard input", f.action)
	}
	return f, err
}

// fromArgs reads options as getopt_long(3) does.
func (f *fenceOptions) fromArgs(args []string) error {
	params := fenceParams()
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		name, value, given := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		i := -1
		switch {
		case strings.HasPrefix(word, "--"):
			i = slices.IndexFunc(params, func(p fenceParam) bool { return p.long() == name })
		case len(word) >= 2 && word[0] == '-':
			i = slices.IndexFunc(params, func(p fenceParam) bool { return p.short == word[1:2] })
			value, given = word[2:], len(word) > 2
			if i >= 0 && params[i].value == "" && given { // -vV are two
				args, given, value = append([]string{"-" + word[2:]}, args...), false, ""
			}
			word = word[:2]
		default:
			return fmt.Errorf("%q is no option; fence_leasedog --help lists them", word)
		}
		if i < 0 {
			return fmt.Errorf("there is no option %s; fence_leasedog --help lists them", word)
		}
		if params[i].value != "" && !given {
			if len(args) == 0 {
				return fmt.Errorf("%s needs a value", word)
			}
			value, args = args[0], args[1:]
		}
		if err := params[i].set(f, value); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}

// fromInput reads key=value lines. Keys that are not known are ignored, as the API wants it: Pacemaker adds its own.
func (f *fenceOptions) fromInput(in io.Reader, warn io.Writer) error {
	text, err := io.ReadAll(io.LimitReader(in, fenceInput+1))
	if err != nil {
		return fmt.Errorf("read the options from standard input: %w", err)
	}
	if len(text) > fenceInput {
		return fmt.Errorf("standard input has more than %d bytes", fenceInput)
	}
	nodename := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.ReplaceAll(strings.TrimSpace(key), "-", "_"), strings.TrimSpace(value)
		if key == "option" { // the action's former name
			key = "action"
		}
		i := slices.IndexFunc(fenceParams(), func(p fenceParam) bool { return p.name == key && !p.hidden })
		switch {
		case key == "nodename":
			nodename = value
		case key == "nodeid" || key == "domain" || key == "disable_timeout" || key == "quiet": // from Pacemaker, or of every agent
		case i < 0:
			fmt.Fprintf(warn, "fence_leasedog: ignored the unknown option %q\n", key)
		default:
			if err := fenceParams()[i].set(f, value); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	if f.plug == "" && nodename != "" { // pcmk_host_argument=none
		return fenceParams()[1].set(f, nodename)
	}
	return nil
}

// fenceUsage is the help.
func fenceUsage() string {
	var b strings.Builder
	b.WriteString("Usage:\n\tfence_leasedog [options]\nOptions (without any, they are read from standard input as name=value):\n")
	for _, p := range fenceParams() {
		if !p.hidden {
			fmt.Fprintf(&b, "   %-34s %s\n", p.mixed(), p.text)
		}
	}
	return b.String()
}

// mixed is how the command line is shown in the metadata.
func (p fenceParam) mixed() string {
	out := "--" + p.long()
	if p.value != "" {
		out += "=[" + p.value + "]"
	}
	if p.short != "" {
		out = "-" + p.short + ", " + out
	}
	return out
}

// fenceMetadata is what Pacemaker, pcs and crmsh read.
func fenceMetadata() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" ?>
<resource-agent name="fence_leasedog" shortdesc="Fence agent that asks leasedog's arbiter">
<longdesc>Fences a node of a two-node cluster by its lease. off and reboot succeed only when leasedog's arbiter confirms that the node ` +
		`holds no lease any more, is not paused, and is barred until it boots anew: its resources are stopped, or its guard has reset it. ` +
		`A node that holds a lease and renews it is never fenced, so that of two nodes that lost each other the holder wins. A barred node ` +
		`that can reach the arbiter resets itself (off: powers down). If not every resource of the cluster is guarded by a lease, only a ` +
		`new boot of the node is taken for a success. It asks this node's agent, which asks the arbiter: without either it fails.</longdesc>
<vendor-url>https://github.com/leasedog/leasedog</vendor-url>
<parameters>
`)
	bit := map[bool]string{true: "1", false: "0"}
	for _, p := range fenceParams() {
		if p.hidden {
			continue
		}
		more := ""
		if p.name == "port" {
			more = ` deprecated="1"`
		}
		if p.obsoletes != "" {
			more = fmt.Sprintf(` obsoletes=%q`, p.obsoletes)
		}
		fmt.Fprintf(&b, "\t<parameter name=%q unique=\"0\" required=%q%s>\n\t\t<getopt mixed=%q/>\n\t\t<content type=%q", p.name,
			bit[p.required], more, p.mixed(), p.kind)
		if p.standard != "" {
			fmt.Fprintf(&b, " default=%q", p.standard)
		}
		fmt.Fprintf(&b, "/>\n\t\t<shortdesc lang=\"en\">%s</shortdesc>\n\t</parameter>\n", html.EscapeString(p.text))
	}
	b.WriteString("</parameters>\n<actions>\n")
	for _, a := range fenceActions() {
		more := ""
		if a == "on" {
			more = ` automatic="0"`
		}
		fmt.Fprintf(&b, "\t<action name=%q%s/>\n", a, more)
	}
	b.WriteString("</actions>\n</resource-agent>\n")
	return b.String()
}
