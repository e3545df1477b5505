// Package model runs the Promela models of this folder under many configurations, with spin, and says whether each
// verdict is the expected one. lease.pml is one grant against the clock; its bound comes from lease.Terms.NeededHold, and
// one tick less must fail. record.pml is the arbiter's record through restarts, rollback, clone, pause and release.
//
// A configuration that takes a rule away must give a counterexample, or the model does not know the rule. It needs spin
// and a C compiler. It proves the models and not the code: what ties them to lease/ are the comments in the models, the
// bound, and the same rules being removed from the code by test/rules.
package model
