package arbiter

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

func from(text string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text)) }

// visitors drives a crowd with connections that only have an address, on a clock that a test moves.
type visitors struct {
	*testing.T
	crowd *crowd
	clock *hand
	ended map[*stranger]bool
}

func newVisitors(t *testing.T, p places) *visitors {
	v := &visitors{T: t, crowd: newCrowd(p), clock: &hand{at: 1}, ended: map[*stranger]bool{}}
	v.crowd.now = v.clock.now
	return v
}

// enter returns nil if there is no place.
func (v *visitors) enter(address string) *stranger {
	var s *stranger
	s, err := v.crowd.enter(from(address), func() { v.ended[s] = true })
	if err != nil {
		return nil
	}
	return s
}

func (v *visitors) fill(n int, address func(int) string) (in []*stranger) {
	for i := range n {
		if s := v.enter(address(i)); s != nil {
			in = append(in, s)
		}
	}
	return in
}

func one(int) string { return "10.0.0.1:1" }

func many(i int) string { return fmt.Sprintf("10.1.%d.%d:1", i/250, i%250) }

// One network takes so many places and no more; others have theirs. IPv6 counts by /64.
func TestCrowdOfOneNetwork(t *testing.T) {
	v := newVisitors(t, nodePlaces())
	if n := len(v.fill(1000, one)); n != v.crowd.host {
		t.Errorf("%d, want %d", n, v.crowd.host)
	}
	six := func(i int) string { return fmt.Sprintf("[fd00:9::%x]:1", i+1) }
	if n := len(v.fill(1000, six)); n != v.crowd.host {
		t.Errorf("IPv6: %d, want %d", n, v.crowd.host)
	}
	if v.enter("10.0.0.2:1") == nil {
		t.Error("another address has no place")
	}
	if len(v.ended) != 0 {
		t.Error("somebody had to make room before its time")
	}
}

// Slow handshakes make room for new ones: of their own network, and when all places are taken for anybody.
func TestCrowdOfTheSlow(t *testing.T) {
	v := newVisitors(t, nodePlaces())
	slow := v.fill(v.crowd.host, one)
	v.clock.move(patience - 1)
	if v.enter(one(0)) != nil {
		t.Fatal("a place too many")
	}
	v.clock.move(1)
	if v.enter(one(0)) == nil || !v.ended[slow[0]] || len(v.ended) != 1 {
		t.Errorf("the oldest did not make room: %d ended", len(v.ended))
	}
	if !v.crowd.leave(slow[0]) || v.crowd.leave(slow[1]) || v.crowd.leave(slow[1]) {
		t.Error("who made room is not told apart from who left")
	}
	v.fill(5000, many)
	if v.enter("192.0.2.1:1") != nil {
		t.Error("a place in a full crowd, before anybody had its time")
	}
	v.clock.move(patience)
	if v.enter("192.0.2.1:1") == nil {
		t.Error("no place in a crowd of slow ones")
	}
}

// However many strangers come, from wherever: who has proven who it is before gets in from there again.
func TestCrowdKeepsPlacesForTheKnown(t *testing.T) {
	v := newVisitors(t, nodePlaces())
	if err := v.crowd.settle(v.enter("10.0.9.11:1"), nodeA); err != nil {
		t.Fatal(err)
	}
	v.crowd.part(nodeA)
	strangers := len(v.fill(5000, many))
	if want := v.crowd.places.strangers - v.crowd.places.strangers/4; strangers != want {
		t.Errorf("%d strangers, want %d", strangers, want)
	}
	if v.enter("10.0.9.12:1") != nil {
		t.Error("another unknown one has a place")
	}
	if v.enter("10.0.9.11:2") == nil {
		t.Error("the node has none")
	}
	if len(v.ended) != 0 {
		t.Error("somebody had to make room before its time")
	}
}

// An identity has so many connections, whatever it does; its peer has its own.
func TestCrowdOfAnIdentity(t *testing.T) {
	v := newVisitors(t, nodePlaces())
	settled := 0
	for range 1000 {
		s := v.enter("10.0.9.11:1")
		if s == nil {
			t.Fatal("who proves who it is takes a stranger's place for ever")
		}
		if v.crowd.settle(s, nodeA) == nil {
			settled++
		}
	}
	if settled != v.crowd.party {
		t.Errorf("%d, want %d", settled, v.crowd.party)
	}
	if err := v.crowd.settle(v.enter("10.0.9.11:1"), nodeB); err != nil {
		t.Error(err)
	}
	v.crowd.part(nodeA)
	if err := v.crowd.settle(v.enter("10.0.9.11:1"), nodeA); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
	if v.crowd.open != v.crowd.party+1 || len(v.crowd.strangers) != 0 {
		t.Errorf("%d open, %d strangers", v.crowd.open, len(v.crowd.strangers))
	}
}

// Who made room cannot settle any more: its connection is closed.
func TestCrowdOfTheLate(t *testing.T) {
	v := newVisitors(t, places{all: 10, strangers: 4, host: 1, party: 4})
	late := v.enter(one(0))
	v.clock.move(patience)
	if v.enter(one(0)) == nil || v.crowd.settle(late, nodeA) == nil {
		t.Error("a connection that was closed got a place")
	}
	if v.crowd.open != 1 {
		t.Errorf("%d open", v.crowd.open)
	}
}

func TestCrowdInAll(t *testing.T) {
	v := newVisitors(t, places{all: 3, strangers: 40, host: 10, party: 10})
	in := v.fill(10, many)
	if len(in) != 3 {
		t.Fatalf("%d in", len(in))
	}
	v.crowd.leave(in[1])
	if v.enter("192.0.2.1:1") == nil {
		t.Error("no place after one has left")
	}
}

// Of an identity that comes from everywhere the last networks are known, so that it takes no places of others.
func TestCrowdForgets(t *testing.T) {
	v := newVisitors(t, nodePlaces())
	for i := range 100 {
		s := v.enter(many(i))
		if err := v.crowd.settle(s, nodeA); err != nil {
			t.Fatal(err)
		}
		v.crowd.part(nodeA)
	}
	if err := v.crowd.settle(v.enter(many(99)), nodeB); err != nil {
		t.Fatal(err)
	}
	if len(v.crowd.known) != maxNetworks || v.crowd.known[network(many(99))] != 2 {
		t.Errorf("%v", v.crowd.known)
	}
}
