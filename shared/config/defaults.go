package config

import (
	"fmt"

	"github.com/alecthomas/kong"
)

// Defaults fills a service's settings with their defaults and the environment,
// as parsing an empty command line does.
func Defaults(settings any) error {
	parser, err := kong.New(settings)
	if err != nil {
		return fmt.Errorf("read settings of %T: %w", settings, err)
	}
	if _, err := parser.Parse(nil); err != nil {
		return fmt.Errorf("read settings of %T: %w", settings, err)
	}
	return nil
}
