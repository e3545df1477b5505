package rules

import (
	"fmt"
	"strings"
	"time"
)

func (r Result) line() string {
	mark := "red     "
	if !r.Red() {
		mark = "SURVIVED"
	}
	s := fmt.Sprintf("%s %-7s without %q: %s (%.0f s)", mark, r.ID, r.Without, r.Test, r.Took.Seconds())
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Markdown is the section Rules of docs/VERIFICATION.md.
func Markdown(results []Result, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, `%[1]smake rules%[1]s takes one rule of the design after the other out of the production code, by replacing text at compile time
([test/rules](../test/rules)), runs the tests of %[1]slease%[1]s, %[1]sguard%[1]s and %[1]ssim%[1]s until one is red, and writes this section. A rule
that no test notices fails the run. The numbers are those of the design's sections; 4.4.6 is asked of %[1]sarbiterclient%[1]s.

%[2]d removals, %[3]d without a red test; %.0[4]f s.

| rule | taken away | first red test |
|---|---|---|
`, "`", len(results), Survivors(results), took.Seconds())
	for _, r := range results {
		test := r.Test
		if !r.Red() {
			test = "**none**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.ID, r.Without, test)
	}
	return b.String()
}
