package verify_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/onnx"
)

// The files that are written are compared with the imported ones here by the wire format
// alone, without the code that wrote them. Field numbers are those of onnx.proto.

// field is one field of a message; value is without its tag and length.
type field struct {
	num   protowire.Number
	kind  protowire.Type
	value []byte
}

// fields cuts a message.
func fields(t testing.TB, message []byte) []field {
	t.Helper()
	var list []field
	for len(message) > 0 {
		num, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(num, kind, message); n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		value := message[:n]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		list = append(list, field{num, kind, value})
		message = message[n:]
	}
	return list
}

// texts returns the values of all fields num.
func texts(list []field, num protowire.Number) []string {
	var s []string
	for _, f := range list {
		if f.num == num {
			s = append(s, string(f.value))
		}
	}
	return s
}

// payload reports whether a field of a TensorProto holds elements: float_data,
// int32_data, raw_data, double_data.
func payload(num protowire.Number) bool { return num == 4 || num == 5 || num == 9 || num == 10 }

// elsewhere reports whether a field of a TensorProto says which file holds the elements:
// external_data, data_location.
func elsewhere(num protowire.Number) bool { return num == 13 || num == 14 }

// wireDifference walks two models side by side and fails the test for whatever differs
// between them that changes does not list, and for what is listed but does not differ.
// resized is the name of the initializers and the output that got another size, if any.
func wireDifference(t testing.TB, before, after []byte, changes *onnx.Changes, resized ...string) {
	t.Helper()
	a, b := fields(t, before), fields(t, after)
	if len(a) != len(b) {
		t.Fatalf("the model has %d fields, had %d", len(b), len(a))
	}
	graphs := 0
	for i := range a {
		switch {
		case a[i].num != b[i].num || a[i].kind != b[i].kind:
			t.Fatalf("field %d of the model became field %d", a[i].num, b[i].num)
		case a[i].num == 7:
			graphs++
			d := difference{t, changes, resized, nil}
			d.graph(fields(t, a[i].value), fields(t, b[i].value))
			slices.Sort(d.patched)
			if want := slices.Sorted(slices.Values(changes.Patched)); !slices.Equal(d.patched, want) {
				t.Errorf("payloads that differ: %v, listed %v", d.patched, want)
			}
		case !bytes.Equal(a[i].value, b[i].value):
			t.Errorf("field %d of the model differs", a[i].num)
		}
	}
	if graphs != 1 {
		t.Fatalf("%d graphs", graphs)
	}
}

type difference struct {
	testing.TB
	changes *onnx.Changes
	resized []string
	patched []string // what was found to differ
}

func (d *difference) graph(a, b []field) {
	if len(b) < len(a) {
		d.Fatalf("the graph lost %d fields", len(a)-len(b))
	}
	for i := range a {
		if a[i].num != b[i].num {
			d.Fatalf("field %d of the graph became field %d", a[i].num, b[i].num)
		}
		switch x, y := a[i].value, b[i].value; {
		case bytes.Equal(x, y) && a[i].num == 5:
			d.outside(fields(d, x))
		case bytes.Equal(x, y):
		case a[i].num == 5:
			d.tensor(fields(d, x), fields(d, y))
		case a[i].num == 1:
			d.node(fields(d, x), fields(d, y))
		case a[i].num == 12 && slices.Contains(d.resized, texts(fields(d, y), 1)[0]):
		default:
			d.Errorf("field %d of the graph differs: %.80q, was %.80q", a[i].num, y, x)
		}
	}
	var added, nodes, outputs []string
	for _, f := range b[len(a):] {
		switch message := fields(d, f.value); f.num {
		case 5:
			added = append(added, texts(message, 8)...)
		case 1:
			nodes = append(nodes, texts(message, 2)...)
		case 12:
			outputs = append(outputs, texts(message, 1)...)
		default:
			d.Errorf("a new field %d in the graph", f.num)
		}
	}
	for _, p := range []struct {
		what      string
		got, want []string
	}{{"initializers", added, d.changes.Added}, {"nodes", nodes, d.changes.Nodes}, {"outputs", outputs, d.changes.Outputs}} {
		if !slices.Equal(slices.Sorted(slices.Values(p.got)), slices.Sorted(slices.Values(p.want))) {
			d.Errorf("new %s %v, listed %v", p.what, p.got, p.want)
		}
	}
}

// tensor compares two initializers whose bytes differ.
func (d *difference) tensor(a, b []field) {
	name := texts(a, 8)[0]
	if slices.Contains(d.resized, name) {
		if texts(b, 8)[0] != name {
			d.Errorf("initializer %s is now called %s", name, texts(b, 8))
		}
		d.patched = append(d.patched, name)
		return
	}
	rest := func(list []field) (other, external []field, size int) {
		for _, f := range list {
			switch {
			case payload(f.num):
				size += len(f.value)
			case elsewhere(f.num):
				external = append(external, f)
			default:
				other = append(other, f)
			}
		}
		return other, external, size
	}
	otherA, externalA, sizeA := rest(a)
	otherB, externalB, sizeB := rest(b)
	if fmt.Sprint(otherA) != fmt.Sprint(otherB) {
		d.Errorf("initializer %s: more than its elements differs", name)
	}
	if sizeA != sizeB {
		d.Errorf("initializer %s: %d bytes of elements, had %d", name, sizeB, sizeA)
	}
	if fmt.Sprint(externalA) != fmt.Sprint(externalB) {
		d.location(name, externalB)
		if sizeA == 0 { // whether its elements differ, the other file says
			if slices.Contains(d.changes.Patched, name) {
				d.patched = append(d.patched, name)
			}
			return
		}
	}
	d.patched = append(d.patched, name)
}

// outside looks at an initializer that is as it was: its elements may still differ, if they
// are in another file. Which of these do is not looked at here.
func (d *difference) outside(a []field) {
	if name := texts(a, 8); slices.ContainsFunc(a, func(f field) bool { return f.num == 13 }) && slices.Contains(d.changes.Patched, name[0]) {
		d.patched = append(d.patched, name[0])
	}
}

// location requires that elements in another file are in one that is listed.
func (d *difference) location(name string, external []field) {
	for _, f := range external {
		if f.num != 13 {
			continue
		}
		if entry := fields(d, f.value); texts(entry, 1)[0] == "location" {
			at := texts(entry, 2)[0]
			if !slices.ContainsFunc(d.changes.DataFiles, func(p string) bool { return filepath.Base(p) == at }) {
				d.Errorf("initializer %s is now in %s, listed %v", name, at, d.changes.DataFiles)
			}
		}
	}
}

// node compares two nodes whose bytes differ: one may read new initializers, or hold a
// parameter itself.
func (d *difference) node(a, b []field) {
	if len(a) != len(b) {
		d.Errorf("node %v: %d fields, had %d", texts(a, 2), len(b), len(a))
		return
	}
	for i := range a {
		switch {
		case a[i].num == b[i].num && bytes.Equal(a[i].value, b[i].value):
		case a[i].num == 1 && b[i].num == 1 && slices.Contains(d.changes.Added, string(b[i].value)):
		case a[i].num == 5 && b[i].num == 5 && slices.Contains(d.changes.Patched, texts(a, 2)[0]):
			d.patched = append(d.patched, texts(a, 2)[0])
			d.constant(texts(a, 2)[0], fields(d, a[i].value), fields(d, b[i].value))
		default:
			d.Errorf("node %v: field %d differs: %.80q, was %.80q", texts(a, 2), a[i].num, b[i].value, a[i].value)
		}
	}
}

// constant compares the attributes of a node that holds a parameter.
func (d *difference) constant(name string, a, b []field) {
	for i := range a {
		if i >= len(b) || a[i].num != b[i].num {
			d.Errorf("constant %s: more than its elements differs", name)
			return
		}
		if a[i].num != 5 || bytes.Equal(a[i].value, b[i].value) {
			if !bytes.Equal(a[i].value, b[i].value) {
				d.Errorf("constant %s: field %d differs", name, a[i].num)
			}
			continue
		}
		x, y := fields(d, a[i].value), fields(d, b[i].value)
		for j := range x {
			if j >= len(y) || x[j].num != y[j].num || !payload(x[j].num) && !bytes.Equal(x[j].value, y[j].value) || len(x[j].value) != len(y[j].value) {
				d.Errorf("constant %s: more than its elements differs", name)
			}
		}
	}
}

// recorder keeps what a check says instead of failing the test.
type recorder struct {
	testing.TB
	lines []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }
