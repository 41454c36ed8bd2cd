package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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

// literals measures the command line on ten thousand deployments.
func literals(b *bed) error {
	literal, each := filepath.Join(b.tmp, "literal"), filepath.Join(b.tmp, "each")
	if err := os.Mkdir(literal, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(each, 0o755); err != nil {
		return err
	}
	if err := writeLiteral(literal); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(each, "main.hcl"), []byte(forEach), 0o644); err != nil {
		return err
	}
	for _, s := range []step{
		{"validate 10,000 blocks in 20 files", 1.0, []string{"-C", literal, "validate"}},
		{"first plan of 10,000 blocks", 1.5, []string{"-C", literal, "plan"}},
		{"validate 10,000 by for_each", 0.9, []string{"-C", each, "validate"}},
		{"plan 10,000 by for_each", 0, []string{"-C", each, "plan"}},
		{"apply of 10,000 deployments as one revision", 0, []string{"-C", literal, "apply", "--auto-approve"}},
		{"plan without a change among 10,000", 0, []string{"-C", literal, "plan"}},
	} {
		if err := b.measure(s, 400); err != nil {
			return err
		}
	}
	if err := writeFile(literal, 7, 123); err != nil {
		return err
	}
	return b.measure(step{"plan with one change among 10,000", 0.8, []string{"-C", literal, "plan"}}, 400)
}
