// Package history plays nodes against a real arbiter process, which is killed, stopped and started again meanwhile, records
// what each was answered and when, and has porcupine judge whether one lease that keeps its promises could have given
// those answers. Times are CLOCK_BOOTTIME of this one machine, so they may be compared.
//
// It is for any engine: whoever has another one gives Play another Process. It knows nothing of the arbiter's code, and
// judges no liveness: an arbiter that never grants passes, so whoever plays counts what happened.
package history
