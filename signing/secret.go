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

// Lengths of the keys in such secrets, in bytes.
const (
	secretBytes                    = 32 // of those that [newStandardSecret] makes
	minSecretBytes, maxSecretBytes = 24, 64
)

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
// A text that begins with whsec_ and does not go on with padded standard base64 is a secret that a
// person chose before [CheckSecret] refused it. Its key is all of the text, because an error here
// would fail every delivery.
func standardKey(secret string) []byte {
	if encoded, found := strings.CutPrefix(secret, secretPrefix); found {
		if key, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(key) > 0 {
			return key
		}
	}
	return []byte(secret)
}

// checkStandardSecret returns the rule that a secret breaks which looks like one of Standard
// Webhooks, or "". Libraries of receivers refuse it, or decode it to another key.
func checkStandardSecret(secret string) string {
	bare := strings.TrimPrefix(strings.Trim(secret, " \t\r\n\"'`"), versionHMAC)
	encoded, looksStandard := strings.CutPrefix(bare, secretPrefix)
	if !looksStandard {
		return ""
	}
	fault := encodingFault(encoded)
	if bare != secret {
		fault = `has something before or after it, such as "v1,", a quote or a space`
	}
	if fault == "" {
		return ""
	}
	return fmt.Sprintf("looks like a Standard Webhooks secret, which is whsec_ and the standard base64 of %d to %d bytes, but %s; "+
		"a plain text, whose characters are the key, must not begin with whsec_", minSecretBytes, maxSecretBytes, fault)
}

// encodingFault returns what is wrong with the base64 of a secret, or "".
func encodingFault(encoded string) string {
	unpadded := strings.TrimRight(encoded, "=")
	key, standard := decode(base64.StdEncoding, encoded)
	_, standardUnpadded := decode(base64.RawStdEncoding, unpadded)
	_, urlSafe := decode(base64.RawURLEncoding, unpadded)
	switch {
	case standard && (len(key) < minSecretBytes || len(key) > maxSecretBytes):
		return fmt.Sprintf("has %d bytes", len(key))
	case standard:
		return ""
	case standardUnpadded:
		return "is not padded with = to a multiple of four characters"
	case urlSafe:
		return "is in the URL-safe alphabet: it needs + for -, and / for _"
	}
	return "is not standard base64"
}

// decode returns the bytes that have the encoding, and whether there are any. Package base64 alone
// would skip line breaks, and the bits that are no part of the last byte.
func decode(encoding *base64.Encoding, encoded string) ([]byte, bool) {
	decoded, err := encoding.DecodeString(encoded)
	return decoded, err == nil && encoding.EncodeToString(decoded) == encoded
}
