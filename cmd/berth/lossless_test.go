//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// loaded is a load from one host of the cluster to one address.
type loaded struct {
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
	sent atomic.Int64 // as it tells every second
}

// Write takes the lines that tell how far the load is: "N sent, M lost".
func (l *loaded) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		if n, err := strconv.ParseInt(strings.SplitN(line, " ", 2)[0], 10, 64); err == nil {
			l.sent.Store(n)
		}
	}
	return len(b), nil
}

// lossless is a configuration whose servers end at once when they are told to.
const lossless = `
variable "release"  { default = "1" }
variable "replicas" { default = 4 }

deployment "web" {
  replicas = var.replicas

  update {
    surge             = 1
    unavailable       = 0
    progress_deadline = "30s"
  }

  pod {
    labels = { app = "web" }
    grace  = "5s"

    container "web" {
      image   = "shop/web:${var.release}"
      command = ["/web", "web"]
      pull    = "never"

      port "http" { port = 8080 }

      resources {
        cpu    = "50m"
        memory = "32Mi"
      }

      readiness {
        period = "500ms"
        http {
          path = "/healthz"
          port = "http"
        }
      }
    }
  }
}

service "web" {
  selector = deployment.web.pod.labels
  type     = "node_port"

  port "http" {
    port   = 80
    target = "http"
  }
}

ingress "web" {
  host = "shop.test"

  path "/" { service = service.web.name }
}
`

// TestNoRequestIsLost rolls, scales down, drains and reverts under a steady load of
// new and kept connections to the service's address, its node port and the ingress.
// The servers end at once on SIGTERM: what keeps requests from being lost is that
// every node has taken a pod out before it is told to stop.
func TestNoRequestIsLost(t *testing.T) {
	c := startReal(t, "bl", "10.233.8.0/24", "10.235.0.0/16", "--services", "10.236.0.0/16", "--masters", "1", "--nodes", "3",
		"--leave-timeout", "10s") // a machine that is busy with other tests may need longer than a second
	tmp := filepath.Dir(c.dir)
	program := filepath.Join(tmp, "load")
	c.build(program, "", "../../examples/shop/web")
	c.image("1", "-X main.abrupt=yes")
	c.image("2", "-X main.abrupt=yes")
	c.image("3", "-X main.broken=yes")
	dir := filepath.Join(tmp, "lossless")
	writeFile(t, filepath.Join(dir, "main.hcl"), lossless)
	c.must(0, "node", "cordon", "n3") // the clients are on another node than the servers
	c.must(0, "-C", dir, "apply", "-auto-approve")

	svc := get[object.Service](c, "services")[0]
	nodes := get[object.Node](c, "nodes")
	host := strings.Split(nodes[0].Status.Address, ":")[0]
	urls := map[string][]string{
		"service":   {"http://" + svc.Spec.Address + "/"},
		"node port": {"http://" + host + ":" + strconv.Itoa(svc.Spec.Ports[0].NodePort) + "/"},
		"ingress":   {"-host", "shop.test", "http://" + host + "/"},
	}
	if lost := c.round(dir, program, urls); len(lost) > 0 {
		t.Fatalf("%s\nwhat the nodes say:\n%s", strings.Join(lost, "\n"), c.grep("not every node has acknowledged", "cannot be put in force", "mended"))
	}
}

// round puts the load on, does all that moves pods, and says what was lost.
func (c *realCluster) round(dir, program string, urls map[string][]string) (lost []string) {
	t := c.t
	var loads []*loaded
	for _, name := range []string{"service", "node port", "ingress"} {
		for _, keep := range []string{"-keepalive=false", "-keepalive=true"} {
			l := &loaded{name: name + " " + keep}
			args := append([]string{"--net=/run/netns/bl-n3", program, "load", "-rate", "350", "-requests", "1000000", "-clients", "32", keep}, urls[name]...)
			l.cmd = exec.Command("nsenter", args...)
			l.cmd.Stdout, l.cmd.Stderr = &l.out, l
			if err := l.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.cmd.Process.Kill() }) // when the test ends early
			loads = append(loads, l)
		}
	}

	c.must(0, "-C", dir, "apply", "-auto-approve", "-var", "release=2")
	c.must(exitFailed, "-C", dir, "apply", "-auto-approve", "-var", "release=3")
	c.must(0, "-C", dir, "apply", "-auto-approve", "-var", "release=2", "-var", "replicas=2")
	c.must(0, "-C", dir, "apply", "-auto-approve", "-var", "release=2", "-var", "replicas=4")
	c.must(0, "node", "drain", "n1")
	c.must(0, "node", "uncordon", "n1")
	c.must(0, "-C", dir, "apply", "-auto-approve", "-var", "release=1")

	c.eventually("50,000 requests have been sent", func() (string, bool) {
		var n int64
		for _, l := range loads {
			n += l.sent.Load()
		}
		return fmt.Sprint(n), n >= 50000
	})
	for _, l := range loads {
		if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range loads {
		_ = l.cmd.Wait() // what it printed tells
		var r struct {
			Sent, Lost int
			Errors     []string
			Pods       map[string]int
		}
		if err := json.Unmarshal(l.out.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v: %s", l.name, err, l.out.String())
		}
		if r.Lost > 0 {
			lost = append(lost, fmt.Sprintf("%s: %d of %d requests lost:\n%s", l.name, r.Lost, r.Sent, strings.Join(r.Errors, "\n")))
		}
		t.Logf("%s: %d sent, %d lost, to %d pods %s", l.name, r.Sent, r.Lost, len(r.Pods), strings.Join(r.Errors, "; "))
	}
	return lost
}
