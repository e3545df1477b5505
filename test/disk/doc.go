// Package disk finds out what a power failure may leave of the files of a program. It runs the unchanged program under
// ptrace(2), logs every system call that changes or syncs a file below one folder, together with the program's own marks
// ("this was answered"), and builds from the log each image that a disk may hold after a crash at each point: what was
// synced is there, what was not may be lost, kept, or torn. It can let a write or a sync fail with EIO; what such a sync
// was to save may never reach the disk, also if a later sync succeeds, as it is on Linux.
//
// It knows nothing of what is in the files: whoever calls it opens the images with the program's own code and judges. A
// program that changes its files in a way that is not logged (a writable mapping, copy_file_range(2), …) is an error.
package disk
