package catalogue

import "sync"

// maxRemembered is how many JSON values the schemas that are remembered have together; it comes to some 50 MB.
const maxRemembered = 50_000

// Schemas remembers compiled schemas by their ids. The zero value is ready; it is safe for concurrent use.
type Schemas struct {
	mu    sync.Mutex
	known map[string]*Schema
	size  int
}

// Get returns a schema that is remembered, or nil.
func (s *Schemas) Get(id string) *Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[id]
}

// Put remembers a schema. When there is no room, it forgets all others.
func (s *Schemas) Put(id string, schema *Schema) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || s.size+schema.size > maxRemembered {
		s.known, s.size = map[string]*Schema{}, 0
	}
	if s.known[id] == nil {
		s.known[id] = schema
		s.size += schema.size
	}
}
