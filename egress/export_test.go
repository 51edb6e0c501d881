package egress

// MaxOwn is how many webhooks' TLS material has connections.
const MaxOwn = maxOwn

// Owned returns of how much TLS material the client has connections.
func (c *Client) Owned() int {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	return len(c.own.known)
}
