package hcl

import "github.com/berthdev/berth/cluster/object"

// Load reads and evaluates the configuration of a directory.
func Load(dir string, o Options) (*Configuration, object.Diagnostics) {
	return nil, object.Diagnostics{fault("Not a configuration", "%s cannot be read yet.", dir)}
}
