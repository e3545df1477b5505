#!/bin/sh
# Prints what Pacemaker's tools say on this release: the samples in tools.txt. It stops Pacemaker and
# changes the configuration: it is for a node of the lab,
#
#   bin/lab up --plain --systemd --promotable --suite trixie
#   bin/lab exec node1 -- sh -s <pcmk/testdata/capture.sh >pcmk/testdata/VERSION/tools.txt
#   bin/lab exec node2 -- systemctl stop pacemaker
#   bin/lab exec node1 -- sh -s no-dc <pcmk/testdata/capture.sh >>pcmk/testdata/VERSION/tools.txt
#
# Each sample is a line "$ COMMAND", its stdout, "! " before each line of its stderr, and a line "= EXIT CODE".
LC_ALL=C
export LC_ALL
me=$(crm_node -n)
err=$(mktemp)

say() {
	echo "\$ $*"
	timeout 20 "$@" 2>"$err"
	code=$?
	sed 's/^/! /' "$err"
	echo "= $code"
}

# What a command changes shows in the CIB a moment later.
settle() {
	sleep 1
	timeout 60 crm_resource --wait
}

# With Pacemaker stopped on the other node too there is no DC for some seconds. Before its daemons are there the answer is 102.
if [ "$1" = no-dc ]; then
	systemctl restart pacemaker
	tries=0
	while [ $tries -lt 100 ]; do
		timeout 20 crmadmin -D >/dev/null 2>&1
		test $? = 102 || break
		tries=$((tries + 1))
		sleep 0.1
	done
	say crmadmin -D
	rm -f "$err"
	exit
fi

ban='<rsc_location id="sample" rsc="g-app"><rule id="sample-rule" score="-INFINITY"><expression id="sample-e" attribute="sample" operation="lte" value="0"/></rule></rsc_location>'

say crm_mon --version
say crm_node -n
say crmadmin -D
say crmadmin -S node1
say crmadmin -S node2
for resource in canary vip state slow g-app nosuch; do
	say crm_resource --resource "$resource" --force-check --timeout 5s
done
say crm_resource --resource nosuch --force-stop --timeout 5s
say attrd_updater -n sample -U 42
settle
say attrd_updater -n sample -Q
say crm_attribute -N "$me" -n sample -l reboot -G
say cibadmin --query --local --xpath "/cib/status/node_state[@uname='$me']"
say attrd_updater -n sample -D
settle
say attrd_updater -n sample -Q
say crm_attribute -N "$me" -n sample -l reboot -G
say cibadmin --query --local --xpath "/cib/status/node_state[@uname='$me']"
say attrd_updater -n nosuch -Q
say attrd_updater -n nosuch -D
say cibadmin --query --local --xpath "/cib/status/node_state[@uname='nosuch']"
say cibadmin --create --scope constraints --xml-text "$ban"
say cibadmin --create --scope constraints --xml-text "$ban"
say cibadmin --replace --scope constraints --xml-text "$ban"
say cibadmin --delete --scope constraints --xml-text '<rsc_location id="sample"/>'
say cibadmin --delete --scope constraints --xml-text '<rsc_location id="sample"/>'
say crm_attribute --type crm_config --name batch-limit --update=-1

systemctl stop pacemaker
say crm_mon -1 --output-as=xml
say crm_node -n
say crmadmin -D
say crm_resource --resource canary --force-check --timeout 5s
say attrd_updater -n sample -U 42
say cibadmin --query --local
rm -f "$err"
systemctl start pacemaker
