//go:build !race

package sift_test

const raceEnabled = false
