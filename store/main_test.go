package store_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/pgtest"
	"postrider.dev/postrider/store/storetest"
)

// postgres is this process's server: tests have a database each.
var postgres *pgtest.Server

func TestMain(m *testing.M) {
	os.Exit(runTests(m)) //nolint:forbidigo // the server has to be stopped first
}

func runTests(m *testing.M) int {
	var err error
	if postgres, err = pgtest.Start(context.Background(), migrate); err != nil { //nolint:forbidigo // there is no test yet
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	postgres.Stop()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// migrate makes the template's partitions, so that no test has to.
func migrate(ctx context.Context, url string) error {
	text, err := store.NewEncryptionKey(rand.Reader)
	if err != nil {
		return err
	}
	keys, err := store.ParseKeyring(text)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, url, store.Options{
		Keys: keys, Now: storetest.Start, IDs: postrider.NewIDs(storetest.Start, rand.Reader), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Migrate(ctx)
}
