package sifting_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
	"sift/sifting"
)

func TestRecordAndReplay(t *testing.T) {
	cfg := classifier()
	b := randomBatch(t, cfg, 5, lengths...)
	var record bytes.Buffer
	run := func(o sifting.Options) ([][]int, []float64, error) {
		m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
		o.ExitLayer, o.Keep = 1, 0.5
		s := newStepper(t, m, o)
		var kept [][]int
		for update := range 3 {
			for micro := range 2 {
				r, err := s.Step(b, sifting.StepArgs{Update: update, Micro: micro, Select: true, Seed: uint64(micro)})
				if err != nil {
					return nil, nil, err
				}
				kept = append(kept, slices.Clone(r.KeptIndex))
			}
		}
		return kept, grads(t, m), nil
	}
	kept, g, err := run(sifting.Options{Score: sifting.Random, Record: sifting.NewRecorder(&record)})
	check(t, err)
	if n := strings.Count(record.String(), "\n"); n != 6 {
		t.Fatalf("%d lines", n)
	}
	if slices.Equal(kept[0], kept[1]) && slices.Equal(kept[0], kept[2]) && slices.Equal(kept[0], kept[3]) {
		t.Fatalf("random selection is always %v", kept[0])
	}
	replay, err := sifting.ReadReplay(bytes.NewReader(record.Bytes()), "selection.jsonl")
	check(t, err)
	again, h, err := run(sifting.Options{Score: sifting.Loss, Replay: replay})
	check(t, err)
	if !slices.EqualFunc(kept, again, slices.Equal) || !slices.Equal(g, h) {
		t.Fatalf("replayed %v, recorded %v", again, kept)
	}
	b.SampleID[3]++
	_, _, err = run(sifting.Options{Score: sifting.Loss, Replay: replay})
	if fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "selection.jsonl: update 1,") {
		t.Fatalf("other sequences: %v", err)
	}
	b.SampleID[3]--
	short, err := sifting.ReadReplay(strings.NewReader(strings.SplitAfter(record.String(), "\n")[0]), "one.jsonl")
	check(t, err)
	if _, _, err := run(sifting.Options{Score: sifting.Loss, Replay: short}); err == nil || !strings.Contains(err.Error(), "update 1, micro-batch 1: not recorded") {
		t.Fatalf("short record: %v", err)
	}
}

func TestReadReplayRefuses(t *testing.T) {
	good := `{"update":1,"micro":0,"sample_ids":[4,5],"scores":[null,1],"kept":[1]}` + "\n"
	other := `{"update":1,"micro":0,"sample_ids":[4,5],"scores":[3,1],"kept":[0]}` + "\n"
	for _, text := range []string{"", "\n\n", "{", "[]", "null", `{"update":1}`, good + other, good + good[:30],
		`{"update":1,"micro":0,"sample_ids":[4,5],"scores":[],"kept":[2]}`,
		`{"update":1,"micro":0,"sample_ids":[4,5],"scores":[],"kept":[1,0]}`,
		`{"update":1,"micro":0,"sample_ids":[4,5],"scores":[],"kept":[-1]}`,
		`{"update":1,"micro":0,"sample_ids":[4,5],"kept":[1],"more":1}`,
		`{"update":0,"micro":0,"sample_ids":[4,5],"kept":[1]}`,
		`{"update":1,"micro":0,"sample_ids":[-4,5],"kept":[1]}`} {
		if _, err := sifting.ReadReplay(strings.NewReader(text), "f"); fault.KindOf(err) != fault.Data {
			t.Errorf("%q: error %v", text, err)
		}
	}
	if _, err := sifting.ReadReplay(strings.NewReader(good+good), "f"); err != nil {
		t.Errorf("a line repeated: %v", err)
	}
}

func FuzzReadReplay(f *testing.F) {
	f.Add(`{"update":1,"micro":0,"sample_ids":[4,5],"scores":[null,1],"kept":[1]}`)
	f.Add("{")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := sifting.ReadReplay(strings.NewReader(text), "f"); err != nil && fault.KindOf(err) != fault.Data {
			t.Fatalf("%v", err)
		}
	})
}
