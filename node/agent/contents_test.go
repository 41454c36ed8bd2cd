package agent_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// withContents is a template that reads a config map and a secret in every way.
func withContents(m *masters) object.PodTemplate {
	m.put("default/config_map.web.aaa", map[string]string{"app.toml": "a = 1", "MODE": "fast"})
	m.put("default/secret.db.bbb", map[string]string{"password": "hunter2"})
	return object.PodTemplate{
		Reads: map[string]string{"config_map/web": "aaa", "secret/db": "bbb"},
		Containers: []object.Container{{
			Name: "web", Image: "web", EnvFrom: []object.EnvFrom{{ConfigMap: "web", Prefix: "WEB_"}},
			Env:    map[string]object.Text{"DSN": "db:${secret.db.data.password}@host"},
			Mounts: []object.Mount{{Volume: "config", Path: "/etc/app.toml", File: "app.toml"}},
		}},
		Volumes: []object.Volume{{Name: "config", ConfigMap: "web"}},
	}
}

func TestContents(t *testing.T) {
	inBubble(t, nil, func(w *world) {
		ref := w.m.create("p", withContents(w.m))
		s := w.m.wait(t, ref, time.Minute, "ready", ready)
		spec, _ := w.r.Spec(s.Containers[0].ID)
		for _, want := range []string{"DSN=db:hunter2@host", "WEB_MODE=fast"} {
			if !slices.Contains(spec.Env, want) {
				t.Errorf("no %s in %v", want, spec.Env)
			}
		}
		if b, err := os.ReadFile(spec.Mounts[0].Source); err != nil || string(b) != "a = 1" || spec.Mounts[0].Target != "/etc/app.toml" {
			t.Errorf("mount %+v: %s, %v", spec.Mounts[0], b, err)
		}
		time.Sleep(2 * time.Second) // the checkpoint is written
		synctest.Wait()
		b, err := os.ReadFile(filepath.Join(w.dir, "agent", "checkpoint.json"))
		if err != nil || !strings.Contains(string(b), "a = 1") || strings.Contains(string(b), "hunter2") {
			t.Errorf("a checkpoint holds config maps and never secrets: %v\n%s", err, b)
		}
		if _, reads := w.m.counts(); reads != 2 {
			t.Errorf("%d contents read", reads)
		}
	})
}

func TestMissingContents(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*masters, *object.PodTemplate)
		want  string
	}{
		"content gone":   {func(m *masters, _ *object.PodTemplate) { m.put("default/config_map.web.aaa", nil) }, `config map "web": its version aaa does not exist`},
		"not pinned":     {func(_ *masters, p *object.PodTemplate) { delete(p.Reads, "config_map/web") }, `reads config map "web", of which the pod's template has no version`},
		"missing key":    {func(_ *masters, p *object.PodTemplate) { p.Containers[0].Env["DSN"] = "${secret.db.data.pasword}" }, `env DSN refers to key "pasword" of secret "db"`},
		"missing file":   {func(_ *masters, p *object.PodTemplate) { p.Containers[0].Mounts[0].File = "app.tml" }, `mounts file "app.tml" of volume config, which has only: MODE, app.toml`},
		"missing volume": {func(_ *masters, p *object.PodTemplate) { p.Containers[0].Mounts[0].Volume = "conf" }, `mounts volume "conf", which the pod does not have`},
		"host path": {func(_ *masters, p *object.PodTemplate) {
			p.Volumes = append(p.Volumes, object.Volume{Name: "h", HostPath: "/nowhere"})
		}, "host_path /nowhere does not exist on this node"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(w *world) {
				tpl := withContents(w.m)
				tt.spoil(w.m, &tpl)
				s := w.m.wait(t, w.m.create("p", tpl), time.Minute, "config", reason(object.ReasonConfig))
				if !strings.Contains(s.Message, tt.want) {
					t.Errorf("message %q, want %q", s.Message, tt.want)
				}
			})
		})
	}
}
