//go:build race

package sift_test

const raceEnabled = true
