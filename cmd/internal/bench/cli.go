package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	deployments = 10_000
	files       = 20
)

// block is one deployment of about 600 bytes. It asks for no pods: what is
// measured is the way of the configuration, not that of the containers.
const block = `deployment "%[1]s" {
  replicas = 0

  update {
    strategy          = "rolling"
    surge             = "25%%"
    unavailable       = 0
    min_ready_time    = "5s"
    progress_deadline = "2m"
  }

  pod {
    labels = { app = "%[1]s", tier = "bench" }
    grace  = "10s"

    container "web" {
      image   = "registry.example/shop/web:%[2]d"
      command = ["/web", "serve"]
      env     = { MODE = "bench", NAME = "%[1]s" }

      port "http" { port = 8080 }

      resources {
        cpu    = "250m"
        memory = "64Mi"
      }

      readiness {
        http { port = "http" }
      }
    }
  }
}

`

const forEach = `deployment "each" {
  for_each = toset(flatten([for f in range(20) : [for i in range(500) : format("d%05d", f * 500 + i)]]))
  replicas = 0

  pod {
    labels = { app = each.key, tier = "bench" }

    container "web" {
      image = "registry.example/shop/web:1"
      env   = { MODE = "bench", NAME = each.key }

      port "http" { port = 8080 }

      resources {
        cpu    = "250m"
        memory = "64Mi"
      }

      readiness {
        http { port = "http" }
      }
    }
  }
}
`

func writeLiteral(dir string) error {
	for f := range files {
		if err := writeFile(dir, f, -1); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "berth.hcl"), []byte("berth {\n  stack = \"bench\"\n}\n"), 0o644)
}

// writeFile writes one of the twenty files; the deployment `changed` has another image.
func writeFile(dir string, file, changed int) error {
	var b bytes.Buffer
	for i := range deployments / files {
		release := 1
		if i == changed {
			release = 2
		}
		fmt.Fprintf(&b, block, fmt.Sprintf("d%05d", file*deployments/files+i), release)
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("part%02d.hcl", file)), b.Bytes(), 0o644)
}

// commandLine runs the binary as a person would.
func commandLine(berth string) (figures []Figure, err error) {
	berth, err = filepath.Abs(berth)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	literal, each := filepath.Join(tmp, "literal"), filepath.Join(tmp, "each")
	if err := os.Mkdir(literal, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(each, 0o755); err != nil {
		return nil, err
	}
	if err := writeLiteral(literal); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(each, "main.hcl"), []byte(forEach), 0o644); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "BERTH_CONFIG="+filepath.Join(tmp, "config"), "XDG_CACHE_HOME="+filepath.Join(tmp, "cache"), "HOME="+tmp, "NO_COLOR=1", "BERTH_PIN_IMAGES=cluster")
	run := func(name string, goal float64, args ...string) error {
		cmd := exec.Command(berth, args...)
		cmd.Env = env
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		began := time.Now()
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("berth %v: %w\n%s", args, err, stderr.Bytes())
		}
		took := time.Since(began)
		if name == "" {
			return nil
		}
		figures = append(figures, Figure{Name: name, Value: took.Seconds(), Unit: "s", Goal: goal})
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			figures = append(figures, Figure{Name: name + ", memory", Value: float64(u.Maxrss) / 1024, Unit: "MB", Goal: 400})
		}
		return nil
	}
	dev := []string{"dev", "--dir", filepath.Join(tmp, "dev"), "--name", "bench"}
	if err := run("", 0, append(dev, "up", "--masters", "3", "--nodes", "0", "--subnet", "10.79.0.0/24", "--pods", "10.80.0.0/16")...); err != nil {
		return nil, err
	}
	defer func() {
		if downErr := run("", 0, append(dev, "down")...); err == nil {
			err = downErr
		}
	}()
	steps := []struct {
		name string
		goal float64
		args []string
	}{
		{"validate 10,000 blocks in 20 files", 1.0, []string{"-C", literal, "validate"}},
		{"first plan of 10,000 blocks", 1.5, []string{"-C", literal, "plan"}},
		{"validate 10,000 by for_each", 0.9, []string{"-C", each, "validate"}},
		{"plan 10,000 by for_each", 0, []string{"-C", each, "plan"}},
		{"apply of 10,000 deployments as one revision", 0, []string{"-C", literal, "apply", "--auto-approve"}},
		{"plan without a change among 10,000", 0, []string{"-C", literal, "plan"}},
	}
	for _, s := range steps {
		if err := run(s.name, s.goal, s.args...); err != nil {
			return nil, err
		}
	}
	if err := writeFile(literal, 7, 123); err != nil {
		return nil, err
	}
	if err := run("plan with one change among 10,000", 0.8, "-C", literal, "plan"); err != nil {
		return nil, err
	}
	return figures, nil
}
