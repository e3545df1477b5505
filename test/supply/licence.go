package supply

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licence is one that a module may have. All its phrases stand in its text, whatever the line breaks.
type licence struct {
	id      string // of SPDX
	phrases []string
}

// allowed are the licences that leasedog may be linked with. The first that fits counts, so that the longer one comes first.
func allowed() []licence {
	const binary = "redistributions in binary form must reproduce the above copyright notice"
	return []licence{
		{"Apache-2.0", []string{"apache license", "version 2.0, january 2004", "grant of patent license"}},
		{"BSD-3-Clause", []string{binary, "endorse or promote products derived from this software"}},
		{"BSD-2-Clause", []string{binary}},
		{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy", "the software is provided \"as is\""}},
		{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose"}},
	}
}

// identify returns the licences of a text.
func identify(text string) (string, error) {
	text = strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(text, "``AS IS''", `"as is"`)), " "))
	for _, l := range allowed() {
		if !slices.ContainsFunc(l.phrases, func(p string) bool { return !strings.Contains(text, p) }) {
			return l.id, nil
		}
	}
	return "", errors.New("its licence is none of those that are allowed, or not one that is known")
}

// Notice is what a module wants said of it.
type Notice struct {
	Licences []string // ids of SPDX, sorted
	Text     string   // every file
}

// maxNotice bounds one file.
const maxNotice = 256 << 10

// NoticeOf reads the licence files and notices in a module's root folder. A file that says that it is a licence and is not an
// allowed one is an error, as is a module without any.
func NoticeOf(dir string) (Notice, error) {
	var n Notice
	entries, err := os.ReadDir(dir)
	if err != nil {
		return n, err
	}
	licences := regexp.MustCompile(`(?i)^(licen[cs]e|copying)([.-].*)?$`)
	notices := regexp.MustCompile(`(?i)^(notice|patents)(\.(txt|md))?$`)
	for _, e := range entries {
		isLicence := licences.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go")
		if e.IsDir() || !isLicence && !notices.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && (len(text) == 0 || len(text) > maxNotice) {
			err = fmt.Errorf("has %d bytes", len(text))
		}
		if err != nil {
			return n, fmt.Errorf("%s: %w", e.Name(), err)
		}
		n.Text += fmt.Sprintf("\n--- %s ---\n\n%s\n", e.Name(), strings.TrimSpace(string(text)))
		if !isLicence {
			continue
		}
		id, err := identify(string(text))
		if err != nil {
			return n, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if !slices.Contains(n.Licences, id) {
			n.Licences = append(n.Licences, id)
		}
	}
	slices.Sort(n.Licences)
	if len(n.Licences) == 0 {
		return n, errors.New("it has no licence file")
	}
	return n, nil
}
