package signing

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// secretPrefix begins a secret whose key is encoded in base64 (Standard Webhooks 1.0,
// "Signature scheme").
const secretPrefix = "whsec_"

// secretBytes is the length of the keys that [newStandardSecret] makes. Standard
// Webhooks asks for 24 to 64.
const secretBytes = 32

// newStandardSecret makes a secret for the HMAC methods: whsec_ and the base64 of 32 bytes.
func newStandardSecret(entropy io.Reader) (string, error) {
	var key [secretBytes]byte
	if _, err := io.ReadFull(entropy, key[:]); err != nil {
		return "", fmt.Errorf("no randomness for a secret: %w", err)
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(key[:]), nil
}

// standardKey returns the key that Standard Webhooks derives from a secret: the decoded bytes of
// whsec_<base64>, and the UTF-8 bytes of any other secret.
//
// A text that begins with whsec_ and does not go on with padded standard base64 is a secret
// that a person chose. Its key is all of the text, because an error here would fail every
// delivery.
func standardKey(secret string) []byte {
	if encoded, found := strings.CutPrefix(secret, secretPrefix); found {
		if key, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(key) > 0 {
			return key
		}
	}
	return []byte(secret)
}
