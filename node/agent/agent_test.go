package agent_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/fake"
	"github.com/berthdev/berth/node/runtime/container"
)

func TestAPodComesUpAndIsStopped(t *testing.T) {
	inBubble(t, fake.Script{"web:1": {Pull: time.Second, Stop: 2 * time.Second}}, func(w *world) {
		ref := w.m.create("p", one("web:1"))
		s := w.m.wait(t, ref, time.Minute, "ready", ready)
		if s.Phase != object.PodRunning || s.Address != "10.88.0.1" || s.ReadySince.IsZero() || s.Containers[0].State != "running" {
			t.Errorf("%+v", s)
		}
		if n := w.m.nodeStatus(); n.Condition != object.NodeReady || n.CPU != 2000 || w.m.nodeLabels()["zone"] != "a" {
			t.Errorf("node %+v", n)
		}
		spec, _ := w.r.Spec(s.Containers[0].ID)
		if !slices.Contains(spec.Env, "BERTH_POD=p") || spec.Namespaces.Net == "" {
			t.Errorf("spec %+v", spec)
		}
		w.m.stop(ref)
		s = w.m.wait(t, ref, time.Minute, "stopped", phase(object.PodStopped))
		if len(w.running()) != 0 {
			t.Error("still running")
		}
		// Not ready was reported before the end.
		var seen []object.PodPhase
		for _, h := range w.m.past(ref) {
			if h.Phase == object.PodStopping && h.Ready {
				t.Error("stopping and ready at once")
			}
			if len(seen) == 0 || seen[len(seen)-1] != h.Phase {
				seen = append(seen, h.Phase)
			}
		}
		want := []object.PodPhase{object.PodStarting, object.PodRunning, object.PodStopping, object.PodStopped}
		if !slices.Equal(seen, want) {
			t.Errorf("phases %v, want %v", seen, want)
		}
		w.m.remove(ref)
		synctest.Wait()
		if pods, _ := w.vol.Pods(); len(pods)+w.net.count() != 0 {
			t.Errorf("left: volumes %v, %d addresses", pods, w.net.count())
		}
	})
}

// TestPodsAskTheNodesOwnNameServer: and those that start while it has no address
// yet ask what the node was given.
func TestPodsAskTheNodesOwnNameServer(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.stop()
		address := netip.Addr{}
		w.resolver = func() netip.Addr { return address }
		w.start()
		etc := func(name, file string) string {
			t.Helper()
			ref := w.m.create(name, one("web:1"))
			s := w.m.wait(t, ref, time.Minute, "ready", ready)
			spec, _ := w.r.Spec(s.Containers[0].ID)
			for _, m := range spec.Mounts {
				if m.Target == "/etc/"+file {
					b, err := os.ReadFile(m.Source)
					if err != nil {
						t.Fatal(err)
					}
					return string(b)
				}
			}
			t.Fatalf("%s is not mounted", file)
			return ""
		}
		if got := etc("a", "resolv.conf"); got != "nameserver 192.0.2.53\n" {
			t.Error(got)
		}
		address = netip.MustParseAddr("10.78.1.1")
		want := "nameserver 10.78.1.1\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:3 timeout:2 attempts:3\n"
		if got := etc("b", "resolv.conf"); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if got := etc("c", "hosts"); !strings.HasSuffix(got, "\n10.88.0.3 c\n") {
			t.Error(got)
		}
	})
}

func TestTheStopSignalWaitsForTheMastersOneSecondAtMost(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		ref := w.m.create("p", one("web:1"))
		w.m.wait(t, ref, time.Minute, "ready", ready)
		w.m.setDeaf(true)
		w.m.stop(ref)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if len(w.running()) != 1 {
			t.Error("stopped before the masters knew")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if len(w.running()) != 0 {
			t.Error("the masters are waited for longer than a second")
		}
		w.m.setDeaf(false)
		w.m.wait(t, ref, time.Minute, "stopped", phase(object.PodStopped))
	})
}

func TestImageNotFoundIsSaidAtOnce(t *testing.T) {
	inBubble(t, fake.Script{"web:typo": {Missing: true}}, func(w *world) {
		ref := w.m.create("p", one("web:typo"))
		s := w.m.wait(t, ref, time.Second, "image_not_found", reason(object.ReasonImageNotFound))
		if !strings.Contains(s.Message, "web:typo") || !strings.Contains(s.Message, "Check the name and the tag") {
			t.Errorf("message %q", s.Message)
		}
		// Someone pushes it: the pod comes up by itself.
		w.r.Behave("web:typo", fake.Behavior{})
		s = w.m.wait(t, ref, 10*time.Minute, "ready", ready)
		if s.Reason != "" {
			t.Errorf("reason %q stays", s.Reason)
		}
	})
}

func TestCrashLoop(t *testing.T) {
	inBubble(t, fake.Script{"bad": {Crash: 100 * time.Millisecond, ExitCode: 3, Log: []string{"starting", "no database"}}}, func(w *world) {
		ref := w.m.create("p", one("bad"))
		begin := time.Now()
		s := w.m.wait(t, ref, time.Minute, "crash_loop", reason(object.ReasonCrashLoop))
		c := s.Containers[0]
		if took := time.Since(begin); took > 4*time.Second || took < 3*time.Second {
			t.Errorf("after %s; restarts are 1 s and 2 s apart", took)
		}
		if c.ExitCode != 3 || !slices.Equal(c.LastLog, []string{"starting", "no database"}) || c.Restarts != 2 || s.Ready {
			t.Errorf("%+v", s)
		}
		if !strings.Contains(s.Message, "container web ended 3 times") || !strings.Contains(s.Message, "exit code 3") {
			t.Errorf("message %q", s.Message)
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		// 1 s doubling to 5 min: 9 restarts in 8.5 minutes, then one each 5 minutes.
		if n := w.r.Starts(); n < 10 || n > 16 {
			t.Errorf("%d starts in 30 minutes", n)
		}
		w.r.Behave("bad", fake.Behavior{})
		s = w.m.wait(t, ref, 10*time.Minute, "well again", func(s object.PodStatus) bool { return s.Ready && s.Reason == "" })
		if len(s.Containers[0].LastLog) == 0 {
			t.Error("the last lines of the failure are gone")
		}
	})
}

// An agent that restarts must not make a pod in a crash loop look well, nor start
// its containers every second again.
func TestARestartedAgentRemembersTheCrashLoop(t *testing.T) {
	inBubble(t, fake.Script{"bad": {Crash: 100 * time.Millisecond, ExitCode: 3}}, func(w *world) {
		ref := w.m.create("p", one("bad"))
		w.m.wait(t, ref, time.Minute, "crash_loop", reason(object.ReasonCrashLoop))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.stop()
		told, starts := len(w.m.past(ref)), w.r.Starts()
		w.start()
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		for _, s := range w.m.past(ref)[told:] {
			if s.Reason != object.ReasonCrashLoop {
				t.Errorf("the crash loop was forgotten: %+v", s)
			}
		}
		if n := w.r.Starts() - starts; n > 2 {
			t.Errorf("%d starts within 4 minutes of an agent's restart", n)
		}
	})
}

// With pull = "always" the first start asked the registry twice.
func TestEachPodAsksForItsImageOnce(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		tpl := one("web")
		tpl.Containers[0].Pull = container.PullAlways
		tpl.Containers = append(tpl.Containers, tpl.Containers[0])
		tpl.Containers[1].Name = "second"
		s := w.m.wait(t, w.m.create("p", tpl), time.Minute, "ready", ready)
		if n := w.r.Pulls(); n != 1 {
			t.Errorf("%d pulls for the first start of two containers of one image", n)
		}
		// Removed behind the agent's back: the next start gets it again.
		w.r.RemoveImage("web")
		w.r.Kill(s.Containers[0].ID, 1, false)
		w.m.wait(t, object.Ref{Kind: object.KindPod, Namespace: "default", Name: "p"}, time.Minute, "restarted", func(s object.PodStatus) bool { return s.Ready && s.Containers[0].Restarts == 1 })
	})
}

// A change that changes nothing is not told to the masters.
func TestReportsOnlyDifferences(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		ref := w.m.create("p", one("web"))
		w.m.wait(t, ref, time.Minute, "ready", ready)
		time.Sleep(time.Minute)
		synctest.Wait()
		past := w.m.past(ref)
		for i := 1; i < len(past); i++ {
			if object.Digest(past[i-1]) == object.Digest(past[i]) {
				t.Errorf("told twice: %+v", past[i])
			}
		}
	})
}

func TestOOMAndStartErrors(t *testing.T) {
	inBubble(t, fake.Script{"fat": {OOM: true, Crash: time.Second}}, func(w *world) {
		tpl := one("fat")
		tpl.Containers[0].Resources.Limits.Memory = 64 << 20
		ref := w.m.create("p", tpl)
		s := w.m.wait(t, ref, time.Minute, "oom_killed", reason(object.ReasonOOM))
		if !strings.Contains(s.Message, "more memory than its limit of 64Mi") || s.Containers[0].ExitCode != 137 {
			t.Errorf("%+v", s)
		}
		bad := one("ok")
		bad.Containers[0].Command = []string{"/missing"}
		ref = w.m.create("q", bad)
		s = w.m.wait(t, ref, time.Minute, "crash_loop", reason(object.ReasonCrashLoop))
		if !strings.Contains(s.Message, `container web cannot be started: exec: "/missing"`) {
			t.Errorf("message %q", s.Message)
		}
		// Attempts that did not begin count: by them a rollout gives the version up.
		if c := s.Containers[0]; c.Restarts != 2 || c.Reason != "cannot_start" || !strings.Contains(c.Message, "/missing") {
			t.Errorf("container %+v", c)
		}
	})
}

func TestRestartPolicies(t *testing.T) {
	script := fake.Script{"ok": {Exit: time.Second}, "bad": {Crash: time.Second}, "once": {Crash: time.Second, CrashTimes: 1, Exit: time.Second}}
	for _, tt := range []struct {
		restart, image string
		want           object.PodPhase
		starts         int
	}{
		{"never", "ok", object.PodSucceeded, 1},
		{"never", "bad", object.PodFailed, 1},
		{"on_failure", "ok", object.PodSucceeded, 1},
		{"on_failure", "once", object.PodSucceeded, 2},
	} {
		t.Run(tt.restart+" "+tt.image, func(t *testing.T) {
			inBubble(t, script, func(w *world) {
				tpl := one(tt.image)
				tpl.Restart = tt.restart
				ref := w.m.create("p", tpl)
				w.m.wait(t, ref, time.Minute, string(tt.want), phase(tt.want))
				if n := w.r.Starts(); n != tt.starts {
					t.Errorf("%d starts, want %d", n, tt.starts)
				}
				// A restarted agent does not run it again.
				w.stop()
				w.start()
				time.Sleep(time.Minute)
				synctest.Wait()
				if s := w.m.status(ref); s.Phase != tt.want || w.r.Starts() != tt.starts {
					t.Errorf("after a restart of the agent: %s, %d starts", s.Phase, w.r.Starts())
				}
			})
		})
	}
}

func TestInitContainersRunInOrder(t *testing.T) {
	script := fake.Script{"i1": {Exit: 2 * time.Second}, "i2": {Crash: time.Second, CrashTimes: 1, Exit: time.Second}}
	inBubble(t, script, func(w *world) {
		tpl := one("web")
		tpl.Init = []object.Container{{Name: "first", Image: "i1"}, {Name: "second", Image: "i2"}}
		ref := w.m.create("p", tpl)
		time.Sleep(time.Second)
		synctest.Wait()
		if r := w.running(); len(r) != 1 || r[0].Name != "first" {
			t.Errorf("running %v", r)
		}
		s := w.m.wait(t, ref, time.Minute, "ready", ready)
		if !s.Containers[1].Finished.After(s.Containers[0].Finished) || s.Containers[2].Started.Before(s.Containers[1].Finished) {
			t.Errorf("order: %+v", s.Containers)
		}
		if s.Containers[1].Restarts != 1 || s.Reason != "" {
			t.Errorf("%+v", s)
		}
	})
}

func TestProbesDecide(t *testing.T) {
	probe := func(ok bool) *object.Probe {
		cmd := "false"
		if ok {
			cmd = "true"
		}
		return &object.Probe{Exec: &object.ExecProbe{Command: []string{cmd}}, Period: object.Duration(time.Second), Failure: 3, Success: 1}
	}
	inBubble(t, nil, func(w *world) {
		tpl := one("web")
		tpl.Containers[0].Readiness = probe(true)
		tpl.Containers[0].Startup = probe(true)
		w.m.wait(t, w.m.create("good", tpl), time.Minute, "ready", ready)

		tpl.Containers = []object.Container{{Name: "web", Image: "web", Readiness: probe(false)}}
		ref := w.m.create("never-ready", tpl)
		s := w.m.wait(t, ref, time.Minute, "told why", func(s object.PodStatus) bool {
			return len(s.Containers) > 0 && s.Containers[0].Message != ""
		})
		if s.Ready || s.Phase != object.PodRunning || s.Containers[0].Message != "readiness probe: false: exit code 1: no" {
			t.Errorf("%+v", s)
		}

		tpl.Containers = []object.Container{{Name: "web", Image: "web", Liveness: probe(false)}}
		ref = w.m.create("not-alive", tpl)
		s = w.m.wait(t, ref, time.Minute, "restarted", func(s object.PodStatus) bool { return len(s.Containers) > 0 && s.Containers[0].Restarts > 0 })
		if !strings.Contains(s.Message, "liveness probe: false: exit code 1") {
			t.Errorf("message %q", s.Message)
		}

		tpl.Containers = []object.Container{{Name: "web", Image: "web", Startup: probe(false), Readiness: probe(true)}}
		ref = w.m.create("never-up", tpl)
		s = w.m.wait(t, ref, time.Minute, "restarted", func(s object.PodStatus) bool { return len(s.Containers) > 0 && s.Containers[0].Restarts > 0 })
		if s.Ready {
			t.Error("ready before its startup probe")
		}

		tpl.Containers = []object.Container{{Name: "web", Image: "web", Ports: []object.ContainerPort{{Name: "http", Port: 80}},
			Readiness: &object.Probe{TCP: &object.TCPProbe{Port: "htpp"}}}}
		s = w.m.wait(t, w.m.create("typo", tpl), time.Minute, "refused", reason(object.ReasonConfig))
		if !strings.Contains(s.Message, `probes port "htpp"`) {
			t.Errorf("message %q", s.Message)
		}
	})
}

// A container that was found dead and could not be stopped is stopped later: nobody
// probes it any more, and without that it would stay as it is for ever.
func TestAContainerThatDoesNotStopIsAskedAgain(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		tpl := one("web")
		tpl.Containers[0].Liveness = &object.Probe{Exec: &object.ExecProbe{Command: []string{"false"}}, Period: object.Duration(10 * time.Second), Timeout: object.Duration(time.Second), Success: 1, Failure: 3}
		w.r.RefuseStops(true)
		ref := w.m.create("p", tpl)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := w.r.Starts(); n != 1 {
			t.Fatalf("%d starts, though it cannot be stopped", n)
		}
		w.r.RefuseStops(false)
		w.m.wait(t, ref, time.Minute, "restarted", func(s object.PodStatus) bool { return s.Containers[0].Restarts == 1 })
	})
}

func TestARestartedAgentAdopts(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		kept := w.m.create("kept", withContents(w.m))
		unwanted := w.m.create("unwanted", one("web"))
		replaced := w.m.create("replaced", one("web"))
		for _, r := range []object.Ref{kept, unwanted, replaced} {
			w.m.wait(t, r, time.Minute, "ready", ready)
		}
		before := w.m.status(kept)
		time.Sleep(2 * time.Second)
		w.stop()
		if len(w.running()) != 3 {
			t.Fatal("stopping the agent stopped pods")
		}
		w.m.remove(unwanted)
		w.m.remove(replaced)
		w.m.create("replaced", one("web:2"))
		w.start()
		w.m.wait(t, replaced, time.Minute, "replaced", func(s object.PodStatus) bool {
			return s.Ready && s.Containers[0].Image == "web:2"
		})
		synctest.Wait()
		after := w.m.status(kept)
		if after.Containers[0].ID != before.Containers[0].ID || after.Address != before.Address || !after.ReadySince.Equal(before.ReadySince) {
			t.Errorf("disturbed:\n%+v\n%+v", before, after)
		}
		for _, h := range w.m.past(kept)[1:] {
			if h.Phase == object.PodRunning && !h.Ready && !h.Started.IsZero() && h.Containers[0].Restarts == 0 && h.ReadySince.IsZero() && after.ReadySince.Before(h.Since) {
				t.Errorf("readiness flapped: %+v", h)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if r := w.running(); len(r) != 2 {
			t.Errorf("running %v", r)
		}
		// It is kept up by the new agent, with its secrets fetched again.
		w.r.Kill(after.Containers[0].ID, 1, false)
		s := w.m.wait(t, kept, time.Minute, "restarted", func(s object.PodStatus) bool { return s.Ready && s.Containers[0].Restarts == 1 })
		spec, _ := w.r.Spec(s.Containers[0].ID)
		if !slices.Contains(spec.Env, "DSN=db:hunter2@host") {
			t.Errorf("env %v", spec.Env)
		}
	})
}

func TestServesWithoutMasters(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		ref := w.m.create("p", one("web"))
		first := w.m.wait(t, ref, time.Minute, "ready", ready).Containers[0].ID
		time.Sleep(2 * time.Second)
		w.m.setAway(true)
		w.stop()
		w.start() // and still nobody answers
		time.Sleep(time.Hour)
		synctest.Wait()
		if r := w.running(); len(r) != 1 || r[0].ID != first {
			t.Fatalf("running %v", r)
		}
		w.r.Kill(first, 137, false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if r := w.running(); len(r) != 1 || r[0].Attempt != 1 {
			t.Errorf("not restarted: %v", r)
		}
		w.m.setAway(false)
		w.m.wait(t, ref, time.Minute, "reported", func(s object.PodStatus) bool { return s.Ready && s.Containers[0].Restarts == 1 })
	})
}

// A full connection table is such a trouble, see node run.
func TestTroubleOfTheMachineMakesTheNodeNotReady(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		err := errors.New("no room for connections")
		for _, c := range []struct {
			trouble   *error
			condition object.NodeCondition
			message   string
		}{{&err, object.NodeNotReady, err.Error()}, {nil, object.NodeReady, ""}} {
			w.trouble.Store(c.trouble)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if n := w.m.nodeStatus(); n.Condition != c.condition || n.Message != c.message {
				t.Errorf("%v: node %+v", c.trouble, n)
			}
		}
	})
}

func TestContainerdAway(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		ref := w.m.create("p", one("web"))
		s := w.m.wait(t, ref, time.Minute, "ready", ready)
		w.r.Break(true)
		other := w.m.create("q", one("web"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := w.m.nodeStatus(); n.Condition != object.NodeNotReady || !strings.Contains(n.Message, "containerd does not answer") {
			t.Errorf("node %+v", n)
		}
		if got := w.m.status(ref); !got.Ready {
			t.Errorf("the running pod became %+v", got)
		}
		if got := w.m.status(other); got.Reason != object.ReasonNodeResources {
			t.Errorf("the new pod: %+v", got)
		}
		w.r.Break(false)
		w.m.wait(t, other, time.Minute, "ready", ready)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := w.m.nodeStatus(); n.Condition != object.NodeReady || n.Message != "" {
			t.Errorf("node %+v", n)
		}
		if got := w.m.status(ref); got.Containers[0].ID != s.Containers[0].ID {
			t.Error("the running pod was disturbed")
		}
	})
}

func TestPurgeLeavesNothing(t *testing.T) {
	inBubble(t, fake.Script{"": {Stop: 3 * time.Second}}, func(w *world) {
		for i := range 5 {
			w.m.wait(t, w.m.create(fmt.Sprint("p", i), withContents(w.m)), time.Minute, "ready", ready)
		}
		w.agent.Purge()
		if err := <-w.ended; err != nil {
			t.Fatal(err)
		}
		w.kill()
		w.kill = nil
		list, _ := w.r.List(t.Context())
		spaces, _ := fake.Sandboxes{Runtime: w.r}.Pods()
		if len(list)+len(spaces)+w.net.count() != 0 {
			t.Errorf("left: %v %v, %d addresses", list, spaces, w.net.count())
		}
		for i := range 5 {
			// The masters hear the end of it, so that sets need not wait for the node's silence.
			s := w.m.status(object.Ref{Kind: object.KindPod, Namespace: "default", Name: fmt.Sprint("p", i)})
			if s.Phase != object.PodStopped || s.Ready || s.Message != "its node was stopped and emptied" || s.Containers[0].State != "exited" {
				t.Errorf("told in the end: %+v", s)
			}
		}
		for _, p := range []string{"volumes", "agent/checkpoint.json", "agent/etc"} {
			if _, err := os.Stat(filepath.Join(w.dir, p)); err == nil {
				t.Errorf("%s is left", p)
			}
		}
	})
}

// Pods that no set replaces run again when their node is back, whether it was
// stopped in order or given up for lost.
func TestBarePodsReturnWithTheirNode(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		bare, owned := w.m.create("bare", one("web")), w.m.create("owned", one("web"))
		w.m.edit(owned, func(p *object.Pod) {
			p.Owner = object.Ref{Kind: object.KindReplicaSet, Namespace: "default", Name: "set"}
		})
		first := w.m.wait(t, bare, time.Minute, "ready", ready)
		w.m.wait(t, owned, time.Minute, "ready", ready)
		w.agent.Purge()
		if err := <-w.ended; err != nil {
			t.Fatal(err)
		}
		w.start()
		again := w.m.wait(t, bare, time.Minute, "ready again", ready)
		if again.Containers[0].Started.Equal(first.Containers[0].Started) || again.Message != "" {
			t.Errorf("%+v", again)
		}
		if s := w.m.status(owned); s.Phase != object.PodStopped {
			t.Errorf("a set's pod was started again: %+v", s)
		}
		// Lost and found: the agent has gone on all the time.
		w.m.edit(bare, func(p *object.Pod) { p.Status = object.PodStatus{Phase: object.PodLost, Reason: object.ReasonNodeLost} })
		back := w.m.wait(t, bare, time.Minute, "itself again", ready)
		if back.Containers[0].ID != again.Containers[0].ID || back.Reason != "" {
			t.Errorf("%+v", back)
		}
	})
}

func TestReportsAreBatched(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		time.Sleep(time.Second)
		synctest.Wait()
		before, _ := w.m.counts()
		var refs []object.Ref
		for i := range 100 {
			refs = append(refs, w.m.create(fmt.Sprint("p", i), one("web")))
		}
		for _, r := range refs {
			w.m.wait(t, r, time.Minute, "ready", ready)
		}
		if after, _ := w.m.counts(); after-before > 20 {
			t.Errorf("%d reports for 100 pods", after-before)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		quiet, _ := w.m.counts()
		time.Sleep(time.Minute)
		synctest.Wait()
		if after, _ := w.m.counts(); after-quiet < 11 || after-quiet > 13 {
			t.Errorf("%d heartbeats in a minute", after-quiet)
		}
	})
}
