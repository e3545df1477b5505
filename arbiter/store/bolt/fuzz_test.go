package bolt

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/leasedog/leasedog/lease"
)

// FuzzRecords: whatever stands in the records, they are read as what a Grantor can be made of, or the store is damaged.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"Stamp":{"StoreID":"s1","Generation":9},"Recovery":false,"Fresh":false,"Former":null}`),
		[]byte(`{"Lease":"pg","Epoch":7,"State":"held","Holder":{"Node":"node1","BootID":"b","Instance":{"Start":1,"Nonce":1}},"Seq":5,"Hold":8500000000,"LossAfter":3000000000}`),
		[]byte(`{"Node":"node1","BootID":"b","BarredBoot":""}`))
	f.Add([]byte(`{"Stamp":{"StoreID":"s1","Generation":9}}`),
		[]byte(`{"Lease":"pg","Epoch":7,"State":"held","Holder":{"Node":"node1","BootID":"b"},"Hold":-1}`), []byte(`{"Node":"node1"}`))
	f.Add([]byte(`null`), []byte(`{"Lease":"pg","Epoch":7,"State":"paused","Hold":-1}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, cluster, record, node []byte) {
		db, err := bolt.Open(filepath.Join(scratch(t), "a.db"), 0o600, &bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket([]byte("erp"))
			if err != nil {
				return err
			}
			for key, text := range map[string][]byte{"cluster": cluster, "lease/pg": record, "node/node1": node} {
				if err := b.Put([]byte(key), text); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var snap lease.Snapshot
		err = db.View(func(tx *bolt.Tx) error { snap, err = loadCluster(tx.Bucket([]byte("erp"))); return err })
		if err != nil {
			return
		}
		now := lease.Instant(time.Hour)
		g := lease.NewGrantor(lease.GrantorOptions{Cluster: "erp", MinHold: time.Second, MaxHold: time.Minute, MaxPause: time.Hour,
			RetryWrite: time.Second, NewStoreID: func() string { return "s9" }}, snap, now)
		for i, l := range g.View(now).Leases {
			if r := snap.Leases[i]; r.State == lease.RecordHeld && l.EndsIn <= 0 {
				t.Errorf("a hold that is over before it begins: %+v", r)
			}
		}
	})
}

// FuzzFile: a damaged file is told from a whole one, or moved aside. It never ends the arbiter.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	s, err := Open(crashOptions(dir))
	if err != nil {
		f.Fatal(err)
	}
	for g := range uint64(4) {
		if err := put(s, "erp", g+1, "x"); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "a.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint32(len(whole)))
	f.Add([]byte{0, 0, 16, 0xff}, uint32(len(whole)))                             // a meta page
	f.Add([]byte{0, 0, 16, 0xff, 0x10, 0, 16, 0xff}, uint32(len(whole)))          // both
	f.Add([]byte{0x20, 0, 8, 0xff, 0x30, 0, 10, 0xff}, uint32(len(whole)))        // the free list, a branch
	f.Add([]byte{0x40, 0, 8, 0x10, 0x50, 0, 12, 0xff}, uint32(preallocated+4096)) // leaves
	f.Add([]byte{}, uint32(20000))
	// Each four bytes of patch are an offset in the pages that are in use, and what to change there.
	f.Fuzz(func(t *testing.T, patch []byte, size uint32) {
		text := append([]byte(nil), whole[:min(int(size), len(whole))]...)
		for ; len(patch) >= 4; patch = patch[4:] {
			at := int(binary.BigEndian.Uint16(patch))<<8 | int(patch[2])
			if at %= 64 << 10; at < len(text) {
				text[at] ^= patch[3]
			}
		}
		dir := scratch(t)
		if err := os.WriteFile(filepath.Join(dir, "a.db"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(crashOptions(dir))
		if err != nil {
			t.Fatalf("it is neither read nor moved aside: %v", err)
		}
		defer s.Close()
		all, err := s.Load()
		if err != nil {
			t.Fatal(err)
		}
		if snap, ok := all["erp"]; ok && snap.Check() != nil {
			t.Errorf("it is read as %+v", snap)
		}
		_, _ = s.History("erp", 3)
		if err := put(s, "later", 1, "x"); err != nil {
			t.Fatalf("it is read, and cannot be written: %v", err)
		}
	})
}
