package deploy

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// What is deployed is checked by the parsers of those who will read it.

func composeProject(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../docker-compose.yml"}, cli.WithEnv(env), cli.WithWorkingDirectory(".."))
	require.NoError(t, err)
	return options.LoadProject(t.Context())
}

func TestCompose(t *testing.T) {
	t.Parallel()
	_, err := composeProject(t)
	require.ErrorContains(t, err, "see docs/operations.md", "no password is made up")

	project, err := composeProject(t, "POSTGRES_PASSWORD=p", "POSTRIDER_ENCRYPTION_KEYS=k", "GRAFANA_PASSWORD=g")
	require.NoError(t, err)
	for name, service := range project.Services {
		if service.Build == nil {
			require.Regexp(t, `:v?\d+\.\d+`, service.Image, "%s has a pinned version", name)
		}
		for dependency, how := range service.DependsOn {
			needed, found := project.Services[dependency]
			require.True(t, found)
			if how.Condition == types.ServiceConditionHealthy {
				require.NotNil(t, needed.HealthCheck, "%s waits for the health of %s", name, dependency)
			} else {
				require.Equal(t, types.ServiceConditionCompletedSuccessfully, how.Condition)
			}
		}
		for _, volume := range service.Volumes {
			if volume.Type == types.VolumeTypeBind {
				_, err := os.Stat(volume.Source)
				require.NoError(t, err, name)
			}
		}
	}
	require.Equal(t, 2, *project.Services["worker"].Deploy.Replicas)
	text, err := os.ReadFile("../docker-compose.yml")
	require.NoError(t, err)
	require.NotRegexp(t, `(?i)password: *[a-z0-9]`, string(text), "no secret in the file")
}

// kinds are the types that the manifests may have, strictly read.
func kinds() map[string]func() any {
	return map[string]func() any{
		"Namespace":               func() any { return new(corev1.Namespace) },
		"ConfigMap":               func() any { return new(corev1.ConfigMap) },
		"Service":                 func() any { return new(corev1.Service) },
		"Job":                     func() any { return new(batchv1.Job) },
		"Deployment":              func() any { return new(appsv1.Deployment) },
		"PodDisruptionBudget":     func() any { return new(policyv1.PodDisruptionBudget) },
		"HorizontalPodAutoscaler": func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
		"NetworkPolicy":           func() any { return new(networkingv1.NetworkPolicy) },
	}
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../deploy/kubernetes")
	require.NoError(t, err)
	seen := map[string]int{}
	var deployments []*appsv1.Deployment
	for _, resource := range made.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		kind, known := kinds()[resource.GetKind()]
		require.True(t, known, resource.GetKind())
		object := kind()
		require.NoError(t, yaml.UnmarshalStrict(text, object), "%s %s", resource.GetKind(), resource.GetName())
		seen[resource.GetKind()]++
		if d, ok := object.(*appsv1.Deployment); ok {
			deployments = append(deployments, d)
		}
	}
	for kind := range kinds() {
		require.Positive(t, seen[kind], kind)
	}
	require.Len(t, deployments, 2)
	for _, d := range deployments {
		pod := d.Spec.Template
		require.Equal(t, "postrider", pod.Labels["app.kubernetes.io/name"], "network policies select by it")
		for label, value := range d.Spec.Selector.MatchLabels {
			require.Equal(t, value, pod.Labels[label])
		}
		container := pod.Spec.Containers[0]
		require.NotNil(t, container.LivenessProbe)
		require.NotNil(t, container.ReadinessProbe)
		before := int64(0)
		if d.Name == "api" {
			before = container.Lifecycle.PreStop.Sleep.Seconds + drainSeconds
		}
		require.Greater(t, *pod.Spec.TerminationGracePeriodSeconds, before+shutdownSeconds, "longer than a stop takes")
		requireMemory(t, container, map[string]int64{"api": 40e6, "worker": 540e6}[d.Name])
	}
}

// A stop's parts, by the settings' defaults.
const (
	drainSeconds    = 1
	shutdownSeconds = 40
)

// requireMemory checks that a container may take what docs/operations.md says that it needs, and that Go knows its
// limit.
func requireMemory(t *testing.T, container corev1.Container, needed int64) {
	t.Helper()
	limit := container.Resources.Limits.Memory().Value()
	require.Greater(t, limit, needed*5/4, container.Name)
	told := map[string]string{}
	for _, variable := range container.Env {
		told[variable.Name] = variable.Value
	}
	mebibytes, err := strconv.ParseInt(strings.TrimSuffix(told["GOMEMLIMIT"], "MiB"), 10, 64)
	require.NoError(t, err, "GOMEMLIMIT of %s", container.Name)
	require.InDelta(t, 0.9, float64(mebibytes<<20)/float64(limit), 0.02, container.Name)
	require.Greater(t, mebibytes<<20, needed, container.Name)
}

// metricName finds our metrics' names.
var metricName = regexp.MustCompile(`\bpostrider_[a-z_]+`)

// recorded finds the names of recording rules.
var recorded = regexp.MustCompile(`postrider:[a-z_:0-9]+`)

// exported are the metrics that the code names.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`"(postrider_[a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
			names[match[1]] = true
		}
		return err
	}))
	for _, group := range rulesOf(t, "rules.yml") {
		for _, rule := range group.Rules {
			names[rule.Record] = true
		}
	}
	return names
}

func requireExpression(t *testing.T, known map[string]bool, expression string) {
	t.Helper()
	_, err := metricsql.Parse(strings.ReplaceAll(expression, "$__rate_interval", "5m"))
	require.NoError(t, err, expression)
	for _, name := range recorded.FindAllString(expression, -1) {
		require.True(t, known[name], "no such recording rule: %s", name)
	}
	expression = recorded.ReplaceAllString(expression, "")
	names := metricName.FindAllString(expression, -1)
	for _, name := range names {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		require.True(t, known[name] || known[base], "no such metric: %s", name)
	}
}

// group is a group of rules, of Prometheus.
type group struct {
	Name     string
	Interval string
	Rules    []struct {
		Record      string
		Alert       string
		Expr        string
		For         string
		Labels      map[string]string
		Annotations map[string]string
	}
}

func rulesOf(t *testing.T, file string) []group {
	t.Helper()
	text, err := os.ReadFile("../deploy/prometheus/" + file)
	require.NoError(t, err)
	var rules struct{ Groups []group }
	require.NoError(t, yaml.UnmarshalStrict(text, &rules))
	require.NotEmpty(t, rules.Groups)
	return rules.Groups
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	known := exported(t)
	for _, file := range []string{"rules.yml", "alerts.yml"} {
		for _, group := range rulesOf(t, file) {
			for _, rule := range group.Rules {
				requireExpression(t, known, rule.Expr)
				require.NotEqual(t, rule.Record == "", rule.Alert == "")
				if rule.Alert != "" {
					require.NotEmpty(t, rule.Annotations["action"], rule.Alert)
				}
			}
		}
	}
}

// TestPromtool has Prometheus's own tool read the configuration and play faults to the rules: each
// alert fires by its fault, ends with it, and is not heard of before.
func TestPromtool(t *testing.T) {
	t.Parallel()
	var tested []byte
	for _, file := range []string{"rules_test.yml", "rules_days_test.yml"} {
		text, err := os.ReadFile("../deploy/prometheus/" + file)
		require.NoError(t, err)
		tested = append(tested, text...)
	}
	for _, group := range rulesOf(t, "alerts.yml") {
		for _, rule := range group.Rules {
			require.GreaterOrEqual(t, strings.Count(string(tested), "alertname: "+rule.Alert), 2, "%s is tested, firing and not", rule.Alert)
		}
	}
	for _, arguments := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "rules_test.yml", "rules_days_test.yml"}} {
		promtool := exec.CommandContext(t.Context(), "promtool", arguments...)
		promtool.Dir = "../deploy/prometheus"
		said, err := promtool.CombinedOutput()
		require.NoError(t, err, "%s\npromtool is of Debian's package prometheus, which .ci/run installs", said)
	}
}

func TestDashboards(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../deploy/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 3)
	known := exported(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &dashboard))
		require.NotEmpty(t, dashboard.Panels)
		for _, panel := range dashboard.Panels {
			require.NotEmpty(t, panel.Targets, panel.Title)
			for _, target := range panel.Targets {
				requireExpression(t, known, target.Expr)
			}
		}
	}
}
