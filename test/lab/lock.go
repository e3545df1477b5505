package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// naiveHold is how long the naive lock stands without an update.
const naiveHold = 8 * time.Second

// naiveLock is the mutex service of the naive control: one lock, kept in memory, keyed by the client's address. It is
// what people write first. It is here to be beaten.
type naiveLock struct {
	mu     sync.Mutex
	holder string
	until  time.Time
}

func (l *naiveLock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if !l.handle(r.URL.Path, client, time.Now()) {
		w.WriteHeader(http.StatusForbidden)
	}
}

// handle answers whether the request was granted.
func (l *naiveLock) handle(path, client string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.holder == client && now.Before(l.until)
	switch path {
	case "/lock":
		if l.holder != client && now.Before(l.until) {
			return false
		}
		l.holder, l.until = client, now.Add(naiveHold)
		return true
	case "/updatelock":
		if mine {
			l.until = now.Add(naiveHold)
		}
		return mine
	case "/unlock":
		if mine {
			l.until = now
		}
		return mine
	}
	return false
}

// ServeLock runs the naive lock service until ctx ends.
func ServeLock(ctx context.Context, listen string) error {
	server := &http.Server{Addr: listen, Handler: &naiveLock{}, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ListenAndServe(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve the naive lock: %w", err)
	}
	return nil
}
