package server

import "cmp"

// DeploymentSettings make a worker a version of a Temporal worker deployment. Operators then
// decide when a new build takes over, and can go back.
type DeploymentSettings struct {
	Name    string `name:"worker-deployment" env:"POSTRIDER_WORKER_DEPLOYMENT" placeholder:"NAME" help:"Temporal worker deployment that this build is a version of; 'postrider temporal promote' makes it the one that works. Default: none, and every worker works at once."`
	BuildID string `name:"build-id" env:"POSTRIDER_BUILD_ID" placeholder:"ID" help:"Version within the worker deployment. Default: the build's own."`
}

// Build returns the version within the deployment: the build id, or this build's version.
func (d *DeploymentSettings) Build() string { return cmp.Or(d.BuildID, Version) }
