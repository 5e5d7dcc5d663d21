//go:build race

package sifting_test

const raceEnabled = true
