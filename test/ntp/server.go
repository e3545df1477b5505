// Package ntp is an NTP server for tests. Its clock is the machine's, made wrong as it is told, and so are its manners. It
// answers client packets of version 4 (RFC 5905) and knows nothing else.
package ntp

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Manners say how a server answers. The zero Manners are those of an honest one of stratum 2 that is exactly right.
type Manners struct {
	Offset     time.Duration `json:"offset,omitempty"`     // of its clock, at Since
	RatePPM    float64       `json:"rate_ppm,omitempty"`   // how fast its clock runs against the machine's
	StepEvery  time.Duration `json:"step_every,omitempty"` // it is stepped by Step so often
	Step       time.Duration `json:"step,omitempty"`       //
	Leap       uint8         `json:"leap,omitempty"`       // 3: not synchronised
	Stratum    *uint8        `json:"stratum,omitempty"`    // nil: 2; 0: a kiss of death
	Kiss       string        `json:"kiss,omitempty"`       // its code, such as RATE
	Delay      time.Duration `json:"delay,omitempty"`      // root delay
	Dispersion time.Duration `json:"dispersion,omitempty"` // root dispersion
	Silent     bool          `json:"silent,omitempty"`     // it does not answer
	Stranger   bool          `json:"stranger,omitempty"`   // it answers a question that was not asked
	Short      bool          `json:"short,omitempty"`      // it sends half a packet
	Frozen     bool          `json:"frozen,omitempty"`     // its clock stands still at Since
	Backwards  bool          `json:"backwards,omitempty"`  // it answers before it was asked
	Since      time.Time     `json:"since,omitzero"`       // when Offset was right; zero: when the server began
}

// clock is what the server's clock shows at a moment of the machine's.
func (m Manners) clock(now, began time.Time) time.Time {
	since := m.Since
	if since.IsZero() {
		since = began
	}
	passed := now.Sub(since)
	if m.Frozen {
		passed = 0
	}
	shows := since.Add(m.Offset + passed + time.Duration(float64(passed)*m.RatePPM/1e6))
	if m.StepEvery > 0 {
		shows = shows.Add(time.Duration(passed/m.StepEvery) * m.Step)
	}
	return shows
}

const size = 48

// Answer makes the answer to a packet, or nil for none. came is when it came, began when the server did.
func (m Manners) Answer(packet []byte, came, began time.Time) []byte {
	if len(packet) < size || packet[0]&7 != 3 || m.Silent {
		return nil
	}
	out := make([]byte, size)
	out[0] = m.Leap<<6 | 4<<3 | 4
	out[1] = 2
	if m.Stratum != nil {
		out[1] = *m.Stratum
	}
	out[2], out[3] = 6, 0xE8 // polls of 64 s; 2^-24 s
	binary.BigEndian.PutUint32(out[4:], short(m.Delay))
	binary.BigEndian.PutUint32(out[8:], short(m.Dispersion))
	copy(out[12:16], m.Kiss)
	shows := m.clock(came, began)
	put(out[16:], shows.Add(-time.Minute))
	copy(out[24:32], packet[40:48])
	put(out[32:], shows)
	put(out[40:], m.clock(time.Now(), began))
	switch {
	case m.Stranger:
		out[24] ^= 0xFF
	case m.Backwards:
		put(out[32:], shows.Add(time.Hour))
	case m.Short:
		out = out[:size/2]
	}
	return out
}

// put writes a time in NTP's format; its era is lost, as on every wire.
func put(to []byte, t time.Time) {
	sec := t.Unix() + 2208988800 // from 1900 to 1970
	binary.BigEndian.PutUint32(to, uint32(sec))
	binary.BigEndian.PutUint32(to[4:], uint32(uint64(t.Nanosecond())<<32/1e9))
}

// short is NTP's format for small durations: 16 bits of seconds, 16 of their fraction, rounded up.
func short(d time.Duration) uint32 { return uint32((uint64(d)<<16 + 1e9 - 1) / 1e9) }

// Serve answers until the connection is closed. manners is asked for every packet.
func Serve(conn net.PacketConn, manners func() Manners) error {
	began := time.Now()
	buf := make([]byte, 1024)
	for {
		n, from, err := conn.ReadFrom(buf)
		came := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve NTP: %w", err)
		}
		if a := manners().Answer(buf[:n], came, began); a != nil {
			if _, err := conn.WriteTo(a, from); err != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
		}
	}
}

// FromFile reads manners from a file with each question, so that a running server can be told otherwise. Without the file it
// is honest; with one that cannot be read it is silent.
func FromFile(path string) func() Manners {
	return func() (m Manners) {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return m
		}
		if err != nil || json.Unmarshal(text, &m) != nil {
			return Manners{Silent: true}
		}
		return m
	}
}
