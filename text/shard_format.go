package text

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strings"

	"sift/fault"
)

// A shard's file, all numbers little-endian:
//
//	page 0    the header: magic, version, sizes (see encode), and a CRC-32C of them
//	ids       tokens x 2 bytes, or 4 if the vocabulary has more than 65,536
//	starts    (sentences + 1) x 4: where each sentence begins, and the last one's end
//	ends      documents x 4: the sentence after each document's last
//	digests   documents x 32: see digest
//
// Each section begins on a multiple of sectionAlign, with zeros before it. The file ends with
// its last section.
const (
	shardMagic   = "sift-ids"
	shardVersion = 1
	sectionAlign = 4096
	headerBytes  = 120 // and 4 of the checksum; the rest of the page is zero
)

// shardHeader is what a header says.
type shardHeader struct {
	width      uint32 // bytes of an id
	vocabulary uint32
	number     uint32 // of the shard, from 0
	tokens     uint64
	sentences  uint64
	documents  uint64
	identity   [32]byte // of the tokenizer
}

// section is a run of bytes of a file.
type section struct{ offset, size int64 }

func (s section) end() int64 { return s.offset + s.size }

// of returns the section's bytes of a whole file.
func (s section) of(data []byte) []byte { return data[s.offset:s.end()] }

// layout is where a shard's sections are, and so how long the file is.
type layout struct{ ids, starts, ends, digests section }

func (l *layout) size() int64 { return l.digests.end() }

func (h *shardHeader) layout() layout {
	at := int64(sectionAlign)
	next := func(size uint64) section {
		s := section{at, int64(size)}
		at = align(s.end())
		return s
	}
	return layout{
		ids:     next(h.tokens * uint64(h.width)),
		starts:  next((h.sentences + 1) * 4),
		ends:    next(h.documents * 4),
		digests: next(h.documents * uint64(len(digest{}))),
	}
}

// align rounds an offset up to where a section may begin.
func align(offset int64) int64 { return (offset + sectionAlign - 1) &^ (sectionAlign - 1) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the first page of the file.
func (h *shardHeader) encode() []byte {
	b := make([]byte, 0, sectionAlign)
	b = append(b, shardMagic...)
	for _, x := range []uint32{shardVersion, h.width, h.vocabulary, h.number} {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	l := h.layout()
	for _, x := range []uint64{
		h.tokens, h.sentences, h.documents,
		uint64(l.ids.offset), uint64(l.starts.offset), uint64(l.ends.offset), uint64(l.digests.offset), uint64(l.size()),
	} {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	b = append(b, h.identity[:]...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:sectionAlign]
}

// parseShardHeader reads the first page of a file. What it returns is consistent, and no
// number of it is beyond what a shard can have.
func parseShardHeader(page []byte) (shardHeader, error) {
	var h shardHeader
	if len(page) < sectionAlign || !bytes.HasPrefix(page, []byte(shardMagic)) {
		return h, fault.New(fault.Data, "is not a shard of sift prepare")
	}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(page[at:]) }
	long := func(at int) uint64 { return binary.LittleEndian.Uint64(page[at:]) }
	if version := word(8); version != shardVersion {
		return h, fault.New(fault.Data, "has format version %d, and this program reads %d: prepare again", version, shardVersion)
	}
	if word(headerBytes) != crc32.Checksum(page[:headerBytes], castagnoli) {
		return h, fault.New(fault.Data, "has a damaged header: its checksum does not fit")
	}
	h.width, h.vocabulary, h.number = word(12), word(16), word(20)
	h.tokens, h.sentences, h.documents = long(24), long(32), long(40)
	copy(h.identity[:], page[88:])
	wide := h.vocabulary <= math.MaxInt32 && needsWide(int(h.vocabulary))
	switch {
	case h.vocabulary == 0 || h.vocabulary > math.MaxInt32:
		return h, fault.New(fault.Data, "header: a vocabulary of %d tokens", h.vocabulary)
	case h.width != 2 && h.width != 4 || wide != (h.width == 4):
		return h, fault.New(fault.Data, "header: ids of %d bytes for a vocabulary of %d tokens", h.width, h.vocabulary)
	case h.tokens > math.MaxUint32 || h.sentences > h.tokens || h.documents > h.sentences || h.documents == 0:
		return h, fault.New(fault.Data, "header: %d documents, %d sentences and %d tokens cannot be", h.documents, h.sentences, h.tokens)
	}
	if !bytes.Equal(h.encode(), page[:sectionAlign]) {
		return h, fault.New(fault.Data, "header: its sections are not where its sizes put them")
	}
	return h, nil
}

// shardName is the name of a shard's file.
func shardName(number int) string { return fmt.Sprintf("shard-%05d.sift", number) }

// isShardName reports whether a name is of that kind, or of a file that becomes one.
func isShardName(name string) bool {
	stem, ok := strings.CutPrefix(strings.TrimPrefix(name, "."), "shard-")
	number, end, dotted := strings.Cut(stem, ".")
	return ok && dotted && len(number) >= 5 && strings.Trim(number, "0123456789") == "" &&
		(end == "sift" || strings.HasPrefix(end, "sift.") && strings.HasSuffix(end, ".tmp"))
}
