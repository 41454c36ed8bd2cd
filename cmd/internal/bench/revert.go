package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tiers are a database, what asks it, and what asks that: each waits for the one
// before. A release of the first two works and one of the last does not.
const tiers = `berth {
  stack     = "tiers"
  namespace = "tiers"
}

variable "release" {
  type = string
}

variable "web" {
  type = string
}

locals {
  tiers = {
    db  = { release = var.release, asks = "" }
    api = { release = var.release, asks = "db" }
    web = { release = var.web, asks = "api" }
  }
}
`

const tier = `
deployment "%[1]s" {
  replicas   = 2
  depends_on = [%[2]s]

  update {
    surge             = "100%%"
    unavailable       = 0
    min_ready_time    = "0s"
    progress_deadline = "1m"
  }

  pod {
    labels = { tier = "%[1]s" }
    grace  = "5s"

    container "%[1]s" {
      image   = "bench/tier:${local.tiers.%[1]s.release}"
      command = ["/web", "%[1]s"]
      pull    = "never"
      env     = { STOCK = %[3]s }

      port "http" { port = 8080 }

      readiness {
        period = "100ms"
        http {
          path = "/healthz"
          port = "http"
        }
      }
    }
  }
}

service "%[1]s" {
  selector = deployment.%[1]s.pod.labels

  port "http" {
    port   = 80
    target = "http"
  }
}
`

// askEvery is how often each node asks each service which release answers.
const askEvery = 40 * time.Millisecond

// revert measures how long it takes from the decision to put a release of three
// tiers back until the last service of the last node is answered by the former
// release alone, less what the pods of that take to start.
func revert(b *bed) error {
	dir := filepath.Join(b.tmp, "tiers")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	text := tiers + fmt.Sprintf(tier, "db", "", `""`) +
		fmt.Sprintf(tier, "api", "deployment.db", `"http://${service.db.host}"`) +
		fmt.Sprintf(tier, "web", "deployment.api", `"http://${service.api.host}/stock"`)
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := tierImages(b); err != nil {
		return err
	}
	apply := func(release, web string) []string {
		return []string{"-C", dir, "apply", "--auto-approve", "--var", "release=" + release, "--var", "web=" + web}
	}
	if _, err := b.run(apply("1", "1")...); err != nil {
		return err
	}
	var services list
	if err := b.list(&services, "services", "--namespace", "tiers"); err != nil {
		return err
	}
	ask, stop := context.WithCancel(context.Background())
	defer stop()
	var watchers []*watcher
	var asking sync.WaitGroup
	for _, s := range services.Items {
		for n := range 3 {
			w := &watcher{netns: fmt.Sprintf("/run/netns/%s-n%d", b.at.name, n+1), service: s.Meta.Name, address: s.Spec.Address + ":80"}
			watchers = append(watchers, w)
			asking.Go(func() { w.run(ask) })
		}
	}
	_, err := b.run(apply("2", "3")...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 4 {
		return fmt.Errorf("a release whose last tier fails: %w, want exit code 4", err)
	}
	stop()
	asking.Wait()

	var revisions, pods list
	if err := b.list(&revisions, "revisions"); err != nil {
		return err
	}
	var decided time.Time
	for _, r := range revisions.Items {
		if r.Spec.Cause == "revert" {
			decided = r.Spec.Time
		}
	}
	if decided.IsZero() {
		return errors.New("no revision puts the release back")
	}
	if err := b.list(&pods, "pods", "--namespace", "tiers"); err != nil {
		return err
	}
	starts := map[string]time.Duration{} // of the slowest pod that the revert made, by tier
	for _, p := range pods.Items {
		if p.Meta.CreatedAt.After(decided) && !p.Status.ReadySince.IsZero() {
			t := p.Meta.Labels["tier"]
			starts[t] = max(starts[t], p.Status.ReadySince.Sub(p.Meta.CreatedAt))
		}
	}
	var total, own time.Duration
	for _, w := range watchers {
		at, err := w.switched(decided)
		if err != nil {
			return err
		}
		took := at.Sub(decided)
		total, own = max(total, took), max(own, took-starts[w.service])
	}
	b.figures = append(b.figures,
		Figure{Name: "revert of three tiers: decision to last service switched", Value: total.Seconds(), Unit: "s"},
		Figure{Name: "revert of three tiers: the same without its pods' start times", Value: own.Seconds(), Unit: "s", Goal: 1})
	return nil
}

// tierImages builds the demo's server as releases 1 and 2, and a 3 that ends at
// once, and gives them to the nodes.
func tierImages(b *bed) error {
	program := filepath.Join(b.tmp, "web")
	for release, flags := range map[string]string{"1": "", "2": "", "3": " -X main.broken=yes"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.version="+release+flags, "-o", program, "./examples/shop/web")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("the tiers' program: %w\n%s", err, out)
		}
		archive := program + ".tar"
		if _, err := b.run("image", "pack", program, "--tag", "bench/tier:"+release, "--out", archive); err != nil {
			return err
		}
		if _, err := b.run("image", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// list is what is needed of `berth get KIND --json`.
type list struct {
	Items []struct {
		Meta struct {
			Name      string            `json:"name"`
			Labels    map[string]string `json:"labels"`
			CreatedAt time.Time         `json:"created_at"`
		} `json:"meta"`
		Spec struct {
			Address string    `json:"address"`
			Cause   string    `json:"cause"`
			Time    time.Time `json:"time"`
		} `json:"spec"`
		Status struct {
			ReadySince time.Time `json:"ready_since"`
		} `json:"status"`
	} `json:"items"`
}

func (b *bed) list(into *list, args ...string) error {
	out, err := b.run(append([]string{"get", "--json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

// watcher asks a service from a node, with a connection for each question, and
// keeps who answered when.
type watcher struct {
	netns, service, address string
	answers                 []answer
	err                     error
}

type answer struct {
	at      time.Time
	version string
}

func (w *watcher) run(ctx context.Context) {
	// Never unlocked: the thread, which is in another namespace now, ends with
	// this goroutine.
	runtime.LockOSThread()
	if w.err = enter(w.netns); w.err != nil {
		return
	}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a, err := w.ask()
		if err != nil && w.err == nil {
			w.err = fmt.Errorf("service %s, asked from %s: %w", w.service, filepath.Base(w.netns), err)
		}
		w.answers = append(w.answers, a)
	}
}

func enter(netns string) error {
	f, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// ask speaks HTTP by itself: a transport would dial from another thread.
func (w *watcher) ask() (a answer, err error) {
	a.at = time.Now()
	conn, err := net.DialTimeout("tcp4", w.address, 2*time.Second)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return a, err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return a, err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return a, err
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil)
	if err != nil {
		return a, err
	}
	defer r.Body.Close()
	var said struct {
		Version string `json:"version"`
	}
	err = json.NewDecoder(r.Body).Decode(&said)
	a.version = said.Version
	return a, err
}

// switched is the first question after the decision from which on the former
// release alone answered.
func (w *watcher) switched(decided time.Time) (time.Time, error) {
	if w.err != nil {
		return time.Time{}, w.err
	}
	at := time.Time{}
	for _, a := range w.answers {
		switch {
		case a.version != "1":
			at = time.Time{}
		case at.IsZero() && a.at.After(decided):
			at = a.at
		}
	}
	if at.IsZero() {
		return at, fmt.Errorf("service %s, asked from %s, did not go back", w.service, filepath.Base(w.netns))
	}
	if w.answers[0].version == "1" && !slices.ContainsFunc(w.answers, func(a answer) bool { return a.version != "1" }) {
		return decided, nil // it never left
	}
	return at, nil
}
