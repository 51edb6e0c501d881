package store

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"time"

	"github.com/lib/pq/oid"
)

// Arrays go to PostgreSQL in its binary form, which is what the driver sends for
// bytes: nothing is quoted or turned into text on one side and parsed on the other.
// The form is that of array_send and array_recv in PostgreSQL's arrayfuncs.c:
// dimensions, a flag, the elements' type, and for the one dimension its length and
// lower bound, then each element with its length before it; all big endian.

const (
	arrayHeader = 20
	arrayNull   = 0xffffffff // instead of a length
)

// postgresEpoch is what PostgreSQL counts its microseconds from.
const postgresEpoch = 946684800 * 1_000_000 // of the Unix epoch

// elementOf returns the type that an array's elements have.
func elementOf(sqlType string) oid.Oid {
	switch sqlType {
	case "text":
		return oid.T_text
	case "bytea":
		return oid.T_bytea
	case "integer":
		return oid.T_int4
	case "boolean":
		return oid.T_bool
	case "timestamptz":
		return oid.T_timestamptz
	}
	panic("store: no arrays of " + sqlType)
}

// newArray returns an array that lacks its elements, with room for so many bytes of
// them.
func newArray(element oid.Oid, length, room int) []byte {
	array := make([]byte, 0, arrayHeader+room)
	for _, field := range []uint32{1, 1, uint32(element), uint32(length), 1} {
		array = binary.BigEndian.AppendUint32(array, field)
	}
	return array
}

// arrayOf returns a column of the rows as an array.
func arrayOf(element oid.Oid, rows [][]any, column int) ([]byte, error) {
	room := 0
	for _, row := range rows {
		room += 4 + sizeOf(row[column])
	}
	array := newArray(element, len(rows), room)
	var err error
	for _, row := range rows {
		if array, err = appendElement(array, row[column]); err != nil {
			return nil, err
		}
	}
	return array, nil
}

func sizeOf(value any) int {
	switch v := value.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8 // or less, or it grows
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

// appendElement appends a value, of a type that the rows of this package have.
func appendElement(array []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return binary.BigEndian.AppendUint32(array, arrayNull), nil
	case string:
		return append(binary.BigEndian.AppendUint32(array, uint32(len(v))), v...), nil
	case []byte:
		return append(binary.BigEndian.AppendUint32(array, uint32(len(v))), v...), nil
	case int:
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(array, 4), uint32(v)), nil
	case bool:
		array = binary.BigEndian.AppendUint32(array, 1)
		if v {
			return append(array, 1), nil
		}
		return append(array, 0), nil
	case time.Time:
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(array, 8), uint64(v.UnixMicro()-postgresEpoch)), nil
	}
	switch v := reflect.ValueOf(value); {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return appendElement(array, nil)
	case v.Kind() == reflect.Pointer:
		return appendElement(array, v.Elem().Interface())
	case v.Kind() == reflect.String:
		return appendElement(array, v.String())
	}
	return nil, fmt.Errorf("store: no array takes a %T", value)
}
