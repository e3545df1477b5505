package arbiter

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
)

// places bounds the connections of one listener.
type places struct {
	all       int // open at a time
	strangers int // of whoever has proven nothing yet
	host      int // strangers of one network: an IPv4 address, or an IPv6 /64
	party     int // of one identity; without TLS of one network
}

const (
	// patience is how long a stranger has its place for certain. A handshake takes two round trips.
	patience = 200 * time.Millisecond
	// maxNetworks is how many networks of one identity are remembered: a node may have several links.
	maxNetworks = 4
)

// crowd keeps the places of a listener. Whoever has proven nothing can take places from strangers only, and the last
// quarter of those is kept for networks from which somebody has proven who it is: a holder that must connect anew gets in.
type crowd struct {
	places
	now func() lease.Instant

	mu        sync.Mutex
	open      int
	strangers []*stranger // oldest first
	parties   map[string]int
	networks  map[string][]netip.Prefix // where each identity connected from, newest last
	known     map[netip.Prefix]int      // in how many lists of networks
}

// stranger is a connection that has proven nothing yet.
type stranger struct {
	from  netip.Prefix
	since lease.Instant
	end   func() // closes the connection; must not wait

	ended bool // it had to make room
}

func newCrowd(p places) *crowd {
	return &crowd{places: p, now: boottime.Now, parties: map[string]int{}, networks: map[string][]netip.Prefix{}, known: map[netip.Prefix]int{}}
}

// enter gives a new connection a stranger's place. Who is slow makes room. The error says why there is none.
func (c *crowd) enter(remote net.Addr, end func()) (*stranger, error) {
	s := &stranger{from: network(remote.String()), end: end}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.since = c.now()
	if c.open >= c.all {
		return nil, fmt.Errorf("%d connections are open already", c.all)
	}
	same := func(o *stranger) bool { return o.from == s.from }
	n := 0
	for _, o := range c.strangers {
		if same(o) {
			n++
		}
	}
	most := c.places.strangers
	if c.known[s.from] == 0 {
		most -= most / 4
	}
	switch {
	case n >= c.host && !c.makeRoom(s.since, same):
		return nil, fmt.Errorf("%d connections from there have proven nothing yet", c.host)
	case len(c.strangers) >= most && !c.makeRoom(s.since, func(*stranger) bool { return true }):
		return nil, fmt.Errorf("%d connections have proven nothing yet", most)
	}
	c.open++
	c.strangers = append(c.strangers, s)
	return s, nil
}

// makeRoom ends the oldest stranger that fits, if it had its time. The caller holds mu.
func (c *crowd) makeRoom(now lease.Instant, fits func(*stranger) bool) bool {
	i := slices.IndexFunc(c.strangers, fits)
	if i < 0 || now.Sub(c.strangers[i].since) < patience {
		return false
	}
	s := c.strangers[i]
	s.ended = true
	c.drop(s)
	s.end()
	return true
}

// drop gives a stranger's place back, once. The caller holds mu.
func (c *crowd) drop(s *stranger) bool {
	i := slices.Index(c.strangers, s)
	if i < 0 {
		return false
	}
	c.strangers = slices.Delete(c.strangers, i, i+1)
	c.open--
	return true
}

// leave is the end of a stranger's connection. It reports whether it had to make room.
func (c *crowd) leave(s *stranger) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(s)
	return s.ended
}

// settle moves a stranger that has proven who it is to that party's places. Whoever calls it owes a part.
func (c *crowd) settle(s *stranger, who string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.drop(s) {
		return fmt.Errorf("%d connections have proven nothing yet: this one took too long", c.places.strangers)
	}
	if c.parties[who] >= c.party {
		return fmt.Errorf("%s has %d connections already", who, c.party)
	}
	c.open++
	c.parties[who]++
	c.remember(who, s.from)
	return nil
}

// part is the end of a settled connection.
func (c *crowd) part(who string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.parties[who]--; c.parties[who] <= 0 {
		delete(c.parties, who)
	}
}

// remember keeps from where a party came. The caller holds mu.
func (c *crowd) remember(who string, from netip.Prefix) {
	list := c.networks[who]
	if slices.Contains(list, from) || list == nil && len(c.networks) >= maxLeaves {
		return
	}
	if len(list) >= maxNetworks {
		if c.known[list[0]]--; c.known[list[0]] <= 0 {
			delete(c.known, list[0])
		}
		list = list[1:]
	}
	c.networks[who] = append(slices.Clip(list), from)
	c.known[from]++
}

// placed is a connection that gives its place back when it is closed.
type placed struct {
	net.Conn
	mu    sync.Mutex
	leave func()
}

// keeps says what gives the place back from now on.
func (p *placed) keeps(leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave = leave
}

func (p *placed) Close() error {
	err := p.Conn.Close()
	p.mu.Lock()
	leave := p.leave
	p.leave = nil
	p.mu.Unlock()
	if leave != nil {
		leave()
	}
	return err
}

// keepAlive finds a peer that is gone within half a minute: its connection takes a place.
func keepAlive(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4})
	}
}
