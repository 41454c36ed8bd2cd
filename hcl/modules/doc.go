// Package modules brings modules that do not stand beside a configuration to this
// machine, with the machine's own git, and holds them to the lock file.
//
// A source goes in as a module block has it, a directory under .berth/modules
// comes out, whose files have the hash that .berth.lock.hcl pins. What has been
// fetched once is not fetched again, so a configuration works without a network.
// It knows nothing of what the files say; package hcl reads them, and knows no
// network.
package modules
