package postrider

// Limits of a list's page.
const (
	DefaultPageSize = 50
	MaxPageSize     = 200
)

// Page selects a part of a list, newest first.
type Page struct {
	Limit int    // 1 to [MaxPageSize]
	After string // id of the last item of the previous page; "" for the first page
}

// List is a part of a list, newest first.
type List[T any] struct {
	Items []T
	Next  string // [Page.After] of the next page; "" on the last page
}
