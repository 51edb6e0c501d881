// Package stand is how the benchmark's own programs look like postrider-standalone
// to who starts them: the same flags, the same files in the data directory.
package stand

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Settings are what a program of the benchmark is told. The listeners of
// postrider-standalone that it does not have are named all the same.
type Settings struct {
	DataDir          string `required:"" help:"Folder for api-key and endpoints.json."`
	DatabaseURL      string `required:"" env:"POSTRIDER_DATABASE_URL" help:"postgres://… URL of the database."`
	Listen           string `default:"127.0.0.1:0" help:"Address of the HTTP API."`
	MetricsListen    string `hidden:""`
	TemporalListen   string `hidden:""`
	TemporalUIListen string `hidden:"" name:"temporal-ui-listen"`
}

// Serve serves an API until ctx is done. The key's file is written first and
// endpoints.json last, so that who finds that finds everything.
func Serve(ctx context.Context, s Settings, key string, api http.Handler) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return err
	}
	if err := announce(s.DataDir, key, listener.Addr().String()); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: api, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

func announce(dir, key, address string) error {
	if err := os.WriteFile(filepath.Join(dir, "api-key"), []byte(key+"\n"), 0o600); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{"api": "http://" + address})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "endpoints.json")
	if err := os.WriteFile(path+".part", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
