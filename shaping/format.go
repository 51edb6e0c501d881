package shaping

import (
	"encoding/json"
	"time"

	"postrider.dev/postrider"
)

// Body returns the body and the content type of a request to a webhook of the shape. envelope is
// the event's body as it is stored. The same shape and event give the same bytes each time. An
// error is the transform's: see [Reason] for what of it may be told.
func (s *Shaper) Body(shape postrider.Shape, envelope []byte) (body []byte, contentType string, err error) {
	const plain = "application/json"
	if shape.Transform != "" {
		e, err := NewEvent(envelope)
		if err != nil {
			return nil, "", err
		}
		body, err = s.Transform(shape.Transform, e)
		return body, plain, err
	}
	switch shape.Format {
	case postrider.FormatData:
		body, err = dataOf(envelope)
		return body, plain, err
	case postrider.FormatThin:
		body, err = thin(envelope)
		return body, plain, err
	case postrider.FormatCloudEvents:
		body, err = cloudEvent(envelope, shape.Source)
		return body, "application/cloudevents+json", err
	default:
		return envelope, plain, nil
	}
}

func dataOf(body []byte) ([]byte, error) {
	var in envelope
	err := json.Unmarshal(body, &in)
	return in.Data, err
}

// thin returns the envelope without the data.
func thin(body []byte) ([]byte, error) {
	var in struct {
		ID        string  `json:"id"`
		Type      string  `json:"type"`
		Timestamp string  `json:"timestamp"`
		PersonaID *string `json:"persona_id"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	return json.Marshal(in)
}

// cloudEvent is an event in the JSON format of CloudEvents 1.0, in structured mode. The persona
// is an extension, whose name may have lower-case letters and digits only.
func cloudEvent(body []byte, source string) ([]byte, error) {
	var in envelope
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Source          string          `json:"source"`
		Type            string          `json:"type"`
		Time            time.Time       `json:"time"`
		PersonaID       *string         `json:"personaid,omitempty"`
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data"`
	}{"1.0", in.ID, source, in.Type, in.Timestamp, in.PersonaID, "application/json", in.Data})
}
