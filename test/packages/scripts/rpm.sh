# Runs as root of this machine, in namespaces of its own: rpm.sh ROOT FOLDER CONFIGURATIONS. ROOT is one of the laboratory's root
# file systems, with a Debian in it: the packages' dependencies are not met, their files and scripts work.
set -eu
root=$1 rpms="$2/leasedog-[0-9]*.$ARCH.rpm $2/leasedog-arbiter-[0-9]*.$ARCH.rpm" configurations=$3
fail() { echo "FAIL: $*"; exit 1; }
mount -t proc proc "$root/proc"
rpm() { command rpm --root "$root" --nodeps --force-debian --nosignature "$@"; }

rpm --install $rpms >/tmp/leasedog-rpm.out
grep -q '^leasedog: installed; nothing is enabled or started' /tmp/leasedog-rpm.out || fail "it does not say how to begin"
test "$(command rpm --root "$root" --query --all | wc -l)" = 2 || fail "rpm does not know both"
rpm --verify leasedog leasedog-arbiter || fail "what is installed is not what was packaged"
chroot "$root" /bin/sh -euc '. /check/installed.sh'

echo '# mine' >>"$root/etc/leasedog/leasedog.toml"
chroot "$root" systemctl --quiet enable leasedog.service leasedog-arbiter.service
rpm --upgrade --force $rpms >/tmp/leasedog-rpm.out
grep -q '^# mine$' "$root/etc/leasedog/leasedog.toml" || fail "an upgrade replaces the configuration"
chroot "$root" systemctl --quiet is-enabled leasedog.service leasedog-arbiter.service || fail "an upgrade disables"
! grep -q 'nothing is enabled' /tmp/leasedog-rpm.out || fail "an upgrade speaks as an installation"

install -D "$configurations/rule-held.cib.xml" "$root/var/lib/pacemaker/cib/cib.xml"
rpm --erase leasedog >/tmp/leasedog-rpm.out 2>&1 && fail "it was removed while the rules stand"
grep -q 'leasedog constraints all --remove' /tmp/leasedog-rpm.out || fail "a refused removal does not name the way out: $(cat /tmp/leasedog-rpm.out)"
test -x "$root/usr/sbin/leasedog" || fail "a refused removal takes files"
rm "$root/var/lib/pacemaker/cib/cib.xml"

rpm --erase leasedog leasedog-arbiter
test -e "$root/etc/leasedog/leasedog.toml.rpmsave" || fail "a removal takes the administrator's configuration"
left=$(find "$root" -xdev -name '*leasedog*' ! -path "$root/etc/leasedog*" ! -path "$root/var/lib/leasedog*")
test -z "$left" || fail "a removal leaves $left"
rm -f /tmp/leasedog-rpm.out
echo "RESULT: files, scripts and units work; a removal leaves configuration and state"
