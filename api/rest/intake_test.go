package rest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"postrider.dev/postrider/api/rest"
)

// slowBody is the body of a request that is under way: its bytes come when the test sends them.
type slowBody struct {
	*io.PipeWriter
	answered chan answer
}

// begin starts a request that announces a body of 256 KiB, as long as one may be, and sends its first bytes.
func (n *notes) begin(t *testing.T, size int) slowBody {
	t.Helper()
	reader, writer := io.Pipe()
	s := slowBody{PipeWriter: writer, answered: make(chan answer, 1)}
	go func() {
		s.answered <- n.send(t, http.MethodPost, "/api/notes", announced{reader, rest.MaxBody})
		_ = reader.Close() // as net/http does
	}()
	_, _ = writer.Write([]byte(strings.Repeat(" ", size))) // an error when the request is refused
	return s
}

// announced is a body of an announced length.
type announced struct {
	io.Reader
	length int64
}

// Guards the memory of the process: it is taken for bytes that came, not for those that were announced. 400 requests
// that had sent one byte each took 845 MB.
func TestAnnouncedBytesTakeNoMemory(t *testing.T) {
	t.Parallel()
	const requests, each = 400, 4 << 10
	n := newNotes(t, func(c *rest.Config) { c.BodyMemory = requests * each })
	begun := make([]slowBody, requests)
	var all errgroup.Group
	for i := range begun {
		all.Go(func() error {
			begun[i] = n.begin(t, 1)
			return nil
		})
	}
	require.NoError(t, all.Wait())
	n.post(t, `{"title":"a"}`).problem(http.StatusServiceUnavailable)
	for _, b := range begun {
		require.Empty(t, b.answered)
		require.NoError(t, b.CloseWithError(io.ErrUnexpectedEOF))
		require.Contains(t, (<-b.answered).problem(http.StatusBadRequest).Detail, "broke off")
	}
	n.post(t, `{"title":"a"}`).object(http.StatusCreated)
}

// Guards the bound of all bodies together, and that what an answered request took is there for the next.
func TestBodiesTogetherAreBounded(t *testing.T) {
	t.Parallel()
	n := newNotes(t, func(c *rest.Config) { c.BodyMemory = 32 << 10 })
	first := n.begin(t, 5<<10) // takes 16 KiB
	second := n.begin(t, 5<<10)
	refused := n.post(t, `{"title":"a"}`)
	require.Contains(t, refused.problem(http.StatusServiceUnavailable).Detail, "bodies")
	require.Equal(t, rest.RetryAfterSeconds, refused.Header.Get("Retry-After"))
	require.Equal(t, "close", refused.Header.Get("Connection"), "what is left of the body is not read")

	_, err := second.Write([]byte(strings.Repeat(" ", 12<<10)))
	require.Error(t, err, "a body that grows is refused as well")
	(<-second.answered).problem(http.StatusServiceUnavailable)
	_, err = first.Write([]byte(`{"title":"a"}`))
	require.NoError(t, err)
	require.NoError(t, first.Close())
	(<-first.answered).object(http.StatusCreated)
	for range 5 {
		n.post(t, `{"title":"a"}`+strings.Repeat(" ", 24<<10)).object(http.StatusCreated)
	}
}

// Guards bodies that come in parts of any size.
func TestBodiesAreReadWhole(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for _, size := range []int{13, 4095, 4096, 4097, 8191, 8192, 8193, rest.MaxBody - 1, rest.MaxBody} {
		body := strings.Repeat(" ", size-13) + `{"title":"a"}`
		n.post(t, body).object(http.StatusCreated)
		n.send(t, http.MethodPost, "/api/notes", struct{ io.Reader }{strings.NewReader(body)}).object(http.StatusCreated)
	}
}

func TestContentEncodingIsCheckedBeforeTheBody(t *testing.T) {
	t.Parallel()
	n := newNotes(t)
	for encoding, status := range map[string]int{
		"": http.StatusCreated, "identity": http.StatusCreated, "IDENTITY": http.StatusCreated,
		"gzip": http.StatusUnsupportedMediaType, "x": http.StatusUnsupportedMediaType,
	} {
		got := n.post(t, `{"title":"a"}`, "Content-Encoding", encoding)
		require.Equal(t, status, got.Status, encoding)
		require.Equal(t, status != http.StatusCreated, got.Header.Get("Connection") == "close", encoding)
	}
}
