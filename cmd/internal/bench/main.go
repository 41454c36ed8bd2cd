// Command bench measures Berth: the Go benchmarks of the packages, and the
// command line at work on ten thousand deployments against three masters, and on
// a release of three tiers that is put back. It prints a table of figures beside their goals and saves them as JSON.
//
// It knows the names of the benchmarks and the goals, and nothing of what they
// measure. Figures depend on the machine: compare runs of one machine.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// Figure is one measured value. Goal is an upper bound, or a lower bound where
// Higher is set; 0 means that there is none.
type Figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Goal   float64 `json:"goal,omitempty"`
	Higher bool    `json:"higher_is_better,omitempty"`
}

func (f Figure) verdict() string {
	switch {
	case f.Goal == 0:
		return ""
	case f.Higher == (f.Value >= f.Goal):
		return "reached"
	}
	return "MISSED"
}

type report struct {
	Time    time.Time `json:"time"`
	Go      string    `json:"go"`
	CPUs    int       `json:"cpus"`
	Figures []Figure  `json:"figures"`
}

func main() {
	berth := flag.String("berth", "bin/berth", "the binary to measure")
	out := flag.String("o", "bench.json", "where to save the figures")
	only := flag.String("only", "", "go or cli: only that half; literals, modules or revert: only that part of cli")
	var at place
	flag.StringVar(&at.name, "name", "bench", "name of the development clusters")
	flag.StringVar(&at.subnet, "subnet", "10.79.0.0/24", "their hosts' addresses")
	flag.StringVar(&at.pods, "pods", "10.80.0.0/16", "their pods' addresses")
	flag.StringVar(&at.services, "services", "10.81.0.0/16", "their services' addresses")
	flag.Parse()
	if err := measure(*berth, *out, *only, at); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(berth, out, only string, at place) error {
	r := report{Time: time.Now().UTC(), Go: runtime.Version(), CPUs: runtime.NumCPU()}
	if only == "" || only == "go" {
		f, err := goBenchmarks()
		if err != nil {
			return err
		}
		r.Figures = append(r.Figures, f...)
	}
	if only != "go" {
		f, err := commandLine(berth, strings.TrimPrefix(only, "cli"), at)
		if err != nil {
			return err
		}
		r.Figures = append(r.Figures, f...)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEASURED\tGOAL\t")
	for _, f := range r.Figures {
		goal := ""
		if f.Goal != 0 {
			sign := "≤"
			if f.Higher {
				sign = "≥"
			}
			goal = fmt.Sprintf("%s %.4g %s", sign, f.Goal, f.Unit)
		}
		fmt.Fprintf(w, "%s\t%.4g %s\t%s\t%s\n", f.Name, f.Value, f.Unit, goal, f.verdict())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}
