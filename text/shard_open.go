package text

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"sift/fault"
)

// checkBytes is how much of a shard is read at a time, a multiple of sectionAlign.
const checkBytes = 1 << 18

// shardWanted is what a shard must be.
type shardWanted struct {
	manifestShard
	number     int
	identity   digest
	vocabulary int
}

// open opens a shard's file and checks every byte of it; buf has checkBytes.
func (w *shardWanted) open(dir string, buf []byte) (*shard, error) {
	path := filepath.Join(dir, w.Name)
	f, err := openText(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.New(fault.Missing, "%s: %v", path, cause(err))
	}
	if info.Size() != w.Bytes {
		return nil, fault.New(fault.Data, "%s: has %d bytes, not the %d of %s: was it cut short, or is it of another corpus?", path, info.Size(), w.Bytes, manifestName)
	}
	h, err := w.check(f, buf)
	if err != nil {
		return nil, fault.In(path, err)
	}
	s, err := h.load(f)
	if err != nil {
		return nil, fault.New(fault.IO, "%s: cannot be mapped: %v", path, err)
	}
	return s, nil
}

// check reads all of a file of w.Bytes bytes. The checksum comes before what the sections
// hold, since damage is likelier than a writer gone wrong.
func (w *shardWanted) check(f io.ReaderAt, buf []byte) (*shardHeader, error) {
	page := buf[:sectionAlign]
	if w.Bytes < sectionAlign {
		return nil, fault.New(fault.Data, "has %d bytes, too few for a shard", w.Bytes)
	}
	if _, err := f.ReadAt(page, 0); err != nil {
		return nil, fault.New(fault.IO, "%v", cause(err))
	}
	h, err := parseShardHeader(page)
	if err != nil {
		return nil, err
	}
	if err := w.compare(&h); err != nil {
		return nil, err
	}
	l := h.layout()
	sum := sha256.New()
	c := contents{h: &h}
	var wrong error
	for at := int64(0); at < w.Bytes; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), w.Bytes-at)]
		if _, err := f.ReadAt(part, at); err != nil {
			return nil, fault.New(fault.IO, "%v", cause(err))
		}
		sum.Write(part)
		for _, s := range []struct {
			section
			check func([]byte) error
		}{{l.ids, c.ids}, {l.starts, c.starts}, {l.ends, c.ends}} {
			lo, hi := max(s.offset, at), min(s.end(), at+int64(len(part)))
			if lo < hi && wrong == nil {
				wrong = s.check(part[lo-at : hi-at])
			}
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != w.SHA256 {
		return nil, fault.New(fault.Data, "does not have the SHA-256 in %s: it is damaged, or of another corpus", manifestName)
	}
	return &h, wrong
}

// compare holds a header against the manifest.
func (w *shardWanted) compare(h *shardHeader) error {
	l := h.layout()
	switch {
	case h.identity != w.identity || int(h.vocabulary) != w.vocabulary:
		return fault.New(fault.Data, "was written with another tokenizer than the rest of the corpus")
	case int(h.number) != w.number:
		return fault.New(fault.Data, "is shard %d, not %d: were files renamed?", h.number, w.number)
	case h.tokens != uint64(w.Tokens) || h.sentences != uint64(w.Sentences) || h.documents != uint64(w.Documents):
		return fault.New(fault.Data, "has %d documents, %d sentences and %d tokens, not the %d, %d and %d of %s: it is of another corpus",
			h.documents, h.sentences, h.tokens, w.Documents, w.Sentences, w.Tokens, manifestName)
	case l.size() != w.Bytes:
		return fault.New(fault.Data, "has %d bytes, and its header describes %d", w.Bytes, l.size())
	}
	return nil
}

// contents checks the numbers of a shard's sections, which come piece by piece.
type contents struct {
	h     *shardHeader
	start uint64 // starts so far,
	end   uint64 // ends so far
	last  uint32 // of starts, then of ends
}

func (c *contents) ids(b []byte) error {
	largest := uint32(0)
	if c.h.width == 2 {
		for ; len(b) >= 2; b = b[2:] {
			largest = max(largest, uint32(binary.LittleEndian.Uint16(b)))
		}
	} else {
		for ; len(b) >= 4; b = b[4:] {
			largest = max(largest, binary.LittleEndian.Uint32(b))
		}
	}
	if largest >= c.h.vocabulary {
		return fault.New(fault.Data, "has id %d, and the vocabulary ends at %d", largest, c.h.vocabulary-1)
	}
	return nil
}

func (c *contents) starts(b []byte) error {
	for ; len(b) >= 4; b = b[4:] {
		x := binary.LittleEndian.Uint32(b)
		if c.start == 0 && x != 0 || c.start > 0 && x <= c.last || c.start == c.h.sentences && uint64(x) != c.h.tokens {
			return fault.New(fault.Data, "sentence %d begins at token %d after %d, of %d tokens", c.start, x, c.last, c.h.tokens)
		}
		c.last = x
		c.start++
	}
	return nil
}

func (c *contents) ends(b []byte) error {
	if c.end == 0 {
		c.last = 0
	}
	for ; len(b) >= 4; b = b[4:] {
		x := binary.LittleEndian.Uint32(b)
		if x <= c.last || c.end == c.h.documents-1 && uint64(x) != c.h.sentences {
			return fault.New(fault.Data, "document %d ends at sentence %d after %d, of %d sentences", c.end, x, c.last, c.h.sentences)
		}
		c.last = x
		c.end++
	}
	return nil
}

// load maps a file that was checked, or reads it where that cannot be.
func (h *shardHeader) load(f *os.File) (*shard, error) {
	l := h.layout()
	s := new(shard)
	var data []byte
	var err error
	if canMap && littleEndian {
		s.mapping, err = mapFile(f, l.size())
		data = s.mapping.data
	} else {
		data, err = readWhole(f, l.size())
	}
	if err != nil {
		return nil, err
	}
	if !littleEndian {
		swapBytes(l.ids.of(data), int(h.width))
		swapBytes(l.starts.of(data), 4)
		swapBytes(l.ends.of(data), 4)
	}
	if h.width == 4 {
		s.wide = asInt32(l.ids.of(data))
	} else {
		s.narrow = asUint16(l.ids.of(data))
	}
	s.starts, s.ends, s.digests = asUint32(l.starts.of(data)), asUint32(l.ends.of(data)), asDigests(l.digests.of(data))
	return s, nil
}
