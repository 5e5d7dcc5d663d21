package text

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
)

// seedShard returns the bytes of a small shard.
func seedShard(f *testing.F) []byte {
	f.Helper()
	tok := load(f)
	out := filepath.Join(f.TempDir(), "data")
	if _, err := tok.Prepare(f.Context(), out, PrepareOptions{Paths: []string{sample + "/sotu/1790_george_washington_n.txt"}}); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, shardName(0)))
	if err != nil {
		f.Fatal(err)
	}
	return data
}

// FuzzShardHeader: a header that is taken is the one that encode writes, and describes a
// file whose sections lie one after another.
func FuzzShardHeader(f *testing.F) {
	data := seedShard(f)
	f.Add(data[:headerBytes])
	f.Add([]byte(shardMagic))
	f.Fuzz(func(t *testing.T, head []byte) {
		page := make([]byte, sectionAlign)
		copy(page, head)
		for range 2 {
			if h, err := parseShardHeader(page); err == nil {
				l := h.layout()
				if !bytes.Equal(h.encode(), page) || l.ids.size < 2 || l.starts.offset < l.ids.end() || l.ends.offset < l.starts.end() ||
					l.digests.offset < l.ends.end() || l.size() < l.digests.offset || l.size() > 1<<40 || l.starts.size < l.ends.size {
					t.Fatalf("%+v: %+v", h, l)
				}
			}
			// Again with a checksum that fits.
			binary.LittleEndian.PutUint32(page[headerBytes:], crc32.Checksum(page[:headerBytes], castagnoli))
		}
		if _, err := parseShardHeader(head); err == nil && len(head) < sectionAlign {
			t.Fatal("a header without its page")
		}
	})
}

// FuzzShardContents changes a shard whose checksums fit all the same: what is taken can be
// read from end to end.
func FuzzShardContents(f *testing.F) {
	data := seedShard(f)
	h, err := parseShardHeader(data)
	if err != nil {
		f.Fatal(err)
	}
	l := h.layout()
	f.Add(uint32(0), uint32(0))
	for _, s := range []section{l.ids, l.starts, l.ends, l.digests} {
		f.Add(uint32(s.offset), uint32(1))
		f.Add(uint32(s.end()-4), uint32(1))
	}
	buf := make([]byte, checkBytes)
	f.Fuzz(func(t *testing.T, at, flip uint32) {
		b := bytes.Clone(data)
		at %= uint32(len(b) - 4)
		binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(b[at:])^flip)
		binary.LittleEndian.PutUint32(b[headerBytes:], crc32.Checksum(b[:headerBytes], castagnoli))
		sum := sha256.Sum256(b)
		w := shardWanted{
			manifestShard: manifestShard{Bytes: int64(len(b)), SHA256: hex.EncodeToString(sum[:]), Documents: int(h.documents), Sentences: int(h.sentences), Tokens: int(h.tokens)},
			identity:      h.identity, vocabulary: int(h.vocabulary),
		}
		if _, err := w.check(bytes.NewReader(b), buf); err != nil {
			return
		}
		last, tokens := uint64(0), 0
		for i := range h.documents {
			end := uint64(binary.LittleEndian.Uint32(b[l.ends.offset+4*int64(i):]))
			for ; last < end; last++ {
				lo := binary.LittleEndian.Uint32(b[l.starts.offset+4*int64(last):])
				hi := binary.LittleEndian.Uint32(b[l.starts.offset+4*int64(last)+4:])
				for k := lo; k < hi; k++ {
					if id := binary.LittleEndian.Uint16(b[l.ids.offset+2*int64(k):]); int(id) >= w.vocabulary {
						t.Fatal("id", id)
					}
					tokens++
				}
			}
		}
		if last != h.sentences || tokens != w.Tokens {
			t.Fatalf("%d sentences and %d tokens", last, tokens)
		}
	})
}

// FuzzManifest: what is taken adds up.
func FuzzManifest(f *testing.F) {
	m := manifest{Documents: 2, Sentences: 3, Tokens: 9, Shards: []manifestShard{
		{Name: shardName(0), Bytes: 1, Documents: 1, Sentences: 1, Tokens: 4}, {Name: shardName(1), Bytes: 1, Documents: 1, Sentences: 2, Tokens: 5}}}
	content, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"shards":[{"name":"shard-00000.sift","documents":-1,"sentences":1e400,"tokens":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		sum := sha256.Sum256(content)
		sealed := []byte(`{"format": "` + manifestFormat + `", "version": 1, "sha256": "` + hex.EncodeToString(sum[:]) + `", "contents": ` + string(content) + `}`)
		for _, b := range [][]byte{content, sealed} {
			m, err := parseManifest(b)
			if err != nil {
				continue
			}
			tokens := 0
			for i, s := range m.Shards {
				if tokens += s.Tokens; s.Name != shardName(i) || s.Tokens < 1 {
					t.Fatal(s)
				}
			}
			if tokens != m.Tokens || len(m.Shards) == 0 {
				t.Fatal(m)
			}
		}
	})
}
