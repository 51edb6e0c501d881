package sqldb

import (
	"encoding/binary"
	"reflect"
	"time"

	"github.com/lib/pq/oid"
)

// Arrays go to PostgreSQL in its binary form, which is what the driver sends for bytes.
// So nothing is quoted or turned into text on one side and parsed on the other. The form
// is that of array_send and array_recv in PostgreSQL's arrayfuncs.c: the number of
// dimensions, a flag, the elements' type, and for the one dimension its length and lower
// bound. Each element follows with its length before it. All numbers are big endian.

const (
	arrayHeader = 20
	arrayNull   = 0xffffffff // instead of a length
)

// postgresEpoch is the beginning of PostgreSQL's count of microseconds, as Unix counts.
const postgresEpoch = 946684800 * 1_000_000

// codec is how PostgreSQL has the values of a Go type in an array.
type codec struct {
	sqlType string
	element oid.Oid
	width   int                                        // of each value in bytes, if all have the same
	size    func(value reflect.Value) int              // in bytes; nil where all have the same
	put     func(array []byte, v reflect.Value) []byte // appends a value with its length
}

// codecOf returns the codec of a field's type, false when no column can have it. Values
// must be addressable.
func codecOf(field reflect.Type) (codec, bool) {
	switch {
	case field.Kind() == reflect.Pointer:
		values, found := codecOf(field.Elem())
		return nullable(values), found
	case field == reflect.TypeFor[time.Time]():
		return codec{sqlType: "timestamptz", element: oid.T_timestamptz, width: 8, put: putTime}, true
	case field == reflect.TypeFor[Time]():
		return codec{sqlType: "timestamptz", element: oid.T_timestamptz, width: 8, put: putStoredTime}, true
	case field == reflect.TypeFor[[]byte]():
		return codec{sqlType: "bytea", element: oid.T_bytea, size: reflect.Value.Len, put: putBytes}, true
	case field.Kind() == reflect.String:
		return codec{sqlType: "text", element: oid.T_text, size: reflect.Value.Len, put: putText}, true
	case field.Kind() == reflect.Int:
		return codec{sqlType: "integer", element: oid.T_int4, width: 4, put: putInteger}, true
	case field.Kind() == reflect.Int64:
		return codec{sqlType: "bigint", element: oid.T_int8, width: 8, put: putBigint}, true
	case field.Kind() == reflect.Bool:
		return codec{sqlType: "boolean", element: oid.T_bool, width: 1, put: putBoolean}, true
	}
	return codec{}, false
}

// nullable returns the codec for pointers, which are null where they are nil.
func nullable(values codec) codec {
	put, size := values.put, values.size
	values.put = func(array []byte, v reflect.Value) []byte {
		if v.IsNil() {
			return binary.BigEndian.AppendUint32(array, arrayNull)
		}
		return put(array, v.Elem())
	}
	if size != nil {
		values.size = func(v reflect.Value) int {
			if v.IsNil() {
				return 0
			}
			return size(v.Elem())
		}
	}
	return values
}

func putText(array []byte, v reflect.Value) []byte {
	text := v.String()
	return append(binary.BigEndian.AppendUint32(array, uint32(len(text))), text...)
}

func putBytes(array []byte, v reflect.Value) []byte {
	data := v.Bytes()
	return append(binary.BigEndian.AppendUint32(array, uint32(len(data))), data...)
}

func putInteger(array []byte, v reflect.Value) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(array, 4), uint32(v.Int()))
}

func putBigint(array []byte, v reflect.Value) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(array, 8), uint64(v.Int()))
}

func putBoolean(array []byte, v reflect.Value) []byte {
	array = binary.BigEndian.AppendUint32(array, 1)
	if v.Bool() {
		return append(array, 1)
	}
	return append(array, 0)
}

// putTime takes the field's address because a time.Time in an interface would be allocated.
func putTime(array []byte, v reflect.Value) []byte {
	return appendTime(array, *v.Addr().Interface().(*time.Time)) //nolint:errcheck,forcetypeassert // see codecOf
}

func putStoredTime(array []byte, v reflect.Value) []byte {
	return appendTime(array, v.Addr().Interface().(*Time).Time) //nolint:errcheck,forcetypeassert // see codecOf
}

func appendTime(array []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(array, 8), uint64(t.UnixMicro()-postgresEpoch))
}

// newArray returns an array without its elements, which have room for the given number of
// bytes.
func newArray(element oid.Oid, length, room int) []byte {
	array := make([]byte, 0, arrayHeader+room)
	for _, field := range []uint32{1, 1, uint32(element), uint32(length), 1} {
		array = binary.BigEndian.AppendUint32(array, field)
	}
	return array
}

// array returns the column of rows, a slice of the row type, as an array.
func (c column) array(rows reflect.Value) []byte {
	length := rows.Len()
	room := length * (4 + c.width)
	if c.size != nil {
		for i := range length {
			room += c.size(rows.Index(i).FieldByIndex(c.field))
		}
	}
	array := newArray(c.element, length, room)
	for i := range length {
		array = c.put(array, rows.Index(i).FieldByIndex(c.field))
	}
	return array
}

// arrayOfText returns the texts as an array.
func arrayOfText(texts []string) []byte {
	room := 0
	for _, text := range texts {
		room += 4 + len(text)
	}
	array := newArray(oid.T_text, len(texts), room)
	for _, text := range texts {
		array = append(binary.BigEndian.AppendUint32(array, uint32(len(text))), text...)
	}
	return array
}
