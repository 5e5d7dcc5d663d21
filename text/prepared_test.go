package text

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sift/fault"
)

// smallPrepared prepares the sample into a few shards.
func smallPrepared(t testing.TB, tok *Tokenizer) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "data")
	if _, err := tok.Prepare(t.Context(), out, PrepareOptions{Paths: []string{sample}, ShardBytes: 30000}); err != nil {
		t.Fatal(err)
	}
	return out
}

// edit changes a file of a prepared corpus.
func edit(t testing.TB, dir, name string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// seal makes a shard that was changed, and the manifest, look as if Prepare had written them so.
func seal(t testing.TB, dir, name string) {
	t.Helper()
	var sum [sha256.Size]byte
	size := 0
	edit(t, dir, name, func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[headerBytes:], crc32.Checksum(b[:headerBytes], castagnoli))
		sum, size = sha256.Sum256(b), len(b)
		return b
	})
	changeManifest(t, dir, func(m *manifest) {
		for i := range m.Shards {
			if m.Shards[i].Name == name {
				m.Shards[i].SHA256, m.Shards[i].Bytes = hex.EncodeToString(sum[:]), int64(size)
			}
		}
	})
}

func changeManifest(t testing.TB, dir string, change func(*manifest)) {
	t.Helper()
	m, err := readManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	if err := m.write(dir); err != nil {
		t.Fatal(err)
	}
}

// TestPreparedDamage: everything wrong is one line that names the file and the cause.
func TestPreparedDamage(t *testing.T) {
	defer goleak.VerifyNone(t)
	tok := load(t)
	whole := smallPrepared(t, tok)
	foreign := filepath.Join(t.TempDir(), "foreign")
	if _, err := tok.Prepare(t.Context(), foreign, PrepareOptions{Paths: []string{sample + "/sotu"}}); err != nil {
		t.Fatal(err)
	}
	m, err := readManifest(whole)
	if err != nil || len(m.Shards) != 3 {
		t.Fatal(err, len(m.Shards))
	}
	const first, second = "shard-00000.sift", "shard-00001.sift"
	page, err := os.ReadFile(filepath.Join(whole, second))
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseShardHeader(page)
	if err != nil {
		t.Fatal(err)
	}
	l := h.layout()
	flip := func(at int64) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 0x10; return b }
	}
	put := func(at int64, x uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], x); return b }
	}
	in := func(dir, name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(dir string)
		kind   fault.Kind
		want   string // after the directory
	}{
		{"missing shard", func(d string) { must(os.Remove(in(d, second))) }, fault.Missing, second + ": no such file or directory"},
		{"missing manifest", func(d string) { must(os.Remove(in(d, manifestName))) }, fault.Data, ": has no manifest.json, so its preparation was interrupted"},
		{"short shard", func(d string) { edit(t, d, second, func(b []byte) []byte { return b[:len(b)-1] }) }, fault.Data, second + ": has "},
		{"long shard", func(d string) { edit(t, d, second, func(b []byte) []byte { return append(b, 0) }) }, fault.Data, second + ": has "},
		{"empty shard", func(d string) { edit(t, d, second, func([]byte) []byte { return nil }) }, fault.Data, second + ": has 0 bytes"},
		{"directory for a shard", func(d string) { must(os.Remove(in(d, second))); must(os.Mkdir(in(d, second), 0o755)) }, fault.Missing, second + ": is a directory"},
		{"flipped header", func(d string) { edit(t, d, second, flip(30)) }, fault.Data, second + ": has a damaged header"},
		{"flipped magic", func(d string) { edit(t, d, second, flip(3)) }, fault.Data, second + ": is not a shard of sift prepare"},
		{"flipped padding of the header", func(d string) { edit(t, d, second, flip(4000)) }, fault.Data, second + ": header: its sections are not where"},
		{"flipped id", func(d string) { edit(t, d, second, flip(l.ids.offset+1001)) }, fault.Data, second + ": does not have the SHA-256 in manifest.json"},
		{"flipped padding", func(d string) { edit(t, d, second, flip(l.ids.end())) }, fault.Data, second + ": does not have the SHA-256"},
		{"flipped start", func(d string) { edit(t, d, second, flip(l.starts.offset+40)) }, fault.Data, second + ": does not have the SHA-256"},
		{"flipped end", func(d string) { edit(t, d, second, flip(l.ends.offset)) }, fault.Data, second + ": does not have the SHA-256"},
		{"flipped digest", func(d string) { edit(t, d, second, flip(l.digests.end()-1)) }, fault.Data, second + ": does not have the SHA-256"},
		{"swapped shards", func(d string) {
			must(os.Rename(in(d, first), in(d, "x")))
			must(os.Rename(in(d, second), in(d, first)))
			must(os.Rename(in(d, "x"), in(d, second)))
		}, fault.Data, first + ": has "},
		{"swapped shards of one size", func(d string) {
			edit(t, d, second, put(20, 0))
			seal(t, d, second)
		}, fault.Data, second + ": is shard 0, not 1: were files renamed?"},
		{"shard of another corpus", func(d string) {
			data, err := os.ReadFile(in(foreign, first))
			must(err)
			must(os.WriteFile(in(d, first), data, 0o644))
		}, fault.Data, first + ": has "},
		{"shard of another corpus, listed", func(d string) {
			data, err := os.ReadFile(in(foreign, first))
			must(err)
			must(os.WriteFile(in(d, first), data, 0o644))
			seal(t, d, first)
		}, fault.Data, first + ": has 5 documents, 211 sentences and "},
		{"shard beside the others", func(d string) {
			must(os.WriteFile(in(d, "shard-00003.sift"), page, 0o644))
		}, fault.Data, "shard-00003.sift: is not among the 3 shards of manifest.json"},
		{"shard of another tokenizer", func(d string) {
			edit(t, d, second, flip(90))
			seal(t, d, second)
		}, fault.Data, second + ": was written with another tokenizer"},
		{"later format", func(d string) {
			edit(t, d, second, put(8, 7))
			seal(t, d, second)
		}, fault.Data, second + ": has format version 7, and this program reads 1: prepare again"},
		{"id beyond the vocabulary", func(d string) {
			edit(t, d, second, put(l.ids.offset+2000, 65535))
			seal(t, d, second)
		}, fault.Data, second + ": has id 65535, and the vocabulary ends at 30521"},
		{"first start", func(d string) {
			edit(t, d, second, put(l.starts.offset, 1))
			seal(t, d, second)
		}, fault.Data, second + ": sentence 0 begins at token 1"},
		{"starts that fall", func(d string) {
			edit(t, d, second, put(l.starts.offset+8, 0))
			seal(t, d, second)
		}, fault.Data, second + ": sentence 2 begins at token 0 after"},
		{"start beyond the tokens", func(d string) {
			edit(t, d, second, put(l.starts.offset+8, 1<<31))
			seal(t, d, second)
		}, fault.Data, second + ": sentence 3 begins at token"},
		{"last start", func(d string) {
			edit(t, d, second, put(l.starts.end()-4, uint32(h.tokens+1)))
			seal(t, d, second)
		}, fault.Data, second + fmt.Sprintf(": sentence %d begins at token %d", h.sentences, h.tokens+1)},
		{"ends that stay", func(d string) {
			edit(t, d, second, put(l.ends.offset, 0))
			seal(t, d, second)
		}, fault.Data, second + ": document 0 ends at sentence 0"},
		{"last end", func(d string) {
			edit(t, d, second, put(l.ends.end()-4, uint32(h.sentences-1)))
			seal(t, d, second)
		}, fault.Data, second + fmt.Sprintf(": document %d ends at sentence %d", h.documents-1, h.sentences-1)},
		{"another digest", func(d string) {
			edit(t, d, second, flip(l.digests.offset))
			seal(t, d, second)
		}, fault.Data, ": the documents' digests do not have the hash in manifest.json"},
		{"flipped manifest", func(d string) {
			edit(t, d, manifestName, func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"documents": 16`), []byte(`"documents": 17`), 1)
			})
		}, fault.Data, manifestName + ": is damaged: its contents do not have the SHA-256"},
		{"short manifest", func(d string) { edit(t, d, manifestName, func(b []byte) []byte { return b[:len(b)/2] }) }, fault.Data, manifestName + ": "},
		{"empty manifest", func(d string) { edit(t, d, manifestName, func([]byte) []byte { return nil }) }, fault.Data, manifestName + ": "},
		{"another's manifest", func(d string) { edit(t, d, manifestName, func([]byte) []byte { return []byte("{}") }) }, fault.Data, manifestName + ": is not the manifest of a prepared corpus"},
		{"manifest of another corpus", func(d string) {
			data, err := os.ReadFile(in(foreign, manifestName))
			must(err)
			must(os.WriteFile(in(d, manifestName), data, 0o644))
		}, fault.Data, second + ": is not among the 1 shard of manifest.json"},
		{"later manifest", func(d string) {
			edit(t, d, manifestName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 2`), 1) })
		}, fault.Data, manifestName + ": has format version 2"},
		{"shards out of order", func(d string) {
			changeManifest(t, d, func(m *manifest) { m.Shards[0], m.Shards[1] = m.Shards[1], m.Shards[0] })
		}, fault.Data, manifestName + `: shard 0 is named "shard-00001.sift", not shard-00000.sift`},
		{"a path for a shard", func(d string) {
			changeManifest(t, d, func(m *manifest) { m.Shards[0].Name = "../../etc/passwd" })
		}, fault.Data, manifestName + ": shard 0 is named"},
		{"sums", func(d string) { changeManifest(t, d, func(m *manifest) { m.Tokens++ }) }, fault.Data, manifestName + ": the shards have 16 documents"},
		{"negative numbers", func(d string) {
			changeManifest(t, d, func(m *manifest) { m.Shards[0].Documents -= 20; m.Shards[1].Documents += 20 })
		}, fault.Data, manifestName + ": " + first + ": -"},
		{"no shards", func(d string) {
			changeManifest(t, d, func(m *manifest) { *m = manifest{Tokenizer: m.Tokenizer} })
		}, fault.Data, manifestName + ": the shards have 0 documents"},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		must(os.CopyFS(dir, os.DirFS(whole)))
		c.change(dir)
		if !IsPrepared(dir) && c.name != "another's manifest" {
			t.Errorf("%s: is not taken for prepared data", c.name)
		}
		_, err := tok.OpenPrepared(dir)
		want := dir + c.want
		if !strings.HasPrefix(c.want, ":") {
			want = in(dir, c.want)
		}
		if err == nil || fault.KindOf(err) != c.kind || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: kind %d, %v\nwant %s", c.name, fault.KindOf(err), err, want)
		}
	}
	if c, err := tok.OpenPrepared(whole); err != nil {
		t.Error(err)
	} else {
		for range 2 { // the second time there is nothing left to close
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPreparedTokenizer: data belong to a tokenizer, not to a file.
func TestPreparedTokenizer(t *testing.T) {
	tok := load(t)
	dir := smallPrepared(t, tok)
	other := counting(t, 90)
	_, err := other.OpenPrepared(dir)
	if fault.KindOf(err) != fault.Data || err.Error() != fmt.Sprintf("%s: was prepared with another tokenizer (%s, 30522 tokens) than %s (95 tokens): prepare it again with this one", dir, tok.Path, other.Path) {
		t.Error(err)
	}
	cased := load(t)
	cased.LowerCase = false
	if _, err := cased.OpenPrepared(dir); fault.KindOf(err) != fault.Data {
		t.Error(err)
	}
	if _, err := tok.OpenPrepared(filepath.Join(dir, "none")); fault.KindOf(err) != fault.Missing {
		t.Error(err)
	}
	if _, err := tok.OpenPrepared(t.TempDir()); fault.KindOf(err) != fault.Missing {
		t.Error(err)
	}
}

func TestIsPrepared(t *testing.T) {
	tok := load(t)
	if dir := smallPrepared(t, tok); !IsPrepared(dir) || IsPrepared(filepath.Join(dir, manifestName)) {
		t.Error("prepared data")
	}
	for name, want := range map[string]bool{
		"a.txt": false, "manifest.json": false, "shard-1.sift": false, "shard-00000.sift": true, ".shard-00012.sift.tmp": true,
		".shard-00012.sift.starts.tmp": true, unfinishedName: false, "shard-123456.sift": true, "shard-abcde.sift": false,
		".shard-00012.sift": true, "shard-00012.sift.md5": false,
	} {
		dir := filepath.Dir(write(t, name, "{}"))
		if got := IsPrepared(dir); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if begun := filepath.Dir(write(t, unfinishedName, unfinishedText)); !IsPrepared(begun) {
		t.Error("a directory in which nothing but the mark was written")
	}
	if IsPrepared(sample) || IsPrepared("/nonexistent") {
		t.Error("text")
	}
}

// TestCutWhileMapped: a shard that is cut short under a running program is a panic that says so.
func TestCutWhileMapped(t *testing.T) {
	if !canMap || !littleEndian {
		t.Skip("shards are not mapped on this system")
	}
	tok := load(t)
	dir := smallPrepared(t, tok)
	c, err := tok.OpenPrepared(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := pretraining(t, tok, c, bertOptions)
	if err := os.Truncate(filepath.Join(dir, "shard-00000.sift"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		err, ok := recover().(error)
		if !ok || fault.KindOf(err) != fault.IO || !strings.HasPrefix(err.Error(), filepath.Join(dir, "shard-00000.sift")+": cannot be read any more") {
			t.Errorf("recovered %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	var x PretrainingExample
	for i := range p.Len() {
		p.Fill(&x, 0, i)
	}
	t.Error("nothing was noticed")
}

// TestResidency: pages are dropped again and again, and nothing shows of it.
func TestResidency(t *testing.T) {
	tok := load(t)
	c, _, _ := prepared(t, tok, PrepareOptions{Paths: []string{sample}, ShardBytes: 30000})
	if !c.store.resident.mapped {
		t.Skip("shards are not mapped on this system")
	}
	c.store.shards[0].touched.Store(false)
	for range residentBudget/faultWindow - 1 {
		c.store.touch(c.store.shards[1], 1, 0)
	}
	before := c.store.resident.counts.Load()
	if before < residentBudget-2*faultWindow || !c.store.shards[1].touched.Load() {
		// Opening read the digests, which may have come before.
		t.Errorf("%d bytes counted", before)
	}
	c.store.touch(c.store.shards[1], 2, 0)
	if n := c.store.resident.counts.Load(); n >= residentBudget || c.store.shards[1].touched.Load() {
		t.Errorf("%d bytes counted after dropping", n)
	}
}
