package workflows

import (
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Register registers every workflow under its fixed name, with a worker or a replayer.
func Register(registry sdkworker.WorkflowRegistry) {
	registry.RegisterWorkflowWithOptions(Delivery, workflow.RegisterOptions{Name: nameDelivery})
	registry.RegisterWorkflowWithOptions(Batch, workflow.RegisterOptions{Name: nameBatch})
	registry.RegisterWorkflowWithOptions(Replay, workflow.RegisterOptions{Name: nameReplay})
	registry.RegisterWorkflowWithOptions(Maintenance, workflow.RegisterOptions{Name: nameMaintenance})
}
