//go:build !race

package mirror_test

const race = false
