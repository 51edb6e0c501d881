package embedded

import (
	"net"
	"time"

	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
)

// clusterName is stored in the database and cannot be changed later.
const clusterName = "active"

// Names of the two stores, within the configuration.
const (
	executionsStore = "executions"
	visibilityStore = "visibility"
)

// internalServices are the services that only other services connect to.
var internalServices = []primitives.ServiceName{ //nolint:gochecknoglobals // a constant list
	primitives.HistoryService, primitives.MatchingService, primitives.WorkerService,
}

// serverConfig returns the static configuration of the server.
func serverConfig(db database, ls *listeners) *config.Config {
	frontend := dialable(ls.frontend)
	services := map[string]config.Service{
		string(primitives.FrontendService): service(ls.frontend),
	}
	for i, name := range internalServices {
		services[string(name)] = service(ls.internal[i])
	}
	return &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     executionsStore,
			VisibilityStore:  visibilityStore,
			NumHistoryShards: db.shards(),
			DataStores:       map[string]config.DataStore{executionsStore: {SQL: db.executions()}, visibilityStore: {SQL: db.visibility()}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            services,
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
		PublicClient: config.PublicClient{HostPort: frontend},
	}
}

func service(l net.Listener) config.Service {
	address := addrOf(l)
	return config.Service{RPC: config.RPC{
		GRPCPort: int(address.Port()),
		BindOnIP: address.Addr().String(),
	}}
}

// hosts returns the addresses of the services. The server needs no gossip, because it has one of
// each.
func hosts(ls *listeners) map[primitives.ServiceName]static.Hosts {
	hosts := map[primitives.ServiceName]static.Hosts{
		primitives.FrontendService: static.SingleLocalHost(dialable(ls.frontend)),
	}
	for i, name := range internalServices {
		hosts[name] = static.SingleLocalHost(dialable(ls.internal[i]))
	}
	return hosts
}

// unlimited replaces the server's default rate limits, which share a cluster between tenants. Here
// only the machine is the limit.
const unlimited = 1_000_000

// timerShift is far below the shortest backoff, 100 ms.
const timerShift = 10 * time.Millisecond

// dynamicSettings returns the dynamic configuration; plain keeps the defaults.
func dynamicSettings(plain bool) dynamicconfig.StaticClient {
	if plain {
		return dynamicconfig.StaticClient{dynamicconfig.EnableServerVersionCheck.Key(): false}
	}
	return dynamicconfig.StaticClient{
		dynamicconfig.FrontendRPS.Key():                                         unlimited,
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():                  unlimited,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key():        unlimited,
		dynamicconfig.FrontendMaxConcurrentLongRunningRequestsPerInstance.Key(): unlimited,
		dynamicconfig.FrontendPersistenceMaxQPS.Key():                           unlimited,
		dynamicconfig.HistoryRPS.Key():                                          unlimited,
		dynamicconfig.HistoryPersistenceMaxQPS.Key():                            unlimited,
		dynamicconfig.MatchingRPS.Key():                                         unlimited,
		dynamicconfig.MatchingPersistenceMaxQPS.Key():                           unlimited,
		dynamicconfig.WorkerPersistenceMaxQPS.Key():                             unlimited,
		dynamicconfig.VisibilityPersistenceMaxReadQPS.Key():                     unlimited,
		dynamicconfig.VisibilityPersistenceMaxWriteQPS.Key():                    unlimited,

		// Timers may fire late by this, because clocks of hosts differ. There is one host here,
		// and the default would make every short backoff last a second.
		dynamicconfig.TimerProcessorMaxTimeShift.Key(): timerShift,

		// Deliveries rely on these, so they do not depend on the version's defaults.
		dynamicconfig.EnableEagerWorkflowStart.Key():     true,
		dynamicconfig.EnableActivityEagerExecution.Key(): true,

		// A worker that stops gets no more tasks, instead of one that it no longer takes: such a task
		// waits until it times out.
		dynamicconfig.EnableCancelWorkerPollsOnShutdown.Key(): true,

		// The server would ask the internet for new versions.
		dynamicconfig.EnableServerVersionCheck.Key(): false,

		// Partitions spread a task queue over processes, and here is one process.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,

		// Closed workflows stay in the caches for an hour. The defaults, 128,000 workflows and
		// 128 MiB, would take more memory than the rest of the process.
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():     8192,
		dynamicconfig.EventsHostLevelCacheMaxSizeBytes.Key(): 32 << 20,

		// All payloads are in the history, so events need not be searched for external ones.
		dynamicconfig.ExternalPayloadsEnabled.Key(): false,

		// The rate limit is off, so its effect need not be computed.
		dynamicconfig.TaskSchedulerEnableRateLimiterShadowMode.Key(): false,

		// These cost CPU at rest. Namespaces hardly change, and nothing reads the signals.
		dynamicconfig.NamespaceCacheRefreshInterval.Key():             10 * time.Second,
		dynamicconfig.PersistenceHealthSignalMetricsEnabled.Key():     false,
		dynamicconfig.PersistenceHealthSignalAggregationEnabled.Key(): false,
		dynamicconfig.HistoryHealthSignalMetricsEnabled.Key():         false,
	}
}
