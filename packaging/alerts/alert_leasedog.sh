#!/bin/sh
# Pacemaker alert agent: lets leasedog's agent look at the cluster at once instead of with its next poll. Nothing depends
# on it but how soon. Pacemaker runs it as hacluster:
#
#   pcs alert create path=/usr/share/leasedog/alerts/alert_leasedog.sh id=leasedog
#   crm configure alert leasedog /usr/share/leasedog/alerts/alert_leasedog.sh
#
# SPDX-License-Identifier: Apache-2.0

LC_ALL=C
export LC_ALL
case "$CRM_alert_kind" in
node | fencing | attribute) ;;
resource)
	# A monitor that goes on as before is no news.
	[ "$CRM_alert_task" = monitor ] && [ "$CRM_alert_rc" = "$CRM_alert_target_rc" ] && exit 0
	;;
*) exit 0 ;;
esac
LEASEDOG=${LEASEDOG:-/usr/sbin/leasedog}
[ -x "$LEASEDOG" ] || exit 0
# An agent that does not run, or is busy, polls by itself.
timeout 5 "$LEASEDOG" poke >/dev/null 2>&1
exit 0
