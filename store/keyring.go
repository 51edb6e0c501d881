package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// keyLength is the length of a key of AES-256.
const keyLength = 32

// Keyring encrypts secrets with AES-256-GCM (NIST SP 800-38D) under its newest key
// and decrypts with any. Each ciphertext has a random nonce of its own and is
// bound to its row: it cannot be decrypted in another.
type Keyring struct {
	newest string
	keys   map[string]cipher.AEAD // by fingerprint
}

// ParseKeyring reads the keys of POSTRIDER_ENCRYPTION_KEYS: base64 of 32 bytes
// each, separated by commas, the newest first. Its errors do not repeat the text.
func ParseKeyring(text string) (*Keyring, error) {
	ring := &Keyring{keys: map[string]cipher.AEAD{}}
	for i, part := range strings.Split(text, ",") {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(part))
		if err != nil || len(raw) != keyLength {
			return nil, fmt.Errorf("encryption key %d is not the base64 of %d bytes", i+1, keyLength)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, fmt.Errorf("encryption key %d: %w", i+1, err)
		}
		sealer, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("encryption key %d: %w", i+1, err)
		}
		id := fingerprint(raw)
		ring.keys[id] = sealer
		if i == 0 {
			ring.newest = id
		}
	}
	return ring, nil
}

// NoKeys returns the keyring of a store that is not to touch secrets: reading one
// fails, and encrypting one panics.
func NoKeys() *Keyring { return &Keyring{} }

// NewEncryptionKey returns a new key as [ParseKeyring] reads it: the base64 of 32
// bytes of entropy.
func NewEncryptionKey(entropy io.Reader) (string, error) {
	var raw [keyLength]byte
	if _, err := io.ReadFull(entropy, raw[:]); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(raw[:]), nil
}

// fingerprint names a key without giving it away: the beginning of a hash of 256
// random bits.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("postrider encryption key\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// seal encrypts plain for the row named by identity and returns the ciphertext
// with its key's fingerprint.
func (k *Keyring) seal(plain, identity string) (keyID string, ciphertext []byte) {
	return k.newest, k.keys[k.newest].Seal(nil, nil, []byte(plain), []byte(identity)) //nolint:gosec // this AEAD makes its own nonce
}

// errUndecryptable gives no details, because details of a ciphertext are not for logs.
var errUndecryptable = errors.New("a secret cannot be decrypted: " +
	"its encryption key is missing from the keyring, or the stored value was changed")

// unseal decrypts what seal returned for the same identity.
func (k *Keyring) unseal(keyID string, ciphertext []byte, identity string) (string, error) {
	sealer, found := k.keys[keyID]
	if !found {
		return "", errUndecryptable
	}
	plain, err := sealer.Open(nil, nil, ciphertext, []byte(identity))
	if err != nil {
		return "", errUndecryptable
	}
	return string(plain), nil
}
