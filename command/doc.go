// Package command runs other programs. It is the only place of the project that does (os/exec), so that the
// rules below hold everywhere:
//
//   - argv only, never a shell; the program is named by its absolute path; the working directory is "/";
//   - the environment is PATH, LC_ALL=C and what the caller adds, nothing is inherited (NOTIFY_SOCKET and
//     the like never reach a child);
//   - the context must carry a deadline. At the deadline, or when the context is cancelled, the whole
//     process group gets SIGKILL and the program is reaped before Run returns;
//   - Run returns even if that is impossible: a program in uninterruptible sleep (D state), or an exec that
//     hangs on dead storage, is reported with Error.Unreaped after a short grace and reaped in the
//     background;
//   - a descendant that outlives the program and keeps its pipes open delays the return by PipeGrace at
//     most;
//   - output is limited; a program that writes more is killed.
//
// What it does not do: it does not retry, log, interpret exit codes or decide anything. It does not find
// descendants that left the process group (setsid): whoever runs resource agents looks for those in /proc
// (package pcmk).
package command
