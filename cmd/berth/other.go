//go:build !linux

package main

import (
	"runtime"

	"github.com/berthdev/berth/cluster/object"
)

// errLinuxOnly is for what needs the Linux kernel's namespaces.
func errLinuxOnly(what string) error {
	return &object.Error{Code: object.CodeInvalid, Message: what + " needs Linux, and this is " + runtime.GOOS,
		Hint: "Run it on a Linux machine, as root; the client commands work here."}
}

// Run refuses.
func (c *NodeRunCmd) Run(*session) error { return errLinuxOnly("a node") }

// Run refuses.
func (c *DevUpCmd) Run(*session, *DevCmd) error { return errLinuxOnly("a development cluster") }

// Run refuses.
func (c *DevStatusCmd) Run(*session, *DevCmd) error { return errLinuxOnly("a development cluster") }

// Run refuses.
func (c *DevDownCmd) Run(*session, *DevCmd) error { return errLinuxOnly("a development cluster") }

// Run refuses.
func (c *DevStopCmd) Run(*session, *DevCmd) error { return errLinuxOnly("a development cluster") }

// Run refuses.
func (c *DevStartCmd) Run(*session, *DevCmd) error { return errLinuxOnly("a development cluster") }

// Run refuses.
func (c *DevOpenCmd) Run(*session) error { return errLinuxOnly("a development cluster") }
