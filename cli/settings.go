package cli

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// unsetEmpty unsets Postrider's variables that are empty, so that empty means the default.
func unsetEmpty() error {
	var errs []error
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if value == "" && (strings.HasPrefix(name, "POSTRIDER_") || strings.HasPrefix(name, "OTEL_")) {
			errs = append(errs, os.Unsetenv(name))
		}
	}
	return errors.Join(errs...)
}

// ValidateSettings calls Validate of each struct that the chosen command embeds. kong calls the
// command's own only, and where two embedded structs have one, the command has none. Embedded
// structs must be exported: reflection cannot call the others'.
func ValidateSettings(parsed *kong.Context) error {
	chosen := parsed.Selected()
	if chosen == nil {
		return nil
	}
	return validateEmbedded(chosen.Target)
}

func validateEmbedded(settings reflect.Value) error {
	for settings.Kind() == reflect.Pointer {
		settings = settings.Elem()
	}
	if settings.Kind() != reflect.Struct {
		return nil
	}
	var errs []error
	for i := range settings.NumField() {
		if !settings.Type().Field(i).Anonymous {
			continue
		}
		embedded := settings.Field(i)
		if !embedded.CanInterface() {
			return fmt.Errorf("%s is embedded in %s and not exported, so nobody validates it", embedded.Type(), settings.Type())
		}
		if checked, is := embedded.Addr().Interface().(interface{ Validate() error }); is {
			errs = append(errs, checked.Validate())
		}
		errs = append(errs, validateEmbedded(embedded))
	}
	return errors.Join(errs...)
}
