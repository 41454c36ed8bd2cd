package main

import (
	"fmt"
	"runtime"

	"github.com/berthdev/berth/cluster/object"
)

// VersionCmd is `berth version`.
type VersionCmd struct{ JSONFlag }

// Run prints the version of this binary and, where one answers, of the masters.
func (c *VersionCmd) Run(s *session) error {
	v := map[string]string{"berth": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "plan_format": object.PlanFormat}
	if c.JSON {
		return s.json(v)
	}
	fmt.Fprintf(s.stdout, "Berth %s (%s, %s)\n", version, v["platform"], v["go"])
	return nil
}
