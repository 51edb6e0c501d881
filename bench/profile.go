package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// profiled runs a measurement. With --profile it takes CPU profiles of the system meanwhile,
// one a second, because the length of the measurement is not known.
func (b *bench) profiled(ctx context.Context, s *system, name string, measure func() (metrics, error)) (measured metrics, err error) {
	if b.Profile == "" || s.Profile == "" {
		return measure()
	}
	dir := filepath.Join(b.Profile, fmt.Sprintf("%s-%s-%d", name, s.mode, b.round+1))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	ended, end := context.WithCancel(ctx)
	var profiles errgroup.Group
	profiles.Go(func() error {
		for i := 1; ended.Err() == nil; i++ {
			if err := save(ctx, s.Profile+"profile?seconds=1", filepath.Join(dir, fmt.Sprintf("%04d.pprof", i))); err != nil {
				return fmt.Errorf("profile: %w", err)
			}
		}
		return nil
	})
	measured, err = measure()
	end()
	return measured, errors.Join(err, profiles.Wait())
}

// save writes the content of a URL to a file.
func save(ctx context.Context, url, path string) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	file, err := os.Create(path) //nolint:gosec // in the folder that the caller named
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}
