# Runs in a container whose root is one of the laboratory's, with the packages in /mnt and Pacemaker's configurations in /srv.
set -eu
export DEBIAN_FRONTEND=noninteractive
fail() { echo "FAIL: $*"; exit 1; }

# Every file by name, but logs and what dpkg, apt and useradd keep for themselves.
snapshot() {
	find / -xdev \( -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /tmp \) -prune -o -print |
		grep -v -e '^/etc/\(passwd\|group\|shadow\|gshadow\)-$' -e '^/etc/\.pwd\.lock$' | sort
}
snapshot >/tmp/before

apt-get install -y --no-install-recommends /mnt/leasedog_*_"$ARCH".deb /mnt/leasedog-arbiter_*_"$ARCH".deb >/tmp/out
grep -q '^leasedog: installed; nothing is enabled or started' /tmp/out || fail "it does not say how to begin"
snapshot >/tmp/installed
. /check/installed.sh

# The administrator's configuration outlives an upgrade, and so does what was enabled.
echo '# mine' >>/etc/leasedog/leasedog.toml
systemctl --quiet enable leasedog.service leasedog-arbiter.service
apt-get install -y --reinstall /mnt/leasedog_*_"$ARCH".deb /mnt/leasedog-arbiter_*_"$ARCH".deb >/tmp/out
grep -q '^# mine$' /etc/leasedog/leasedog.toml || fail "an upgrade replaces the configuration"
systemctl --quiet is-enabled leasedog.service leasedog-arbiter.service || fail "an upgrade disables"

# Refused while Pacemaker's configuration has the rules, with the way out; the package stays whole.
install -D /srv/rule-held.cib.xml /var/lib/pacemaker/cib/cib.xml
apt-get remove -y leasedog >/tmp/out 2>&1 && fail "it was removed while the rules stand"
grep -q 'leasedog constraints all --remove' /tmp/out || fail "a refused removal does not name the way out: $(cat /tmp/out)"
test "$(dpkg-query --show --showformat='${db:Status-Status}' leasedog)" = installed || fail "a refused removal leaves it half removed"
rm /var/lib/pacemaker/cib/cib.xml

apt-get remove -y leasedog leasedog-arbiter >/tmp/out
test -e /etc/leasedog/leasedog.toml || fail "a removal takes the configuration"
test -z "$(find /etc/systemd /usr/sbin -name '*leasedog*')" || fail "a removal leaves units enabled, or a program"
mkdir -p /etc/leasedog/pki /etc/leasedog/alerts.d /var/lib/leasedog-arbiter/pki
touch /etc/leasedog/pki/node.key /var/lib/leasedog/known.json /var/lib/leasedog-arbiter/arbiter.db
apt-get purge -y leasedog leasedog-arbiter >/tmp/out
snapshot >/tmp/after
diff /tmp/before /tmp/after || fail "a purge leaves, or takes, the above"
echo "RESULT: $(comm -13 /tmp/before /tmp/installed | wc -l) files and folders come, and go with a purge"
