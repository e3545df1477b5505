// Command leasedog is the node's binary: the programs agent and guard, and every verb of the administrator, one file
// each. main wires and nothing else; verbs ask the agent over its local socket (package agent/control) or print what
// they computed from the configuration.
//
// Results go to standard output, everything else to standard error. A verb that stops or moves resources asks on a
// terminal and needs --yes elsewhere.
//
// Exit codes: 0 done, 1 error, 2 critical (status --check), 3 unknown (status --check), 64 usage, 69 the agent is not
// running, 75 not now, try again, 78 the configuration is refused.
//
// What it does not do: verbs never touch a lease, a guard or Pacemaker behind the agent's back, constraints excepted,
// which is for Pacemaker's configuration.
package main
