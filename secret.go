package postrider

import (
	"slices"
	"time"
)

// Secret is a webhook's signing secret in plain text: its current value.
type Secret struct {
	ID string
	SecretVersion
	Next     *SecretVersion   // takes the current one's place at a time that was set; nil: nothing is to come
	Previous []PreviousSecret // replaced secrets that sign too, where a header has room for them; newest first
}

// PreviousSecret is a replaced secret in its grace period.
type PreviousSecret struct {
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// SecretVersion is one value of a webhook's secret.
type SecretVersion struct {
	Value       string
	CreatedAt   time.Time  // from then on it signs, where a header has room for several values
	EffectiveAt time.Time  // from then on it is the current one, until a newer one is
	ExpiresAt   *time.Time // from then on it signs nothing; nil: that is not decided
	// Failure says why this process cannot decrypt the value.
	Failure error
}

// SecretVersions are the values of one secret, the newest first.
type SecretVersions []SecretVersion

// At returns the versions that sign at a time: the current one, and the others, newest first. Every
// process goes by it, so that a version takes its predecessor's place by itself. current is nil when
// none signs. A clock that lags behind the one that made the only version takes it all the same.
func (s SecretVersions) At(now time.Time) (current *SecretVersion, others SecretVersions) {
	live := slices.DeleteFunc(slices.Clone(s), func(v SecretVersion) bool {
		return v.ExpiresAt != nil && !v.ExpiresAt.After(now)
	})
	if len(live) == 0 {
		return nil, nil
	}
	i := max(0, slices.IndexFunc(live, func(v SecretVersion) bool { return !v.EffectiveAt.After(now) }))
	found := live[i]
	return &found, slices.Delete(live, i, i+1)
}

// Values returns the values that sign at a time, the current one first.
func (s SecretVersions) Values(now time.Time) []string {
	current, others := s.At(now)
	if current == nil {
		return nil
	}
	values := []string{current.Value}
	for _, v := range others {
		values = append(values, v.Value)
	}
	return values
}

// Rotation is a new value of a webhook's secret.
type Rotation struct {
	Value       string
	EffectiveAt time.Time     // when it becomes the current one; at once, unless that is later
	Grace       time.Duration // how long from then on those before it sign too
}

// MaxRotateAhead bounds how long before it takes effect a rotation may be set.
const MaxRotateAhead = 7 * 24 * time.Hour
