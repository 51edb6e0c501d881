package rest

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/tidwall/gjson"
)

// maxBroken is how many broken rules one answer lists at most.
const maxBroken = 100

// schemaCheck checks JSON against the schema that the OpenAPI document shows.
//
// It walks objects itself and lets huma validate single values, because huma's own walk
// accepts null for any optional field, accepts field names in any case, repeats whole
// bodies in its errors, and needs a field that may be any JSON decoded.
type schemaCheck struct {
	registry huma.Registry
	broken   []*huma.ErrorDetail
}

// any checks a JSON value against any schema.
func (c *schemaCheck) any(raw json.RawMessage, schema *huma.Schema, location string) {
	schema = c.resolve(schema)
	switch {
	case schema.Type == "": // any JSON
	case schema.Type == huma.TypeObject && schema.Properties != nil:
		c.object(raw, schema, location)
	case schema.Type == huma.TypeArray && schema.Items.Ref != "":
		c.array(raw, schema, location)
	default:
		c.value(raw, schema, location)
	}
}

func (c *schemaCheck) resolve(schema *huma.Schema) *huma.Schema {
	for schema.Ref != "" {
		schema = c.registry.SchemaFromRef(schema.Ref)
	}
	return schema
}

func (c *schemaCheck) object(raw json.RawMessage, schema *huma.Schema, location string) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(raw, &fields)
	if err == nil && fields == nil && schema.Nullable {
		return
	}
	if err != nil || fields == nil {
		c.add(location, "must be an object", nil)
		return
	}
	c.once(raw, location)
	c.fields(fields, schema, location)
}

// once checks that an object has each of its fields once. Of two, this check would see the last and Go's decoder
// both.
func (c *schemaCheck) once(object []byte, location string) {
	seen := map[string]int{}
	gjson.ParseBytes(object).ForEach(func(name, _ gjson.Result) bool {
		if seen[name.Str]++; seen[name.Str] == 2 {
			c.add(location+"."+name.Str, "must be given once", nil)
		}
		return true
	})
}

// fields checks the fields of an object.
func (c *schemaCheck) fields(fields map[string]json.RawMessage, schema *huma.Schema, location string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if property := schema.Properties[name]; property != nil {
			c.any(fields[name], property, location+"."+name)
		} else {
			c.add(location+"."+name, "is not a known field", nil)
		}
	}
	for _, name := range schema.Required {
		if _, found := fields[name]; !found {
			c.add(location+"."+name, "is required", nil)
		}
	}
}

// array checks an array of objects. Its length is checked first: the items of an array that
// is too long are not read.
func (c *schemaCheck) array(raw json.RawMessage, schema *huma.Schema, location string) {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || items == nil {
		c.add(location, "must be an array", nil)
		return
	}
	if least, most := lengthOf(schema); len(items) < least || len(items) > most {
		c.add(location, "must have "+strconv.Itoa(least)+" to "+strconv.Itoa(most)+" entries", nil)
		return
	}
	for i, item := range items {
		c.any(item, schema.Items, location+"["+strconv.Itoa(i)+"]")
	}
}

// lengthOf returns the least and the most entries that an array may have.
func lengthOf(schema *huma.Schema) (least, most int) {
	most = math.MaxInt
	if schema.MinItems != nil {
		least = *schema.MinItems
	}
	if schema.MaxItems != nil {
		most = *schema.MaxItems
	}
	return least, most
}

// value checks a value that is neither an object with known fields nor an array of objects.
func (c *schemaCheck) value(raw json.RawMessage, schema *huma.Schema, location string) {
	value := decodeAny(raw)
	if hasNUL(value) {
		c.add(location, "must not contain the character U+0000", nil) // PostgreSQL cannot store it
		return
	}
	if text, isText := value.(string); isText && schema.Format == formatDateTime {
		if !IsTime(text) {
			c.add(location, timeRule, text)
		}
		return
	}
	var result huma.ValidateResult
	huma.Validate(c.registry, schema, huma.NewPathBuffer([]byte(location), len(location)), huma.ModeWriteToServer, value, &result)
	for _, err := range result.Errors {
		if detailer, ok := err.(huma.ErrorDetailer); ok {
			d := detailer.ErrorDetail()
			// The message of Go's parser would repeat the URL, which may carry a password.
			if strings.Contains(d.Message, ": parse ") {
				d.Message = "must be a valid URL and must start with http:// or https://"
			}
			c.add(d.Location, d.Message, d.Value)
		}
	}
}

// decodeAny decodes valid JSON. A number that is out of Go's range becomes an infinite one, which is over or
// under every bound.
func decodeAny(raw []byte) (value any) {
	if json.Unmarshal(raw, &value) == nil {
		return value
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	_ = decoder.Decode(&value) // the only error was the number
	return toFloats(value)
}

// toFloats replaces the numbers in a decoded value.
func toFloats(value any) any {
	switch v := value.(type) {
	case json.Number:
		number, _ := v.Float64() // infinite with the error
		return number
	case []any:
		for i, item := range v {
			v[i] = toFloats(item)
		}
	case map[string]any:
		for name, item := range v {
			v[name] = toFloats(item)
		}
	}
	return value
}

// add notes a broken rule.
func (c *schemaCheck) add(location, message string, value any) {
	if len(c.broken) < maxBroken {
		if len(location) > maxEcho {
			location = strings.ToValidUTF8(location[:maxEcho], "") + "…"
		}
		c.broken = append(c.broken, &huma.ErrorDetail{Location: location, Message: message, Value: value})
	}
}

// hasNUL reports whether a text in a decoded value contains the character U+0000.
func hasNUL(value any) bool {
	switch v := value.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		return slices.ContainsFunc(v, hasNUL)
	case map[string]any:
		for name, item := range v {
			if hasNUL(name) || hasNUL(item) {
				return true
			}
		}
	}
	return false
}
