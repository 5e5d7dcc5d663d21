package text

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/fault"
)

func TestFindCorpus(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.txt", "a/z.TXT", "a/b/c.txt", "a.txt", "notes.md", ".hidden.txt", ".git/x.txt", "empty/README"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("Text."), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := func(names ...string) []string {
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		return names
	}
	got, err := FindCorpus([]string{dir})
	if want := in("a/b/c.txt", "a/z.TXT", "a.txt", "b.txt"); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	got, err = FindCorpus(in("b.txt", "a", "a/b/../b/c.txt", "notes.md"))
	if want := in("b.txt", "a/b/c.txt", "a/z.TXT", "notes.md"); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}

	for name, make := range map[string]func(string) error{
		"a symbolic link":             func(p string) error { return os.Symlink(filepath.Join(dir, "b.txt"), p+".txt") },
		"a symbolic link, which":      func(p string) error { return os.Symlink(dir, p) }, // to the directory itself
		"a symbolic link,":            func(p string) error { return os.Symlink("nowhere", p+".txt") },
		"":                            func(p string) error { return os.Symlink("nowhere", p) },
		"no such file or directory  ": nil,
	} {
		sub := filepath.Join(dir, "a", "sub")
		if make == nil {
			if _, err := FindCorpus([]string{sub}); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
				t.Errorf("missing: %v", err)
			}
			continue
		}
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := make(filepath.Join(sub, "odd")); err != nil {
			t.Fatal(err)
		}
		_, err := FindCorpus([]string{dir})
		if name == "" {
			if err != nil {
				t.Error("a link that is not text:", err)
			}
		} else if err == nil || !strings.Contains(err.Error(), name) || !strings.HasPrefix(err.Error(), filepath.Join(sub, "odd")) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.RemoveAll(sub); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := FindCorpus(in("empty")); fault.KindOf(err) != fault.Data {
		t.Errorf("a directory without text: %v", err)
	}
}

func TestReadCorpusErrors(t *testing.T) {
	tok := load(t)
	for _, c := range []struct {
		path, want string
		kind       fault.Kind
	}{
		{write(t, "u.txt", "\xff\xfea\x00"), "is UTF-16; write it as UTF-8", fault.Data},
		{write(t, "e.txt", " \n"), "holds no text", fault.Data},
		{"/nonexistent/x.txt", "no such file or directory", fault.Missing},
	} {
		_, err := tok.ReadCorpus(t.Context(), c.path)
		if fault.KindOf(err) != c.kind || err == nil || err.Error() != c.path+": "+c.want {
			t.Errorf("%s: %v", c.path, err)
		}
	}
	if _, err := ReadCorpusFile(t.TempDir(), nil); fault.KindOf(err) != fault.Missing {
		t.Error(err)
	}
	stop := fault.New(fault.Interrupted, "stopped")
	if _, err := ReadCorpusFile(filepath.Join(sample, "persuasion.txt"), func(string, bool) error { return stop }); fault.KindOf(err) != fault.Interrupted {
		t.Error(err)
	}
}

func TestCorpus(t *testing.T) {
	tok := load(t)
	c, err := tok.ReadCorpus(t.Context(), sample)
	if err != nil {
		t.Fatal(err)
	}
	var want []int32
	documents, sentences := 0, 0
	for _, f := range c.Files {
		got, _ := sentencesOf(t, f.Path)
		for _, s := range got {
			if text, ok := strings.CutPrefix(s, "# "); ok {
				documents++
				s = text
			}
			sentences++
			want = tok.AppendIDs(want, s)
		}
	}
	if got := allIDs(c); !slices.Equal(got, want) {
		t.Error("ids are not those of the sentences")
	}
	if c.Documents() != documents || c.Sentences() != sentences || c.Tokens() != len(want) || documents != 16 || len(c.Files) != 7 {
		t.Errorf("%d documents, %d sentences, %d tokens of %d, %d, %d", c.Documents(), c.Sentences(), c.Tokens(), documents, sentences, len(want))
	}
	if len(c.store.shards) != 1 || c.store.shards[0].wide != nil {
		t.Error("ids of 30,522 tokens are wide")
	}
	// The width of ids and the size of shards show in nothing.
	for _, limit := range []int{1, 1000, 20000, memoryShard} {
		m := &shardsInMemory{isWide: true, limit: limit}
		wide := rebuilt(t, c, m)
		if wide.Hash() != c.Hash() || !slices.Equal(allIDs(wide), want) || wide.Sentences() != sentences || wide.Tokens() != len(want) {
			t.Errorf("limit %d: another corpus", limit)
		}
		if n := len(m.shards); limit == 1 && n != documents || limit == 20000 && (n < 2 || n == documents) || limit == memoryShard && n != 1 {
			t.Errorf("limit %d: %d shards", limit, n)
		}
	}
}

// TestCorpusBatches: a file of many batches, documents and blocks that end within them, is
// read as ReadCorpusFile reads it.
func TestCorpusBatches(t *testing.T) {
	tok := load(t)
	prose, err := os.ReadFile(filepath.Join(sample, "persuasion.txt"))
	if err != nil {
		t.Fatal(err)
	}
	content := strings.Repeat(string(prose)+"\n\n", 6) + strings.Repeat("No blank line here, \xff and none there.\n", 40000) + "\nCHAPTER 9\n\nThe end.\n"
	path := write(t, "long.txt", content)
	var want []int32
	documents, sentences := 0, 0
	file, err := ReadCorpusFile(path, func(s string, first bool) error {
		if first {
			documents++
		}
		sentences++
		want = tok.AppendIDs(want, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, threads := range []int{1, 2, 5} {
		m := &shardsInMemory{limit: 20000}
		a := newAssembly(m)
		files, err := tok.tokeniseFiles(t.Context(), []string{path}, threads, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.endShard()
		c := newCorpus(newStore(m.shards), files)
		if !slices.Equal(allIDs(c), want) || c.Documents() != documents || c.Sentences() != sentences || documents < 20 || len(m.shards) < 3 {
			t.Errorf("%d threads: %d documents, %d sentences, not %d and %d", threads, c.Documents(), c.Sentences(), documents, sentences)
		}
		if fmt.Sprint(files[0]) != fmt.Sprint(file) || len(file.Notes) != 1 || file.Bytes != int64(len(content)) {
			t.Errorf("%d threads: %v, not %v", threads, files[0], file)
		}
	}
}

// allIDs returns the ids of a corpus.
func allIDs(c *Corpus) (ids []int32) {
	for i := range c.Documents() {
		span := c.passage(i).span()
		ids = span.s.appendTo(ids, span.lo, span.hi)
	}
	return ids
}

// rebuilt assembles a corpus again.
func rebuilt(t testing.TB, c *Corpus, m *shardsInMemory) *Corpus {
	t.Helper()
	a := newAssembly(m)
	for i := range c.Documents() {
		d := c.passage(i)
		for s := d.first; s < d.end; s++ {
			if err := a.sentence(d.s.appendTo(nil, d.s.starts[s], d.s.starts[s+1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.endDocument(); err != nil {
			t.Fatal(err)
		}
	}
	m.endShard()
	return newCorpus(newStore(m.shards), nil)
}

func TestCorpusHash(t *testing.T) {
	tok := load(t)
	hash := func(content string) string {
		c, err := tok.ReadCorpus(t.Context(), write(t, "x.txt", content))
		if err != nil {
			t.Fatal(err)
		}
		return c.Hash()
	}
	base := hash("One whale. Two whales.\n")
	if hash("One  whale.\nTwo whales.") != base {
		t.Error("white space shows in the hash")
	}
	seen := map[string]string{base: "base"}
	for _, s := range []string{"One whale. Three whales.", "One whale two whales.", "One. Whale. Two whales.", "One whale. Two whales. One whale. Two whales.", "= One =\n\nwhale. Two whales."} {
		h := hash(s)
		if other, ok := seen[h]; ok {
			t.Errorf("%q has the hash of %q", s, other)
		}
		seen[h] = s
	}
}

// numbered writes n files of a few sentences each, from file number from on.
func numbered(t *testing.T, dir string, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		s := fmt.Sprintf("This is document %d. It has %d sentences. The last is this one.\n", i, 3)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.txt", i*7919%100000)), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// keys lists the documents of a corpus by content.
func keys(c *Corpus) map[uint64]int {
	m := make(map[uint64]int)
	c.eachDigest(func(_ int, s *shard, d uint32) { m[keyOf(&s.digests[d])]++ })
	return m
}

func TestSplit(t *testing.T) {
	tok := load(t)
	dir := t.TempDir()
	read := func() *Corpus {
		c, err := tok.ReadCorpus(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const n, share = 1000, 0.1
	numbered(t, dir, 0, n)
	c := read()
	train, held, err := c.Split(share, 1)
	if err != nil {
		t.Fatal(err)
	}
	k := held.Documents()
	if sigma := math.Sqrt(n * share * (1 - share)); math.Abs(float64(k)-n*share) > 4*sigma {
		t.Errorf("%d of %d documents held out", k, n)
	}
	if train.Documents()+k != n || train.Tokens()+held.Tokens() != c.Tokens() || train.Sentences()+held.Sentences() != c.Sentences() {
		t.Error("the parts are not the whole")
	}
	for key := range keys(held) {
		if keys(train)[key] > 0 {
			t.Fatal("a document is on both sides")
		}
	}

	numbered(t, dir, n, n) // file names of the two lots interleave
	train2, held2, err := read().Split(share, 1)
	if err != nil {
		t.Fatal(err)
	}
	for key := range keys(held) {
		if keys(held2)[key] == 0 {
			t.Fatal("a document moved from held out to training")
		}
	}
	for key := range keys(train) {
		if keys(train2)[key] == 0 {
			t.Fatal("a document moved from training to held out")
		}
	}
	if held2.Documents() <= k || train2.Documents()+held2.Documents() != 2*n {
		t.Error(held2.Documents())
	}

	_, other, err := c.Split(share, 2)
	if err != nil {
		t.Fatal(err)
	}
	both := 0
	for key := range keys(other) {
		both += keys(held)[key]
	}
	if both > k/2 || held.Hash() == other.Hash() {
		t.Errorf("%d of %d documents held out under another seed too", both, k)
	}
}

func TestSplitFew(t *testing.T) {
	tok := load(t)
	dir := t.TempDir()
	numbered(t, dir, 0, 1)
	c, err := tok.ReadCorpus(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Split(0.5, 1); fault.KindOf(err) != fault.Data {
		t.Errorf("one document was split: %v", err)
	}
	if train, held, err := c.Split(0, 1); err != nil || train != c || held != nil {
		t.Error("share 0:", err)
	}
	for _, share := range []float64{-0.1, 1, math.NaN(), math.Inf(1)} {
		if _, _, err := c.Split(share, 1); fault.KindOf(err) != fault.Config {
			t.Errorf("share %v: %v", share, err)
		}
	}
	numbered(t, dir, 1, 2)
	if c, err = tok.ReadCorpus(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		for _, share := range []float64{1e-9, 0.5, 1 - 1e-9} {
			train, held, err := c.Split(share, seed)
			if err != nil || train.Documents() == 0 || held.Documents() == 0 || train.Documents()+held.Documents() != 3 {
				t.Fatal(share, err)
			}
		}
	}
	// Copies stay together.
	same := strings.Repeat("= A title =\n\nThe very same text.\n\n", 5)
	if c, err = tok.ReadCorpus(t.Context(), write(t, "same.txt", same)); err != nil || c.Documents() != 5 {
		t.Fatal(err)
	}
	if _, _, err := c.Split(0.5, 1); fault.KindOf(err) != fault.Data {
		t.Errorf("copies were parted: %v", err)
	}
}
