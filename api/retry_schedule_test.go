package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRetryScheduleTakesThePlaceOfRetriesAndBackoff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const webhook = `{"url":"https://example.com/hook","events":["*"]`
	for body, location := range map[string]string{
		`,"retry_schedule_ms":[1000],"max_retries":3}`:                  "body.max_retries",
		`,"retry_schedule_ms":[1000],"backoff_ms":1000}`:                "body.backoff_ms",
		`,"retry_schedule_ms":[]}`:                                      "body.retry_schedule_ms",
		`,"retry_schedule_ms":[1000,99]}`:                               "body.retry_schedule_ms[1]",
		`,"retry_schedule_ms":[86400001]}`:                              "body.retry_schedule_ms[0]",
		`,"retry_schedule_ms":[` + strings.Repeat("100,", 20) + `100]}`: "body.retry_schedule_ms",
		`,"retry_schedule_ms":"1000"}`:                                  "body.retry_schedule_ms",
	} {
		require.Equal(t, []string{location}, b.do(http.MethodPost, webhooksPath, webhook+body).locations(), body)
	}
	made := b.do(http.MethodPost, webhooksPath, webhook+`,"retry_schedule_ms":[5000,86400000]}`).object(http.StatusCreated)
	path := webhooksPath + "/" + made["id"].(string)
	settings := func(answer answer) map[string]any {
		return answer.object(http.StatusOK)["delivery_settings"].(map[string]any)
	}
	require.Equal(t, map[string]any{
		"timeout_ms": 5000.0, "max_retries": 2.0, "backoff_ms": 5000.0, "retry_schedule_ms": []any{5000.0, 86400000.0},
	}, settings(b.do(http.MethodGet, path, "")))
	require.Equal(t, []string{"body.max_retries"}, b.do(http.MethodPatch, path, `{"max_retries":3}`).locations())
	require.Equal(t, []string{"body.backoff_ms"}, b.do(http.MethodPatch, path, `{"retry_schedule_ms":[100],"backoff_ms":100}`).locations())
	require.EqualValues(t, 1, settings(b.do(http.MethodPatch, path, `{"retry_schedule_ms":[100]}`))["max_retries"])
	require.Equal(t, map[string]any{"timeout_ms": 5000.0, "max_retries": 7.0, "backoff_ms": 1000.0},
		settings(b.do(http.MethodPatch, path, `{"retry_schedule_ms":null,"max_retries":7}`)))
}

func TestDeliveryKeepsItsRetrySchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newWebhook(`,"retry_schedule_ms":[5000,86400000]`)
	id := b.publish(`{"type":"a","data":1}`)
	b.do(http.MethodPatch, deliveriesPath+"/"+id, `{"retry_schedule_ms":[100]}`).problem(http.StatusUnprocessableEntity)
	history := b.do(http.MethodGet, deliveriesPath+"/"+id+"/history", "").object(http.StatusOK)
	require.Equal(t, []any{5000.0, 86400000.0}, history["policy"].(map[string]any)["retry_schedule_ms"])
}
