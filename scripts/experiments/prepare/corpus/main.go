// Command corpus is what scripts/experiments/prepare needs beside sift itself.
//
//	corpus sentences PATH...          writes the sentences of a corpus, one a line
//	corpus epoch TOKENIZER PREPARED   makes every example of an epoch, in the order of training
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"sift/text"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 2 && args[0] == "sentences":
		return sentences(args[1:])
	case len(args) == 3 && args[0] == "epoch":
		return epoch(args[1], args[2])
	}
	return fmt.Errorf("usage: corpus sentences PATH... | corpus epoch TOKENIZER PREPARED")
}

// sentences writes what sift prepare tokenises.
func sentences(paths []string) error {
	files, err := text.FindCorpus(paths)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for _, path := range files {
		if _, err := text.ReadCorpusFile(path, func(sentence string, _ bool) error {
			_, err := fmt.Fprintln(out, sentence)
			return err
		}); err != nil {
			return err
		}
	}
	return out.Flush()
}

// epoch prints how long opening, planning and an epoch take, and the resident memory.
func epoch(tokenizer, prepared string) error {
	tok, err := text.Load(tokenizer)
	if err != nil {
		return err
	}
	start := time.Now()
	c, err := tok.OpenPrepared(prepared)
	if err != nil {
		return err
	}
	defer c.Close()
	opened := time.Since(start)
	start = time.Now()
	p, err := text.NewPretraining(tok, c, text.PretrainingOptions{
		MaxLength: 128, NextSentence: true, ShortShare: 0.1, MaskShare: 0.15, Replace: [3]float64{0.8, 0.1, 0.1}, Seed: 1,
	})
	if err != nil {
		return err
	}
	planned := time.Since(start)
	start = time.Now()
	order := text.NewOrder(p.Len(), 1)
	var x text.PretrainingExample
	tokens := 0
	for i := range p.Len() {
		p.Fill(&x, 0, order.At(uint64(i)))
		tokens += len(x.IDs)
	}
	filled := time.Since(start)
	fmt.Printf("opened and checked in %.2f s, planned in %.2f s; %d examples of %d tokens in %.1f s, %.1f us an example\n",
		opened.Seconds(), planned.Seconds(), p.Len(), tokens, filled.Seconds(), filled.Seconds()*1e6/float64(p.Len()))
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil // no Linux
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "Rss") {
			fmt.Print(line)
		}
	}
	return nil
}
