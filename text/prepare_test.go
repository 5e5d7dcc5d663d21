package text

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sift/fault"
)

// prepared prepares paths and opens the result.
func prepared(t testing.TB, tok *Tokenizer, o PrepareOptions) (*Corpus, string, *PreparedInfo) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "prepared")
	info, err := tok.Prepare(context.Background(), out, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tok.OpenPrepared(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, out, info
}

// sameExamples holds every example of two corpora against each other, bit for bit.
func sameExamples(t *testing.T, tok *Tokenizer, c, d *Corpus, o PretrainingOptions) {
	t.Helper()
	p, q := pretraining(t, tok, c, o), pretraining(t, tok, d, o)
	if p.Len() != q.Len() || p.Len() < 20 {
		t.Fatalf("%d and %d examples", p.Len(), q.Len())
	}
	var x, y PretrainingExample
	for _, epoch := range []uint64{0, 5} {
		for i := range p.Len() {
			p.Fill(&x, epoch, i)
			if q.Fill(&y, epoch, i); !same(&x, &y) {
				t.Fatalf("epoch %d, example %d: %v and %v", epoch, i, x, y)
			}
		}
	}
}

// TestPreparedEqualsText: whatever the size of shards and the number of threads.
func TestPreparedEqualsText(t *testing.T) {
	tok, c := sampleCorpus(t)
	fixed := bertOptions
	fixed.Fixed = true
	single := bertOptions
	single.NextSentence = false
	for _, k := range []struct {
		shard   int64
		threads int
		shards  int
	}{{0, 1, 1}, {0, 0, 1}, {1, 3, 16}, {10000, 1, 6}, {10000, 2, 6}, {30000, 7, 3}} {
		var last PrepareProgress
		d, out, info := prepared(t, tok, PrepareOptions{Paths: []string{sample}, ShardBytes: k.shard, Threads: k.threads, Progress: func(p PrepareProgress) {
			if p.Bytes < last.Bytes || p.Tokens < last.Tokens {
				t.Errorf("progress fell from %+v to %+v", last, p)
			}
			last = p
		}})
		if !IsPrepared(out) || d.Hash() != c.Hash() || d.Documents() != c.Documents() || d.Sentences() != c.Sentences() || d.Tokens() != c.Tokens() {
			t.Fatalf("%+v: another corpus", k)
		}
		if fmt.Sprint(d.Files) != fmt.Sprint(c.Files) || fmt.Sprint(info.Files) != fmt.Sprint(c.Files) || len(d.Notes) != len(c.Notes) {
			t.Errorf("%+v: files %v, not %v", k, d.Files, c.Files)
		}
		if info.Hash != c.Hash() || info.Documents != c.Documents() || info.Sentences != c.Sentences() || info.Tokens != c.Tokens() || info.Shards != k.shards || len(d.store.shards) != k.shards {
			t.Errorf("%+v: %d shards, %d stated, and %d tokens", k, len(d.store.shards), info.Shards, info.Tokens)
		}
		if last.Bytes != last.TotalBytes || last.Bytes != info.TextBytes || last.Tokens != info.Tokens {
			t.Errorf("%+v: progress ends at %+v", k, last)
		}
		if d.store.resident.mapped != (canMap && littleEndian) {
			t.Error("mapped:", d.store.resident.mapped)
		}
		for _, o := range []PretrainingOptions{bertOptions, fixed, single} {
			sameExamples(t, tok, c, d, o)
		}
		trainC, heldC, err := c.Split(0.3, 11)
		if err != nil {
			t.Fatal(err)
		}
		trainD, heldD, err := d.Split(0.3, 11)
		if err != nil {
			t.Fatal(err)
		}
		if trainC.Hash() != trainD.Hash() || heldC.Hash() != heldD.Hash() || heldC.Documents() < 2 || heldC.Tokens() != heldD.Tokens() || trainC.Sentences() != trainD.Sentences() {
			t.Fatalf("%+v: other parts", k)
		}
		sameExamples(t, tok, trainC, trainD, bertOptions)
		sameExamples(t, tok, heldC, heldD, fixed)
	}
}

// TestPrepareIsDeterministic: the same bytes on any number of threads.
func TestPrepareIsDeterministic(t *testing.T) {
	tok := load(t)
	var first map[string][]byte
	for _, threads := range []int{1, 4} {
		_, out, _ := prepared(t, tok, PrepareOptions{Paths: []string{sample}, ShardBytes: 20000, Threads: threads})
		files := make(map[string][]byte)
		entries, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if files[e.Name()], err = os.ReadFile(filepath.Join(out, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		if first == nil {
			first = files
		}
		for name := range first {
			if !bytes.Equal(first[name], files[name]) {
				t.Errorf("%s differs", name)
			}
		}
		if len(files) != len(first) || len(files) < 4 || files[unfinishedName] != nil {
			t.Errorf("%d files", len(files))
		}
	}
}

// TestWidePrepared: ids of 32 bits, and a vocabulary that needs them.
func TestWidePrepared(t *testing.T) {
	tok := counting(t, 70000)
	var b strings.Builder
	for i := range 70000 {
		fmt.Fprintf(&b, "w%d ", i)
		if i%9 == 8 {
			b.WriteString("\n")
		}
		if i%9000 == 0 {
			fmt.Fprintf(&b, "\n\n= w%d =\n\n", i)
		}
	}
	path := write(t, "wide.txt", b.String())
	c, err := tok.ReadCorpus(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	d, _, _ := prepared(t, tok, PrepareOptions{Paths: []string{path}, ShardBytes: 50000})
	if d.Hash() != c.Hash() || len(d.store.shards) < 3 || d.store.shards[1].wide == nil || slices.Max(allIDs(d)) != 70004 {
		t.Errorf("%d shards", len(d.store.shards))
	}
	sameExamples(t, tok, c, d, bertOptions)
}

func TestPreparedAllocates(t *testing.T) {
	tok := load(t)
	c, _, _ := prepared(t, tok, PrepareOptions{Paths: []string{sample}, ShardBytes: 20000})
	p := pretraining(t, tok, c, bertOptions)
	var x PretrainingExample
	for i := range p.Len() {
		p.Fill(&x, 1, i)
	}
	i := 0
	if n := testing.AllocsPerRun(p.Len(), func() { p.Fill(&x, 1, i%p.Len()); i++ }); n > 0 {
		t.Errorf("%v allocations an example", n)
	}
}

func TestPrepareErrors(t *testing.T) {
	tok := load(t)
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	for _, name := range []string{"full", "begun"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"full/x", "file", "begun/" + unfinishedName, "begun/shard-00000.sift"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	empty := write(t, "e.txt", " \n")
	odd := write(t, "u.txt", "\xff\xfea\x00")
	text := []string{sample}
	for _, c := range []struct {
		out  string
		o    PrepareOptions
		kind fault.Kind
		want string
	}{
		{full, PrepareOptions{Paths: text}, fault.CannotWrite, "full: exists and is not empty"},
		{filepath.Join(dir, "file"), PrepareOptions{Paths: text}, fault.CannotWrite, "file: not a directory"},
		{filepath.Join(dir, "begun"), PrepareOptions{Paths: text}, fault.CannotWrite, "begun: holds a preparation that was interrupted or still runs: remove it first"},
		{filepath.Join(dir, "none", "x"), PrepareOptions{Paths: text}, fault.CannotWrite, "x: cannot create: no such file or directory"},
		{"", PrepareOptions{Paths: text}, fault.CannotWrite, "cannot create"},
		{filepath.Join(dir, "a"), PrepareOptions{Paths: []string{empty}}, fault.Data, "e.txt: holds no text"},
		{filepath.Join(dir, "a"), PrepareOptions{Paths: []string{sample, odd}}, fault.Data, "u.txt: is UTF-16; write it as UTF-8"},
		{filepath.Join(dir, "a"), PrepareOptions{Paths: []string{filepath.Join(dir, "absent")}}, fault.Missing, "no such file or directory"},
		{filepath.Join(dir, "a"), PrepareOptions{Paths: text, ShardBytes: -1}, fault.Config, "must be from 1 to 4294967296"},
		{filepath.Join(dir, "a"), PrepareOptions{Paths: text, ShardBytes: 1 << 40}, fault.Config, "must be from 1 to"},
		{filepath.Join(dir, "a"), PrepareOptions{Paths: text, Threads: -1}, fault.Config, "must be at least 1"},
	} {
		_, err := tok.Prepare(t.Context(), c.out, c.o)
		if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: kind %d, %v", c.out, fault.KindOf(err), err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err == nil {
		t.Error("a directory is left of what failed")
	}
}

// TestPrepareInterrupted stops at every batch in turn.
func TestPrepareInterrupted(t *testing.T) {
	defer goleak.VerifyNone(t)
	tok := load(t)
	text := t.TempDir()
	numbered(t, text, 0, 12)
	for _, threads := range []int{1, 3} {
		for stop := range 12 {
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			if stop%2 == 0 {
				if err := os.Mkdir(out, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			batches := 0
			_, err := tok.Prepare(ctx, out, PrepareOptions{Paths: []string{text}, ShardBytes: 1, Threads: threads, Progress: func(PrepareProgress) {
				if _, err := tok.OpenPrepared(out); fault.KindOf(err) != fault.Data || !IsPrepared(out) {
					t.Errorf("while it is written: %v", err)
				}
				if batches == stop {
					cancel()
				}
				batches++
			}})
			cancel()
			if fault.KindOf(err) != fault.Interrupted || !strings.HasPrefix(err.Error(), out+": interrupted") || batches < stop {
				t.Errorf("stopped after %d batches: %v", batches, err)
			}
			entries, _ := os.ReadDir(out)
			if _, err := os.Stat(out); len(entries) > 0 || (err == nil) != (stop%2 == 0) {
				t.Errorf("left behind: %v, %v", entries, err)
			}
			if IsPrepared(out) {
				t.Error("looks prepared")
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tok.ReadCorpus(ctx, text); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("reading: %v", err)
	}
}

// TestPrepareCannotWrite: a directory that goes away is an error that names a file.
func TestPrepareCannotWrite(t *testing.T) {
	tok := load(t)
	text := t.TempDir()
	numbered(t, text, 0, 12)
	out := filepath.Join(t.TempDir(), "out")
	batches := 0
	_, err := tok.Prepare(t.Context(), out, PrepareOptions{Paths: []string{text}, ShardBytes: 1, Threads: 2, Progress: func(PrepareProgress) {
		if batches++; batches == 5 {
			if err := os.RemoveAll(out); err != nil {
				t.Error(err)
			}
		}
	}})
	if k := fault.KindOf(err); k != fault.IO && k != fault.CannotWrite || !strings.HasPrefix(err.Error(), filepath.Join(out, "shard-000")) {
		t.Errorf("kind %d: %v", k, err)
	}
}

func TestIdentity(t *testing.T) {
	base := load(t).identity()
	if base != load(t).identity() {
		t.Error("not the same twice")
	}
	content, err := os.ReadFile(vocabFile)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := Load(write(t, "vocab.txt", string(content)))
	if err != nil || copied.identity() != base {
		t.Error("a copy elsewhere is another tokenizer", err)
	}
	for name, change := range map[string]func(*Tokenizer){
		"case":    func(t *Tokenizer) { t.LowerCase = false },
		"accents": func(t *Tokenizer) { t.StripAccents = false },
		"chinese": func(t *Tokenizer) { t.SplitChinese = false },
		"clean":   func(t *Tokenizer) { t.CleanText = false },
		"mask":    func(t *Tokenizer) { t.MASK = -1 },
		"length":  func(t *Tokenizer) { t.maxChars = 200 },
		"token":   func(t *Tokenizer) { t.tokens[5] = "another" },
		"added":   func(t *Tokenizer) { t.raw = newAdded(nil) },
		"folded":  func(t *Tokenizer) { t.folded = newAdded([]addedToken{{content: "x", id: 7}}) },
	} {
		tok := load(t)
		if change(tok); tok.identity() == base {
			t.Errorf("%s does not show", name)
		}
	}
}
