package text

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"

	"sift/fault"
)

// corpusSink takes the sentences of a corpus in order, in shards of its own making.
type corpusSink interface {
	sentence(ids []int32) error // of the document that is open; at least one id
	endDocument(d digest) error // after at least one sentence
}

// Limits of a corpus. With shards of at most mostTokens before their last document, whose
// tokens are as many at most, positions within a shard have 32 bits.
const (
	mostTokens    = math.MaxInt32 // of a document
	mostSentences = math.MaxUint32 - 1
	mostDocuments = math.MaxInt32
)

// assembly leaves out what has no tokens, counts the rest, computes digests and passes
// all on to its sink.
type assembly struct {
	sink      corpusSink
	documents int
	sentences int
	tokens    int

	open     int // tokens of the document that is open
	document hash.Hash
	corpus   hash.Hash // of the documents' digests
	buf      []byte
}

func newAssembly(sink corpusSink) *assembly {
	return &assembly{sink: sink, document: sha256.New(), corpus: sha256.New()}
}

// sentence appends a sentence to the document that is open.
func (a *assembly) sentence(ids []int32) error {
	if len(ids) == 0 {
		return nil
	}
	if a.open += len(ids); a.open > mostTokens {
		return fault.New(fault.Data, "a document has more than %d tokens: divide it into several files", mostTokens)
	}
	if int64(a.sentences) == mostSentences {
		return fault.New(fault.Data, "the corpus has more than %d sentences", int64(mostSentences))
	}
	a.sentences++
	a.tokens += len(ids)
	a.buf = binary.LittleEndian.AppendUint32(a.buf[:0], uint32(len(ids)))
	for _, id := range ids {
		a.buf = binary.LittleEndian.AppendUint32(a.buf, uint32(id))
	}
	a.document.Write(a.buf)
	return a.sink.sentence(ids)
}

// endDocument ends the document that is open, if it has sentences.
func (a *assembly) endDocument() error {
	if a.open == 0 {
		return nil
	}
	if a.documents == mostDocuments {
		return fault.New(fault.Data, "the corpus has more than %d documents", mostDocuments)
	}
	a.documents++
	a.open = 0
	d := digest(a.document.Sum(a.buf[:0]))
	a.document.Reset()
	a.corpus.Write(d[:])
	return a.sink.endDocument(d)
}

// hash returns Corpus.Hash of what was assembled.
func (a *assembly) hash() string { return hex.EncodeToString(a.corpus.Sum(nil)) }
