package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sift/train"
)

const (
	sampleText  = "../testdata/corpora"
	sampleVocab = "../testdata/vocab/vocab.txt"
)

func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	var first, second prepareSummary
	object(t, &first, "prepare", "--tokenizer", sampleVocab, "--out", in("a"), "--threads", "1", sampleText)
	if first.Files != 7 || first.Documents != 16 || first.Sentences != 1070 || first.Tokens < 30000 || first.TextBytes < 160000 ||
		first.Shards != 1 || first.Bytes < 2*int64(first.Tokens) || !(first.Seconds > 0) || !(first.Speed > 0) || len(first.Hash) != 64 || first.Notes == nil {
		t.Errorf("summary %+v", first)
	}
	object(t, &second, "prepare", "--tokenizer", filepath.Dir(sampleVocab), "--out", in("b"), "--shard-mb", "1", "--threads", "3", sampleText)
	if first.Hash != second.Hash || first.Tokens != second.Tokens {
		t.Error("threads show in the corpus")
	}
	var m struct {
		Format   string
		Contents struct {
			Hash   string `json:"corpus_hash"`
			Shards []struct{ Name string }
		}
	}
	data, err := os.ReadFile(filepath.Join(in("a"), "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Contents.Hash != first.Hash || len(m.Contents.Shards) != 1 {
		t.Errorf("manifest: %v, %+v", err, m)
	}

	// A second time into the same directory, and what is left by a run that was killed.
	if code, _, stderr := run("prepare", "--tokenizer", sampleVocab, "--out", in("a"), sampleText); code != 73 || !strings.Contains(stderr, "not empty") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if err := os.Remove(filepath.Join(in("a"), "manifest.json")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run("prepare", "--tokenizer", sampleVocab, "--out", in("a"), sampleText); code != 73 || !strings.Contains(stderr, "interrupted") {
		t.Errorf("exit %d: %s", code, stderr)
	}

	// For people: notes on stderr, the summary on stdout.
	write(t, in("odd.txt"), "Caf\xe9 au lait. And more.\n")
	code, stdout, stderr := run("prepare", "--tokenizer", sampleVocab, "--out", in("c"), in("odd.txt"))
	if code != 0 || strings.Count(stdout, "\n") != 2 || !strings.HasPrefix(stdout, "1 document, 2 sentences and ") || !strings.Contains(stdout, in("c")+", 1 shard") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if stderr != in("odd.txt")+": 1 paragraph with bytes that are not UTF-8, read as U+FFFD\n" {
		t.Errorf("stderr %q", stderr)
	}
}

// TestPreparedPretrains: prepared data train to the same bits as the text they came from.
func TestPreparedPretrains(t *testing.T) {
	dir, flags := toyText(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	if code, _, stderr := run("prepare", "--quiet", "--tokenizer", in("vocab.txt"), "--out", in("data"), in("one"), in("two"), in("e.txt")); code != 0 {
		t.Fatal(stderr)
	}
	flags = append(flags, "--data.valid_share", "0.3", "--sift.score", "loss")
	var from [2]train.Summary
	for i, paths := range [][]string{{in("one"), in("two"), in("e.txt")}, {in("data")}} {
		args := append([]string{"pretrain", "--out", in(fmt.Sprint("run", i))}, flags...)
		for _, path := range paths {
			args = append(args, "--train", path)
		}
		object(t, &from[i], args...)
	}
	if a, b := from[0], from[1]; a.Best == nil || b.Best == nil || a.FinalLoss != b.FinalLoss || a.Best.MLMLoss != b.Best.MLMLoss || !(a.Best.MLMLoss > 0) {
		t.Errorf("from text %+v, from prepared data %+v", a, b)
	}

	// Damage is one line that names the file.
	shard := filepath.Join(in("data"), "shard-00000.sift")
	data, err := os.ReadFile(shard)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 4
	write(t, shard, string(data))
	code, _, stderr := run(append([]string{"pretrain", "--train", in("data"), "--out", in("run")}, flags...)...)
	if code != 65 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "shard-00000.sift: does not have the SHA-256") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestBadPrepare(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "blank.txt"), " \n")
	write(t, filepath.Join(dir, "file"), "x")
	base := "--tokenizer " + sampleVocab
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", 64, "at least one text file or directory"},
		{"DIR", 64, "--tokenizer"},
		{base + " DIR", 64, "--out"},
		{base + " --out DIR/o --threads -1 " + sampleText, 64, "--threads"},
		{base + " --out DIR/o --shard-mb 0 " + sampleText, 64, "--shard-mb"},
		{base + " --out DIR/o --shard-mb 5000 " + sampleText, 64, "--shard-mb"},
		{base + " --out DIR/o --shard-mb x " + sampleText, 64, "--shard-mb"},
		{"--tokenizer DIR/none --out DIR/o " + sampleText, 66, "none"},
		{base + " --out DIR/o DIR/none", 66, "DIR/none: no such file"},
		{base + " --out DIR/o DIR/blank.txt", 65, "DIR/blank.txt: holds no text"},
		{base + " --out DIR/o /dev/zero", 66, "not a regular file"},
		{base + " --out DIR/file " + sampleText, 73, "DIR/file"},
		{base + " --out DIR " + sampleText, 73, "DIR: exists and is not empty"},
		{base + " --out DIR/none/o " + sampleText, 73, "DIR/none/o"},
	} {
		args := strings.Fields("prepare " + strings.ReplaceAll(c.args, "DIR", dir))
		code, stdout, stderr := run(args...)
		if code != c.code || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, strings.ReplaceAll(c.want, "DIR", dir)) || stdout != "" {
			t.Errorf("sift prepare %s: exit %d, want %d with %q: %s%s", c.args, code, c.code, c.want, stderr, stdout)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "o")); err == nil {
		t.Error("a directory is left of what failed")
	}
}

// TestPrepareStops: an interrupt ends it with 75, and nothing stays.
func TestPrepareStops(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.Mkdir(text, 0o777); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(sampleText, "persuasion.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		write(t, filepath.Join(text, fmt.Sprint(i, ".txt")), strings.Repeat(string(data), 100))
	}
	out := filepath.Join(dir, "out")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- execute(ctx, []string{"prepare", "--tokenizer", sampleVocab, "--out", out, "--threads", "1", "--shard-mb", "1", text}, &stdout, &stderr)
	}()
	for shard := filepath.Join(out, "shard-00000.sift"); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(shard); err == nil {
			break
		}
		if len(done) > 0 {
			t.Fatal(<-done)
		}
	}
	cancel()
	if err := <-done; exitCode(err) != 75 || !strings.HasPrefix(err.Error(), out+": interrupted") || stdout.Len() > 0 {
		t.Errorf("%v: %s%s", err, stdout.String(), stderr.String())
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a directory is left")
	}
}
