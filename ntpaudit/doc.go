// Package ntpaudit measures how fast this machine's CLOCK_BOOTTIME runs, the clock that leases live by: against NTP servers,
// and against the arbiter's clock. The safety of a lease counts on a bound of that rate (ρ, drift_ppm), so somebody should look.
//
// Nothing here is an estimate. An exchange with another clock gives bounds of what it showed when; two of them bound the rate
// in between, whatever the network did; and a verdict is only given when the whole interval lies above the bound, three times
// in a row, so that a step of the other clock (a leap second, a server that is set) is none.
//
// The package decides about no lease. NTP is not authenticated: whoever answers in a server's name changes a verdict at most,
// and what a verdict may do is the agent's to say (it does not compete; it never gives up what it holds).
package ntpaudit
