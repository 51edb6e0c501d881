package workflows

import (
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Register makes a worker, or a replayer, know every workflow by its fixed name.
func Register(registry sdkworker.WorkflowRegistry) {
	registry.RegisterWorkflowWithOptions(Delivery, workflow.RegisterOptions{Name: nameDelivery})
	registry.RegisterWorkflowWithOptions(Batch, workflow.RegisterOptions{Name: nameBatch})
	registry.RegisterWorkflowWithOptions(Maintenance, workflow.RegisterOptions{Name: nameMaintenance})
}
