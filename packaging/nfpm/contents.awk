# Makes the contents of nfpm's configuration for one package in one format from lines PACKAGE[:FORMAT] FOLDER MODE FILE.
# The format marks what is configuration, documentation or a licence, and owns the folders that are named after us.
# SPDX-License-Identifier: Apache-2.0
BEGIN { print "contents:" }

function info(mode) { print "  file_info: {mode: " mode ", owner: root, group: root}" }

# own lists the folder, and those above it, from the first that has our name.
function own(folder,    parts, n, i, path, ours) {
	n = split(folder, parts, "/")
	for (i = 2; i <= n; i++) {
		path = path "/" parts[i]
		ours = ours || parts[i] ~ /^leasedog/
		if (!ours || path in owned) continue
		owned[path] = 1
		print "- dst: " path "\n  type: dir"
		info("0755")
	}
}

{
	split($1, p, ":")
	if (p[1] != package || (p[2] != "" && p[2] != format)) next
	if (NF != 4) { print "not PACKAGE FOLDER MODE FILE: " $0 >"/dev/stderr"; exit 1 }
	name = $4
	sub(/.*\//, "", name)
	type = ""
	if ($2 ~ /^\/etc\//) type = "config|noreplace"
	else if (format == "rpm" && $2 ~ /^\/usr\/share\/licenses\//) type = "license"
	else if (format == "rpm" && $2 ~ /^\/usr\/share\/(doc|man)\//) type = "doc"
	own($2)
	print "- src: " $4 "\n  dst: " $2 "/" name
	if (type != "") print "  type: " type
	info($3)
}
