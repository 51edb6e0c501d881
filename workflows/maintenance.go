package workflows

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider"
	"postrider.dev/postrider/activities"
)

// Times of the maintenance.
const (
	maintenanceInterval  = time.Hour
	maintenanceLongest   = 50 * time.Minute // shorter than the interval, since the schedule skips overlapping runs
	maintenanceHeartbeat = 2 * time.Minute  // a batch takes seconds; dropping a partition waits a second for its lock
	maintenanceFirstWait = 10 * time.Second // after a failure; it doubles
	maintenanceTries     = 6
	scheduleTimeout      = 10 * time.Second
)

// Maintenance creates partitions for the coming days, and removes events and deliveries that
// are past their retention. It returns how much it removed.
func Maintenance(ctx workflow.Context) (postrider.Removed, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    maintenanceLongest,
		ScheduleToCloseTimeout: maintenanceLongest,
		HeartbeatTimeout:       maintenanceHeartbeat,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: maintenanceFirstWait, MaximumAttempts: maintenanceTries},
	})
	var keeper *activities.Maintenance
	var removed postrider.Removed
	err := workflow.ExecuteActivity(ctx, keeper.Maintain).Get(ctx, &removed)
	return removed, err
}

// maintenanceID is the id of the schedule of the maintenance.
func (c *Client) maintenanceID() string { return c.taskQueue + suffixMaintenance }

// ScheduleMaintenance creates or updates the Temporal Schedule of the maintenance. Several
// processes may call it at once. Operators may pause the schedule or trigger a run in
// Temporal's web interface; an update keeps the pause. It takes ten seconds at most.
func (c *Client) ScheduleMaintenance(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scheduleTimeout)
	defer cancel()
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: maintenanceInterval}}}
	action := &client.ScheduleWorkflowAction{ID: c.maintenanceID(), Workflow: nameMaintenance, TaskQueue: c.taskQueue}
	_, err := c.temporal.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: c.maintenanceID(), Spec: spec, Action: action,
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: maintenanceInterval, TriggerImmediately: true,
		Note: "Makes partitions for the days to come and removes what is past its retention.",
	})
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return err
	}
	return c.temporal.ScheduleClient().GetHandle(ctx, c.maintenanceID()).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(found client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			schedule := found.Description.Schedule
			schedule.Spec, schedule.Action = &spec, action
			return &client.ScheduleUpdate{Schedule: &schedule}, nil
		},
	})
}
