package bolt

import (
	"encoding/binary"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

// The format of bbolt's pages, in the machine's own byte order: a header (number 8 bytes, flags 2, count 2, overflow 4),
// then count elements. One of a branch: position 4, size of the key 4, page 8. One of a leaf: flags 4, position 4, size of
// the key 4, of the value 4. A position counts from its element. The value of a bucket begins with its root page 8 and a
// sequence 8; without a root a leaf of its own follows.
const (
	headerSize  = 16
	elementSize = 16
	branchPage  = 1
	leafPage    = 2
	bucketLeaf  = 1
	maxDepth    = 64
)

// pages looks whether every page that can be reached lies within the file, and what it points to within the page. A
// transaction's own Check does that too, but by following the pointers, in a goroutine of its own: one that leads out of
// the file, or round in a circle, ends the whole process, at every start.
type pages struct {
	file *os.File
	size int
	end  uint64 // the first page that was never used
	seen map[uint64]bool
}

func checkPages(path string, tx *bolt.Tx) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size := tx.DB().Info().PageSize
	p := &pages{file: f, size: size, end: uint64(tx.Size()) / uint64(size), seen: map[uint64]bool{}}
	return p.walk(uint64(tx.Cursor().Bucket().Root()), 0)
}

func (p *pages) walk(id uint64, depth int) error {
	if id < 2 || id >= p.end || depth > maxDepth {
		return fmt.Errorf("page %d of %d, %d deep: out of range", id, p.end, depth)
	}
	header := make([]byte, headerSize)
	if _, err := p.file.ReadAt(header, int64(id)*int64(p.size)); err != nil {
		return err
	}
	more := uint64(binary.NativeEndian.Uint32(header[12:]))
	if binary.NativeEndian.Uint64(header) != id || id+more >= p.end {
		return fmt.Errorf("page %d says that it is %d, with %d more", id, binary.NativeEndian.Uint64(header), more)
	}
	for i := id; i <= id+more; i++ {
		if p.seen[i] {
			return fmt.Errorf("page %d is used twice", i)
		}
		p.seen[i] = true
	}
	page := make([]byte, int(more+1)*p.size)
	if _, err := p.file.ReadAt(page, int64(id)*int64(p.size)); err != nil {
		return err
	}
	return p.elements(id, page, depth)
}

// elements looks at a page, or at the page within a bucket's value.
func (p *pages) elements(id uint64, page []byte, depth int) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != leafPage && (flags != branchPage || count == 0) || headerSize+count*elementSize > len(page) {
		return fmt.Errorf("page %d: flags %d with %d elements", id, flags, count)
	}
	for i := range count {
		at := headerSize + i*elementSize
		word := func(n int) int { return int(binary.NativeEndian.Uint32(page[at+n:])) }
		if flags == branchPage {
			if at+word(0)+word(4) > len(page) {
				return fmt.Errorf("page %d: element %d ends out of it", id, i)
			}
			if err := p.walk(binary.NativeEndian.Uint64(page[at+8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		value := at + word(4) + word(8)
		if value+word(12) > len(page) {
			return fmt.Errorf("page %d: element %d ends out of it", id, i)
		}
		if word(0)&bucketLeaf == 0 {
			continue
		}
		if err := p.bucket(id, page[value:value+word(12)], depth); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) bucket(id uint64, value []byte, depth int) error {
	if len(value) < headerSize || depth > maxDepth {
		return fmt.Errorf("page %d: a bucket of %d bytes", id, len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return p.walk(root, depth+1)
	}
	if len(value) < 2*headerSize {
		return fmt.Errorf("page %d: a bucket of %d bytes", id, len(value))
	}
	return p.elements(id, value[headerSize:], depth+1)
}
