// Package packages looks at what "make packages" made, as those do who will install it: the files with their modes, what lintian
// and rpmlint say, an installation, an upgrade, a removal and a purge of each in a root file system of the laboratory, the SELinux
// sources, and a second build elsewhere that must be the same bit for bit. What apt does to a pair that runs is rows of the
// laboratory. It needs root, and installs the tools that it lacks.
package packages
