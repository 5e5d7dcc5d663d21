package text

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	"sift/fault"
)

// shardWriter is a corpusSink that writes shards into a directory.
type shardWriter struct {
	dir        string
	limit      int64 // bytes after which a shard ends with its document
	vocabulary int
	identity   digest

	shards []manifestShard // finished
	open   *shardFiles     // nil between shards
}

// shardFiles are those of the shard that is written. Ids go straight to where they will be;
// starts, which come after all ids, into a file beside, since a single document may have more
// of them than memory should hold.
type shardFiles struct {
	header       shardHeader
	ids, starts  *os.File
	idsOut       *bufio.Writer
	startsOut    *bufio.Writer
	ends         []byte
	digests      []byte
	buf          []byte
	path, beside string
}

func (w *shardWriter) sentence(ids []int32) error {
	if w.open == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	s := w.open
	s.buf = s.buf[:0]
	if s.header.width == 2 {
		for _, id := range ids {
			s.buf = binary.LittleEndian.AppendUint16(s.buf, uint16(id))
		}
	} else {
		for _, id := range ids {
			s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(id))
		}
	}
	if _, err := s.idsOut.Write(s.buf); err != nil {
		return w.failed(err)
	}
	s.header.tokens += uint64(len(ids))
	s.header.sentences++
	return w.start()
}

// start writes where the next sentence begins.
func (w *shardWriter) start() error {
	s := w.open
	s.buf = binary.LittleEndian.AppendUint32(s.buf[:0], uint32(s.header.tokens))
	if _, err := s.startsOut.Write(s.buf); err != nil {
		return w.failed(err)
	}
	return nil
}

func (w *shardWriter) endDocument(d digest) error {
	s := w.open
	s.header.documents++
	s.ends = binary.LittleEndian.AppendUint32(s.ends, uint32(s.header.sentences))
	s.digests = append(s.digests, d[:]...)
	l := s.header.layout()
	if l.ids.size+l.starts.size+l.ends.size+l.digests.size >= w.limit {
		return w.endShard()
	}
	return nil
}

// begin opens the files of the next shard.
func (w *shardWriter) begin() error {
	number := len(w.shards)
	aside := filepath.Join(w.dir, "."+shardName(number))
	s := &shardFiles{path: aside + ".tmp", beside: aside + ".starts.tmp"}
	s.header = shardHeader{width: 2, vocabulary: uint32(w.vocabulary), number: uint32(number), identity: w.identity}
	if needsWide(w.vocabulary) {
		s.header.width = 4
	}
	w.open = s
	var err error
	if s.ids, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return fault.New(fault.CannotWrite, "%s: cannot create: %v", filepath.Join(w.dir, shardName(number)), cause(err))
	}
	if s.starts, err = os.OpenFile(s.beside, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return fault.New(fault.CannotWrite, "%s: cannot create: %v", filepath.Join(w.dir, shardName(number)), cause(err))
	}
	s.idsOut, s.startsOut = bufio.NewWriterSize(s.ids, 1<<18), bufio.NewWriterSize(s.starts, 1<<16)
	if _, err := s.idsOut.Write(make([]byte, sectionAlign)); err != nil { // the header comes last
		return w.failed(err)
	}
	return w.start()
}

// endShard finishes the shard that is open, if one is.
func (w *shardWriter) endShard() error {
	s := w.open
	if s == nil {
		return nil
	}
	sum, err := s.finish()
	if err != nil {
		return w.failed(err)
	}
	name := shardName(int(s.header.number))
	if err := os.Rename(s.path, filepath.Join(w.dir, name)); err != nil {
		return w.failed(err)
	}
	l := s.header.layout()
	w.shards = append(w.shards, manifestShard{
		Name: name, Bytes: l.size(), SHA256: sum,
		Documents: int(s.header.documents), Sentences: int(s.header.sentences), Tokens: int(s.header.tokens),
	})
	w.open = nil
	return nil
}

// finish writes what comes after the ids, then the header, and returns the SHA-256 of all.
func (s *shardFiles) finish() (sum string, err error) {
	out := s.idsOut
	l := s.header.layout()
	at := l.ids.end()
	pad := func(to int64) error {
		_, err := out.Write(make([]byte, to-at))
		return err
	}
	if err := s.startsOut.Flush(); err != nil {
		return "", err
	}
	if err := pad(l.starts.offset); err != nil {
		return "", err
	}
	if _, err := s.starts.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if at, err = io.Copy(out, s.starts); err != nil {
		return "", err
	}
	if at != l.starts.size {
		return "", errors.New("sentence starts were lost on the way")
	}
	at = l.starts.end()
	for _, x := range []struct {
		section
		content []byte
	}{{l.ends, s.ends}, {l.digests, s.digests}} {
		if err := pad(x.offset); err != nil {
			return "", err
		}
		if _, err := out.Write(x.content); err != nil {
			return "", err
		}
		at = x.end()
	}
	if err := out.Flush(); err != nil {
		return "", err
	}
	if _, err := s.ids.WriteAt(s.header.encode(), 0); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(s.ids, 0, l.size())); err != nil {
		return "", err
	}
	if err := errors.Join(s.ids.Sync(), s.ids.Close(), s.starts.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), os.Remove(s.beside)
}

// failed names the shard that could not be written.
func (w *shardWriter) failed(err error) error {
	return fault.New(fault.IO, "%s: cannot be written: %v", filepath.Join(w.dir, shardName(len(w.shards))), cause(err))
}

// remove deletes all that was written.
func (w *shardWriter) remove() {
	if s := w.open; s != nil {
		for _, f := range []*os.File{s.ids, s.starts} {
			if f != nil {
				f.Close()
			}
		}
		_, _ = os.Remove(s.path), os.Remove(s.beside)
		w.open = nil
	}
	for _, s := range w.shards {
		_ = os.Remove(filepath.Join(w.dir, s.Name))
	}
	_ = os.Remove(filepath.Join(w.dir, manifestName))
}
