// Package recorded holds what each release said on the wire and left in the arbiter's store, and plays it to the programs of
// today: an older agent with this arbiter, this agent with an older arbiter, this arbiter on an older store. The recordings
// are in testdata, one folder a release, and one of a release that is out never changes again:
//
//	go test ./test/recorded -record 0.2     # a new one
//	go test ./test/recorded -record 0.1 -again
//
// What a release leaves to its successor on a node is recorded beside the code that reads it, in agent and guard.
// It is no proof for what a release says in situations that its story has not.
package recorded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Differs says where the JSON text now does not say what old says; more may be said. Of numbers that are measured and of
// words for humans only the presence is compared.
func Differs(old, now []byte) string {
	a, err := parse(old)
	if err != nil {
		return err.Error()
	}
	b, err := parse(now)
	if err != nil {
		return err.Error()
	}
	return differs(a, b, "", "")
}

// WithFuture adds, to every object of a JSON text, fields that no release has. Those whose keys are names (of leases, of
// reasons) are no structs, and get none.
func WithFuture(text []byte) ([]byte, error) {
	v, err := parse(text)
	if err != nil {
		return nil, err
	}
	return json.Marshal(addFuture(v))
}

func addFuture(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if k != "epochs" && k != "refused" {
				v[k] = addFuture(v[k])
			}
		}
		v["a_field_of_later"] = map[string]any{"version": []any{1, nil, "x"}}
		v["another_of_later"] = -1.5
	case []any:
		for i := range v {
			v[i] = addFuture(v[i])
		}
	}
	return v
}

// parse reads a JSON text as maps, lists and exact numbers.
func parse(text []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return v, nil
}

// measured are the fields whose numbers depend on when they are asked for: only their sign has a meaning to a release.
func measured() map[string]bool {
	return map[string]bool{"elapsed_ns": true, "free_in_ns": true, "quiet_ns": true, "in_ns": true, "out_ns": true,
		"ends_in_ns": true, "heard_ago_ns": true, "paused_for_ns": true}
}

// words are the fields that are for humans, or that only have to be there.
func words() map[string]bool {
	return map[string]bool{"reason": true, "message": true, "cause": true, "alarm": true, "at": true, "id": true, "recovery": true}
}

// differs says where now does not say what old says. More may be said.
func differs(old, now any, path, field string) string {
	switch old := old.(type) {
	case map[string]any:
		fields, ok := now.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: %v, an object before", path, now)
		}
		for _, k := range slices.Sorted(maps.Keys(old)) {
			x, there := fields[k]
			if !there {
				return fmt.Sprintf("%s.%s: gone, %v before", path, k, old[k])
			}
			if d := differs(old[k], x, path+"."+k, k); d != "" {
				return d
			}
		}
		return ""
	case []any:
		list, ok := now.([]any)
		if !ok || len(list) != len(old) {
			return fmt.Sprintf("%s: %v, %v before", path, now, old)
		}
		for i := range old {
			if d := differs(old[i], list[i], fmt.Sprintf("%s[%d]", path, i), field); d != "" {
				return d
			}
		}
		return ""
	case json.Number:
		n, ok := now.(json.Number)
		sign := func(n json.Number) int {
			switch {
			case n == "0":
				return 0
			case strings.HasPrefix(n.String(), "-"):
				return -1
			}
			return 1
		}
		if ok && measured()[field] && sign(n) == sign(old) {
			return ""
		}
	case string:
		if s, ok := now.(string); ok && words()[field] && (s != "") == (old != "") {
			return ""
		}
	}
	if old != now {
		return fmt.Sprintf("%s: %v, %v before", path, now, old)
	}
	return ""
}
