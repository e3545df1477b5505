package pcmk

import (
	"fmt"
	"strings"
	"time"
)

// MovedAway says in words which constraint of "crm_resource --move" or "--ban" (crm_resource(8)) keeps one of the
// resources from node, or wants it elsewhere; "" if none does. They are an administrator's wish to move. Constraints
// that were made in another way are not.
func (c *CIB) MovedAway(node string, resources []string) string {
	guarded := make(map[string]bool, len(resources))
	for _, r := range resources {
		guarded[r] = true
	}
	for loc := range c.root.at("configuration", "constraints").each("rsc_location") {
		id, target := loc.attr("id"), loc.attr("node")
		if !guarded[loc.attr("rsc")] || target == "" {
			continue
		}
		switch score := loc.attr("score"); {
		case strings.HasPrefix(id, "cli-prefer-") && score == "INFINITY" && target != node:
			return fmt.Sprintf("%s is to be on %s (constraint %s of crm_resource --move)", loc.attr("rsc"), target, id)
		case strings.HasPrefix(id, "cli-ban-") && score == "-INFINITY" && target == node:
			return fmt.Sprintf("%s is banned from here (constraint %s of crm_resource --ban)", loc.attr("rsc"), id)
		}
	}
	return ""
}

// FailedAt is when the resource failed last, by the cluster's wall clock, to the second; zero if it is not known.
func (h History) FailedAt() time.Time {
	// As ctime(3) prints it, in local time; with the zone since 2.1.6.
	for _, layout := range []string{"2006-01-02 15:04:05 -07:00", "2006-01-02 15:04:05Z"} {
		if at, err := time.Parse(layout, h.LastFailure); err == nil {
			return at
		}
	}
	at, err := time.ParseInLocation(time.ANSIC, h.LastFailure, time.Local)
	if err != nil {
		return time.Time{}
	}
	return at
}
