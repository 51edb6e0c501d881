//go:build !linux

package main

import "errors"

var errLimit = errors.New("only Linux changes the limits of a running process; see --faults")

func limitFiles(int, bool) error { return errLimit }

func limitFilesOfAll(int, bool) error { return errLimit }
