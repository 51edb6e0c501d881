package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// program is a command of the project that is released.
type program struct {
	name    string
	module  string // the folder of its module
	pkg     string // its package, from there
	purpose string // for the bill of materials
}

func allPrograms() []program {
	return []program{
		{"postrider", ".", "./cmd/postrider", "Postrider for production"},
		{"postrider-standalone", "standalone", ".", "Postrider with Temporal and a database inside"},
	}
}

// target is a system and a processor.
type target struct{ system, processor string }

func allTargets() []target {
	return []target{
		{"linux", "amd64"},
		{"linux", "arm64"},
		{"darwin", "amd64"},
		{"darwin", "arm64"},
		{"windows", "amd64"},
	}
}

func (t target) String() string { return t.system + "/" + t.processor }

// executable is the file name of a program.
func (t target) executable(name string) string {
	if t.system == "windows" {
		return name + ".exe"
	}
	return name
}

func choosePrograms(names []string) ([]program, error) {
	return choose(allPrograms(), names, func(p program) string { return p.name })
}

// chooseTargets chooses by names such as linux/amd64; host is the machine that this runs on.
func chooseTargets(names []string) ([]target, error) {
	names = slices.Clone(names)
	for i, name := range names {
		if name == "host" {
			names[i] = target{runtime.GOOS, runtime.GOARCH}.String()
		}
	}
	return choose(allTargets(), names, target.String)
}

// choose returns the named ones of all, or all when nothing is named.
func choose[T any](all []T, names []string, nameOf func(T) string) ([]T, error) {
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	for i, one := range all {
		known[i] = nameOf(one)
	}
	chosen := make([]T, 0, len(names))
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("%q is none of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
