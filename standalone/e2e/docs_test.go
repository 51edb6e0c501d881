package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"postrider.dev/postrider/store/pgtest"
)

// TestReadmesFirstFiveMinutes does what README.md tells its reader to do, in one shell, as
// it is written there but for the ports.
func TestReadmesFirstFiveMinutes(t *testing.T) {
	t.Parallel()
	text := section(t, "../../README.md", "## First five minutes")
	blocks := shellBlocks(text)
	require.Len(t, blocks, 6, "this test knows what each block does")
	require.Equal(t, "make run\n", blocks[0])

	dir := documentedFolder(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".postrider"), 0o700))
	i := start(t, filepath.Join(dir, ".postrider"))
	receiver := "127.0.0.1:" + freePort(t)
	sh := newShell(t, dir, []string{"POSTRIDER_RECEIVER_LISTEN=" + receiver},
		"http://127.0.0.1:8080", i.API, "127.0.0.1:9000", receiver)
	register, listen, publish, read, listenAndFail := blocks[1], blocks[2], blocks[3], blocks[4], blocks[5]

	succeeded := regexp.MustCompile(`(?m)^state +succeeded$`)

	require.Contains(t, sh.run(t, register), `"name":"my first webhook"`)
	sh.run(t, listen)
	sh.await(t, "Receiving on http://"+receiver)
	require.Contains(t, sh.run(t, publish), `"deliveries":1`)
	sh.await(t, "attempt 1 ✓ verified → 204")
	require.Eventually(t, func() bool {
		answers := sh.run(t, read)
		return len(succeeded.FindAllString(answers, -1)) == 2 && strings.Contains(answers, i.TemporalUI)
	}, patience, tick)

	sh.run(t, listenAndFail)
	sh.await(t, "Receiving on http://"+receiver)
	sh.run(t, publish)
	sh.await(t, "attempt 4 ✓ verified → 204")
	require.Eventually(t, func() bool {
		answer := sh.run(t, read)
		return strings.Contains(answer, "attempt_count    4\n") && succeeded.MatchString(answer)
	}, patience, tick)

	for _, command := range commandsOf(t, text, "Clean up with ") {
		sh.run(t, command)
	}
	require.Contains(t, sh.run(t, `curl -sS http://127.0.0.1:8080/api/v1/webhooks/$ID -H "X-API-Key: $KEY"`), `"status":404`)
}

// TestOperationsFirstDeployment does the steps of docs/operations.md, on a PostgreSQL of the
// tests, which the page allows for: its own does not run as root.
func TestOperationsFirstDeployment(t *testing.T) {
	t.Parallel()
	blocks := shellBlocks(section(t, "../../docs/operations.md", "## First deployment"))
	require.GreaterOrEqual(t, len(blocks), 9, "steps 1 to 9, and then those of Compose and Kubernetes")
	require.Equal(t, "make build\n", blocks[0])
	require.Contains(t, blocks[1], "initdb")
	require.Contains(t, blocks[8], "pg_ctl -D try/postgres -m fast stop\n")

	postgres, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(postgres.Stop)
	dir := documentedFolder(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "try"), 0o700))
	var env []string
	replaced := []string{
		"postgres://postrider@127.0.0.1:5433/postrider?sslmode=disable", postgres.EmptyDatabase(t),
		"pg_ctl -D try/postgres -m fast stop\n", "",
	}
	for documented, variable := range map[string]string{
		"127.0.0.1:7233": "POSTRIDER_TEMPORAL_LISTEN", "127.0.0.1:8233": "POSTRIDER_TEMPORAL_UI_LISTEN",
		"127.0.0.1:8080": "POSTRIDER_LISTEN", "127.0.0.1:9000": "POSTRIDER_RECEIVER_LISTEN",
		"127.0.0.1:9464": "POSTRIDER_METRICS_LISTEN", "127.0.0.1:9465": "", "127.0.0.1:9466": "",
	} {
		address := "127.0.0.1:" + freePort(t)
		replaced = append(replaced, documented, address)
		if variable != "" {
			env = append(env, variable+"="+address)
		}
	}
	sh := newShell(t, dir, env, replaced...)
	for _, block := range blocks[2:7] {
		sh.run(t, block)
	}
	require.Contains(t, sh.run(t, blocks[7]), "call.ended", "the receiver's log has the event")
	sh.run(t, blocks[8])
}

// TestReadmesSettings guards the README's short table of settings: the binary knows each
// variable and flag, and has the table's defaults.
func TestReadmesSettings(t *testing.T) {
	t.Parallel()
	help, err := exec.CommandContext(t.Context(), binary, "run", "--help").Output()
	require.NoError(t, err)
	said := strings.Join(strings.Fields(string(help)), " ")
	row := regexp.MustCompile("(?m)^\\| (`POSTRIDER_.*) \\| (`--.*) \\| (.*) \\|$")
	rows := row.FindAllStringSubmatch(section(t, "../../README.md", "## Settings"), -1)
	require.NotEmpty(t, rows)
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, row := range rows {
		for _, name := range quoted.FindAllStringSubmatch(row[1]+row[2], -1) {
			require.Contains(t, said, name[1])
		}
		if flag := quoted.FindAllStringSubmatch(row[2], -1); strings.HasPrefix(row[3], "`") && len(flag) == 1 {
			preset := quoted.FindStringSubmatch(row[3])[1]
			require.Regexp(t, regexp.QuoteMeta(flag[0][1])+`="?`+regexp.QuoteMeta(preset)+`"? `, said)
		}
	}
}

// TestOperatorsSearches guards the searches of docs/operators.md: Temporal understands each, and finds
// what the page says of some.
func TestOperatorsSearches(t *testing.T) {
	t.Parallel()
	i := startWith(t, t.TempDir(), []string{"POSTRIDER_BATCHING=always"})
	c := temporal(t, i)
	failing, _ := answering(t, http.StatusBadGateway)
	var hooks []string
	for _, fields := range []map[string]any{
		{"events": []string{"order.*"}, "max_retries": 0},
		{"events": []string{"order.*"}, "max_retries": 0},
		{"events": []string{"order.created"}, "backoff_ms": 3600000},
	} {
		hooks = append(hooks, webhook(t, i, failing, fields).ID)
	}
	events := []map[string]any{{"type": "order.created", "data": 1}, {"type": "order.paid", "data": 2}}
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/events/batch", map[string]any{"events": events}, nil))
	failed := allInState(t, i, hooks[1], "failed", len(events))
	allInState(t, i, hooks[2], "retrying", 1)

	text, err := os.ReadFile("../../docs/operators.md")
	require.NoError(t, err)
	searches := regexp.MustCompile("(?s)([^\n]+):\n```sql\n(.*?)\n```").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(searches), 5)
	found := func(query string) []string {
		list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		require.NoError(t, err, query)
		ids := []string{}
		for _, execution := range list.GetExecutions() {
			ids = append(ids, execution.GetExecution().GetWorkflowId())
		}
		return ids
	}
	for _, search := range searches {
		query := strings.ReplaceAll(search[2], "wh_1", hooks[1])
		switch {
		case strings.Contains(search[1], "failed for good") && !strings.Contains(query, "ws_1"):
			require.Eventually(t, func() bool { return slices.Contains(found(query), *failed[0].WorkflowID) }, patience, tick, query)
		case strings.Contains(search[1], "being retried, of a webhook"):
			query = strings.ReplaceAll(query, hooks[1], hooks[2])
			require.Eventually(t, func() bool { return len(found(query)) == 1 }, patience, tick, query)
		default:
			found(query)
		}
	}
}

// section returns a document's text from a heading to the next one of its level.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	_, after, found := strings.Cut(string(text), "\n"+heading+"\n")
	require.True(t, found, heading)
	inside, _, _ := strings.Cut(after, "\n## ")
	return inside
}

// shellBlocks returns the commands that a text shows, a block each.
func shellBlocks(text string) []string {
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// commandsOf returns the commands in a paragraph that begins so, without those of make.
func commandsOf(t *testing.T, text, beginning string) []string {
	t.Helper()
	_, after, found := strings.Cut(text, "\n"+beginning)
	require.True(t, found, beginning)
	paragraph, _, _ := strings.Cut(after, "\n")
	var commands []string
	for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(paragraph, -1) {
		if !strings.HasPrefix(match[1], "make ") {
			commands = append(commands, match[1])
		}
	}
	require.NotEmpty(t, commands)
	return commands
}

// documentedFolder is a folder that looks like a clone after make build.
func documentedFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	for _, built := range []string{binary, production} {
		require.NoError(t, os.Symlink(built, filepath.Join(dir, "bin", filepath.Base(built))))
	}
	return dir
}

// shell is a bash that goes through blocks of commands, one after the other, and ends
// with the first command that fails.
type shell struct {
	input   io.Writer
	output  string // path
	change  *strings.Replacer
	blocks  int
	awaited int // how much of the output await has been through
	ended   chan struct{}
}

// newShell starts a shell in a folder. replaced are pairs: what a document says, and what
// stands in its place here.
func newShell(t *testing.T, dir string, env []string, replaced ...string) *shell {
	t.Helper()
	output, err := os.Create(filepath.Join(dir, "output"))
	require.NoError(t, err)
	command := exec.Command("bash", "-eu", "-o", "pipefail", "-s")
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children end with it
	input, err := command.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start(), "bash is needed")
	s := &shell{input: input, output: output.Name(), change: strings.NewReplacer(replaced...), ended: make(chan struct{})}
	go func() {
		_ = command.Wait() // how it ended, its output says
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		<-s.ended
		_ = output.Close()
		if t.Failed() {
			t.Logf("output of the shell:\n%s", tail([]byte(s.text(t))))
		}
	})
	return s
}

// text is all that the shell and its children have written.
func (s *shell) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.output)
	require.NoError(t, err)
	return string(text)
}

// run gives the shell a block, and returns what was written until it was through.
func (s *shell) run(t *testing.T, block string) string {
	t.Helper()
	s.blocks++
	before, mark := len(s.text(t)), fmt.Sprintf("=== block %d is done\n", s.blocks)
	_, err := io.WriteString(s.input, s.change.Replace(block)+"\nprintf '%s\\n' '"+strings.TrimSpace(mark)+"'\n")
	require.NoError(t, err)
	var written string
	require.Eventually(t, func() bool {
		var done bool
		written, _, done = strings.Cut(s.text(t)[before:], mark)
		return done || s.over()
	}, patience, tick)
	require.Contains(t, s.text(t), mark, "a command failed in the block:\n%s", block)
	return written
}

func (s *shell) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// await waits for a text in the output, after the one that was awaited before.
func (s *shell) await(t *testing.T, wanted string) {
	t.Helper()
	require.Eventually(t, func() bool {
		at := strings.Index(s.text(t)[s.awaited:], wanted)
		if at >= 0 {
			s.awaited += at + len(wanted)
		}
		return at >= 0
	}, patience, tick)
}
