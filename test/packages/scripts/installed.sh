# What must hold in a root file system in which both packages were installed and that was not booted.
test -z "$(find /etc/systemd -name '*leasedog*')" || { echo "FAIL: an installation enables something"; exit 1; }
test "$(stat -c '%U %a' /var/lib/leasedog)" = "root 700" || { echo "FAIL: the node's state folder"; exit 1; }
test "$(stat -c '%U %a' /var/lib/leasedog-arbiter)" = "leasedog-arbiter 700" || { echo "FAIL: the arbiter's state folder"; exit 1; }
leasedog version >/dev/null
leasedog-arbiter version >/dev/null
code=0
leasedog config check 2>/dev/null || code=$?
test "$code" = 78 || { echo "FAIL: the configuration that is installed is not refused as one that nobody wrote yet ($code)"; exit 1; }
/usr/lib/ocf/resource.d/leasedog/lease meta-data | grep -q '<resource-agent name="lease"' || { echo "FAIL: the resource agent"; exit 1; }
for unit in leasedog.service leasedog-guard.service leasedog-handover.service leasedog-arbiter.service; do
	said=$(systemd-analyze verify --man=no "$unit" 2>&1 | grep leasedog || true)
	test -z "$said" || { echo "FAIL: systemd-analyze verify $unit: $said"; exit 1; }
done
bash -n /usr/share/bash-completion/completions/leasedog
bash -n /usr/share/bash-completion/completions/leasedog-arbiter
journalctl --update-catalog
journalctl --list-catalog ba5326818d714793a9456272df9345c3 | grep -q 'held here' || { echo "FAIL: the journal's catalog"; exit 1; }
