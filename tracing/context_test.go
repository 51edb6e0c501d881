
func TestTraceIDOfAText(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Equal(t, parent[3:35], tracing.TraceID(parent))
	require.Equal(t, parent[3:35], tracing.TraceID(parent+" vendor=value"))
	for _, text := range []string{"", "00", parent[:35], "x" + parent} {
		require.Empty(t, tracing.TraceID(text), text)
	}
}
