package config

import (
	"fmt"
	"strings"
)

// ExitCode is what a program exits with after an Error: EX_CONFIG of sysexits.h.
const ExitCode = 78

// Problem is one thing wrong with a file: where, what, and what to do about it.
type Problem struct {
	Line, Column int    // counted from 1; 0 when there is no place
	Key          string // such as "lease[0].name"; "" for the file as a whole
	What         string
	Do           string // a hint, or ""
	Excerpt      string // the line with a caret below it, or ""

	arithmetic bool // a line of the budget does not hold; every number of it was readable
}

// Error is every problem that was found in one file. Callers exit with ExitCode.
type Error struct {
	File     string
	Problems []Problem
}

// Error prints one problem a paragraph: FILE:LINE:COLUMN: KEY: what is wrong, the line with a caret, what to do.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
		if p.Key != "" {
			b.WriteString(p.Key + ": ")
		}
		b.WriteString(p.What)
		if p.Excerpt != "" {
			b.WriteString("\n" + p.Excerpt)
		}
		if p.Do != "" {
			b.WriteString("\n  hint: " + p.Do)
		}
	}
	return b.String()
}

// excerpt shows line n of src (counted from 1) with carets below width bytes from the given column on.
func excerpt(src []byte, n, column, width int) string {
	lines := strings.Split(string(src), "\n")
	if n < 1 || n > len(lines) {
		return ""
	}
	text := strings.TrimRight(lines[n-1], "\r")
	if len(text) > maxExcerpt || column < 1 || column > len(text)+1 {
		return ""
	}
	// Tabs stay tabs below tabs, so that the caret stands under its character in every terminal.
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, text[:column-1])
	label := fmt.Sprintf("%5d | ", n)
	carets := strings.Repeat("^", max(1, min(width, len(text)-column+1)))
	return label + text + "\n" + strings.Repeat(" ", len(label)-2) + "| " + pad + carets
}

// maxExcerpt is the longest line that is shown: a longer one hides the message.
const maxExcerpt = 200
