// Package rules takes one rule of the protocol after the other out of the production code, by exact replacements of text
// at compile time (go build -overlay; no source is touched, and no source has a hook), and requires that a test turns red.
// A rule whose removal no test notices does not exist.
//
// It does not judge whether the rules are enough: that is what sim and test/model are for.
package rules
