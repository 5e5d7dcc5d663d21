package config

import (
	"fmt"
	"reflect"
	"slices"
)

// changeable lists the keys that a resumed run may change: they cannot change a number
// that the run computes. Paths are among them because the files' contents are compared
// by hash instead.
var changeable = []string{
	"model.path", "model.tokenizer", "data.train", "data.valid", "sift.replay",
	"train.save_every", "train.keep_checkpoints",
	"device.name", "device.threads", "device.isa", // what was opened is compared instead
}

// A Change is one key whose value differs between two configurations.
type Change struct{ Key, From, To string }

// ResumeConflicts lists the keys in which the configurations differ and which a resumed
// run may not change, in declaration order. train.evaluate_every and
// train.early_stopping are among them: they decide which weights are the best and when
// training ends.
func ResumeConflicts(before, after Config) []Change {
	var list []Change
	a, b := reflect.ValueOf(before), reflect.ValueOf(after)
	for i := range a.NumField() {
		section := a.Type().Field(i).Tag.Get("yaml")
		for j := range a.Field(i).NumField() {
			key := section + "." + a.Field(i).Type().Field(j).Tag.Get("yaml")
			x, y := fmt.Sprint(a.Field(i).Field(j)), fmt.Sprint(b.Field(i).Field(j))
			if x != y && !slices.Contains(changeable, key) {
				list = append(list, Change{Key: key, From: x, To: y})
			}
		}
	}
	return list
}
