package agent_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/fake"
)

func TestANewContentIsSignalled(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		w.m.put("default/config_map.conf.one", map[string]string{"app.toml": "a", "old": ""})
		w.m.put("default/config_map.conf.two", map[string]string{"app.toml": "b"})
		w.m.put("default/config_map.conf.three", map[string]string{"app.toml": "c"})
		pod := one("web:1")
		pod.Reads = map[string]string{"config_map/conf": "one"}
		pod.Volumes = []object.Volume{{Name: "c", ConfigMap: "conf"}, {Name: "scratch", EmptyDir: &object.EmptyDir{}}}
		pod.Containers[0].Mounts = []object.Mount{{Volume: "c", Path: "/etc/app"}}
		pod.Containers = append(pod.Containers,
			object.Container{Name: "file", Image: "web:1", ReloadSignal: "SIGUSR1", Mounts: []object.Mount{{Volume: "c", Path: "/app.toml", File: "app.toml"}}},
			object.Container{Name: "other", Image: "web:1", Mounts: []object.Mount{{Volume: "scratch", Path: "/tmp"}}})
		ref := w.m.create("p", pod)
		s := w.m.wait(t, ref, time.Minute, "ready", ready)
		ids := map[string]string{}
		for _, c := range s.Containers {
			ids[c.Name] = c.ID
		}
		spec, _ := w.r.Spec(ids["file"])
		mounted, err := os.Open(spec.Mounts[0].Source) // as the mount holds on to it
		if err != nil {
			t.Fatal(err)
		}
		defer mounted.Close()
		see := func(content string, signals int) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			dir, _ := w.r.Spec(ids["web"])
			b, err := os.ReadFile(filepath.Join(dir.Mounts[0].Source, "app.toml"))
			if err != nil || string(b) != content {
				t.Errorf("the directory has %q, %v; want %q", b, err, content)
			}
			held := make([]byte, 8)
			n, _ := mounted.ReadAt(held, 0)
			if string(held[:n]) != content {
				t.Errorf("the mounted file has %q, want %q", held[:n], content)
			}
			for name, want := range map[string][]string{"web": slices.Repeat([]string{"SIGHUP"}, signals), "file": slices.Repeat([]string{"SIGUSR1"}, signals), "other": nil} {
				if have := w.r.Signals(ids[name]); !slices.Equal(have, want) {
					t.Errorf("%s was sent %v, want %v", name, have, want)
				}
			}
		}
		see("a", 0)
		give := func(version string) {
			w.m.edit(ref, func(p *object.Pod) {
				p.Version++
				p.Spec.Reads = map[string]string{"config_map/conf": version}
			})
		}
		give("two")
		see("b", 1)
		w.m.edit(ref, func(p *object.Pod) { p.Version++ }) // nothing else to say
		see("b", 1)

		// An agent that comes back has not forgotten, and what it missed it makes up for.
		w.stop()
		w.start()
		see("b", 1)
		w.stop()
		give("three")
		w.start()
		see("c", 2)
		if n := len(w.running()); n != 3 {
			t.Errorf("%d containers run", n)
		}
	})
}

// A container that is starting when a version comes may have read the old files
// already: it is signalled once it runs. So is one that an agent has just found,
// before it has looked at it closely.
func TestANewContentReachesAContainerThatIsStarting(t *testing.T) {
	inBubble(t, fake.Script{"web:1": {Start: 5 * time.Second}}, func(w *world) {
		w.m.put("default/config_map.conf.one", map[string]string{"app.toml": "a"})
		w.m.put("default/config_map.conf.two", map[string]string{"app.toml": "b"})
		pod := one("web:1")
		pod.Reads = map[string]string{"config_map/conf": "one"}
		pod.Volumes = []object.Volume{{Name: "c", ConfigMap: "conf"}}
		pod.Containers[0].Mounts = []object.Mount{{Volume: "c", Path: "/etc/app"}}
		ref := w.m.create("p", pod)
		time.Sleep(2 * time.Second)
		w.m.edit(ref, func(p *object.Pod) {
			p.Version++
			p.Spec.Reads = map[string]string{"config_map/conf": "two"}
		})
		s := w.m.wait(t, ref, time.Minute, "ready", ready)
		synctest.Wait()
		id := s.Containers[0].ID
		if have := w.r.Signals(id); !slices.Equal(have, []string{"SIGHUP"}) {
			t.Errorf("it was sent %v", have)
		}
		w.stop()
		w.start()
		time.Sleep(time.Second)
		synctest.Wait()
		if have := w.r.Signals(id); len(have) != 1 {
			t.Errorf("then it was sent %v", have)
		}
	})
}
