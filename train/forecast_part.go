package train

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"sift/config"
	"sift/fault"
	"sift/text"
)

// Of text or prepared data beyond these sizes only a part is read, so that a forecast
// takes a second or two.
const (
	wholeText   = 32 << 20 // bytes
	partOfText  = 8 << 20
	wholeTokens = 64 << 20 // of prepared data
)

// partSeed chooses the documents of a part of prepared data. It is no run's own seed but
// by accident, and then only the held-out part of the forecast is affected.
const partSeed = 0x5157_0a27

// readPart reads text or opens prepared data, or a part of it, and returns which share.
func (p *population) readPart(ctx context.Context, paths config.Paths, tok *text.Tokenizer) (*text.Corpus, float64, error) {
	share := 1.0
	for _, path := range paths {
		if text.IsPrepared(path) {
			c, err := openCorpus(ctx, tok, paths)
			if err != nil {
				return nil, 0, err
			}
			p.corpora = append(p.corpora, c)
			if n := c.Tokens(); n > wholeTokens {
				// Copies of one document cannot be parted; then all of it is read.
				if _, part, err := c.Split(float64(wholeTokens)/float64(n), partSeed); err == nil {
					share = float64(part.Tokens()) / float64(n)
					p.partial(fmt.Sprintf("%s: %d tokens", path, n), share)
					return part, share, nil
				}
			}
			return c, share, nil
		}
	}
	files, err := text.FindCorpus(paths)
	if err != nil {
		return nil, 0, err
	}
	sizes, total := make([]int64, len(files)), int64(0)
	for i, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, 0, diskError(fault.Missing, file, err)
		}
		sizes[i] = info.Size()
		total += info.Size()
	}
	if total > wholeText {
		dir, err := os.MkdirTemp("", "sift-plan-")
		if err != nil {
			return nil, 0, fault.New(fault.CannotWrite, "a part of the text: %w", err)
		}
		defer os.RemoveAll(dir)
		var read int64
		if files, read, err = partOf(files, sizes, total, dir); err != nil {
			return nil, 0, err
		}
		share = float64(read) / float64(total)
		p.partial(fmt.Sprintf("%s: %.0f MB of text", paths, float64(total)/1e6), share)
	}
	c, err := openCorpus(ctx, tok, files)
	if err != nil {
		return nil, 0, err
	}
	p.corpora = append(p.corpora, c)
	return c, share, nil
}

// partial notes that of some data a share was looked at.
func (p *population) partial(what string, share float64) {
	p.lengths = fromSample
	if p.why != "" {
		p.why += "; "
	}
	p.why += fmt.Sprintf("%s, of which %.2g%% was read", what, 100*share)
}

// partOf picks about partOfText of total bytes: whole files evenly over the list and, of
// large files, as much of the beginning as is their due, which is copied into dir.
func partOf(files []string, sizes []int64, total int64, dir string) (part []string, read int64, err error) {
	const large = 1 << 20
	due := 0.0 // bytes
	for i, file := range files {
		due += float64(sizes[i]) * partOfText / float64(total)
		n := int64(due)
		switch {
		case sizes[i] <= n:
			n = sizes[i]
		case sizes[i] <= large || n < large/16:
			continue
		default:
			if file, err = beginning(file, n, filepath.Join(dir, strconv.Itoa(i)+".txt")); err != nil {
				return nil, 0, err
			}
		}
		if n > 0 {
			part = append(part, file)
		}
		read += n
		due -= float64(n)
	}
	return part, read, nil
}

// beginning copies the first n bytes of a file.
func beginning(file string, n int64, to string) (string, error) {
	from, err := os.Open(file)
	if err != nil {
		return "", diskError(fault.Missing, file, err)
	}
	defer from.Close()
	out, err := os.Create(to)
	if err != nil {
		return "", diskError(fault.CannotWrite, to, err)
	}
	_, err = io.CopyN(out, from, n)
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return "", diskError(fault.IO, file, err)
	}
	return to, nil
}
