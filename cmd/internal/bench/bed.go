package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// place is where the development clusters stand: name and ranges, for machines on
// which these are in use.
type place struct{ name, subnet, pods, services string }

// bed is what the command line is measured in: a directory, an environment of its
// own, and a cluster for as long as one is needed.
type bed struct {
	berth, tmp string
	at         place
	env        []string
	figures    []Figure
}

// step is one command line and the most seconds that it should take.
type step struct {
	name string
	goal float64
	args []string
}

// parts are what is measured of the command line, each in a fresh cluster.
var parts = []struct {
	name  string
	nodes int
	run   func(*bed) error
}{{"literals", 0, literals}, {"modules", 0, modules}, {"revert", 3, revert}}

// commandLine runs the binary as a person would: all parts, or one.
func commandLine(berth, only string, at place) (figures []Figure, err error) {
	berth, err = filepath.Abs(berth)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	b := &bed{berth: berth, tmp: tmp, at: at, env: append(os.Environ(),
		"BERTH_CONFIG="+filepath.Join(tmp, "config"), "XDG_CACHE_HOME="+filepath.Join(tmp, "cache"), "HOME="+tmp, "NO_COLOR=1", "BERTH_PIN_IMAGES=cluster")}
	for _, part := range parts {
		if only != "" && only != part.name {
			continue
		}
		if err := b.within(part.nodes, part.run); err != nil {
			return nil, err
		}
	}
	return b.figures, nil
}

// within does something with a fresh cluster of three masters.
func (b *bed) within(nodes int, do func(*bed) error) (err error) {
	dev := []string{"dev", "--dir", filepath.Join(b.tmp, "dev"), "--name", b.at.name}
	up := slices.Concat(dev, []string{"up", "--masters", "3", "--nodes", fmt.Sprint(nodes), "--resolv-conf", "/dev/null",
		"--subnet", b.at.subnet, "--pods", b.at.pods, "--services", b.at.services})
	defer func() {
		if _, downErr := b.run(append(dev, "down")...); err == nil {
			err = downErr
		}
	}()
	if _, err := b.run(up...); err != nil {
		return err
	}
	return do(b)
}

// command is the binary with these arguments, at work in the bed.
func (b *bed) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.berth, args...)
	cmd.Env = b.env
	return cmd
}

// run gives what a command prints; one that fails is an error with what it said.
func (b *bed) run(args ...string) ([]byte, error) {
	cmd := b.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("berth %v: %w\n%s", args, err, stderr.Bytes())
	}
	return out, nil
}

// measure adds how long a step takes and how much memory, in megabytes.
func (b *bed) measure(s step, memory float64) error {
	cmd := b.command(s.args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("berth %v: %w\n%s", s.args, err, stderr.Bytes())
	}
	took := time.Since(began)
	b.figures = append(b.figures, Figure{Name: s.name, Value: took.Seconds(), Unit: "s", Goal: s.goal})
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		b.figures = append(b.figures, Figure{Name: s.name + ", memory", Value: float64(u.Maxrss) / 1024, Unit: "MB", Goal: memory})
	}
	return nil
}
