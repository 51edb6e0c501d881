package client

import "iter"

// Page is a part of a list, newest first. It may be short, or empty, while there are more: go by NextCursor
// alone.
type Page[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"next_cursor"` // nil on the last page
}

// all reads page after page, as long as the loop goes on. An error ends it.
func all[T any](cursor string, read func(cursor string) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for next := &cursor; next != nil; {
			page, err := read(*next)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Data {
				if !yield(item, nil) {
					return
				}
			}
			next = page.NextCursor
		}
	}
}
