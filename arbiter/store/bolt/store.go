package bolt

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/lease"
)

const (
	formatVersion = "1"
	openTimeout   = time.Second
	// preallocated is the size that the file has from the start, so that a disk which fills up later does not cost
	// the next grant.
	preallocated = 4 << 20
	// maxGroup bounds how many changes share one fsync.
	maxGroup = 256
	// maxQueue is more than there are clusters, each of which has one change outstanding: nobody ever waits to queue.
	maxQueue = 8192
)

// ErrInUse says that another process has the file open.
var ErrInUse = errors.New("another process has the store open")

// Options of Open.
type Options struct {
	Path      string
	MachineID string // of this machine (machine-id(5))
	History   int    // transitions kept for each cluster
	// Wall returns the time of day for the history, which is for humans only.
	Wall func() time.Time
	// BeforeSync is called before each transaction is synced; an error fails it. Only tests set it.
	BeforeSync func() error
}

// Store is the open file. Any number of goroutines may use it.
type Store struct {
	opt     Options
	mu      sync.RWMutex // for who changes db: run only
	db      *bolt.DB
	broken  bool // of run: a write failed, so the file is not written to again
	suspect bool
	aside   string
	writes  chan write
	stop    chan struct{}
	done    chan struct{}
}

type write struct {
	cluster string
	change  lease.Change
	done    func(error)
}

// Open opens or makes the file. ErrInUse: another process has it. A file that cannot be read is moved aside; Aside
// tells. One that can be read is never moved, whatever fails besides.
func Open(opt Options) (*Store, error) {
	if opt.Path == "" || opt.MachineID == "" || opt.History <= 0 || opt.Wall == nil {
		return nil, fmt.Errorf("open store: path, machine id, history and clock are required")
	}
	s := &Store{opt: opt, writes: make(chan write, maxQueue), stop: make(chan struct{}), done: make(chan struct{})}
	err := s.open()
	var damage *damageError
	if errors.As(err, &damage) {
		s.aside = fmt.Sprintf("%s.unreadable-%d", opt.Path, opt.Wall().Unix())
		if moveErr := os.Rename(opt.Path, s.aside); moveErr != nil {
			return nil, fmt.Errorf("open store %s: %w; move it aside: %w", opt.Path, err, moveErr)
		}
		err = s.open()
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", opt.Path, err)
	}
	go s.run()
	return s, nil
}

// open makes the file if there is none, and opens it.
func (s *Store) open() error {
	if err := removeUnfinished(s.opt.Path); err != nil {
		return err
	}
	if !exists(s.opt.Path) {
		if err := create(s.opt.Path, s.opt.MachineID); err != nil {
			return err
		}
	}
	db, err := openFile(s.opt.Path)
	if err != nil {
		return err
	}
	// A process that was killed may have left what is not on the disk yet.
	if err := errors.Join(db.Sync(), syncDir(filepath.Dir(s.opt.Path))); err != nil {
		_ = db.Close()
		return err
	}
	s.db = db
	all, err := s.Load()
	if err != nil {
		_ = db.Close()
		return &damageError{err}
	}
	for _, snap := range all {
		s.suspect = s.suspect || snap.Suspect
	}
	return nil
}

// Suspect reports whether a cluster in the file was last written on another machine.
func (s *Store) Suspect() bool { return s.suspect }

// Aside is where an unreadable file was moved to; "" if there was none.
func (s *Store) Aside() string { return s.aside }

// Load returns every cluster.
func (s *Store) Load() (map[string]lease.Snapshot, error) {
	out := map[string]lease.Snapshot{}
	err := s.view(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("clusters")).ForEachBucket(func(name []byte) error {
			snap, err := loadCluster(tx.Bucket([]byte("clusters")).Bucket(name))
			if err != nil {
				return fmt.Errorf("cluster %s: %w", name, err)
			}
			// By who wrote it last, not by who made the file: a store that went to another machine and came back is
			// suspect too, since the other one may still serve it.
			snap.Suspect = string(tx.Bucket([]byte("clusters")).Bucket(name).Get([]byte("machine"))) != s.opt.MachineID
			out[string(name)] = snap
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load store: %w", err)
	}
	return out, nil
}

func (s *Store) view(f func(*bolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.db.View(f)
}

func loadCluster(b *bolt.Bucket) (lease.Snapshot, error) {
	var snap lease.Snapshot
	err := b.ForEach(func(k, v []byte) error {
		kind, name, _ := strings.Cut(string(k), "/")
		switch kind {
		case "cluster":
			return json.Unmarshal(v, &snap.Cluster)
		case "lease":
			var r lease.Record
			if err := json.Unmarshal(v, &r); err != nil {
				return err
			}
			if r.Lease != name {
				return fmt.Errorf("the record of lease %q says that it is of %q", name, r.Lease)
			}
			snap.Leases = append(snap.Leases, r)
		case "node":
			var r lease.NodeRecord
			if err := json.Unmarshal(v, &r); err != nil {
				return err
			}
			if r.Node != name {
				return fmt.Errorf("the record of node %q says that it is of %q", name, r.Node)
			}
			snap.Nodes = append(snap.Nodes, r)
		}
		return nil
	})
	if err != nil {
		return snap, err
	}
	return snap, snap.Check()
}

// Write queues a change; done is called once, from another goroutine, when it is synced or has failed.
func (s *Store) Write(cluster string, c lease.Change, done func(error)) {
	select {
	case <-s.stop:
		done(errors.New("the store is closed"))
	case s.writes <- write{cluster, c, done}:
	}
}

// run commits what waits, in its order, in as few transactions as possible.
func (s *Store) run() {
	defer close(s.done)
	for {
		var group []write
		select {
		case <-s.stop:
			return
		case w := <-s.writes:
			group = append(group, w)
		}
	more:
		for len(group) < maxGroup {
			select {
			case w := <-s.writes:
				group = append(group, w)
			default:
				break more
			}
		}
		err := s.commit(group)
		for _, w := range group {
			w.done(err)
		}
	}
}

func (s *Store) commit(group []write) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write store: %v", r)
		}
		s.broken = err != nil
	}()
	if s.broken {
		if err := s.renew(); err != nil {
			return fmt.Errorf("write store: %w", err)
		}
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		for _, w := range group {
			if err := s.put(tx, w); err != nil {
				return err
			}
		}
		if s.opt.BeforeSync != nil {
			return s.opt.BeforeSync()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	return nil
}

func (s *Store) put(tx *bolt.Tx, w write) error {
	b, err := tx.Bucket([]byte("clusters")).CreateBucketIfNotExists([]byte(w.cluster))
	if err != nil {
		return err
	}
	if err := b.Put([]byte("machine"), []byte(s.opt.MachineID)); err != nil {
		return err
	}
	if err := putJSON(b, "cluster", w.change.Cluster); err != nil {
		return err
	}
	for _, r := range w.change.Leases {
		if err := putJSON(b, "lease/"+r.Lease, r); err != nil {
			return err
		}
	}
	for _, r := range w.change.Nodes {
		if err := putJSON(b, "node/"+r.Node, r); err != nil {
			return err
		}
	}
	return s.putHistory(tx, w)
}

func putJSON(b *bolt.Bucket, key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), text)
}

// putHistory appends to a cluster's ring.
func (s *Store) putHistory(tx *bolt.Tx, w write) error {
	if len(w.change.History) == 0 {
		return nil
	}
	b, err := tx.Bucket([]byte("history")).CreateBucketIfNotExists([]byte(w.cluster))
	if err != nil {
		return err
	}
	for _, t := range w.change.History {
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		e := api.Transition{At: s.opt.Wall().UTC(), Cluster: w.cluster, Lease: t.Lease, Epoch: uint64(t.Epoch), Node: t.Node,
			What: t.What, Cause: t.Cause}
		if err := putJSON(b, string(binary.BigEndian.AppendUint64(nil, n)), e); err != nil {
			return err
		}
		if n > uint64(s.opt.History) {
			c := b.Cursor()
			for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k)+uint64(s.opt.History) <= n; k, _ = c.Next() {
				if err := c.Delete(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// History returns the newest transitions of a cluster, newest first, at most limit.
func (s *Store) History(cluster string, limit int) ([]api.Transition, error) {
	var out []api.Transition
	err := s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("history")).Bucket([]byte(cluster))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Last(); k != nil && len(out) < limit; k, v = c.Prev() {
			var e api.Transition
			if err := json.Unmarshal(v, &e); err != nil {
				return err
			}
			out = append(out, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return out, nil
}

// Close ends the writer and closes the file. What was queued and not begun is not written, and never answered.
func (s *Store) Close() error {
	close(s.stop)
	<-s.done
	return s.db.Close()
}
