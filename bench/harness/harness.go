package harness

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

// Settings are the flags of the benchmark's programs. They include the listeners that only
// postrider-standalone has, because the benchmark starts every program with the same flags.
type Settings struct {
	DataDir          string `required:"" help:"Folder for api-key and endpoints.json."`
	DatabaseURL      string `required:"" env:"POSTRIDER_DATABASE_URL" help:"postgres://… URL of the database."`
	Listen           string `default:"127.0.0.1:0" help:"Address of the HTTP API."`
	MetricsListen    string `hidden:""`
	TemporalListen   string `hidden:""`
	TemporalUIListen string `hidden:"" name:"temporal-ui-listen"`
}

// Serve serves an API until ctx is done. It writes endpoints.json last: when that file is
// there, the API answers and the key's file is complete.
func Serve(ctx context.Context, s Settings, key string, api http.Handler) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return err
	}
	if err := publishEndpoints(s.DataDir, key, listener.Addr().String()); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: api, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// publishEndpoints writes the key's file and endpoints.json.
func publishEndpoints(dir, key, address string) error {
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
