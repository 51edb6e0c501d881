package signing

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// secretPrefix marks a secret whose key is base64 encoded (Standard Webhooks 1.0,
// "Signature scheme").
const secretPrefix = "whsec_"

// secretBytes is the length of the keys that [NewSecret] makes. Standard Webhooks
// asks for 24 to 64.
const secretBytes = 32

// NewSecret returns a new secret for the HMAC methods: whsec_ and the base64 of 32
// bytes read from entropy (crypto/rand.Reader outside tests). It returns an error
// when entropy does.
func NewSecret(entropy io.Reader) (string, error) {
	var key [secretBytes]byte
	if _, err := io.ReadFull(entropy, key[:]); err != nil {
		return "", fmt.Errorf("no randomness for a secret: %w", err)
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(key[:]), nil
}

// standardKey returns the key that Standard Webhooks derives from a secret: of
// whsec_<base64> the decoded bytes, of any other secret its own UTF-8 bytes.
//
// A whsec_ secret whose rest is empty or not padded standard base64 counts as any
// other: it is the user's own text that happens to start so, and signing with all
// of it is better than refusing every delivery.
func standardKey(secret string) []byte {
	if encoded, found := strings.CutPrefix(secret, secretPrefix); found {
		if key, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(key) > 0 {
			return key
		}
	}
	return []byte(secret)
}
