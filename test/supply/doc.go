// Package supply says what a built program is made of: a bill of materials, and the licences of all modules that are in it. It
// reads the program itself (debug/buildinfo), not go.mod, which also names what only tests need.
//
// It looks for no known holes: that is govulncheck's.
package supply
