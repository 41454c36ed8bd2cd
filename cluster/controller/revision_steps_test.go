package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// ways are rollouts that stop in the middle until a person says how to go on.
var ways = map[string]func(*object.Deployment){
	"canary": func(d *object.Deployment) {
		d.Spec.Update.Strategy = "canary"
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 10, Manual: true}}
	},
	"blue_green": func(d *object.Deployment) {
		d.Spec.Update.Strategy = "blue_green"
		d.Spec.Update.BlueGreen = &object.BlueGreen{Manual: true, Keep: object.Duration(time.Second)}
	},
	"rolling with a pause": func(d *object.Deployment) {
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "first", Scale: object.Amount{N: 1}, Manual: true}}
	},
	"zone by zone": func(d *object.Deployment) {
		d.Spec.Update.By, d.Spec.Update.Zones = "zone", &object.Zones{Manual: true}
	},
}

func certificate(plain string) *object.Secret {
	return &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "key", Stack: "shop"},
		Spec: object.SecretSpec{Data: map[string]object.Sensitive{"k": object.NewSensitive(plain)}, Reload: "restart"}}
}

func readingBoth(d *object.Deployment) {
	d.Spec.Pod.Volumes = []object.Volume{{Name: "c", ConfigMap: "conf"}, {Name: "s", Secret: "key"}}
}

// shop is a stack of two waves: api with what it reads, then web.
func shop(version string, how func(*object.Deployment)) [][]object.Object {
	return [][]object.Object{
		one(configMap("conf", version), certificate(version), web("ok:"+version, 6, named("api"), readingBoth, how), service("api")),
		one(web("ok:"+version, 6, how)),
	}
}

func (w *world) waits(name string) bool {
	c := w.deployment(name).Status.Canary
	return c != nil && c.Waits
}

// promoted lets time pass until cond holds, and says yes to those who ask.
func (w *world) promoted(what string, cond func() bool, names ...string) {
	w.t.Helper()
	for range 20 {
		w.until(what, func(*state.Snapshot) bool { return cond() || slices.ContainsFunc(names, w.waits) })
		if cond() {
			return
		}
		for _, name := range names {
			if w.waits(name) {
				edit(w, ref(object.KindDeployment, name), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
			}
		}
	}
	w.t.Fatalf("%s did not come to pass, though all said yes: %s", what, w.dump())
}

// waiting is a stack whose second revision waits for a person in its first wave.
func waiting(t *testing.T, how func(*object.Deployment)) (w *world, revision int) {
	w = zonedWorld(t, "abc", 2)
	w.awaits(w.commit(shop("1", how)...), object.RevisionHealthy)
	revision = w.commit(shop("2", how)...)
	w.until("api waits for a person", func(*state.Snapshot) bool { return w.waits("api") })
	return w, revision
}

func (w *world) images() []string {
	var out []string
	for _, name := range []string{"api", "web"} {
		out = append(out, sortedKeys(w.livePods(name))...)
	}
	return out
}

// A wave begins when the steps of the workloads before it are done: who waits for a
// person in the first keeps the second waiting.
func TestStepsHoldTheNextWave(t *testing.T) {
	for name, how := range ways {
		t.Run(name, func(t *testing.T) {
			w, n := waiting(t, how)
			w.rest(5 * time.Hour)
			if st := w.revision(n).Status; st.Wave != 1 || st.Phase != object.RevisionRunning || !w.waits("api") {
				t.Fatalf("the revision went on: %+v", st)
			}
			if d := w.deployment("web"); d.Spec.Pod.Containers[0].Image != "ok:1" || len(w.livePods("web")["ok:2"]) > 0 {
				t.Fatalf("the second wave began: %v", w.images())
			}
			w.promoted("the second wave", func() bool { return w.revision(n).Status.Wave == 2 }, "api")
			if pods := w.livePods("api"); len(pods["ok:2"]) != 6 {
				t.Errorf("the second wave began at %v", pods)
			}
			w.promoted("the end", func() bool { return w.revision(n).Status.Phase == object.RevisionHealthy }, "api", "web")
			w.settled()
			if got := w.images(); !slices.Equal(got, []string{"ok:2", "ok:2"}) {
				t.Errorf("pods of %v", got)
			}
		})
	}
}

// Who gives up a workload puts the whole revision back: what it reads, and the
// workloads of the waves before it; and nobody is asked anything on the way.
func TestAbortPutsEverythingBack(t *testing.T) {
	for name, how := range ways {
		for _, wave := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s in wave %d", name, wave), func(t *testing.T) {
				w, n := waiting(t, how)
				kept := map[string][]string{"web": w.livePods("web")["ok:1"], "api": w.livePods("api")["ok:1"]}
				gives := "api"
				if wave == 2 {
					gives = "web"
					w.promoted("web waits for a person", func() bool { return w.waits("web") }, "api")
					kept = map[string][]string{"web": w.livePods("web")["ok:1"]}
				}
				edit(w, ref(object.KindDeployment, gives), func(d *object.Deployment) { d.Spec.Aborted = d.Status.Set })
				goesBack(t, w, n)
				for name, pods := range kept {
					for _, p := range pods {
						if !slices.Contains(w.livePods(name)["ok:1"], p) {
							t.Errorf("%s was not kept", p)
						}
					}
				}
				conf, _ := state.Find[*object.ConfigMap](w.view(), ref(object.KindConfigMap, "conf"))
				key, _ := state.Find[*object.Secret](w.view(), ref(object.KindSecret, "key"))
				if conf.Spec.Data["app.toml"] != "1" || object.ContentDigest(key) != object.ContentDigest(certificate("1")) {
					t.Errorf("what it reads was not put back: %v", conf.Spec.Data)
				}
				read := w.view().Template(w.pod(w.livePods("api")["ok:1"][0])).Reads
				if read["config_map/conf"] != object.ContentDigest(conf) || read["secret/key"] != object.ContentDigest(key) {
					t.Errorf("the pods read %v", read)
				}
			})
		}
	}
}

// goesBack lets a revision be reverted, which has no steps, pauses or zones to wait
// for, until the first version runs everywhere.
func goesBack(t *testing.T, w *world, n int) {
	t.Helper()
	begin := w.now
	w.awaits(n, object.RevisionReverted)
	if took := w.now.Sub(begin); took > 2*time.Minute {
		t.Errorf("the way back took %s", took)
	}
	w.settled()
	if got := w.images(); !slices.Equal(got, []string{"ok:1", "ok:1"}) {
		t.Errorf("pods of %v", got)
	}
}

// A version that breaks in the second wave puts the first back too, without its
// steps, pauses and zones.
func TestRevertHasNoSteps(t *testing.T) {
	for name, how := range ways {
		t.Run(name, func(t *testing.T) {
			w := zonedWorld(t, "abc", 2)
			w.awaits(w.commit(shop("1", how)...), object.RevisionHealthy)
			broken := shop("2", how)
			broken[1] = one(web("crash:2", 6, how))
			n := w.commit(broken...)
			w.promoted("the second wave", func() bool { return w.revision(n).Status.Wave == 2 }, "api")
			goesBack(t, w, n)
		})
	}
}
