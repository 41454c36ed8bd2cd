package runtime

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
	"github.com/containerd/containerd/v2/core/snapshots"
	"google.golang.org/grpc"
)

// childDies makes the child of TestMain start, stop and remove a pod, and die by
// kill -9 when containerd has answered that many calls which change something.
const childDies = "BERTH_TEST_CHILD_DIES"

var mortalPod = container.Pod{Namespace: "default", Name: "mortal", Created: 9}

func mortalSpec(attempt int) container.Spec {
	return container.Spec{Pod: mortalPod, Name: "wait", Attempt: attempt, Image: runtimetest.Image, Args: []string{"wait"}}
}

// changes reports whether a call to containerd changes something.
func changes(method string) bool {
	verb := method[strings.LastIndex(method, "/")+1:]
	return slices.Contains([]string{"Prepare", "Create", "Start", "Kill", "Delete", "Remove", "Update"}, verb)
}

func mortalChild(c Config, calls int64) error {
	var armed atomic.Bool
	var n atomic.Int64
	c.dial = []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if armed.Load() && changes(method) && n.Add(1) == calls {
			fmt.Println("dies after", method)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return err
	})}
	ctx := context.Background()
	r, err := Open(ctx, c)
	if err != nil {
		return err
	}
	armed.Store(true)
	s, err := r.StartContainer(ctx, mortalSpec(0))
	if err != nil {
		return err
	}
	if err := r.Stop(ctx, s.ID, "", 0); err != nil {
		return err
	}
	if err := r.RemovePod(ctx, mortalPod); err != nil {
		return err
	}
	armed.Store(false)
	fmt.Println("lives")
	return r.Close()
}

// TestAgentKilledBetweenAnyTwoCalls: whatever containerd had been told by then, the
// next agent finds one container or none, and removes all of it.
func TestAgentKilledBetweenAnyTwoCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("starts containerd twice for each call")
	}
	c := testConfig(t)
	r := open(t, c)
	runtimetest.NewWorld(t, r) // imports the image
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for calls := 1; ; calls++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childRoot+"="+c.Root, childState+"="+c.State, childDies+"="+strconv.Itoa(calls))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := ""
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said = lines.Text()
		}
		_ = cmd.Wait()
		if said == "lives" {
			if calls < 6 {
				t.Errorf("only %d calls change something", calls-1)
			}
			return
		}
		if !strings.HasPrefix(said, "dies after") {
			t.Fatalf("the agent said %q", said)
		}
		t.Run(fmt.Sprintf("%d %s", calls, said[strings.LastIndex(said, ".")+1:]), func(t *testing.T) { expectWhole(t, c) })
	}
}

// expectWhole is the next agent: it wants the pod to run, and then to be gone.
func expectWhole(t *testing.T, c Config) {
	r := open(t, c)
	defer r.Close()
	list, err := r.List(t.Context())
	if err != nil || len(list) > 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if len(list) == 0 || list[0].State != container.Running {
		if _, err := r.StartContainer(t.Context(), mortalSpec(1)); err != nil {
			t.Fatal(err)
		}
	}
	if p := r.cgroups.processes(""); len(p) != 1 {
		t.Errorf("processes %v", p)
	}
	if err := r.RemovePod(t.Context(), mortalPod); err != nil {
		t.Fatal(err)
	}
	if p := r.cgroups.processes(""); len(p) > 0 {
		t.Errorf("processes left: %v", p)
	}
	ctx := r.ns(t.Context())
	if left, err := r.client.Containers(ctx); err != nil || len(left) > 0 {
		t.Errorf("containers left: %v, %v", left, err)
	}
	err = r.client.SnapshotService(r.snapshotter).Walk(ctx, func(_ context.Context, s snapshots.Info) error {
		if s.Kind == snapshots.KindActive {
			t.Errorf("snapshot left: %s", s.Name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, pattern := range []string{filepath.Join(r.records.dir, "*"), filepath.Join(r.logs.dir, "*"), filepath.Join(c.State, "runc", "*", "*"), filepath.Join(r.words.bundles, "*")} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("files left: %v", left)
		}
	}
	await(t, "the shim's end", func() bool { return len(shims(r.cfg)) == 0 })
}
