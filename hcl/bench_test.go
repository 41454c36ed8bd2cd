package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func literalBlock(i int) string {
	return fmt.Sprintf(`deployment "web-%05d" {
  replicas = 3
  update {
    surge       = "25%%"
    unavailable = 0
  }
  pod {
    labels = { app = "web-%05d", tier = "front" }
    container "web" {
      image = "registry.example/shop/web:1.4.%d"
      env   = { PORT = "8080", LOG = "info", API = "http://api.shop.svc.cluster.local:80" }
      port "http" {
        port = 8080
      }
      resources {
        cpu    = "100m"
        memory = "64Mi"
      }
      readiness {
        http {
          path = "/healthz"
          port = "http"
        }
        period = "2s"
      }
    }
  }
}

`, i, i, i)
}

const forEachHead = `deployment "web" {
  for_each = toset([for i in range(10000) : format("%05d", i)])
  replicas = 3
  update {
    surge       = "25%"
    unavailable = 0
  }
  pod {
    labels = { app = "web-${each.key}", tier = "front" }
    container "web" {
      image = "registry.example/shop/web:1.4.${each.key}"
      env   = { PORT = "8080", LOG = "info", API = "http://api.shop.svc.cluster.local:80" }
      port "http" {
        port = 8080
      }
      resources {
        cpu    = "100m"
        memory = "64Mi"
      }
      readiness {
        http {
          path = "/healthz"
          port = "http"
        }
        period = "2s"
      }
    }
  }
}
`

func writeLiterals(b *testing.B, dir string, n, files int) {
	b.Helper()
	for f := range files {
		var s strings.Builder
		for i := f * n / files; i < (f+1)*n/files; i++ {
			s.WriteString(literalBlock(i))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("web-%02d.hcl", f)), []byte(s.String()), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkLoad(b *testing.B, dir string, want int) {
	b.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the command line does
	b.ReportAllocs()
	for b.Loop() {
		c, diags := Load(dir, Options{})
		if diags.HasErrors() || len(c.Objects) != want {
			b.Fatal(diags)
		}
	}
}

// Ten thousand deployments written out, 600 bytes each, in 20 files.
func BenchmarkLoadLiteral(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "stack")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	writeLiterals(b, dir, 10_000, 20)
	benchmarkLoad(b, dir, 10_000)
}

// The same by for_each.
func BenchmarkLoadForEach(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "stack")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	head := strings.ReplaceAll(forEachHead, "range(10000)", "concat(range(1000), range(1000, 2000), range(2000, 3000), range(3000, 4000), range(4000, 5000), range(5000, 6000), range(6000, 7000), range(7000, 8000), range(8000, 9000), range(9000, 10000))")
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(head), 0o600); err != nil {
		b.Fatal(err)
	}
	benchmarkLoad(b, dir, 10_000)
}
