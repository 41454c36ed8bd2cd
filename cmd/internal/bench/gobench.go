package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// goal says which benchmark answers which question. Metric is the unit in the
// benchmark's line; Scale turns it into Unit.
type goal struct {
	pkg, bench   string
	metric, unit string
	scale        float64
	name         string
	bound        float64
	higher       bool
}

var goals = []goal{}

// goBenchmarks runs each package's benchmarks once and picks the figures.
func goBenchmarks() ([]Figure, error) {
	var out []Figure
	var pkgs []string
	byPkg := map[string][]goal{}
	for _, g := range goals {
		if byPkg[g.pkg] == nil {
			pkgs = append(pkgs, g.pkg)
		}
		byPkg[g.pkg] = append(byPkg[g.pkg], g)
	}
	for _, pkg := range pkgs {
		var names []string
		for _, g := range byPkg[pkg] {
			names = append(names, strings.ReplaceAll(g.bench, "/", "$/^")) // -bench matches element by element
		}
		lines := map[string]map[string]float64{}
		for _, name := range names {
			cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchmem", "-timeout", "15m", "./"+pkg)
			cmd.Stderr = os.Stderr
			text, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", pkg, err, text)
			}
			for k, v := range parse(text) {
				lines[k] = v
			}
		}
		for _, g := range byPkg[pkg] {
			v, ok := lines[g.bench][g.metric]
			if !ok {
				return nil, fmt.Errorf("%s: Benchmark%s gave no %s", pkg, g.bench, g.metric)
			}
			out = append(out, Figure{Name: g.name, Value: v * g.scale, Unit: g.unit, Goal: g.bound, Higher: g.higher})
		}
	}
	return out, nil
}

// parse reads the result lines of `go test -bench`: name, runs, then pairs of
// value and unit.
func parse(text []byte) map[string]map[string]float64 {
	out := map[string]map[string]float64{}
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		m := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				m[f[i+1]] = v
			}
		}
		out[name] = m
	}
	return out
}
