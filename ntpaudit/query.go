package ntpaudit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/beevik/ntp"

	"github.com/leasedog/leasedog/lease"
)

// queryTime bounds one exchange with a server, its name's resolution too.
const queryTime = 5 * time.Second

// errKiss is a server that asks to be left alone.
var errKiss = errors.New("kiss of death")

// Query asks one NTP server, as HOST or HOST:PORT, and reads what it says against the clock now. Whatever comes back that is no
// answer of a server that is synchronised is an error.
func Query(ctx context.Context, server string, now func() lease.Instant) (Sample, error) {
	return query(ctx, server, now, func(ctx context.Context, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", address)
	})
}

func query(ctx context.Context, server string, now func() lease.Instant, dial func(context.Context, string) (net.Conn, error)) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	stop := func() bool { return true }
	resp, err := exchange(server, ntp.QueryOptions{
		GetSystemTime: func() time.Time { return time.Unix(0, int64(now())) },
		Dialer: func(_, remote string) (net.Conn, error) {
			conn, err := dial(ctx, remote)
			if err != nil {
				return nil, err
			}
			stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			return bounded{conn}, nil
		},
	})
	stop()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Sample{}, errors.New("no answer in time")
	case err != nil:
		return Sample{}, err
	}
	return read(resp)
}

// exchange is the library's call. A packet that it cannot bear must not end an agent that holds a lease: version 1.6.0 panics
// at a precision or poll interval of 2^-128 (testdata/fuzz/FuzzQuery).
func exchange(server string, opt ntp.QueryOptions) (resp *ntp.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its answer is no NTP: %v", p)
		}
	}()
	return ntp.QueryWithOptions(server, opt)
}

// bounded is a connection whose deadline is a context's. The library knows none and would set its own over it.
type bounded struct{ net.Conn }

func (bounded) SetDeadline(time.Time) error { return nil }

// read checks an answer. The library leaves to its caller whether it is good for anything.
func read(r *ntp.Response) (Sample, error) {
	if r.IsKissOfDeath() {
		return Sample{}, fmt.Errorf("%w %s", errKiss, r.KissCode)
	}
	if r.Leap == ntp.LeapNotInSync {
		return Sample{}, errors.New("it says that it is not synchronised")
	}
	if err := r.Validate(); err != nil {
		return Sample{}, err
	}
	t := r.Timestamps
	s := Sample{
		Sent: lease.Instant(t.ClientXmit.UnixNano()), Received: lease.Instant(t.ClientRecv.UnixNano()),
		In: sinceEpoch(t.ServerRecv), Out: sinceEpoch(t.ServerXmit),
		Bound: r.RootDelay/2 + r.RootDispersion + precision(r.Precision),
	}
	return s, s.check()
}

// sinceEpoch counts from the year 1900, before which NTP knows no time.
func sinceEpoch(t time.Time) time.Duration {
	return time.Duration(t.Unix()-time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Unix())*time.Second + time.Duration(t.Nanosecond())
}

// precision of a server's readings. It is a power of two on the wire, of which the library makes a duration that may have
// overflowed: then it is worth nothing.
func precision(d time.Duration) time.Duration {
	if d < 0 || d > maxBound {
		return maxBound + 1
	}
	return d
}
