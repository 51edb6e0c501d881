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

// clusterName is kept in the database and cannot be changed for an existing one.
// Addresses can.
const clusterName = "active"

// Names of the two stores, within the configuration.
const (
	executionsStore = "executions"
	visibilityStore = "visibility"
)

// internalServices are reached by each other only.
var internalServices = []primitives.ServiceName{ //nolint:gochecknoglobals // a constant list
	primitives.HistoryService, primitives.MatchingService, primitives.WorkerService,
}

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

// hosts tells the services where the others are, in place of gossip: there is
// one of each.
func hosts(ls *listeners) map[primitives.ServiceName]static.Hosts {
	hosts := map[primitives.ServiceName]static.Hosts{
		primitives.FrontendService: static.SingleLocalHost(dialable(ls.frontend)),
	}
	for i, name := range internalServices {
		hosts[name] = static.SingleLocalHost(dialable(ls.internal[i]))
	}
	return hosts
}

// unlimited stands for no limit: the server's defaults share a cluster between
// tenants, here the machine is the limit.
const unlimited = 1_000_000

// timerShift is far below the shortest backoff, 100 ms.
const timerShift = 10 * time.Millisecond

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

		// Timers fire up to this much late, for hosts whose clocks differ. Here is one
		// host, and by default it would make every short backoff a second.
		dynamicconfig.TimerProcessorMaxTimeShift.Key(): timerShift,

		// On by default in this version; what deliveries rest on is said here.
		dynamicconfig.EnableEagerWorkflowStart.Key():     true,
		dynamicconfig.EnableActivityEagerExecution.Key(): true,

		// The server would ask the internet for news of itself.
		dynamicconfig.EnableServerVersionCheck.Key(): false,

		// One process has nothing to spread a task queue over.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,

		// Closed workflows stay in the cache for an hour: 128,000 and 128 MiB by
		// default, which is more memory than the rest of the process takes.
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():     8192,
		dynamicconfig.EventsHostLevelCacheMaxSizeBytes.Key(): 32 << 20,

		// No payload is kept outside the history, so there is none to look for in all events.
		dynamicconfig.ExternalPayloadsEnabled.Key(): false,

		// The rate limit itself is off, so nobody wants to know what it would do.
		dynamicconfig.TaskSchedulerEnableRateLimiterShadowMode.Key(): false,

		// Idle cost: namespaces hardly change, and nobody reads these signals.
		dynamicconfig.NamespaceCacheRefreshInterval.Key():             10 * time.Second,
		dynamicconfig.PersistenceHealthSignalMetricsEnabled.Key():     false,
		dynamicconfig.PersistenceHealthSignalAggregationEnabled.Key(): false,
		dynamicconfig.HistoryHealthSignalMetricsEnabled.Key():         false,
	}
}
