package docs_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// quoted are the commands of ours in a page's code: lines of blocks, and spans.
func quoted(text string) (commands []string) {
	command := regexp.MustCompile(`^leasedog(-arbiter)? [a-z]`)
	inBlock := false
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "```") {
			inBlock = !inBlock
			continue
		}
		if line = strings.TrimSpace(line); inBlock && command.MatchString(line) {
			commands = append(commands, line)
		}
	}
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		if command.MatchString(m[1]) {
			commands = append(commands, m[1])
		}
	}
	return commands
}

// Every command of ours in the pages has its verb and its flags in the manual page, in one line; every test they name exists.
func TestPagesQuoteRealCommands(t *testing.T) {
	known := knownTests(t)
	verb, flag := regexp.MustCompile(`^(leasedog(?:-arbiter)?) ([a-z-]+)(?: (init|issue|code|check|show)\b)?`), regexp.MustCompile(`--[a-z-]+`)
	for page, least := range map[string]int{"docs/UPGRADING.md": 10, "docs/MIGRATING.md": 20} {
		text := read(t, page)
		commands := quoted(text)
		if len(commands) < least {
			t.Errorf("%s has %d commands, expected %d at least", page, len(commands), least)
		}
		for _, c := range commands {
			m := verb.FindStringSubmatch(c)
			manual := strings.Split(read(t, "packaging/man/"+m[1]+".8.md"), "\n")
			lines := slices.DeleteFunc(manual, func(line string) bool {
				second := m[3] == "" || strings.Contains(line, "**"+m[3]+"**") || strings.Contains(line, " "+m[3]+"**")
				return !second || !strings.Contains(line, "**"+m[2]+"**") && !strings.Contains(line, "**"+m[2]+" ")
			})
			if len(lines) == 0 {
				t.Errorf("%s: %q: no line of %s(8) has that verb", page, c, m[1])
			}
			for _, f := range flag.FindAllString(c, -1) {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, f+"**") }) {
					t.Errorf("%s: %q: %s(8) has no %s beside %s", page, c, m[1], f, m[2])
				}
			}
		}
		for _, m := range regexp.MustCompile("`(Test\\w+|[a-z]+-[a-z0-9-]+)`").FindAllStringSubmatch(text, -1) {
			row := regexp.MustCompile("rows? [^.|]*`" + m[1] + "`").MatchString(strings.ReplaceAll(text, "\n", " "))
			if (strings.HasPrefix(m[1], "Test") || row) && !known[m[1]] {
				t.Errorf("%s: there is no test or row %s", page, m[1])
			}
		}
	}
}
