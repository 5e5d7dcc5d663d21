package text

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"sift/atomicfile"
	"sift/fault"
)

const (
	manifestName   = "manifest.json"
	manifestFormat = "sift prepared corpus"
	manifestLimit  = 1 << 30 // bytes; a source file takes about 200
)

// manifestFile is manifest.json: the contents, and a checksum of their bytes as they stand
// in the file.
type manifestFile struct {
	Format   string          `json:"format"`
	Version  int             `json:"version"`
	SHA256   string          `json:"sha256"`
	Contents json.RawMessage `json:"contents"`
}

// manifest says what a prepared corpus is.
type manifest struct {
	Tokenizer manifestTokenizer `json:"tokenizer"`
	Hash      string            `json:"corpus_hash"` // Corpus.Hash
	TextBytes int64             `json:"text_bytes"`
	Documents int               `json:"documents"`
	Sentences int               `json:"sentences"`
	Tokens    int               `json:"tokens"`
	Shards    []manifestShard   `json:"shards"`
	Files     []CorpusFile      `json:"files"`
}

type manifestTokenizer struct {
	Identity   string `json:"identity"` // see Tokenizer.identity, in hex
	Vocabulary int    `json:"vocabulary"`
	Path       string `json:"path"` // for people
}

type manifestShard struct {
	Name      string `json:"name"`
	Bytes     int64  `json:"bytes"`
	SHA256    string `json:"sha256"` // of the whole file, in hex
	Documents int    `json:"documents"`
	Sentences int    `json:"sentences"`
	Tokens    int    `json:"tokens"`
}

// encode returns the bytes of manifest.json.
func (m *manifest) encode() ([]byte, error) {
	contents, err := json.MarshalIndent(m, "  ", "  ")
	if err != nil {
		return nil, fault.New(fault.Internal, "%s: %w", manifestName, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n  \"format\": %q,\n  \"version\": %d,\n  \"sha256\": \"%x\",\n  \"contents\": ",
		manifestFormat, shardVersion, sha256.Sum256(contents))
	b.Write(contents)
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}

// write writes manifest.json whole or not at all.
func (m *manifest) write(dir string) error {
	content, err := m.encode()
	if err != nil {
		return err
	}
	return atomicfile.AtomicWrite(filepath.Join(dir, manifestName), func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// parseManifest reads the bytes of manifest.json and checks what can be checked without the
// shards.
func parseManifest(content []byte) (*manifest, error) {
	var f manifestFile
	if err := decode(content, &f); err != nil {
		return nil, err
	}
	if f.Format != manifestFormat {
		return nil, fault.New(fault.Data, "is not the manifest of a prepared corpus")
	}
	if f.Version != shardVersion {
		return nil, fault.New(fault.Data, "has format version %d, and this program reads %d: prepare again", f.Version, shardVersion)
	}
	if sum := sha256.Sum256(f.Contents); hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, fault.New(fault.Data, "is damaged: its contents do not have the SHA-256 it states")
	}
	m := new(manifest)
	if err := decode(f.Contents, m); err != nil {
		return nil, err
	}
	documents, sentences, tokens := 0, 0, 0
	for i, s := range m.Shards {
		if s.Name != shardName(i) {
			return nil, fault.New(fault.Data, "shard %d is named %s, not %s", i, show(s.Name), shardName(i))
		}
		if s.Documents < 1 || s.Sentences < s.Documents || s.Tokens < s.Sentences || int64(s.Tokens) > math.MaxUint32 {
			return nil, fault.New(fault.Data, "%s: %d documents, %d sentences and %d tokens cannot be", s.Name, s.Documents, s.Sentences, s.Tokens)
		}
		documents, sentences, tokens = documents+s.Documents, sentences+s.Sentences, tokens+s.Tokens
	}
	if documents != m.Documents || sentences != m.Sentences || tokens != m.Tokens || len(m.Shards) == 0 {
		return nil, fault.New(fault.Data, "the shards have %d documents, %d sentences and %d tokens, not %d, %d and %d",
			documents, sentences, tokens, m.Documents, m.Sentences, m.Tokens)
	}
	if int64(m.Sentences) > mostSentences || m.Documents > mostDocuments {
		return nil, fault.New(fault.Data, "%d documents and %d sentences are too many", m.Documents, m.Sentences)
	}
	return m, nil
}

// readManifest reads the manifest of a directory.
func readManifest(dir string) (*manifest, error) {
	path := filepath.Join(dir, manifestName)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.New(fault.Missing, "%s: %v", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Missing, "%s: is not a regular file", path)
	}
	if info.Size() > manifestLimit {
		return nil, fault.New(fault.Data, "%s: has %d bytes, too many for a manifest", path, info.Size())
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.IO, "%s: %v", path, cause(err))
	}
	m, err := parseManifest(content)
	return m, fault.In(path, err)
}
