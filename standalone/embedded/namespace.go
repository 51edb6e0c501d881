package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	persistencespb "go.temporal.io/server/api/persistence/v1"
	"go.temporal.io/server/common"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence"
	"go.temporal.io/server/common/persistence/serialization"
	tsql "go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/common/searchattribute/sadefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ensureNamespace creates or updates the namespace. It works on the database, before the server
// starts: a running server would know a new namespace or search attribute only after its caches
// were refreshed.
func ensureNamespace(ctx context.Context, cfg Config, store config.SQL) error {
	serializer := serialization.NewSerializer()
	factory := tsql.NewFactory(store, resolver.NewNoopResolver(), clusterName, log.NewNoopLogger(), metrics.NoopMetricsHandler, serializer)
	defer factory.Close()
	metadata, err := factory.NewMetadataStore()
	if err != nil {
		return fmt.Errorf("open namespaces: %w", err)
	}
	manager := persistence.NewMetadataManagerImpl(metadata, serializer, log.NewNoopLogger(), clusterName)
	defer manager.Close()

	found, err := manager.GetNamespace(ctx, &persistence.GetNamespaceRequest{Name: cfg.Namespace})
	var missing *serviceerror.NamespaceNotFound
	switch {
	case errors.As(err, &missing):
		detail := newNamespace(cfg.Namespace)
		if err := applySettings(detail.GetConfig(), cfg); err != nil {
			return err
		}
		_, err = manager.CreateNamespace(ctx, &persistence.CreateNamespaceRequest{Namespace: detail})
		return err
	case err != nil:
		return fmt.Errorf("read namespace %s: %w", cfg.Namespace, err)
	}
	return updateNamespace(ctx, manager, found, cfg)
}

func updateNamespace(ctx context.Context, manager persistence.MetadataManager, found *persistence.GetNamespaceResponse, cfg Config) error {
	before := proto.CloneOf(found.Namespace.GetConfig())
	if err := applySettings(found.Namespace.GetConfig(), cfg); err != nil {
		return err
	}
	if proto.Equal(before, found.Namespace.GetConfig()) {
		return nil
	}
	metadata, err := manager.GetMetadata(ctx)
	if err != nil {
		return err
	}
	found.Namespace.ConfigVersion++
	return manager.UpdateNamespace(ctx, &persistence.UpdateNamespaceRequest{
		Namespace:           found.Namespace,
		IsGlobalNamespace:   found.IsGlobalNamespace,
		NotificationVersion: metadata.NotificationVersion,
	})
}

func newNamespace(name string) *persistencespb.NamespaceDetail {
	return &persistencespb.NamespaceDetail{
		Info: &persistencespb.NamespaceInfo{
			Id:    uuid.NewString(),
			Name:  name,
			State: enumspb.NAMESPACE_STATE_REGISTERED,
		},
		Config: &persistencespb.NamespaceConfig{
			HistoryArchivalState:    enumspb.ARCHIVAL_STATE_DISABLED,
			VisibilityArchivalState: enumspb.ARCHIVAL_STATE_DISABLED,
		},
		ReplicationConfig: &persistencespb.NamespaceReplicationConfig{
			ActiveClusterName: clusterName,
			Clusters:          []string{clusterName},
		},
		FailoverVersion:             common.EmptyVersion,
		FailoverNotificationVersion: -1,
	}
}

// applySettings writes retention and search attributes into a namespace.
func applySettings(ns *persistencespb.NamespaceConfig, cfg Config) error {
	ns.Retention = durationpb.New(cfg.Retention.Truncate(time.Second))
	aliases, err := addAliases(ns.GetCustomSearchAttributeAliases(), cfg.SearchAttributes)
	ns.CustomSearchAttributeAliases = aliases
	return err
}

// addAliases gives each wanted search attribute without a column a free column of its type. In
// SQL, the visibility table has some columns of each type for custom search attributes, three of
// most types. aliases maps columns to names.
func addAliases(aliases map[string]string, wanted map[string]enumspb.IndexedValueType) (map[string]string, error) {
	columns := sadefs.GetDBIndexSearchAttributes(nil).GetCustomSearchAttributes()
	columnOf := make(map[string]string, len(aliases))
	for column, name := range aliases {
		columnOf[name] = column
	}
	next := maps.Clone(aliases)
	if next == nil {
		next = make(map[string]string, len(wanted))
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		kind := wanted[name]
		if column, ok := columnOf[name]; ok {
			if columns[column] != kind {
				return nil, fmt.Errorf("search attribute %s is a %s already, not a %s", name, columns[column], kind)
			}
			continue
		}
		column, ok := freeColumn(columns, next, kind)
		if !ok {
			return nil, fmt.Errorf("search attribute %s: no %s column is left", name, kind)
		}
		next[column] = name
	}
	return next, nil
}

func freeColumn(columns map[string]enumspb.IndexedValueType, taken map[string]string, kind enumspb.IndexedValueType) (string, bool) {
	for _, column := range slices.Sorted(maps.Keys(columns)) {
		if _, used := taken[column]; !used && columns[column] == kind {
			return column, true
		}
	}
	return "", false
}
